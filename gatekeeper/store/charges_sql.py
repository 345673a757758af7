"""Charges in SQL, and the ledger's log: the statements that change them, whatever runs them."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from gatekeeper.credits.ledger import ChargeEvent, ChargeState, after_charge
from gatekeeper.store.dialects import Dialect, Rows, Statement, table
from gatekeeper.store.ledger import LedgerEvent

T = TypeVar("T")

#: What is done to the database, and what comes of it.
Steps = Generator[Statement, Rows, T]

#: The states of all that is owed, as SQL.
UNBURNED: Final = ", ".join(
    f"'{state.value}'" for state in ChargeState if state is not ChargeState.BURNED
)

#: What changes of a charge besides its state. Of a settlement that was given up it is known later,
#: too, that the charge was in it.
_CHANGES: Final = {
    ChargeEvent.CLAIM: ", settlement = {}",
    ChargeEvent.BURN: "",
    ChargeEvent.GIVE_UP: ", reason = {}",
    ChargeEvent.RETRY: ", reason = '', origin = coalesce(settlement, origin), settlement = NULL",
}


class Held(NamedTuple):
    """A charge that is locked until the end of the transaction."""

    id: int
    source: str
    name: str
    holder: str
    credits: int
    settlement: int | None


def hold(
    dialect: Dialect, state: ChargeState, condition: str = "", values: Sequence[Any] = ()
) -> Steps[list[Held]]:
    """Lock the charges in this state, in the order in which everybody does."""
    rows = yield (
        f"SELECT {', '.join(Held._fields)} FROM charge "  # noqa: S608
        f"WHERE state = {dialect.placeholder}{condition} "
        f"ORDER BY source, name, holder, id{dialect.lock}",
        (state.value, *values),
    )
    return [Held._make(row) for row in rows]


def with_ids(dialect: Dialect, ids: Iterable[int]) -> tuple[str, list[str]]:
    """A further condition: a charge's id is one of these; and its value."""
    return f" AND id IN ({table(dialect, 'bigint')})", [json.dumps([[each] for each in ids])]


def change(
    dialect: Dialect,
    charges: Sequence[Held],
    before: ChargeState,
    event: ChargeEvent,
    now: float,
    value: int | str | None = None,
    detail: Mapping[str, Any] = MappingProxyType({}),
) -> Steps[None]:
    """Something happens to charges that are in one state: ``value`` is what comes with it.

    That is the settlement that claims them, or the reason why they are given up. A charge that has
    once been claimed is not open any more.

    :raises IllegalTransitionError: that cannot happen.
    """
    after = after_charge(before, event)
    if not charges:
        return
    place = dialect.placeholder
    condition, ids = with_ids(dialect, (charge.id for charge in charges))
    values = () if value is None else (value,)
    yield (
        f"UPDATE charge SET state = {place}, open = 0, updated = {place}"  # noqa: S608
        f"{_CHANGES[event].format(place)} WHERE state = {place}{condition}",
        (after.value, now, *values, before.value, *ids),
    )
    numbers = [(charge.id, charge.credits) for charge in charges]
    yield log_charges(dialect, now, event.value, before.value, after.value, numbers, detail)


def add_uncollected(
    dialect: Dialect,
    accounts: Sequence[tuple[str, str, str, int]],
    origin: int,
    reason: str,
    now: float,
) -> Steps[None]:
    """What a settlement could not collect becomes charges: source, name, holder, credits."""
    if not accounts:
        return
    state = ChargeState.UNCOLLECTED.value
    columns = table(dialect, "text", "text", "text", "bigint")
    added = yield (
        "INSERT INTO charge (source, name, holder, credits, open, "  # noqa: S608
        "state, origin, reason, created, updated, looked_at) "
        f"SELECT s.*, 0, {', '.join([dialect.placeholder] * 6)} FROM ({columns}) AS s "
        "RETURNING id, credits",
        (state, origin, reason, now, now, now, json.dumps(accounts)),
    )
    yield log_charges(dialect, now, "short", "", state, added, {"origin": origin})


def log(dialect: Dialect, events: Sequence[LedgerEvent]) -> Statement:
    """Write down events, which are all of the same time."""
    return (
        "INSERT INTO ledger_event (time, kind, subject, event, before, after, detail) "  # noqa: S608
        f"SELECT {dialect.placeholder}, e.* FROM ({table(dialect, *['text'] * 6)}) AS e",
        (events[0].time, json.dumps([event[1:] for event in events])),
    )


def log_charges(
    dialect: Dialect,
    now: float,
    event: str,
    before: str,
    after: str,
    charges: Iterable[tuple[int, int]],
    detail: Mapping[str, Any] = MappingProxyType({}),
) -> Statement:
    """Write down what happened to charges, of each of which there are its id and its credits."""
    what = event, before, after
    return log(
        dialect,
        [
            LedgerEvent(
                now, "charge", str(number), *what, json.dumps({"credits": credits, **detail})
            )
            for number, credits in charges
        ],
    )
