"""Metering, put together: the meter, the journal behind it, and what moves that into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.config.model import Usage
from gatekeeper.store.interface import IStore
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.flushing import Flusher
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.meter import Meter
from gatekeeper.usage.records import Account, Spent
from gatekeeper.usage.segment_file import Segment
from gatekeeper.usage.segments import Key
from gatekeeper.usage.upkeep import Upkeep

log = Logger()

#: Seconds that the disk has for what is written down last.
_DISK: Final = 5.0


class Spending(Protocol):
    """Who keeps the accounts that requests draw on (:class:`gatekeeper.usage.records.Account`)."""

    def open(self, journal: Journal) -> None:
        """The store has all that an earlier run has metered."""

    def flushed(self, spent: Mapping[Account, int]) -> None:
        """The store has so much more of what this run has spent."""

    def lost(self, spent: Iterable[Spent]) -> None:
        """The usage records of this could not be written down."""

    async def close(self, left: int) -> None:
        """Nothing will be spent any more; so many usage records are not in the store. Never fails.

        The store is open.
        """


class Others(Protocol):
    """Other processes, which write usage down and leave the rest to this one."""

    def gather(self) -> Deferred[None]:
        """Have them hand over what they have written. Never fails."""

    def done(self, key: Key, spent: Mapping[Account, int]) -> None:
        """A segment needs nothing more; the store has this of what was spent there."""


class Receiver(Protocol):
    """The process that moves what is written down here into the store."""

    def take(self, segment: Segment) -> None:
        """A segment is complete. When it needs nothing more, :meth:`.Journal.done` is called."""

    def flush(self) -> Deferred[None]:
        """Move what was taken into the store now, if it can be. Never fails."""


class Recording:
    """What writes usage down: the meter, and the journal behind it, in ``state_dir``.

    ``call_soon`` is the event loop's. ``accounts`` are told what could not be written down.
    ``receiver`` moves what is written down into the store. ``lock`` and ``worker``: see
    :class:`Journal`.

    :raises ConfigurationError: another process uses ``state_dir``, or the journal cannot be there.
    """

    def __init__(
        self,
        settings: Usage,
        state_dir: Path,
        reactor: IReactorTime,
        call_soon: Callable[[Callable[[], None]], object],
        accounts: Spending | None = None,
        lock: int = -1,
        worker: int = 0,
        receiver: Receiver | None = None,
    ) -> None:
        reads_again = receiver is not None or settings.records
        self.journal = Journal(
            state_dir / "journal",
            size=settings.journal_size,
            fsync=settings.fsync,
            worker=worker,
            lock=lock,
            hand_over=receiver.take if receiver is not None else None,
            counters=None if reads_again else Counters(settings.max_paths),
        )
        self.meter = Meter(self.journal, call_soon, accounts.lost if accounts else None)
        self._reactor = reactor
        self._accounts = accounts
        self._receiver = receiver
        self._upkeep = Upkeep(
            self.journal, reactor, settings.fsync_interval, adopts=receiver is None
        )

    def problem(self) -> str | None:
        """What is wrong now, for readiness; ``None``: nothing."""
        if self.journal.failing:
            return "usage cannot be written down: requests are refused; see the log"
        if self.journal.full:
            return "too much usage waits for the store: requests are refused"
        return None

    def start(self) -> None:
        """Begin to look after the journal."""
        self._upkeep.start()

    async def drain(self) -> None:
        """Write down what has ended by now, and let responses go out. Never fails.

        Those that wait for the disk have some seconds for that.
        """
        await self.meter.idle().addTimeout(_DISK, self._reactor).addErrback(_disk_hangs)

    async def stop(self) -> None:
        """Write down and flush what there is. No exchange may end any more; the store is open.

        What the store does not take now stays in the journal for the next start.
        """
        await self.drain()
        self.meter.write_down()
        left = await self._flush_rest()
        if self._accounts is not None:
            await self._accounts.close(left)
        await self._upkeep.stop()
        self.journal.close()

    async def _flush_rest(self) -> int:
        """Move the rest into the store; how many records are not there."""
        self.journal.rotate()
        if self._receiver is not None:
            await self._receiver.flush()
        return self.journal.records


class Metering(Recording):
    """Everything between the end of an exchange and ``store``, which is somebody else's to open.

    ``accounts`` are told what becomes of what was drawn from them. The other parameters are those
    of :class:`Recording`.

    :raises ConfigurationError: see there.
    """

    def __init__(
        self,
        settings: Usage,
        state_dir: Path,
        store: IStore,
        reactor: IReactorTime,
        call_soon: Callable[[Callable[[], None]], object],
        accounts: Spending | None = None,
        lock: int = -1,
    ) -> None:
        super().__init__(settings, state_dir, reactor, call_soon, accounts, lock)
        self.others: Others | None = None
        self.flusher = Flusher(
            store,
            self.journal,
            Counters(settings.max_paths),
            reactor,
            settings.flush_interval,
            keep_records=settings.records,
            on_done=self._done,
            gather=self._gather,
        )

    def problem(self) -> str | None:
        """See :meth:`Recording.problem`."""
        problem = super().problem()
        if problem is not None:
            return problem
        if self.flusher.failing_since is not None:
            return f"the store has taken no usage for {self.flusher.lag:.0f} s; it is kept"
        return None

    def start(self) -> None:
        """Begin to move usage into the store, whether or not it is open yet."""
        self.flusher.start()
        super().start()

    def catch_up(self) -> None:
        """Move what an earlier run has left into the store, which is open now; called once."""
        accounts = self._accounts
        if accounts is not None:
            self.flusher.caught_up.addCallback(lambda _: accounts.open(self.journal))
        if not self.flusher.caught_up.called:
            self.flusher.flush_now(urgent=True)

    def flush(self, *, urgent: bool = False) -> Deferred[bool]:
        """Move what was used by now into the store; see :meth:`Flusher.flush_now`."""
        self.meter.drain()
        return self.flusher.flush_now(urgent=urgent)

    async def _flush_rest(self) -> int:
        return await self.flusher.stop()

    def _done(self, key: Key, spent: Mapping[Account, int]) -> None:
        if key.node == self.journal.node:
            if self._accounts is not None:
                self._accounts.flushed(spent)
        elif self.others is not None:
            self.others.done(key, spent)

    def _gather(self) -> Deferred[None]:
        return succeed(None) if self.others is None else self.others.gather()


def _disk_hangs(failure: Failure) -> None:
    failure.trap(TimeoutError)
    log.error(
        "state_dir: the disk takes more than {seconds:.0f} s for usage: what waits for it is cut",
        seconds=_DISK,
    )
