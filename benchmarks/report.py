"""What a run says: a text for people, a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.goals import Outcome
from benchmarks.results import Figure, Results

#: The share of the proxy's core that others may have without changing the figures much.
QUIET: Final = 0.05


def as_text(machine: Mapping[str, str], results: Results, outcomes: Sequence[Outcome]) -> str:
    """Three tables: the machine, all figures, the goals; and what is not as it should be."""
    return "\n".join(
        [
            *_table([], [(key, value) for key, value in machine.items()]),
            "",
            *_table(
                ["row", "contender", "measured", "one by one", "a second", "others"],
                [_figure_line(figure) for figure in results.figures],
            ),
            "",
            *_table(
                ["goal", "measured", "against", "ratio", "first", "", "then", ""],
                [_goal_line(outcome) for outcome in outcomes],
            ),
            *_disturbed(results),
            *_missing(results),
        ]
    )


def as_document(
    machine: Mapping[str, str],
    options: Mapping[str, Any],
    results: Results,
    outcomes: Sequence[Outcome],
) -> dict[str, Any]:
    """The same, for JSON."""
    return {
        "machine": dict(machine),
        "options": dict(options),
        "figures": [
            {
                "row": figure.row,
                "contender": figure.contender,
                "unit": figure.unit,
                "value": figure.value,
                "values": list(figure.values),
                "per_second": figure.per_second,
                "others": figure.others,
            }
            for figure in results.figures
        ],
        "goals": [
            {
                "row": outcome.goal.row,
                "title": outcome.goal.title.strip(),
                "contender": outcome.goal.contender,
                "against": outcome.goal.against,
                "value": outcome.value,
                "first": outcome.goal.first,
                "first_reached": outcome.reached(outcome.goal.first),
                "then": outcome.goal.then,
                "then_reached": outcome.reached(outcome.goal.then),
            }
            for outcome in outcomes
        ],
        "not_measured": [
            {"row": missing.row, "what": missing.what, "reason": missing.reason}
            for missing in results.missing
        ],
    }


def _figure_line(figure: Figure) -> tuple[str, ...]:
    several = " ".join(f"{value:.4g}" for value in figure.values) if figure.values[1:] else ""
    rate = f"{figure.per_second:,.0f}".replace(",", " ") if figure.per_second else ""
    others = "" if figure.others is None else f"{figure.others:.0%}"
    return (figure.row, figure.contender, _measured(figure), several, rate, others)


def _goal_line(outcome: Outcome) -> tuple[str, ...]:
    goal = outcome.goal
    sign = "≥" if goal.more else "≤"
    return (
        goal.title,
        _measured(outcome.figure),
        _measured(outcome.against),
        "" if outcome.value is None or goal.against is None else f"{outcome.value:.2f}",
        f"{sign} {goal.first:g}" if goal.first is not None else "",
        _yes_or_no(outcome.reached(goal.first)),
        f"{sign} {goal.then:g}" if goal.then is not None else "",
        _yes_or_no(outcome.reached(goal.then)),
    )


def _measured(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.value:.4g} {figure.unit}"


def _yes_or_no(reached: bool | None) -> str:
    return "" if reached is None else "yes" if reached else "no"


def _disturbed(results: Results) -> Iterator[str]:
    rows = {figure.row for figure in results.figures if (figure.others or 0) > QUIET}
    if rows:
        yield ""
        yield f"Something else took more than {QUIET:.0%} of the proxy's core, so that figures are"
        yield f"too high, in: {', '.join(sorted(rows))}"


def _missing(results: Results) -> Iterator[str]:
    if results.missing:
        yield ""
        yield "Not measured:"
        for missing in results.missing:
            yield f"  {missing.row}, {missing.what}: {missing.reason}"


def _table(heading: Sequence[str], lines: Sequence[tuple[str, ...]]) -> Iterator[str]:
    rows = [tuple(heading), *lines] if heading else list(lines)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
        if heading and number == 0:
            yield "  ".join("-" * width for width in widths)
