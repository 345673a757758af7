"""Segments on the disk: one that is being written, and those that wait for the store."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

from gatekeeper.usage.records import Account, Counted, CounterKey
from gatekeeper.usage.segments import HEAD, Key

log = Logger()

#: Bytes that a file takes from the disk at a time.
STEP = 64 * 1024

#: Sees to it that a file has room: its descriptor, from where, how many bytes
#: (``os.posix_fallocate``).
Allocate = Callable[[int, int, int], None]


class Sums(NamedTuple):
    """What the records of a segment come to; see :class:`gatekeeper.usage.records.Batch`."""

    counters: dict[CounterKey, Counted]
    spent: Mapping[Account, int]


@dataclass(slots=True, eq=False)
class Segment:
    """A file of the journal: how many whole records are in it, and its length in bytes up to there.

    ``since`` is when its first record came (seconds since the epoch); ``gone``: nobody needs it any
    more. ``sums`` is what its records come to, counters and what was spent, where that is known.
    """

    path: Path
    key: Key
    since: float
    records: int = 0
    size: int = 0
    gone: bool = False
    sums: Sums | None = None


class SegmentFile:
    """The file of a new segment (mode 0600), with room for so many bytes.

    The file is in our memory, so that appending is no system call, and what was appended outlives
    the process. The disk gives what is written to before that, :data:`STEP` by step: ``allocate``
    is ``os.posix_fallocate``.

    :raises OSError: it cannot be made; nothing is left of it.
    """

    def __init__(self, segment: Segment, room: int, allocate: Allocate) -> None:
        self.segment = segment
        self.room = room
        """Bytes that can still be appended."""
        self.dirty = False
        """Whether something was written that has not been forced to the disk."""
        self.is_new = True
        """Whether its name has not been forced to the disk."""
        self._allocate = allocate
        self._allocated = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(segment.path, flags, 0o600)
        try:
            os.ftruncate(self._fd, room)
            self._memory = mmap.mmap(self._fd, room)
            self.append(HEAD, 0)
        except OSError:
            self.remove()
            raise

    def append(self, blocks: bytes, records: int) -> None:
        """Append blocks with so many records; they must not be longer than the ``room``.

        :raises OSError: the disk is full, or fails; nothing was appended.
        """
        segment, size = self.segment, len(blocks)
        begin = segment.size
        end = begin + size
        if end > self._allocated:
            more = min(max(STEP, end - self._allocated), self.room + begin - self._allocated)
            self._allocate(self._fd, self._allocated, more)
            self._allocated += more
        self._memory[begin:end] = blocks
        segment.size = end
        segment.records += records
        self.room -= size
        self.dirty = True

    def end(self) -> None:
        """Give back what was not needed: nothing is appended any more. Never fails."""
        self._memory.close()
        with suppress(OSError):  # What is behind the last block is known to be nothing.
            os.ftruncate(self._fd, self.segment.size)

    def force(self, fsync: Callable[[int], None]) -> None:
        """Wait until everything is on the disk; may run in a thread.

        :raises OSError: it is unknown what is there.
        """
        fsync(self._fd)

    def close(self) -> None:
        """Close it; may be called again. Never fails."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self.dirty = False
        try:
            os.close(fd)
        except OSError as error:  # A file server's way to tell of writes that came to nothing.
            log.error("{path}: {error}", path=self.segment.path, error=error)

    def remove(self) -> None:
        """Close and delete it. Never fails: an empty segment may stay, and is no harm."""
        self.close()
        with suppress(OSError):
            self.segment.path.unlink()
