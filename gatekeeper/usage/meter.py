"""What the data plane calls when an exchange is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.errors import JournalError
from gatekeeper.usage.records import Spent, UsageRecord
from gatekeeper.usage.undelivered import GROUP, Undelivered

log = Logger()


class Held(Protocol):
    """A response whose last bytes wait until its usage record is safe."""

    def release(self, number: int) -> None:
        """Send them: with :meth:`Meter.send`, or after :meth:`Meter.settle`."""

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

    @property
    def undelivered(self) -> Undelivered:
        """Knows which responses are about to be sent."""

    def append(self, records: Sequence[UsageRecord], held: Sequence[object]) -> int:
        """Write records down, all or none.

        Returns the number by which ``undelivered`` knows the response to the first of them, each of
        which is in ``held``, or ``None`` there; those of the others follow.

        :raises JournalError: they are not taken.
        """

    def sync(self) -> Deferred[None]:
        """Force what was appended to the disk.

        :raises JournalError: it is unknown what is there.
        """


#: What waits for the end of this turn, or for the disk: for each record its response.
_Held: TypeAlias = Sequence[Held | None]


class Meter:
    """Writes usage records down once per turn of the event loop, and then lets responses end.

    ``call_soon`` schedules a call for the end of this turn or the beginning of the next one
    (``loop.call_soon``). Nothing is kept from one turn to another but, with ``fsync = "always"``,
    responses that wait for the disk. ``lost`` is told what records had spent that could not be
    written down. ``send`` and ``settle`` are those of :class:`Undelivered`.
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
        self._undelivered = journal.undelivered
        self.send: Final = self._undelivered.send
        self.settle: Final = self._undelivered.settle
        always = journal.fsync == "always"
        self._commit = GroupCommit(journal.sync, self._release) if always else None
        self._records: list[UsageRecord] = []
        self._held: list[Held | None] = []

    @property
    def full(self) -> bool:
        """Whether usage cannot be taken now: requests should get a 503."""
        return self._journal.full

    def record(self, record: UsageRecord, held: Held | None) -> None:
        """Take in the record of a finished exchange. Never fails, never waits.

        ``held`` is its response, which may end when the record is safe, and is released then:
        responses are released in the order of their records.
        """
        if not self._records:
            self._call_soon(self.drain)
        self._records.append(record)
        self._held.append(held)

    def drain(self) -> None:
        """Write down what was collected. Called by the loop, and once before a stop."""
        records, held = self._records, self._held
        self._records, self._held = [], []
        while len(records) > GROUP:
            self._write_down(records[:GROUP], held[:GROUP])
            records, held = records[GROUP:], held[GROUP:]
        if records:
            self._write_down(records, held)

    def _write_down(self, records: Sequence[UsageRecord], held: _Held) -> None:
        try:
            number = self._journal.append(records, held)
        except JournalError:  # It has said so in the log.
            self._give_up(records, held)
        except Exception:
            log.failure("{count} usage records are lost", count=len(records))
            self._give_up(records, held)
        else:
            if self._commit is None:
                self._release(held, number)
            else:
                self._commit.add(held, number)

    def _release(self, held: _Held, number: int) -> None:
        for place, each in enumerate(held, number):
            if each is not None:
                try:
                    each.release(place)
                except Exception:
                    log.failure("A response could not be ended")
        self._undelivered.end(number)

    def _give_up(self, records: Iterable[UsageRecord], held: _Held) -> None:
        withhold_all(held)
        if self._lost is not None:
            for record in records:
                self._lost(record.spent)


class GroupCommit:
    """Releases responses once the disk has what was appended before they came.

    ``sync`` forces it there; ``release`` is told what was held, and its first number, see
    :class:`Meter`. While one call runs, responses gather for the next, however many turns of the
    loop that takes: so the disk's latency bounds the delay and not the throughput.
    """

    def __init__(
        self, sync: Callable[[], Deferred[None]], release: Callable[[_Held, int], None]
    ) -> None:
        self._sync = sync
        self._release = release
        self._waiting: list[tuple[_Held, int]] = []
        self._running = False

    def add(self, held: _Held, number: int) -> None:
        """Release these after a sync that begins now or later."""
        self._waiting.append((held, number))
        if not self._running:
            self._begin()

    def _begin(self) -> None:
        groups, self._waiting = self._waiting, []
        self._running = True
        self._sync().addCallbacks(self._done, self._failed, (groups,), errbackArgs=(groups,))

    def _done(self, _: None, groups: list[tuple[_Held, int]]) -> None:
        for held, number in groups:
            self._release(held, number)
        self._running = False
        if self._waiting:
            self._begin()

    def _failed(self, failure: Failure, groups: list[tuple[_Held, int]]) -> None:
        if not failure.check(JournalError):
            log.failure("Usage could not be forced to the disk", failure)
        # What came meanwhile went into the same files, of which nothing is certain now.
        groups, self._waiting = groups + self._waiting, []
        self._running = False
        for held, number in groups:
            withhold_all(held)
            self._release((), number)


def withhold_all(held: Iterable[Held | None]) -> None:
    """Withhold each, whatever one of them does."""
    for each in held:
        if each is not None:
            try:
                each.withhold()
            except Exception:
                log.failure("A response could not be withheld")
