"""Single flight: equal questions that come while the first is open wait for its answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """The questions that are open, by key. Every asker gets a Deferred of its own.

    An asker that cancels its Deferred leaves the others and the work itself alone.
    """

    def __init__(self) -> None:
        self._flights: dict[K, deque[Deferred[T]]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: object) -> bool:
        """Whether the question is open."""
        return key in self._flights

    def join(self, key: K) -> Deferred[T] | None:
        """Wait for the open question ``key``; None where there is none."""
        waiting = self._flights.get(key)
        return None if waiting is None else self._wait(waiting)

    def lead(self, key: K, work: Deferred[T]) -> Deferred[T]:
        """Open the question ``key``; ``work`` answers it, and belongs to this object now."""
        waiting: deque[Deferred[T]] = deque()
        self._flights[key] = waiting
        waiter = self._wait(waiting)

        def land(result: T | Failure) -> None:
            del self._flights[key]
            while waiting:
                waiting.popleft().callback(result)

        work.addBoth(land)
        return waiter

    @staticmethod
    def _wait(waiting: deque[Deferred[T]]) -> Deferred[T]:
        waiter: Deferred[T] = Deferred(waiting.remove)
        waiting.append(waiter)
        return waiter
