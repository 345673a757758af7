"""Moving usage from the journal into the store, over and over."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gatekeeper.errors import BatchRejected, GatekeeperError
from gatekeeper.store.interface import IStore
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.journal_directory import Ending
from gatekeeper.usage.loading import Loading
from gatekeeper.usage.records import Account, Batch
from gatekeeper.usage.segment_file import Segment
from gatekeeper.usage.segments import Key

log = Logger()

#: A store that is away is asked again after at most so many seconds.
LONGEST_DELAY: Final = 60.0


class Flusher:
    """Writes what is in the journal into the store every ``interval`` seconds.

    A segment is a batch, written in one transaction under the segment's own key, and deleted when
    the store has confirmed it. Whatever is repeated, after a failure or by the next process,
    counts once. A failed batch is kept as it is; the next attempt waits, twice as long each time up
    to :data:`LONGEST_DELAY`, and a little less so that many nodes do not come at once. Usage adds
    up in the journal meanwhile.

    What cannot be read, or what the store will never take, is set aside with a line in the log, so
    that it does not stop what comes behind it.

    With ``keep_records`` the store gets the single records, too. ``on_done`` is told the key of
    each segment that needs nothing more, and what was spent there, if the store has it now.
    ``gather`` has other processes hand over what they have written. ``jitter`` returns numbers from
    0 up to 1.
    """

    def __init__(
        self,
        store: IStore,
        journal: Journal,
        counters: Counters,
        clock: IReactorTime,
        interval: float = 5.0,
        *,
        keep_records: bool = False,
        on_done: Callable[[Key, Mapping[Account, int]], object] | None = None,
        gather: Callable[[], Deferred[Any]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._journal = journal
        self._loading = Loading(journal, counters, clock, keep_records=keep_records)
        self._clock = clock
        self._interval = interval
        self._on_done = on_done
        self._gather = gather
        self._left_over = {segment.key for segment in journal.closed}
        self._jitter = jitter
        self._delay = 0.0
        self._retry_at = 0.0
        self._given_up = False
        self._ended: Deferred[Any] = succeed(None)
        self._one_at_a_time = DeferredLock()
        self._asked: list[Deferred[bool]] = []
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._up_to_date_at = clock.seconds()
        self.caught_up: Deferred[None] = Deferred()
        """Fires when the store has all that an earlier run has left."""
        if not self._left_over:
            self.caught_up.callback(None)
        self.failing_since: float | None = None
        """Since when (seconds of the clock) the store does not take usage; ``None``: it does."""
        self.written = 0
        """Batches that the store has confirmed."""
        self.failures = 0
        """Attempts that failed."""
        self.rejected = 0
        """Segments that were set aside."""

    @property
    def lag(self) -> float:
        """Seconds since the store had everything."""
        return self._clock.seconds() - self._up_to_date_at

    def start(self) -> None:
        """Begin flushing, the first time after one interval."""
        self._up_to_date_at = self._clock.seconds()
        self._ended = self._loop.start(self._interval, now=False)

    def flush_now(self, *, urgent: bool = False) -> Deferred[bool]:
        """Move what is in the journal by now into the store; whether it is there. Never fails.

        While the store does not take usage it is not asked more often than otherwise, unless it is
        ``urgent``.
        """
        if self._clock.seconds() < self._retry_at and not urgent:
            return succeed(False)
        waiter: Deferred[bool] = Deferred()
        self._asked.append(waiter)
        if len(self._asked) == 1:  # who asks while one runs shares the one after it
            self._flush()
        return waiter

    def stop(self, timeout: float = 10.0) -> Deferred[int]:
        """Flush once more, and fire within ``timeout`` seconds with how many records remain.

        They are in the journal, for the next start. Nothing may be appended any more; the store
        must still be open.
        """
        if self._loop.running:
            self._loop.stop()
        done: Deferred[int] = Deferred()

        def finish(_: object) -> None:
            self._given_up = True
            self._loading.stop()
            if timer.active():
                timer.cancel()
            if not done.called:
                done.callback(self._report())

        # The write itself is not cancelled, for the store may be in the middle of it.
        timer = self._clock.callLater(timeout, finish, None)
        self._ended.addCallback(lambda _: self._flush()).addCallback(finish)
        return done

    def _report(self) -> int:
        if records := self._journal.records:
            log.warn(
                "{records} usage records stay in the journal for the next start", records=records
            )
        return records

    def _tick(self) -> Deferred[None] | None:
        return self._flush() if self._clock.seconds() >= self._retry_at else None

    def _flush(self) -> Deferred[None]:
        return self._one_at_a_time.run(lambda: Deferred.fromCoroutine(self._write_all()))

    async def _write_all(self) -> None:
        """Write what waits now, segment after segment. Never fails."""
        asked, self._asked = self._asked, []
        try:
            await self._write_closed()
            # Only now: while the store is away, nothing is closed but what is big enough.
            self._journal.rotate()
            if self._gather is not None:
                await self._gather()
            await self._write_closed()
            if not self._given_up:
                self._up_to_date_at = self._clock.seconds()
        except Exception as error:  # Whatever it is, the loop goes on and the batch is kept.
            self._failed(error)
        for waiter in asked:
            waiter.callback(not self._given_up and self.failing_since is None)

    async def _write_closed(self) -> None:
        # Not "until nothing waits": under load there is always something new.
        for _ in range(len(self._journal.closed)):
            loaded = await self._loading.load()
            if self._given_up:
                return
            self._loading.look_ahead()
            await self._write(*loaded)
            self._loading.done()
            self._succeeded()

    async def _write(self, segment: Segment, batch: Batch, damage: str) -> None:
        """Bring a segment into the store, or set it aside.

        :raises Exception: it is still there, and to be tried again.
        """
        ending: Ending = "damaged"
        spent: Mapping[Account, int] = {}
        try:
            if batch.counters:
                await self._store.write_batch(batch)
                self.written += 1
                spent = batch.spent
        except BatchRejected as error:
            ending, damage = "rejected", f"the store does not take it: {error}"
        if damage:
            self._set_aside(segment, ending, damage)
        else:
            self._journal.remove(segment)
        if self._on_done is not None:
            self._on_done(segment.key, spent)
        self._left_over.discard(segment.key)
        if not self._left_over and not self.caught_up.called:
            self.caught_up.callback(None)

    def _set_aside(self, segment: Segment, ending: Ending, why: str) -> None:
        self.rejected += 1
        path = self._journal.set_aside(segment, ending)
        log.critical("Usage is set aside in {path}: {why}", path=path, why=why)

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
        self.failures += 1
        self._delay = min(max(2 * self._delay, self._interval), LONGEST_DELAY)
        self._retry_at = now + self._delay * (0.5 + 0.5 * self._jitter())
        if self.failing_since is not None:
            return
        self.failing_since = now
        if isinstance(error, GatekeeperError):
            log.error("Usage does not get into the store; it is kept: {error}", error=error)
        else:
            log.failure("Usage does not get into the store; it is kept")
