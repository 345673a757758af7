"""In what the SQL of the stores differs, and what their statements have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

Parameter = str | int | float


class Dialect(NamedTuple):
    """``placeholder`` stands for a parameter, ``total`` adds up whole numbers of a column.

    No sum of what is stored may fail, or a report could never be read again.
    """

    name: Literal["sqlite", "postgres"]
    placeholder: str
    total: str


#: ``sum()`` fails past 64 bits. ``total()`` is exact up to 2**53, and what is past all bounds
#: becomes the largest number.
SQLITE: Final = Dialect("sqlite", "?", "CAST(total({}) AS INTEGER)")

#: ``sum()`` has as many digits as it needs.
POSTGRES: Final = Dialect(
    "postgres", "%s", "CAST(least(sum({}), 9223372036854775807) AS bigint)"
)  # fmt: skip


def where(
    dialect: Dialect, conditions: Iterable[tuple[str, Parameter | None]]
) -> tuple[str, list[Parameter]]:
    """Return a WHERE of all conditions that have a value (``("hour >=", 3600)``) and the values."""
    given = [(condition, value) for condition, value in conditions if value is not None]
    if not given:
        return "", []
    text = " AND ".join(f"{condition} {dialect.placeholder}" for condition, _ in given)
    return f" WHERE {text}", [value for _, value in given]


def limit(dialect: Dialect, number: int | None) -> tuple[str, list[Parameter]]:
    """Return a LIMIT, or nothing, and its values."""
    return ("", []) if number is None else (f" LIMIT {dialect.placeholder}", [number])
