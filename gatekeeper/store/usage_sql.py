"""The question for usage: from a query to a SELECT, and to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gatekeeper.store.days import DAY, Shift, shifts
from gatekeeper.store.dialects import Dialect, Parameter, limit, where
from gatekeeper.store.interface import UsageQuery, UsageRow
from gatekeeper.usage.records import Counted

_GROUPS: Final = {
    "service": "service",
    "user": "user_name",
    "path": "path",
    "model": "model",
    "hour": "hour",
}

#: Columns of a counter: its key, then the fields of :class:`Counted`.
KEY_COLUMNS: Final = ("service", "user_name", "path", "model", "hour")
COLUMNS: Final = (*KEY_COLUMNS, *Counted._fields)

#: What :class:`Extent` is made from. Apart, each of them is one look into an index.
EXTENT: Final = (
    "SELECT (SELECT max(before) FROM rolled_up), (SELECT min(hour) FROM usage), "
    "(SELECT max(hour) FROM usage)"
)


class Extent(NamedTuple):
    """From when to when there is usage, and before when it is in days; ``None``: none."""

    rolled_up: int
    first: int | None
    last: int | None


def usage_select(
    query: UsageQuery, extent: Extent, dialect: Dialect
) -> tuple[str, list[Parameter]]:
    """Return the SELECT for a query, and its parameters; its columns are those of UsageRow.

    :raises ValueError: ``by`` has something that rows cannot be grouped by.
    """
    groups = {**_GROUPS, "day": _day(query, extent)}
    if unknown := set(query.by) - groups.keys():
        raise ValueError(f"usage cannot be grouped by {', '.join(sorted(unknown))}")
    time = "hour" if "hour" in query.by else "day" if "day" in query.by else None
    columns = [
        *(groups[name] if name in query.by else "''" for name in UsageRow._fields[:4]),
        groups[time] if time else "NULL",
        *(
            "sum(duration)" if name == "duration" else dialect.total.format(name)
            for name in Counted._fields
        ),
    ]
    conditions, values = where(
        dialect,
        (
            ("service =", query.service),
            ("user_name =", query.user),
            ("path =", query.path),
            ("model =", query.model),
            ("hour >=", _bound(query.since, extent)),
            ("hour <", _bound(query.until, extent)),
        ),
    )
    by = ", ".join(dict.fromkeys(groups[name] for name in query.by))
    # Without groups there would be a row of NULLs where nothing was used.
    grouping = f" GROUP BY {by} ORDER BY {by}" if by else " HAVING count(*) > 0"
    at_most, number = limit(dialect, query.limit)
    # Nothing from outside gets into the text: names are ours, values are parameters.
    text = f"SELECT {', '.join(columns)} FROM usage{conditions}{grouping}{at_most}"  # noqa: S608
    return text, values + number


def usage_rows(rows: Sequence[Sequence[Any]]) -> list[UsageRow]:
    """Turn what the SELECT gave into rows of a report."""
    return [UsageRow._make(row) for row in rows]


def _day(query: UsageQuery, extent: Extent) -> str:
    """Return the expression of the day that ``hour`` belongs to."""
    if query.zone is None or extent.first is None or extent.last is None:
        return f"hour / {DAY} * {DAY}"
    found = shifts(query.zone, max(extent.first, extent.rolled_up), extent.last)
    # Days are days already, wherever one looks from.
    cases = [Shift(extent.rolled_up, 0), *found]
    whens = "".join(f" WHEN hour < {shift.until} THEN {shift.seconds}" for shift in cases[:-1])
    return f"(hour + CASE{whens} ELSE {cases[-1].seconds} END) / {DAY} * {DAY}"


def _bound(time: int | None, extent: Extent) -> int | None:
    """Return a bound that takes or leaves a day as a whole, where there are only days."""
    if time is None or time >= extent.rolled_up:
        return time
    return (time + DAY // 2) // DAY * DAY
