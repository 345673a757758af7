"""What was measured, and what could not be."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


class NotMeasuredError(Exception):
    """Something cannot be measured here; the message says why, and what would help."""


@dataclass(frozen=True)
class Figure:
    """One contender's figure in one row.

    ``values`` has several where it was measured again, as the row's first contender always is:
    their distance tells how much the machine drifted. ``per_second`` is for orientation only.
    ``others`` is the share of the proxy's core that other processes took, in the worst case: where
    it is not small, the figure is too high.
    """

    row: str
    contender: str
    unit: str
    values: tuple[float, ...]
    per_second: float | None = None
    others: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)


@dataclass(frozen=True)
class Missing:
    """What could not be measured in a row, and why."""

    row: str
    what: str
    reason: str


class Results:
    """Everything that was found out in one run."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.missing: list[Missing] = []

    def add(self, figure: Figure) -> None:
        """Keep a figure."""
        self.figures.append(figure)

    def miss(self, row: str, what: str, reason: object) -> None:
        """Keep what could not be measured."""
        self.missing.append(Missing(row, what, str(reason)))

    def find(self, row: str, contender: str) -> Figure | None:
        """A figure, if there is one."""
        for figure in self.figures:
            if (figure.row, figure.contender) == (row, contender):
                return figure
        return None
