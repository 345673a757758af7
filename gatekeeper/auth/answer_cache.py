"""Answers that cost a question to a server: asked for once at a time, remembered for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, succeed

from gatekeeper.auth.flight import SingleFlight

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class AnswerCache(Generic[K, T]):
    """What was answered, by question. That there was no answer is not remembered.

    :param ttl: seconds that an answer is believed, by the answer.
    :param size: answers kept; what was not asked for the longest goes first.
    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self, ttl: Callable[[T], float], size: int, monotonic: Callable[[], float]
    ) -> None:
        self._ttl = ttl
        self._size = size
        self._monotonic = monotonic
        self._known: OrderedDict[K, tuple[T, float]] = OrderedDict()
        self._flights: SingleFlight[K, T] = SingleFlight()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: K) -> T | None:
        """The answer that is known now; ``None`` where there is none."""
        known = self._find(key)
        return None if known is None else known[0]

    def find(self, key: K, ask: Callable[[], Deferred[T]]) -> Deferred[T]:
        """The answer; ``ask`` is called where none is known and nobody has asked yet.

        Fails as what ``ask`` returns does. Who cancels it leaves all others alone.
        """
        known = self._find(key)
        if known is not None:
            return succeed(known[0])
        joined = self._flights.join(key)
        if joined is not None:
            return joined
        return self._flights.lead(key, ask().addCallback(self._keep, key))

    def _find(self, key: K) -> tuple[T, float] | None:
        known = self._known.get(key)
        if known is None:
            return None
        if self._monotonic() >= known[1]:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return known

    def _keep(self, answer: T, key: K) -> T:
        if len(self._known) >= self._size:
            self._known.popitem(last=False)
        self._known[key] = (answer, self._monotonic() + self._ttl(answer))
        return answer
