"""Metering, put together: the meter, the journal behind it, and what moves that into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gatekeeper.config.model import Usage
from gatekeeper.store.interface import IStore
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.flushing import Flusher
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.meter import Meter
from gatekeeper.usage.records import Account, Spent
from gatekeeper.usage.upkeep import Upkeep

log = Logger()


class Spending(Protocol):
    """Who keeps the accounts that requests draw on (:class:`gatekeeper.usage.records.Account`)."""

    def open(self) -> None:
        """The store has all that an earlier run has metered."""

    def flushed(self, spent: Mapping[Account, int]) -> None:
        """The store has so much more of what this run has spent."""

    def lost(self, spent: Iterable[Spent]) -> None:
        """The usage records of this could not be written down."""


class Metering:
    """Everything between the end of an exchange and ``store``, which is somebody else's to open.

    The journal is in ``state_dir``. ``call_soon`` is the event loop's. ``accounts`` are told what
    becomes of what was drawn from them.

    :raises ConfigurationError: another process uses ``state_dir``, or the journal cannot be there.
    """

    def __init__(
        self,
        settings: Usage,
        state_dir: Path,
        store: IStore,
        reactor: IReactorTime,
        call_soon: Callable[[Callable[[], None]], object],
        accounts: Spending | None = None,
    ) -> None:
        self.journal = Journal(
            state_dir / "journal", size=settings.journal_size, fsync=settings.fsync
        )
        self.meter = Meter(self.journal, call_soon, accounts.lost if accounts else None)
        self.flusher = Flusher(
            store,
            self.journal,
            Counters(settings.max_paths),
            reactor,
            settings.flush_interval,
            keep_records=settings.records,
            on_spent=accounts.flushed if accounts else None,
        )
        if accounts is not None:
            self.flusher.caught_up.addCallback(lambda _: accounts.open())
        self._upkeep = Upkeep(self.journal, reactor, settings.fsync_interval)

    def problem(self) -> str | None:
        """What is wrong now, for readiness; ``None``: nothing."""
        if self.journal.failing:
            return "usage cannot be written down: requests are refused; see the log"
        if self.journal.full:
            return "too much usage waits for the store: requests are refused"
        if self.flusher.failing_since is not None:
            return f"the store has taken no usage for {self.flusher.lag:.0f} s; it is kept"
        return None

    def start(self) -> None:
        """Begin to move usage into the store, whether or not it is open yet."""
        self.flusher.start()
        self._upkeep.start()

    def catch_up(self) -> None:
        """Move what an earlier run has left into the store, which is open now."""
        if not self.flusher.caught_up.called:
            self.flusher.flush_now(urgent=True)

    def flush(self, *, urgent: bool = False) -> Deferred[bool]:
        """Move what was used by now into the store; see :meth:`Flusher.flush_now`."""
        self.meter.drain()
        return self.flusher.flush_now(urgent=urgent)

    async def stop(self) -> None:
        """Write down and flush what there is. No exchange may end any more; the store is open.

        What the store does not take now stays in the journal for the next start.
        """
        self.meter.drain()
        await self.flusher.stop()
        await self._upkeep.stop()
        self.journal.close()
