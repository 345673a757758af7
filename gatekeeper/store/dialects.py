"""In what the SQL of the stores differs, and what their statements have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Parameter = str | int | float

#: What generators of statements yield, and what they are sent: the rows that it gave. Whoever runs
#: one does so in one transaction, and takes that back where the generator raises.
Statement: TypeAlias = tuple[str, Sequence[Any]]
Rows: TypeAlias = list[Any]


class Dialect(NamedTuple):
    """``placeholder`` stands for a parameter, ``total`` adds up whole numbers of a column.

    No sum of what is stored may fail, or a report could never be read again. ``elements`` are those
    of a JSON list, of each of which, called ``value``, an ``item`` can be had, if that is a list.
    ``lock`` is behind a SELECT of rows that are about to be changed. ``now`` is the time, in
    seconds since the epoch, which is the same for all who share a store.
    """

    name: Literal["sqlite", "postgres"]
    placeholder: str
    total: str
    elements: str
    item: str
    lock: str
    now: str


#: ``sum()`` fails past 64 bits. ``total()`` is exact up to 2**53, and what is past all bounds
#: becomes the largest number.
SQLITE: Final = Dialect(
    "sqlite",
    "?",
    "CAST(total({}) AS INTEGER)",
    elements="json_each({})",
    item="json_extract(value, '$[{}]')",
    lock="",  # Only one writes at a time.
    now="(julianday('now') - 2440587.5) * 86400.0",
)

#: ``sum()`` has as many digits as it needs.
POSTGRES: Final = Dialect(
    "postgres",
    "%s",
    "CAST(least(sum({}), 9223372036854775807) AS bigint)",
    elements="json_array_elements({}::json)",
    item="value ->> {}",
    lock=" FOR UPDATE",
    now="extract(epoch FROM clock_timestamp())::double precision",
)


def where(
    dialect: Dialect,
    conditions: Iterable[tuple[str, Parameter | None]],
    among: Mapping[str, Sequence[Parameter]] = MappingProxyType({}),
) -> tuple[str, list[Parameter]]:
    """Return a WHERE of all conditions that have a value (``("hour >=", 3600)``) and the values.

    A column has one of those that it is to be ``among``, if there are any.
    """
    place = dialect.placeholder
    given = [
        (f"{condition} {place}", [value]) for condition, value in conditions if value is not None
    ]
    given += [
        (f"{column} IN ({', '.join([place] * len(values))})", list(values))
        for column, values in among.items()
        if values
    ]
    if not given:
        return "", []
    text = " AND ".join(condition for condition, _ in given)
    return f" WHERE {text}", [value for _, values in given for value in values]


def limit(dialect: Dialect, number: int | None) -> tuple[str, list[Parameter]]:
    """Return a LIMIT, or nothing, and its values."""
    return ("", []) if number is None else (f" LIMIT {dialect.placeholder}", [number])


def table(dialect: Dialect, *types: str) -> str:
    """Return a SELECT of the rows of a table that is one parameter: a JSON list of lists.

    ``types`` are those of its columns: ``text``, ``bigint``.
    """
    columns = (f"CAST({dialect.item.format(at)} AS {each})" for at, each in enumerate(types))
    return f"SELECT {', '.join(columns)} FROM {dialect.elements.format(dialect.placeholder)}"  # noqa: S608
