"""Moving usage from the counters into the store, over and over."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from math import ceil
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gatekeeper.errors import GatekeeperError
from gatekeeper.store.interface import IStore
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.records import Batch

log = Logger()

#: Counters in one batch. Writing a batch takes some milliseconds of our own time, in which no
#: request is served: more batches, and requests in between, are better than a big one.
BATCH_SIZE: Final = 2_000

#: A store that is away is asked again after at most so many seconds.
LONGEST_DELAY: Final = 60.0


class Flusher:
    """Writes the counters into the store every ``interval`` seconds.

    A batch is kept until the store has confirmed it, and repeated unchanged under the same
    sequence number: whether or not the store had taken it, it counts once. Meanwhile new usage adds
    up in the counters. After a failure the next attempt waits, twice as long each time up to
    :data:`LONGEST_DELAY`, and a little less so that many nodes do not come at once.

    ``node`` is new for each process, so that sequence numbers may begin at 1 again. ``jitter``
    returns numbers from 0 up to 1.
    """

    def __init__(
        self,
        store: IStore,
        counters: Counters,
        clock: IReactorTime,
        interval: float = 5.0,
        worker: int = 0,
        node: str | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._counters = counters
        self._clock = clock
        self._interval = interval
        self._worker = worker
        self._node = secrets.token_hex(8) if node is None else node
        self._jitter = jitter
        self._sequence = 0
        self._batch: Batch | None = None
        self._delay = 0.0
        self._retry_at = 0.0
        self._ended: Deferred[Any] = succeed(None)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._up_to_date_at = clock.seconds()
        self.failing_since: float | None = None
        """Since when (seconds of the clock) the store does not take usage; None: it does."""

    @property
    def lag(self) -> float:
        """Seconds since the store had everything."""
        return self._clock.seconds() - self._up_to_date_at

    @property
    def pending(self) -> int:
        """Counters that the store has not confirmed."""
        return len(self._counters) + (len(self._batch.counters) if self._batch else 0)

    def start(self) -> None:
        """Begin flushing, the first time after one interval."""
        self._up_to_date_at = self._clock.seconds()
        self._ended = self._loop.start(self._interval, now=False)

    def stop(self, timeout: float = 10.0) -> Deferred[int]:
        """Flush once more, and fire within ``timeout`` seconds with how many counters are lost.

        The counters must not be added to any more, and the store must still be open.
        """
        if self._loop.running:
            self._loop.stop()
        done: Deferred[int] = Deferred()

        def finish(_: object) -> None:
            if timer.active():
                timer.cancel()
            if not done.called:
                done.callback(self._report_loss())

        # The write itself is not cancelled, for the store may be in the middle of it.
        timer = self._clock.callLater(timeout, finish, None)
        self._ended.addCallback(lambda _: self._flush()).addCallback(finish)
        return done

    def _report_loss(self) -> int:
        if lost := self.pending:
            log.critical(
                "Stopped with {lost} usage counters that the store did not confirm", lost=lost
            )
        return lost

    def _tick(self) -> Deferred[None] | None:
        return self._flush() if self._clock.seconds() >= self._retry_at else None

    def _flush(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._write_all())

    async def _write_all(self) -> None:
        """Write what waits now, batch after batch. Never fails."""
        # Not "until nothing waits": under load there is always something new.
        batches = ceil(len(self._counters) / BATCH_SIZE) + (self._batch is not None)
        try:
            for _ in range(batches):
                await self._store.write_batch(self._next_batch())
                self._batch = None
                self._succeeded()
            self._up_to_date_at = self._clock.seconds()
        except Exception as error:  # Whatever it is, the loop goes on and the batch is kept.
            self._failed(error)

    def _next_batch(self) -> Batch:
        if self._batch is None:
            self._sequence += 1
            counters = self._counters.take(BATCH_SIZE)
            self._batch = Batch(self._node, self._worker, self._sequence, counters)
        return self._batch

    def _succeeded(self) -> None:
        self._delay = self._retry_at = 0.0
        if self.failing_since is not None:
            log.info(
                "The store takes usage again, after {seconds:.0f} s",
                seconds=self._clock.seconds() - self.failing_since,
            )
            self.failing_since = None

    def _failed(self, error: Exception) -> None:
        now = self._clock.seconds()
        self._delay = min(max(2 * self._delay, self._interval), LONGEST_DELAY)
        self._retry_at = now + self._delay * (0.5 + 0.5 * self._jitter())
        if self.failing_since is not None:
            return
        self.failing_since = now
        if isinstance(error, GatekeeperError):
            log.error("The store does not take usage; it is kept: {error}", error=error)
        else:
            log.failure("The store does not take usage; it is kept")
