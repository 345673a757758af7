"""Forcing the journal's files to the disk, in a thread: the event loop never waits for a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, succeed

from gatekeeper.usage.segment_file import SegmentFile

T = TypeVar("T")


class InThread(Protocol):
    """Calls a function in a thread (``twisted.internet.threads.deferToThread``)."""

    def __call__(self, function: Callable[[], T], /) -> Deferred[T]:
        """Call it, and fire with what it returns or raises."""


class Syncing:
    """Keeps the files of closed segments open until they are on the disk.

    ``directory`` is theirs; ``force`` is ``os.fsync``.
    """

    def __init__(self, directory: Path, in_thread: InThread, force: Callable[[int], None]) -> None:
        self._directory = directory
        self._in_thread = in_thread
        self._force = force
        self._closed: list[SegmentFile] = []
        self._turns = DeferredLock()

    def retire(self, file: SegmentFile) -> None:
        """Take over a file that is not appended to any more."""
        self._closed.append(file)

    def sync(self, current: Callable[[], SegmentFile | None]) -> Deferred[None]:
        """Force what has been appended so far to the disk: one at a time, each after the other.

        ``current`` returns the file that is being appended to.

        :raises OSError: it is unknown what is on the disk. The files are closed, for a system that
            could not write may say later that it did.
        """
        return self._turns.run(lambda: self._sync(current()))

    def close(self) -> None:
        """Close all files that were taken over."""
        files, self._closed = self._closed, []
        for file in files:
            file.close()

    def _sync(self, current: SegmentFile | None) -> Deferred[None]:
        closed, self._closed = self._closed, []
        files = closed if current is None else [*closed, current]
        dirty = [file for file in files if file.dirty and not file.segment.gone]
        for file in dirty:  # Now: what is appended meanwhile makes it dirty again.
            file.dirty = False

        def done(result: T) -> T:
            for file in closed if result is None else files:
                file.close()
            return result

        forced = self._in_thread(lambda: self._force_all(dirty)) if dirty else succeed(None)
        return forced.addBoth(done)

    def _force_all(self, files: list[SegmentFile]) -> None:
        """Runs in the thread."""
        for file in files:
            file.force(self._force)
        if any(file.is_new for file in files):
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._force(directory)
            finally:
                os.close(directory)
            for file in files:
                file.is_new = False
