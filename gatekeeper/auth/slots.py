"""A bound on what is asked of another server at once; what is more waits, in a fair order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred

from gatekeeper.auth.fair import FairQueue, neighbourhood
from gatekeeper.auth.hashing import OverloadError

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Job:
    call: Callable[[], Deferred[Any]]
    done: Deferred[Any] = field(default_factory=Deferred)
    running: Deferred[Any] | None = None

    def cancel(self) -> None:
        if self.running is not None:
            self.running.cancel()


class Slots:
    """Runs at most ``size`` calls at once. At most ``waiting`` more wait for their turn.

    Each client has its turn; at the bound the newest call of whoever has the most goes.
    """

    def __init__(self, size: int, waiting: int) -> None:
        self._size = size
        self._running = 0
        self._waiting: FairQueue[_Job] = FairQueue(waiting)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Slots: {self._running} running, {len(self._waiting)} waiting>"

    def submit(self, client: str, call: Callable[[], Deferred[T]]) -> Deferred[T]:
        """What ``call`` gives, :class:`OverloadError` where it is not called at all.

        To cancel it cancels the call, or takes away its turn. ``client`` is an address.
        """
        job = _Job(call)
        job.done = Deferred(lambda _: job.cancel())
        if self._closed:
            job.done.errback(OverloadError())
        elif self._running < self._size:
            self._start(job)
        else:
            unlucky = self._waiting.put(neighbourhood(client), "", job)
            if unlucky is not None and not unlucky.done.called:
                unlucky.done.errback(OverloadError())
        return cast("Deferred[T]", job.done)

    def close(self) -> None:
        """Turn away whoever waits. What runs goes on."""
        self._closed = True
        while (job := self._waiting.get()) is not None:
            if not job.done.called:
                job.done.errback(OverloadError())

    def _start(self, job: _Job) -> None:
        self._running += 1
        job.running = maybeDeferred(job.call)
        job.running.addBoth(self._finished, job)

    def _finished(self, result: object, job: _Job) -> None:
        self._running -= 1
        while self._running < self._size and (following := self._waiting.get()) is not None:
            if not following.done.called:  # it has been cancelled
                self._start(following)
        if not job.done.called:
            job.done.callback(result)
