"""What the data plane calls when an exchange is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.errors import JournalError
from gatekeeper.usage.records import Spent, UsageRecord

log = Logger()


class Held(Protocol):
    """A response whose last bytes wait until its usage record is safe."""

    def release(self) -> None:
        """Send them."""

    def withhold(self) -> None:
        """The record cannot be written down: the response must not arrive whole."""


class Appending(Protocol):
    """What the meter needs of a :class:`~gatekeeper.usage.journal.Journal`."""

    @property
    def full(self) -> bool:
        """Whether nothing new may be admitted."""

    @property
    def fsync(self) -> str:
        """``always``: responses wait for :meth:`sync`, too."""

    def append(self, records: Sequence[UsageRecord]) -> None:
        """Write records down, all or none.

        :raises JournalError: they are not taken.
        """

    def sync(self) -> Deferred[None]:
        """Force what was appended to the disk.

        :raises JournalError: it is unknown what is there.
        """


class Meter:
    """Writes usage records down once per turn of the event loop, and then lets responses end.

    ``call_soon`` schedules a call for the end of this turn or the beginning of the next one
    (``loop.call_soon``). Nothing is kept from one turn to another but, with ``fsync = "always"``,
    responses that wait for the disk. ``lost`` is told what records had spent that could not be
    written down.
    """

    def __init__(
        self,
        journal: Appending,
        call_soon: Callable[[Callable[[], None]], object],
        lost: Callable[[Iterable[Spent]], object] | None = None,
    ) -> None:
        self._lost = lost
        self._journal = journal
        self._call_soon = call_soon
        self._commit = GroupCommit(journal.sync) if journal.fsync == "always" else None
        self._records: list[UsageRecord] = []
        self._held: list[Held] = []

    @property
    def full(self) -> bool:
        """Whether usage cannot be taken now: requests should get a 503."""
        return self._journal.full

    def record(self, record: UsageRecord) -> None:
        """Take in the record of a finished exchange. Never fails, never waits."""
        if not self._records:
            self._call_soon(self.drain)
        self._records.append(record)

    def hold(self, held: Held) -> None:
        """Release this when the record of this turn is safe; called right after :meth:`record`.

        Responses are released in the order in which they are held.
        """
        self._held.append(held)

    def drain(self) -> None:
        """Write down what was collected. Called by the loop, and once before a stop."""
        records, held = self._records, self._held
        if not records:
            return
        self._records, self._held = [], []
        try:
            self._journal.append(records)
        except JournalError:  # It has said so in the log.
            self._give_up(records, held)
        except Exception:
            log.failure("{count} usage records are lost", count=len(records))
            self._give_up(records, held)
        else:
            if self._commit is None:
                release_all(held)
            else:
                self._commit.add(held)

    def _give_up(self, records: Iterable[UsageRecord], held: Iterable[Held]) -> None:
        withhold_all(held)
        if self._lost is not None:
            for record in records:
                self._lost(record.spent)


class GroupCommit:
    """Releases responses once the disk has what was appended before they came.

    ``sync`` forces it there. While one call runs, responses gather for the next, however many turns
    of the loop that takes: so the disk's latency bounds the delay and not the throughput.
    """

    def __init__(self, sync: Callable[[], Deferred[None]]) -> None:
        self._sync = sync
        self._held: list[Held] = []
        self._running = self._again = False

    def add(self, held: Iterable[Held]) -> None:
        """Release these after a sync that begins now or later."""
        self._held += held
        if self._running:
            self._again = True
        else:
            self._begin()

    def _begin(self) -> None:
        held, self._held = self._held, []
        self._running, self._again = True, False
        self._sync().addCallbacks(self._done, self._failed, (held,), errbackArgs=(held,))

    def _done(self, _: None, held: list[Held]) -> None:
        release_all(held)
        self._running = False
        if self._again:
            self._begin()

    def _failed(self, failure: Failure, held: list[Held]) -> None:
        if not failure.check(JournalError):
            log.failure("Usage could not be forced to the disk", failure)
        # What came meanwhile went into the same files, of which nothing is certain now.
        later, self._held = self._held, []
        self._running = False
        withhold_all(held)
        withhold_all(later)


def release_all(held: Iterable[Held]) -> None:
    """Release each, whatever one of them does."""
    for each in held:
        try:
            each.release()
        except Exception:
            log.failure("A response could not be ended")


def withhold_all(held: Iterable[Held]) -> None:
    """Withhold each, whatever one of them does."""
    for each in held:
        try:
            each.withhold()
        except Exception:
            log.failure("A response could not be withheld")
