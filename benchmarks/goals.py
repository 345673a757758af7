"""The goals: a contender's figure, or its ratio to another's of the same row, and two bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.results import Figure, Results


@dataclass(frozen=True)
class Goal:
    """``first`` and ``then`` bound the ratio, or the figure itself where ``against`` is None.

    They are upper bounds, unless ``more`` is better. A goal without bounds is only reported.
    """

    row: str
    title: str
    contender: str
    against: str | None
    first: float | None
    then: float | None
    more: bool = False


@dataclass(frozen=True)
class Outcome:
    """A goal, and what it came to; ``value`` is None where it could not be measured."""

    goal: Goal
    figure: Figure | None
    against: Figure | None
    value: float | None

    def reached(self, bound: float | None) -> bool | None:
        """Whether the value keeps to the bound; None where there is nothing to compare."""
        if self.value is None or bound is None:
            return None
        return self.value >= bound if self.goal.more else self.value <= bound


#: A peak that grows by less than this, in MiB, while a body goes through, counts as flat.
FLAT: Final = 4.0

GOALS: Final = (
    Goal("get", "authorized + metered GET ÷ nginx plain", "gatekeeper", "nginx", 2.0, 1.25),
    Goal("get", "the same ÷ HAProxy, jwt_verify", "gatekeeper", "haproxy jwt_verify", None, 1.0),
    Goal("get", "the same ÷ nginx + njs", "gatekeeper", "nginx + njs", 0.75, 0.5),
    Goal(
        "get", "with heads that change ÷ nginx plain", "gatekeeper, new heads", "nginx", None, None
    ),
    Goal("get", "with its access log ÷ nginx plain", "gatekeeper, log", "nginx", None, None),
    Goal("tls", "the same over TLS ÷ nginx TLS", "gatekeeper", "nginx", 1.6, 1.0),
    Goal("metering", "metering on ÷ off", "on", "off", 1.15, 1.05),
    Goal("scale", "many keys, services, checkers ÷ one of each", "many", "one", 1.1, 1.05),
    Goal("down", "body down ÷ nginx", "gatekeeper", "nginx", 1.5, 1.0),
    Goal("down", "  peak memory grows by, MiB", "gatekeeper, memory", None, FLAT, FLAT),
    Goal("up", "body up ÷ nginx", "gatekeeper", "nginx", 1.5, 1.0),
    Goal("up", "  peak memory grows by, MiB", "gatekeeper, memory", None, FLAT, FLAT),
    Goal("down-tls", "body down over TLS ÷ nginx TLS", "gatekeeper", "nginx", 1.5, 1.0),
    Goal("down-tls", "  peak memory grows by, MiB", "gatekeeper, memory", None, FLAT, FLAT),
    Goal("tunnel", "CONNECT tunnel, body down ÷ squid", "gatekeeper", "squid", 1.0, 0.5),
    Goal("tunnel", "  peak memory grows by, MiB", "gatekeeper, memory", None, FLAT, FLAT),
    Goal("forward", "forward proxy, GET ÷ squid", "gatekeeper", "squid", None, None),
    Goal("forward-down", "forward proxy, body down ÷ squid", "gatekeeper", "squid", None, None),
    Goal("idle", "memory of an idle connection, KiB", "gatekeeper", None, 8.0, 4.0),
    Goal("counters", "many counters into PostgreSQL, s", "gatekeeper", None, 2.0, 1.0),
    Goal("flood", "wrong passwords: longest stall, ms", "flood: cached, slowest", None, 50.0, 50.0),
    Goal(
        "flood", "  new right users served, %", "flood: new, served", None, 100.0, 100.0, more=True
    ),
    Goal(
        "gas",
        "gas of 1 000 requests ÷ a burn for each",
        "gatekeeper, 20 holders",
        "a burn a request, 20 holders",
        0.05,
        0.01,
    ),
    Goal(
        "gas",
        "  of one holder",
        "gatekeeper, 1 holder",
        "a burn a request, 1 holder",
        0.05,
        0.01,
    ),
    Goal(
        "gas",
        "  settled 24 times",
        "gatekeeper, 20 holders, 24 settlements",
        "a burn a request, 20 holders",
        None,
        None,
    ),
    Goal("workers", "2 workers ÷ 1, requests/s", "two", "one", 1.8, 1.9, more=True),
    Goal("workers", "  CPU of a request", "two, CPU", "one, CPU", 1.1, 1.05),
    Goal("workers", "  two cores for all, load and origin", "two, free", "one, free", None, None),
    Goal("workers", "  CPU of a request", "two, free, CPU", "one, free, CPU", None, None),
)


def judge(results: Results, rows: frozenset[str]) -> list[Outcome]:
    """What the goals of these rows came to."""
    outcomes = []
    for goal in GOALS:
        if goal.row not in rows:
            continue
        figure = results.find(goal.row, goal.contender)
        against = results.find(goal.row, goal.against) if goal.against else None
        value: float | None = None
        if figure is not None and goal.against is None:
            value = figure.value
        elif figure is not None and against is not None and against.value > 0:
            value = figure.value / against.value
        outcomes.append(Outcome(goal, figure, against, value))
    return outcomes
