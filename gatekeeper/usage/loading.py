"""Closed segments of the journal, added up to the batches that they are for the store."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from gatekeeper.errors import JournalError
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.journal_directory import reason
from gatekeeper.usage.records import Batch, UsageRecord
from gatekeeper.usage.segment_file import Segment
from gatekeeper.usage.segments import BLOCK_RECORDS, Block, Scan, decode_blocks

#: Of so many records, about two microseconds each, requests may have to wait for the end.
SLICE: Final = BLOCK_RECORDS

#: A segment that cannot be read for one of these reasons will not be read later either. Others,
#: such as too many open files, pass.
_UNREADABLE: Final = (errno.EIO, errno.ENOENT)


class Loaded(NamedTuple):
    """A segment as a batch; ``damage`` is what is wrong with the file, ``""``: nothing."""

    segment: Segment
    batch: Batch
    damage: str


class Loading:
    """The closed segments of ``journal``, the oldest first, and one ahead of that.

    A part of it is added up in each turn of the loop, with ``counters``. With ``keep_records``
    batches have the single records, too.
    """

    def __init__(
        self, journal: Journal, counters: Counters, clock: IReactorTime, *, keep_records: bool
    ) -> None:
        self._journal = journal
        self._counters = counters
        self._clock = clock
        self._keep_records = keep_records
        self._current: Loaded | None = None
        self._ahead: Deferred[Loaded] | None = None

    async def load(self) -> Loaded:
        """Return what waits longest, of which there must be some: the same until :meth:`done`.

        :raises JournalError: it cannot be read now.
        """
        if self._current is None:
            ahead, self._ahead = self._ahead, None
            self._current = await (ahead or self._begin(self._journal.closed[0]))
        return self._current

    def look_ahead(self) -> None:
        """Begin with what comes next: while the store works on this one, nobody else does."""
        current = self._current
        if current is None or self._ahead is not None:
            return
        others = (each for each in self._journal.closed if each is not current.segment)
        following = next(others, None)
        if following is not None:
            self._ahead = self._begin(following)

    def done(self) -> None:
        """The current one needs nothing more."""
        self._current = None

    def stop(self) -> None:
        """Nothing is loaded any more: nobody asks how that ended which has begun."""
        if self._ahead is not None:
            self._ahead.addErrback(lambda _: None)

    def _begin(self, segment: Segment) -> Deferred[Loaded]:
        return Deferred.fromCoroutine(self._load(segment))

    async def _load(self, segment: Segment) -> Loaded:
        await deferLater(self._clock, 0)
        if segment.sums is not None:
            return Loaded(
                segment, Batch(*segment.key, segment.sums.counters, (), segment.sums.spent), ""
            )
        try:
            reading = await self._journal.read(segment)
        except OSError as error:
            why = f"{segment.path.name} cannot be read: {reason(error)}"
            if error.errno not in _UNREADABLE:
                raise JournalError(f"state_dir: {why}") from error
            return Loaded(segment, Batch(*segment.key, {}), why)
        self._counters.take()  # Nothing, unless an attempt before has ended in the middle.
        self._counters.take_spent()
        kept: list[UsageRecord] = []
        understood = 0
        for blocks in _slices(reading.found.blocks):
            records = decode_blocks(reading.data, blocks)
            understood += len(records)
            self._counters.add_all(records)
            if self._keep_records:
                kept += records
            await deferLater(self._clock, 0)
        counters, spent = self._counters.take(), self._counters.take_spent()
        batch = Batch(*segment.key, counters, tuple(kept), spent)
        return Loaded(segment, batch, _damage(reading.found, understood))


def _slices(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """Blocks that have no more than :data:`SLICE` records together, unless it is a single one."""
    begin = records = 0
    for number, block in enumerate(blocks):
        if records and records + block.records > SLICE:
            yield blocks[begin:number]
            begin, records = number, 0
        records += block.records
    if records:
        yield blocks[begin:]


def _damage(found: Scan, understood: int) -> str:
    """What is wrong with a segment; ``""``: nothing."""
    damaged = found.damaged + found.torn
    unknown = found.records - understood
    if not damaged and not unknown:
        return ""
    return (
        f"{damaged} bytes are damaged and {unknown} records cannot be understood; "
        f"the other {understood} are counted"
    )
