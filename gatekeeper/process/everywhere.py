"""What is seen of all workers together: the :class:`.DataPlane` of a supervisor.

A worker that does not answer in time is left out. What one has counted that has ended stays in
the sums, as far as it was told: else they would go down, which counters never do.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred

from gatekeeper.insight import Insight
from gatekeeper.management.dashboard.numbers import MOST_REASONS
from gatekeeper.management.live import LiveExchange, Traffic
from gatekeeper.metrics import families
from gatekeeper.metrics.merging import counted, from_plain, merge, to_plain
from gatekeeper.net.balancing_attempt import UpstreamState
from gatekeeper.net.balancing_health import State
from gatekeeper.process.link import LinkError
from gatekeeper.usage.records import Account

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gatekeeper.process.hired import Hired

#: Seconds that an answer may take which an operator waits for.
_WITHIN: Final = 2.0

#: What is remembered of each worker, for its end.
_KEPT: Final = ("metrics", "numbers")

#: The worse, the greater.
_TROUBLE: Final = {State.UP: 0, State.EJECTED: 1, State.DOWN: 2}


class Those(Protocol):
    """The workers."""

    def __iter__(self) -> Iterator[Hired]:
        """All that there are."""

    @property
    def serving(self) -> Iterator[Hired]:
        """Those that serve requests."""

    @property
    def number(self) -> int:
        """How many there should be."""

    @property
    def deaths(self) -> Sequence[int]:
        """How many have died, by their places."""


class Everywhere:
    """See the module. ``insight`` is the supervisor's own, which serves no requests."""

    def __init__(self, workers: Those, insight: Insight) -> None:
        self._workers = workers
        self._insight = insight
        self._past: dict[str, Any] = {}
        self.exchanges = self

    async def _ask(self, name: str, *arguments: Any) -> list[Any]:
        """What each of them says, of those that do."""
        asked = [(each, each.link.ask(name, *arguments, timeout=_WITHIN)) for each in self._workers]
        answers = []
        for hired, answer in asked:
            try:
                answers.append(await answer)
            except LinkError:
                continue
            if name in _KEPT:
                hired.numbers[name] = answers[-1]
        return answers

    # --- exchanges ------------------------------------------------------------------------

    async def find(self, service: str, user: str, after: str, limit: int) -> list[LiveExchange]:
        """See :class:`.Exchanges`."""
        parts = await self._ask("find", service, user, after, limit)
        found = heapq.merge(*parts, key=lambda each: str(each["id"]))
        return [LiveExchange(**each) for each, _ in zip(found, range(limit), strict=False)]

    async def show(self, wanted: str) -> LiveExchange | None:
        """See :class:`.Exchanges`."""
        return self._one(await self._ask("show", wanted))

    async def cut(self, wanted: str) -> LiveExchange | None:
        """See :class:`.Exchanges`."""
        return self._one(await self._ask("cut", wanted))

    def _one(self, answers: Iterable[Any]) -> LiveExchange | None:
        return next((LiveExchange(**each) for each in answers if each is not None), None)

    # --- how it is ------------------------------------------------------------------------

    async def traffic(self) -> Traffic:
        """See :class:`.DataPlane`."""
        parts = [Traffic(*each) for each in await self._ask("traffic")]
        return Traffic(
            sum(part.connections for part in parts),
            sum(part.exchanges for part in parts),
            sum(part.records for part in parts),
            sum(part.bytes for part in parts),
            any(part.full for part in parts),
            any(part.failing for part in parts),
        )

    async def upstreams(self) -> Mapping[str, Sequence[UpstreamState]]:
        """See :class:`.DataPlane`: an upstream is as bad as it is for one of the workers."""
        found: dict[str, dict[str, UpstreamState]] = {}
        for part in await self._ask("upstreams"):
            for name, states in part.items():
                merged = found.setdefault(name, {})
                for url, state, outstanding, ejections in states:
                    each = UpstreamState(url, State(state), outstanding, ejections)
                    merged[url] = _add(merged[url], each) if url in merged else each
        return {name: tuple(states.values()) for name, states in found.items()}

    async def settled(self) -> None:
        """See :class:`.DataPlane`."""
        await self._ask("settled")

    def expire(self, account: Account) -> None:
        """See :class:`.DataPlane`."""
        for hired in self._workers:
            hired.link.tell("expire", *account)

    # --- what is counted ------------------------------------------------------------------

    def collect(self) -> Deferred[Iterable[Metric]]:
        """See :class:`.DataPlane`."""
        return Deferred.fromCoroutine(self._collect())

    async def _collect(self) -> Iterable[Metric]:
        ours = [*self._insight.collect(), *self._of_workers()]
        parts = await self._ask("metrics")
        return from_plain(merge([to_plain(ours), *parts, self._past.get("metrics", [])]))

    def _of_workers(self) -> Iterator[Metric]:
        ready = {each.slot for each in self._workers.serving}
        slots = range(self._workers.number)
        yield families.WORKER_UP.of(((str(slot + 1),), slot in ready) for slot in slots)
        deaths = enumerate(self._workers.deaths)
        yield families.WORKER_DEATHS.of(((str(slot + 1),), number) for slot, number in deaths)

    def document(self) -> Deferred[Mapping[str, object]]:
        """See :class:`.DataPlane`."""
        return Deferred.fromCoroutine(self._document())

    async def _document(self) -> Mapping[str, object]:
        parts = await self._ask("numbers")
        past = self._past.get("numbers")
        return _sum([self._insight.document(), *parts, *([past] if past else [])])

    def retire(self, hired: Hired) -> None:
        """One has ended: what it has counted stays."""
        told = hired.numbers
        if "metrics" in told:
            self._past["metrics"] = merge([self._past.get("metrics", []), counted(told["metrics"])])
        if "numbers" in told:
            past = [self._past["numbers"]] if "numbers" in self._past else []
            self._past["numbers"] = _sum([*past, _without_live(told["numbers"])])


def _add(one: UpstreamState, other: UpstreamState) -> UpstreamState:
    return UpstreamState(
        one.url,
        max(one.state, other.state, key=_TROUBLE.__getitem__),
        one.outstanding + other.outstanding,
        one.ejections + other.ejections,
    )


def _without_live(document: Mapping[str, Any]) -> Mapping[str, Any]:
    services = {name: {**each, "live": 0} for name, each in document["services"].items()}
    return {**document, "services": services}


def _sum(documents: Sequence[Mapping[str, Any]]) -> Mapping[str, object]:
    """The documents of several processes as one; see :class:`.Numbers`."""
    first = documents[0]
    services: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    decisions: Counter[tuple[Any, ...]] = Counter()
    for document in documents:
        for name, numbers in document["services"].items():
            services.setdefault(name, Counter()).update(numbers)
        reasons.update(document["reasons"])
        for each in document["decisions"]:
            *key, number = each.values()
            decisions[tuple(key)] += number
    counts = zip(*(document["latency"]["counts"] for document in documents), strict=True)
    names = ("service", "checker", "verdict", "remembered")
    return {
        "time": first["time"],
        "services": services,
        "reasons": dict(reasons.most_common(MOST_REASONS)),
        "latency": {"bounds": first["latency"]["bounds"], "counts": [sum(each) for each in counts]},
        "decisions": [
            {**dict(zip(names, key, strict=True)), "number": number}
            for key, number in decisions.items()
        ],
        "zones": first["zones"],
    }
