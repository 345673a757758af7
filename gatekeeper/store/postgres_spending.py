"""What a batch has spent, into PostgreSQL: parts of the statement that writes the batch."""

from __future__ import annotations

from typing import Final

from gatekeeper.credits.ledger import ChargeState
from gatekeeper.store.fitting import LARGEST

_ADDED: Final = (
    "{0} = least({1}.{0}, " + str(LARGEST) + " - excluded.{0}) + excluded.{0}, "
    "updated = excluded.updated"
)

#: Behind an INSERT of what was spent into "account AS a": adds it to what is there.
ADD_UP_SPENT: Final = (
    f"ON CONFLICT (source, name, holder) DO UPDATE SET {_ADDED.format('spent', 'a')}"
)

_GIVEN: Final = """(source, name, holder, amount) AS (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])
    WHERE EXISTS (SELECT FROM new)
)"""

# Rows are locked in the order of the "C" collation, here and by whoever claims charges or changes
# leases, so that nobody waits for each other for ever.
_ROWS: Final = """
    FROM {}
    CROSS JOIN (SELECT extract(epoch FROM now())::double precision AS t) AS clock {}
    ORDER BY source COLLATE "C", name COLLATE "C", holder COLLATE "C"
"""

_AFTER: Final = "WHERE (SELECT count(*) FROM charged) >= 0"

# A charge that is being claimed at this moment: this waits until it is, and then opens a new one.
# "xmax = 0" is true of rows that were inserted, and did not exist before.
#
#: Behind a batch that is the CTE "new". Its parameters are the columns of what is on a chain, then
#: those of the rest, and then the owner of the leases that all of it goes off. What was drawn comes
#: after what was charged, whichever way it is planned.
SPENDING: Final = f""", owing {_GIVEN}, drawing {_GIVEN}, charged AS (
    INSERT INTO charge AS c
        (source, name, holder, credits, state, open, reason, created, updated, looked_at)
    SELECT source, name, holder, amount, '{ChargeState.PENDING.value}', 1, '', t, t, t
    {_ROWS.format("owing", "")}
    ON CONFLICT (source, name, holder) WHERE open = 1 DO UPDATE SET {_ADDED.format("credits", "c")}
    RETURNING id, credits, state, created, xmax = 0 AS is_new
), logged AS (
    INSERT INTO ledger_event (time, kind, subject, event, before, after, detail)
    SELECT created, 'charge', id::text, 'meter', '', state, '{{"credits": ' || credits || '}}'
    FROM charged WHERE is_new
), drawn AS (
    INSERT INTO account AS a (source, name, holder, granted, spent, updated)
    SELECT source, name, holder, 0, amount, t {_ROWS.format("drawing", _AFTER)}
    {ADD_UP_SPENT}
), held AS (
    SELECT l.owner, l.source, l.name, l.holder, spent.amount
    FROM (TABLE owing UNION ALL TABLE drawing) AS spent
    JOIN lease AS l
        ON l.source = spent.source AND l.name = spent.name AND l.holder = spent.holder
    WHERE l.owner = %s
    ORDER BY l.source, l.name, l.holder FOR UPDATE OF l
), covered AS (
    UPDATE lease AS l SET credits = greatest(l.credits - held.amount, 0)
    FROM held
    WHERE (l.source, l.name, l.holder, l.owner)
        = (held.source, held.name, held.holder, held.owner)
)"""  # noqa: S608
