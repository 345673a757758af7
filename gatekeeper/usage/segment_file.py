"""Segments on the disk: one that is being written, and those that wait for the store."""

from __future__ import annotations

import errno
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

#: Writes some bytes to a file and returns how many (``os.write``).
Write = Callable[[int, bytes], int]


class Sums(NamedTuple):
    """What the records of a segment come to; see :class:`gatekeeper.usage.records.Batch`."""

    counters: dict[CounterKey, Counted]
    spent: Mapping[Account, int]


@dataclass(slots=True, eq=False)
class Segment:
    """A file of the journal: how many whole records are in it, and its length in bytes up to there.

    ``since`` is when its first record came (seconds since the epoch); ``gone``: nobody needs it any
    more. ``sums`` is what its records come to, where that is known.
    """

    path: Path
    key: Key
    since: float
    records: int = 0
    size: int = 0
    gone: bool = False
    sums: Sums | None = None


class SegmentFile:
    """The file of a new segment, open for appending (mode 0600). ``write`` is ``os.write``.

    :raises OSError: it cannot be made.
    """

    def __init__(self, segment: Segment, write: Write) -> None:
        self.segment = segment
        self.dirty = False
        """Whether something was written that has not been forced to the disk."""
        self.is_new = True
        """Whether its name has not been forced to the disk."""
        self._write = write
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(segment.path, flags, 0o600)

    def append(self, blocks: bytes, records: int) -> None:
        """Append blocks with so many records, all or nothing.

        :raises OSError: nothing was appended. Where that could not be undone, a torn tail is left:
            the file must not be appended to any more.
        """
        segment = self.segment
        data = blocks if segment.size else HEAD + blocks
        try:
            written = self._write(self._fd, data)
            while written < len(data):
                more = self._write(self._fd, data[written:])
                if not more:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += more
        except OSError:
            os.ftruncate(self._fd, segment.size)
            raise
        segment.size += len(data)
        segment.records += records
        self.dirty = True

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
