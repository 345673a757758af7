"""How the daemon is: a summary for operators."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field
from twisted.internet.interfaces import IReactorTime

from gatekeeper import __version__
from gatekeeper.management.health import Readiness
from gatekeeper.management.live import Traffic
from gatekeeper.management.v1.models import Document, Time, write_time

if TYPE_CHECKING:
    from gatekeeper.usage.flushing import Flusher
    from gatekeeper.usage.journal import Journal


class ListenerState(Document):
    """An address that clients connect to."""

    name: str
    role: str
    address: str


class CheckState(Document):
    """What a check says: `problem` is `null` where nothing is wrong."""

    name: str
    problem: str | None


class JournalState(Document):
    """Usage that is on the disk and not yet in the store."""

    records: int
    bytes: int
    limit: int
    full: bool
    failing: bool


class FlusherState(Document):
    """How usage gets into the store."""

    lag: float = Field(description="Seconds since the store had everything.")
    failing: bool
    written: int = Field(description="Batches that the store has confirmed.")
    failures: int = Field(description="Attempts that failed.")
    rejected: int = Field(description="Segments of the journal that were set aside.")


class Health(Document):
    """How the daemon is."""

    status: str = Field(description="`ready`, `unavailable` or `draining`.")
    version: str
    started: Time
    uptime: float = Field(description="Seconds.")
    connections: int = Field(description="Of clients, open now.")
    exchanges: int = Field(description="Requests that run now.")
    services: int
    users: int = Field(description="Those made over the API.")
    listeners: list[ListenerState]
    checks: list[CheckState]
    journal: JournalState | None = Field(description="`null`: usage is not counted.")
    flusher: FlusherState | None


@dataclass(slots=True)
class Counts:
    """Functions that count what there is now."""

    traffic: Callable[[], Awaitable[Traffic]]
    services: Callable[[], int]
    users: Callable[[], int]


@dataclass(slots=True)
class Status:
    """Where the summary comes from. ``journal_size`` bounds the journal, in bytes."""

    readiness: Readiness
    counts: Counts
    listeners: Callable[[], Sequence[ListenerState]]
    journal: Journal | None = None
    flusher: Flusher | None = None
    journal_size: int = 0
    wall_clock: Callable[[], float] = time.time
    started: float = field(default_factory=time.time)

    async def report(self, clock: IReactorTime) -> Health:
        """Look at everything, and let the checks look."""
        report = await self.readiness.report(clock)
        traffic = await self.counts.traffic()
        now, counts = self.wall_clock(), self.counts
        return Health(
            status="draining" if report.draining else "ready" if report.ready else "unavailable",
            version=__version__,
            started=write_time(self.started),
            uptime=round(max(0.0, now - self.started), 3),
            connections=traffic.connections,
            exchanges=traffic.exchanges,
            services=counts.services(),
            users=counts.users(),
            listeners=list(self.listeners()),
            checks=[CheckState(name=name, problem=p) for name, p in report.problems.items()],
            journal=self._journal(traffic),
            flusher=self._flusher(),
        )

    def _journal(self, traffic: Traffic) -> JournalState | None:
        journal = self.journal
        if journal is None:
            return None
        return JournalState(
            records=journal.records + traffic.records,
            bytes=journal.bytes + traffic.bytes,
            limit=self.journal_size,
            full=journal.full or traffic.full,
            failing=journal.failing or traffic.failing,
        )

    def _flusher(self) -> FlusherState | None:
        flusher = self.flusher
        if flusher is None:
            return None
        return FlusherState(
            lag=round(flusher.lag, 3),
            failing=flusher.failing_since is not None,
            written=flusher.written,
            failures=flusher.failures,
            rejected=flusher.rejected,
        )
