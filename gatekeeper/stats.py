"""What the data plane counts of itself: plain numbers, added to in passing.

A scrape turns them into metrics, see :mod:`gatekeeper.metrics`. Nothing here knows of that, or of
anything else: a counter that a library keeps, with its labels, would cost more than all of this.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

#: Upper bounds of the classes that durations are counted in, in seconds; one more is above.
DURATIONS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0,
)  # fmt: skip

#: Reasons that are told apart, with their status classes. There are not so many, unless a plug-in
#: makes them up as it goes.
MOST_REASONS: Final = 256
OTHER_REASON: Final = "other"

#: What a checker says, or that it failed to.
SAID: Final = ("granted", "denied", "unavailable", "failed")


class RequestStats:
    """The requests of one route.

    ``ok`` counts those that were relayed to their end, by the hundreds of their status; ``others``
    the rest, by the hundreds (0: no answer had begun) and the reason. ``durations`` are counted in
    the classes of :data:`DURATIONS`, ``seconds`` is their sum.
    """

    __slots__ = ("bytes_in", "bytes_out", "durations", "ok", "others", "seconds")

    def __init__(self) -> None:
        self.ok = [0] * 10
        self.others: dict[tuple[int, str], int] = {}
        self.durations = [0] * (len(DURATIONS) + 1)
        self.seconds = 0.0
        self.bytes_in = self.bytes_out = 0

    def finished(
        self, status: int, duration: float, reason: str, bytes_in: int, bytes_out: int
    ) -> None:
        """An exchange has ended, after ``duration`` seconds."""
        if reason == "ok":
            self.ok[status // 100] += 1
        else:
            self.count(status, reason)
        self.durations[bisect_left(DURATIONS, duration)] += 1
        self.seconds += duration
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def tunnel_finished(self, status: int, reason: str, bytes_in: int, bytes_out: int) -> None:
        """A tunnel has ended. How long it was open says nothing of how fast we are."""
        self.count(status, reason)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def count(self, status: int, reason: str) -> None:
        """Count a request, and nothing else: it may never have become one."""
        key = (status // 100, reason)
        others = self.others
        if key not in others and len(others) >= MOST_REASONS:
            key = (status // 100, OTHER_REASON)
        others[key] = others.get(key, 0) + 1

    @property
    def requests(self) -> Counter[tuple[int, str]]:
        """All requests, by the hundreds of their status and the reason."""
        counted = Counter(self.others)
        for hundreds, number in enumerate(self.ok):
            counted[hundreds, "ok"] += number
        return counted


class ChainStats:
    """What a chain of checkers has decided; ``labels`` are their names.

    ``cached_grants`` and ``cached_denials`` are verdicts that were known; ``misses`` are requests
    whose verdict could have been known and was not. ``decisions`` are those of the checkers, by the
    label of the one that decided (``""``: all of them abstained) and what it said.
    """

    __slots__ = ("_labels", "cached_denials", "cached_grants", "decisions", "misses")

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self.cached_grants = self.cached_denials = self.misses = 0
        # All that can be, from the start: what appears with its first count is no increase.
        self.decisions = {(label, said): 0 for label in labels for said in SAID}
        self.decisions["", "denied"] = 0

    def decided(self, index: int, said: str) -> None:
        """The checker at ``index`` said one of :data:`SAID`."""
        self.decisions[self._labels[index], said] += 1

    def nobody_decided(self) -> None:
        """All checkers abstained, which is a denial."""
        self.decisions["", "denied"] += 1


class PoolStats:
    """Attempts to connect, and the reasons of those that failed."""

    __slots__ = ("dials", "failures")

    def __init__(self) -> None:
        self.dials = 0
        self.failures: Counter[str] = Counter()


class PoolUse(NamedTuple):
    """How many connections there are to an origin, or several, and how many requests wait."""

    active: int = 0
    idle: int = 0
    connecting: int = 0
    queued: int = 0


class Lateness:
    """How late the event loop is, as what should run every ``interval`` seconds can tell.

    ``worst`` is the worst of the last :data:`SPAN` seconds at least, and of twice as many at most:
    who asks does not change it, so any number may.
    """

    SPAN: Final = 60.0

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: float | None = None
        self._begun = 0.0
        self._earlier = self._now = 0.0

    def beat(self, now: float) -> None:
        """It runs now."""
        if self._last is None:
            self._begun = now
        else:
            self._now = max(self._now, now - self._last - self._interval)
        self._last = now
        if now - self._begun >= self.SPAN:
            self._begun = now
            self._earlier, self._now = self._now, 0.0

    @property
    def worst(self) -> float:
        """In seconds."""
        return max(self._earlier, self._now)
