"""What of the ledger is over and old goes: in steps, each of which is one small transaction.

A *settlement* that has ended long ago lets go of the charges that it has burned, with what the log
says of them. It goes itself, with its entries, its transactions and its part of the log, when no
charge is left that was in it, or comes from it: one whose charges are in error, or that could not
collect all, stays. *Grants* leave the log by their time, and their ids go with them.

Of each account the newest burned charge stays: that tells whether something was burned since a
balance was read (:class:`~gatekeeper.store.leases.Seen`), and what a payer was ever charged in.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from gatekeeper.store.charges_sql import UNBURNED, Steps
from gatekeeper.store.dialects import Dialect, table
from gatekeeper.store.settlements_sql import UNDER_WAY

#: Settlements that one step looks at, charges that it deletes at the most, and grants: so long a
#: flush may have to wait. A settlement has up to some hundred entries, a charge a few events.
SETTLEMENTS: Final = 20
CHARGES: Final = 500
GRANTS: Final = 1000

#: Some settlements that have ended, in the order in which they have. Those that stay are passed by,
#: so that no step has more to look at than any other.
_ENDED: Final = f"""
SELECT updated, id FROM settlement
WHERE state NOT IN ({UNDER_WAY}) AND updated < {{place}} AND (updated, id) > ({{place}}, {{place}})
ORDER BY updated, id LIMIT {{most}}
"""  # noqa: S608

# Not "state = 'burned'": SQLite would go through all that was ever burned.
_CHARGES: Final = f"""
SELECT c.id FROM charge AS c
WHERE c.settlement IN ({{these}}) AND c.state NOT IN ({UNBURNED}) AND EXISTS (
    SELECT 1 FROM charge AS newer
    WHERE newer.source = c.source AND newer.name = c.name AND newer.holder = c.holder
        AND newer.state = 'burned' AND newer.id > c.id
) LIMIT {{most}}
"""  # noqa: S608

_LEFT: Final = """
SELECT s.id FROM settlement AS s
WHERE s.id IN ({these})
    AND NOT EXISTS (SELECT 1 FROM charge AS c WHERE c.settlement = s.id)
    AND NOT EXISTS (SELECT 1 FROM charge AS c WHERE c.origin = s.id)
"""

_GRANTS: Final = """
DELETE FROM ledger_event WHERE number IN (
    SELECT number FROM ledger_event WHERE event = 'grant' AND time < {place} LIMIT {most}
) RETURNING 1
"""


class Pruned(NamedTuple):
    """What was deleted: charges, settlements, and the log's entries of grants."""

    charges: int = 0
    settlements: int = 0
    grants: int = 0


class Place(NamedTuple):
    """How far we are: behind this settlement."""

    updated: float = 0.0
    id: int = 0


async def prune(
    do: Callable[[Steps[Any]], Awaitable[Any]], dialect: Dialect, before: int
) -> Pruned:
    """Delete what is over since before ``before``, in seconds since the epoch.

    ``do`` runs statements in one transaction.
    """
    charges = settlements = grants = 0
    place: Place | None = Place()
    while place is not None:
        place, some, others = await do(prune_settled(dialect, before, place))
        charges += some
        settlements += others
    while some := await do(prune_grants(dialect, before)):
        grants += some
    return Pruned(charges, settlements, grants)


def prune_settled(
    dialect: Dialect, before: int, place: Place
) -> Steps[tuple[Place | None, int, int]]:
    """Delete charges of some settlements behind ``place``, and of these what nothing needs.

    Returns where to go on, ``None`` for nowhere, and how many charges and settlements are gone.
    """
    text = _ENDED.format(place=dialect.placeholder, most=SETTLEMENTS)
    ended = yield text, (before, *place)
    these, ids = _these(dialect, (number for _, number in ended))
    rows = yield _CHARGES.format(these=these, most=CHARGES), ids
    charges = [number for (number,) in rows]
    yield from _delete(dialect, "charge", charges, {"charge": "id"})
    if len(charges) == CHARGES:
        return place, len(charges), 0  # These settlements may have more.
    rows = yield _LEFT.format(these=these), ids
    settlements = [number for (number,) in rows]
    theirs = {"settlement_entry": "settlement", "burn_transaction": "settlement"}
    yield from _delete(dialect, "settlement", settlements, {**theirs, "settlement": "id"})
    following = Place._make(ended[-1]) if len(ended) == SETTLEMENTS else None
    return following, len(charges), len(settlements)


def prune_grants(dialect: Dialect, before: int) -> Steps[int]:
    """Delete some grants from the log, and return how many."""
    rows = yield _GRANTS.format(place=dialect.placeholder, most=GRANTS), (before,)
    return len(rows)


def _delete(
    dialect: Dialect, kind: str, numbers: list[int], columns: dict[str, str]
) -> Steps[None]:
    """Delete the rows that have one of these numbers in a table's column, and their log."""
    if not numbers:
        return
    these, ids = _these(dialect, numbers)
    for name, column in columns.items():
        yield f"DELETE FROM {name} WHERE {column} IN ({these})", ids  # noqa: S608
    subjects = table(dialect, "text")
    yield (
        f"DELETE FROM ledger_event WHERE kind = '{kind}' AND subject IN ({subjects})",  # noqa: S608
        (json.dumps([[str(number)] for number in numbers]),),
    )


def _these(dialect: Dialect, numbers: Iterable[int]) -> tuple[str, tuple[str]]:
    """A SELECT of these numbers, and its parameter."""
    return table(dialect, "bigint"), (json.dumps([[number] for number in numbers]),)
