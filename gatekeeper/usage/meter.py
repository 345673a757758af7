"""What the data plane calls when an exchange is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.errors import JournalError
from gatekeeper.usage.records import Spent, UsageRecord
from gatekeeper.usage.undelivered import GROUP, Undelivered

log = Logger()

#: Turns of the loop that are written down together at the most: half of what a write costs does
#: not depend on how much is written.
TURNS: Final = 4


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

    def withdraw(self) -> bool:
        """Take back what was appended for responses that have not ended; whether that was done."""


#: What waits for the end of this turn, or for the disk: for each record its response.
_Held: TypeAlias = Sequence[Held | None]


class _Group(NamedTuple):
    """What was appended together; ``number`` is that of the first."""

    records: Sequence[UsageRecord]
    held: _Held
    number: int


class Meter:
    """Writes usage records down, and then lets responses end: once per turn of the loop at most.

    While each turn brings more, up to :data:`TURNS` of them are written down together. With
    ``fsync = "always"``, so is all that comes while the disk is waited for: its latency bounds the
    delay and not the throughput. Nothing else is kept from one turn to another.

    ``call_soon`` schedules a call for the end of this turn or the beginning of the next one
    (``loop.call_soon``). ``lost`` is told what records had spent that could not be written down.
    ``send`` and ``settle`` are those of :class:`Undelivered`.
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
        self._always = journal.fsync == "always"
        self._records: list[UsageRecord] = []
        self._held: list[Held | None] = []
        self._turns = 0  # since the first of them
        self._seen = 0  # how many there were in the turn before
        self._forced: list[_Group] = []  # by the sync that runs
        self._idle: list[Deferred[None]] = []

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
            self._turns = self._seen = 0
            self._call_soon(self._turn)
        self._records.append(record)
        self._held.append(held)

    def _turn(self) -> None:
        """A turn of the loop is over."""
        self._turns += 1
        count = len(self._records)
        if self._seen < count < GROUP and self._turns < TURNS:
            self._seen = count
            self._call_soon(self._turn)
        else:
            self.drain()

    def drain(self) -> None:
        """Write down what was collected, unless the disk is waited for: that follows then."""
        if not self._forced:
            self.write_down()

    def idle(self) -> Deferred[None]:
        """Write down what was collected; fires when no response waits any more. Never fails."""
        self.drain()
        if not self._forced:
            return succeed(None)
        self._idle.append(Deferred())
        return self._idle[-1]

    def write_down(self) -> None:
        """Write down what was collected, whatever is waited for: a last time before a stop."""
        records, held = self._records, self._held
        self._records, self._held = [], []
        while len(records) > GROUP:
            self._append(records[:GROUP], held[:GROUP])
            records, held = records[GROUP:], held[GROUP:]
        if records:
            self._append(records, held)
        if self._forced:
            self._journal.sync().addErrback(self._not_forced).addCallback(self._over)

    def _append(self, records: Sequence[UsageRecord], held: _Held) -> None:
        try:
            number = self._journal.append(records, held)
        except JournalError:  # It has said so in the log.
            self._give_up(records, held)
        except Exception:
            log.failure("{count} usage records are lost", count=len(records))
            self._give_up(records, held)
        else:
            if self._always:
                self._forced.append(_Group(records, held, number))
            else:
                self._release(held, number)

    def _release(self, held: _Held, number: int) -> None:
        for place, each in enumerate(held, number):
            if each is not None:
                try:
                    each.release(place)
                except Exception:
                    log.failure("A response could not be ended")
        self._undelivered.end(number)

    def _not_forced(self, failure: Failure) -> None:
        if not failure.check(JournalError):
            log.failure("Usage could not be forced to the disk", failure)
        forced, self._forced = self._forced, []
        withdrawn = self._journal.withdraw()
        for records, held, number in forced:
            gone = [record for record, each in zip(records, held, strict=True) if each is not None]
            self._give_up(gone if withdrawn else (), held)
            self._undelivered.end(number)

    def _over(self, _: None) -> None:
        forced, self._forced = self._forced, []
        for group in forced:
            self._release(group.held, group.number)
        self.drain()
        if not self._forced:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)

    def _give_up(self, records: Iterable[UsageRecord], held: _Held) -> None:
        _withhold_all(held)
        if self._lost is not None:
            for record in records:
                self._lost(record.spent)


def _withhold_all(held: Iterable[Held | None]) -> None:
    """Withhold each, whatever one of them does."""
    for each in held:
        if each is not None:
            try:
                each.withhold()
            except Exception:
                log.failure("A response could not be withheld")
