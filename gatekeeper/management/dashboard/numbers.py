"""What the page's live numbers are made of: the data plane's own counters, as they are now.

``/metrics`` shows the same and more, for a machine that asks a few times a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from gatekeeper.stats import DURATIONS, ChainStats, RequestStats

if TYPE_CHECKING:
    from gatekeeper.exchange import Exchange

#: Of the reasons why requests were not relayed to their end, so many: the most frequent.
MOST_REASONS: Final = 20

T = TypeVar("T")

#: Asked each time, for services come and go: what there is, with the service's name.
Named: TypeAlias = Callable[[], Iterable[tuple[str, T]]]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Makes the document of ``/dashboard/data``. Everything in it counts since the start.

    :param requests: what was counted of requests; the name is ``""`` where there was no service.
    :param chains: what the chains of checkers have decided.
    :param live: the exchanges that run.
    :param zones: the token caches by name.
    :param seconds: the wall clock, since the epoch.
    """

    requests: Named[RequestStats]
    chains: Named[ChainStats]
    live: Collection[Exchange]
    zones: Collection[str]
    seconds: Callable[[], float]

    def document(self) -> dict[str, object]:
        """The numbers now, for JSON."""
        stats = list(self.requests())
        reasons: Counter[str] = Counter()
        durations = [0] * (len(DURATIONS) + 1)
        for _, each in stats:
            durations = [a + b for a, b in zip(durations, each.durations, strict=True)]
            for (_, reason), number in each.others.items():
                reasons[reason] += number
        return {
            "time": self.seconds(),
            "services": self._services(stats),
            "reasons": dict(reasons.most_common(MOST_REASONS)),
            "latency": {"bounds": DURATIONS, "counts": durations},
            "decisions": list(self._decisions()),
            "zones": sorted(self.zones),
        }

    def _services(self, stats: Iterable[tuple[str, RequestStats]]) -> Mapping[str, object]:
        live = Counter(
            exchange.request.route.name if exchange.request is not None else ""
            for exchange in self.live
        )
        services: dict[str, dict[str, int]] = {}
        for name, each in stats:  # two may go by one name
            sums = services.setdefault(name, {"ok": 0, "others": 0, "live": live[name]})
            sums["ok"] += sum(each.ok)
            sums["others"] += sum(each.others.values())
        return services

    def _decisions(self) -> Iterator[Mapping[str, object]]:
        sums: Counter[tuple[str, str, str, bool]] = Counter()
        for name, stats in self.chains():
            for (checker, verdict), number in stats.decisions.items():
                sums[name, checker, verdict, False] += number
            sums[name, "", "granted", True] += stats.cached_grants
            sums[name, "", "denied", True] += stats.cached_denials
        for (name, checker, verdict, remembered), number in sums.items():
            if number:
                yield {
                    "service": name,
                    "checker": checker,
                    "verdict": verdict,
                    "remembered": remembered,
                    "number": number,
                }
