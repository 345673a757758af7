"""What a batch has spent, into PostgreSQL: parts of the statement that writes the batch."""

from __future__ import annotations

from typing import Final

from gatekeeper.credits.ledger import ChargeState
from gatekeeper.store.fitting import LARGEST

_ADDED: Final = (
    "{0} = least({1}.{0}, " + str(LARGEST) + " - excluded.{0}) + excluded.{0}, "
    "updated = excluded.updated"
)

# Rows are locked in the order of the "C" collation, here and by whoever claims charges, so that
# nobody waits for each other for ever.
_ROWS: Final = """
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])
        AS spent (source, name, holder, amount)
    CROSS JOIN (SELECT extract(epoch FROM now())::double precision AS t) AS clock
    WHERE EXISTS (SELECT FROM new){}
    ORDER BY source COLLATE "C", name COLLATE "C", holder COLLATE "C"
"""

_AFTER: Final = " AND (SELECT count(*) FROM charged) >= 0"

# A charge that is being claimed at this moment: this waits until it is, and then opens a new one.
# "xmax = 0" is true of rows that were inserted, and did not exist before.
#
#: Behind a batch that is the CTE "new". Its parameters are the columns of what is on a chain, then
#: those of the rest. What was drawn comes after what was charged, whichever way it is planned.
SPENDING: Final = f""", charged AS (
    INSERT INTO charge AS c
        (source, name, holder, credits, state, open, reason, created, updated, looked_at)
    SELECT source, name, holder, amount, '{ChargeState.PENDING.value}', 1, '', t, t, t
    {_ROWS.format("")}
    ON CONFLICT (source, name, holder) WHERE open = 1 DO UPDATE SET {_ADDED.format("credits", "c")}
    RETURNING id, credits, state, created, xmax = 0 AS is_new
), logged AS (
    INSERT INTO ledger_event (time, kind, subject, event, before, after, detail)
    SELECT created, 'charge', id::text, 'meter', '', state, '{{"credits": ' || credits || '}}'
    FROM charged WHERE is_new
), drawn AS (
    INSERT INTO account AS a (source, name, holder, granted, spent, updated)
    SELECT source, name, holder, 0, amount, t {_ROWS.format(_AFTER)}
    ON CONFLICT (source, name, holder) DO UPDATE SET {_ADDED.format("spent", "a")}
)"""  # noqa: S608
