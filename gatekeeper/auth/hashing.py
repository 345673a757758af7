"""Slow work off the reactor thread: few threads, a bounded and fair queue before them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from gatekeeper.auth.fair import FairQueue, neighbourhood
from gatekeeper.errors import GatekeeperError

T = TypeVar("T")

#: Checks that may wait. At 30 ms each on one thread the last one waits two seconds.
_QUEUE: Final = 64


class OverloadError(GatekeeperError):
    """The work was not done: too much of it waits already, or we are stopping."""


class Threads(Protocol):
    """Where work is done."""

    size: int

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Call ``work`` in one of ``size`` threads; the Deferred fires in the reactor's."""

    def close(self) -> None:
        """End when the running work has ended."""


class ReactorThreads:
    """A small thread pool beside the reactor's own, started with the first piece of work.

    A processor is left to the reactor's thread where there is more than one; hashing lets go of
    the interpreter's lock, so more than two threads would only want more memory at once.
    """

    def __init__(self) -> None:
        self.size = max(1, min(2, (os.cpu_count() or 1) - 1))
        self._pool: ThreadPool | None = None

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """See :class:`Threads`."""
        # Not at the top: importing it installs a reactor, which is the daemon's to choose.
        from twisted.internet import reactor

        if self._pool is None:
            self._pool = ThreadPool(minthreads=0, maxthreads=self.size, name="hashing")
            self._pool.start()
        return deferToThreadPool(cast(IReactorFromThreads, reactor), self._pool, work)

    def close(self) -> None:
        """See :class:`Threads`."""
        if self._pool is not None:
            self._pool.stop()


@dataclass(eq=False, slots=True)
class _Job(Generic[T]):
    work: Callable[[], T]
    done: Deferred[T] = field(default_factory=Deferred)


class HashingQueue(Generic[T]):
    """Runs work in ``threads``, in a fair order where more comes than they can do."""

    def __init__(self, threads: Threads, limit: int = _QUEUE) -> None:
        self._threads = threads
        self._waiting: FairQueue[_Job[T]] = FairQueue(limit)
        self._running = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<HashingQueue: {self._running} running, {len(self._waiting)} waiting>"

    def submit(self, client: str, user: str, work: Callable[[], T]) -> Deferred[T]:
        """What ``work`` returns or raises, :class:`OverloadError` where it is not called at all."""
        job = _Job(work)
        if self._closed:
            _turn_away(job)
        elif self._running < self._threads.size:
            self._start(job)
        else:
            unlucky = self._waiting.put(neighbourhood(client), user, job)
            if unlucky is not None:
                _turn_away(unlucky)
        return job.done

    def close(self) -> None:
        """Turn away whoever waits, and end the threads."""
        self._closed = True
        while (job := self._waiting.get()) is not None:
            _turn_away(job)
        self._threads.close()

    def _start(self, job: _Job[T]) -> None:
        self._running += 1
        self._threads.run(job.work).addBoth(self._finished, job)

    def _finished(self, result: T | Failure, job: _Job[T]) -> None:
        self._running -= 1
        following = self._waiting.get()
        if following is not None:
            self._start(following)
        job.done.callback(result)


def _turn_away(job: _Job[T]) -> None:
    job.done.errback(OverloadError())
