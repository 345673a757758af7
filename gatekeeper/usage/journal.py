"""The journal: where usage is safe from the end of its exchange until the store has it."""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.errors import ConfigurationError, JournalError, Problem
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.journal_directory import (
    Ending,
    left_over,
    notes_of,
    open_directory,
    probe,
    reason,
    repaired,
    set_aside,
    unusable,
)
from gatekeeper.usage.lease_files import LeaseFiles
from gatekeeper.usage.owners import Owner, Owners
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.segment_file import Segment, SegmentFile, Sums, Write
from gatekeeper.usage.segments import HEAD, Key, Scan, encode_blocks, scan
from gatekeeper.usage.syncing import InThread, Syncing
from gatekeeper.usage.undelivered import Undelivered

log = Logger()

#: Records in one segment, and so in one batch. Writing a batch takes some milliseconds of our own
#: time, in which no request is served: more batches, and requests in between, are better than a
#: big one.
SEGMENT_RECORDS: Final = 2_000

#: Where they are added up at once, it is the counters that take time; many records may be few.
SUMMED_RECORDS: Final = 10_000

#: A segment whose records are long ends earlier, at so many bytes.
SEGMENT_BYTES: Final = 4 * 1024 * 1024

#: Counters that are kept of closed segments. Of further ones the file is read again, once the
#: store takes them.
_SUMS: Final = 50_000

#: Groups of responses that may wait for the disk with ``fsync = "always"``, if a kill is not to
#: count them; without that, one is over before the next one begins.
_WAITING: Final = 64


class Reading(NamedTuple):
    """A segment that was read: its bytes, and what is in them."""

    data: bytes
    found: Scan


class Journal:
    """Segment files in ``directory``, which no stranger may use meanwhile.

    Whoever has inherited its ``lock`` (a file descriptor; -1: nobody has it yet) is none: each
    process writes segments of its own there, and takes over what those leave who end.

    ``size`` bounds it, in bytes: from there on it is :attr:`full`. Records of exchanges that run
    are taken all the same, so whoever admits exchanges has to look at it.

    ``fsync`` is ``none``, ``interval`` or ``always``: but for ``none``, somebody has to call
    :meth:`sync`, which closes files, too. ``node`` is new for each process, so that sequence
    numbers may begin at 1. ``now`` is the wall clock; ``write`` and ``force`` are ``os.write`` and
    ``os.fsync``. With ``counters`` what is appended is added up at once, which is cheaper than to
    read it again later.

    After a write that failed the journal is failing: it takes nothing more until
    :meth:`look_after` finds that it can. One line in the log says that it began, one that it ended.

    Where another process moves what is written here into the store, it is told of each segment
    that is ready (``hand_over``), and tells when that is done (:meth:`done`). Nothing that anybody
    leaves is taken over here then.

    :raises ConfigurationError: another process uses the directory, or it cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int,
        fsync: Literal["none", "interval", "always"] = "interval",
        worker: int = 0,
        node: str | None = None,
        lock: int = -1,
        hand_over: Callable[[Segment], object] | None = None,
        counters: Counters | None = None,
        segment_records: int | None = None,
        in_thread: InThread = deferToThread,
        now: Callable[[], float] = time.time,
        write: Write = os.write,
        force: Callable[[int], None] = os.fsync,
    ) -> None:
        self.fsync: Final = fsync
        self.node: Final = secrets.token_hex(8) if node is None else node
        self._directory = directory
        self._size = size
        self._worker = worker
        self._hand_over = hand_over
        self._counters = counters
        self._complete = False  # whether the segment is to be closed
        self._summed = 0  # counters that closed segments have
        if segment_records is None:
            segment_records = SEGMENT_RECORDS if counters is None else SUMMED_RECORDS
        self._segment_records = segment_records
        self._in_thread = in_thread
        self._now = now
        self._write = write
        self._force = force
        self.lock = open_directory(directory, lock)
        self._owners = _owners(directory, (self.node, worker))
        self.leases: Final = LeaseFiles(directory, (self.node, worker), self._owners)
        self._syncing = Syncing(directory, in_thread, force)
        self._aside = set_aside(directory) if hand_over is None else {}
        self._taking = DeferredLock()
        self._sequence = 0
        self._file: SegmentFile | None = None
        self._problem = ""
        self._shut = False
        self.closed: deque[Segment] = deque()
        """Segments that wait for the store, the oldest first; not the one that is written to."""
        self.records = 0
        """Records that wait for the store."""
        self.bytes = 0
        """Bytes that wait for the store."""
        self.appended = 0
        """Records taken since the start."""
        self.refused = 0
        """Records that could not be taken since the start."""
        self.failing_since: float | None = None
        """Since when (seconds since the epoch) nothing can be written; ``None``: it can."""
        self.full = False
        """Whether nothing new may be admitted: it is failing, or has reached its size."""
        self.undelivered: Final = Undelivered(
            notes_of(directory, (self.node, worker)), _WAITING if fsync == "always" else 1
        )
        if hand_over is None:
            self._take_over(left_over(directory, self._owners))

    @property
    def age(self) -> float:
        """Seconds since the oldest record came that the store does not have; 0.0: none waits."""
        if self.closed:
            since = self.closed[0].since
        elif self._file is not None:
            since = self._file.segment.since
        else:
            return 0.0
        return max(0.0, self._now() - since)

    @property
    def own_records(self) -> int:
        """Records that wait for the store, but for those that were handed over."""
        return self.records - self._handed_over(lambda segment: segment.records)

    @property
    def own_bytes(self) -> int:
        """Bytes that wait for the store, but for those that were handed over."""
        return self.bytes - self._handed_over(lambda segment: segment.size)

    def _handed_over(self, measure: Callable[[Segment], int]) -> int:
        return 0 if self._hand_over is None else sum(map(measure, self.closed))

    # --- writing --------------------------------------------------------------------------

    def append(self, records: Sequence[UsageRecord], held: Sequence[object] | None = None) -> int:
        """Write records down, all or none.

        Once this returns, the end of the process cannot take them away, and once a :meth:`sync`
        after it has fired, that of the machine cannot.

        With ``held``, see :meth:`.Undelivered.begin`, they count as those are sent: it returns what
        that returns. They are at most :data:`.undelivered.GROUP` then.

        :raises JournalError: they are not taken.
        """
        count = len(records)
        blocks = encode_blocks(records)
        number = -1
        try:
            file = self._file
            if file is None or (self._complete and not self.undelivered.busy):
                file = self._next_file()
            segment = file.segment
            before = segment.size
            if held is not None:
                offset = before or len(HEAD)
                number = self.undelivered.begin(segment.key.sequence, offset, held)
            file.append(blocks, count)
        except OSError as error:
            self.refused += count
            if number >= 0:
                self.undelivered.end(number)
            raise self._failed(error) from error
        except JournalError:
            self.refused += count
            raise
        if self._counters is not None:
            self._counters.add_all(records)
            if len(self._counters) >= SEGMENT_RECORDS:
                self._complete = True
        self.appended += count
        self.records += count
        self.bytes += segment.size - before
        if self.bytes >= self._size:
            self._measure()
        if segment.records >= self._segment_records or segment.size >= SEGMENT_BYTES:
            self._complete = True  # and closed before the next one: now responses are sent
        return number

    def withdraw(self) -> bool:
        """Take back records whose responses have not ended, and will not; whether that was done.

        To be called after a :meth:`sync` that has failed. Never fails.
        """
        lost = self.undelivered.lost()
        theirs = {Key(self.node, self._worker, each.sequence) for each in lost}
        for segment in [each for each in self.closed if each.key in theirs]:
            path, key = segment.path, segment.key
            try:
                left = repaired(path, key, segment.since, path.read_bytes(), lost)
            except OSError as error:
                log.critical(
                    "{path}: usage counts that was not: {why}", path=path, why=reason(error)
                )
                return False
            self._forget(segment)
            self._queue([] if left is None else [left])
        return True

    def rotate(self) -> None:
        """Close the segment that is written to, if there is one: it waits for the store then.

        Where responses to its records wait for the disk, it is closed after that.
        """
        if self.undelivered.busy:
            self._complete = True
        else:
            self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        self._complete = False
        if file is None:
            return
        if not file.segment.records:
            file.remove()
            return
        self._sum_up(file.segment)
        self.closed.append(file.segment)
        self._syncing.retire(file)
        if self._hand_over is not None:
            self._hand_over(file.segment)
        if self.fsync == "none":
            self._syncing.close()

    def _sum_up(self, segment: Segment) -> None:
        """Keep what its records come to, as long as that is not too much."""
        counters = self._counters
        if counters is None:
            return
        sums = Sums(counters.take(), counters.take_spent())
        if self._summed + len(sums.counters) <= _SUMS:
            self._summed += len(sums.counters)
            segment.sums = sums

    def sync(self) -> Deferred[None]:
        """Force to the disk what was appended before, in a thread.

        :raises JournalError: it is unknown what is on the disk; the journal is failing.
        """

        def failed(failure: Failure) -> None:
            if isinstance(failure.value, OSError):
                raise self._failed(failure.value) from failure.value
            self._close_file()  # Its descriptor is closed already.
            failure.raiseException()

        return self._syncing.sync(lambda: self._file).addErrback(failed)

    def close(self) -> None:
        """Let go of files and directory. Segments may still be read and removed."""
        self._close_file()
        self._syncing.close()
        self.undelivered.close()
        self._owners.close()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _next_file(self) -> SegmentFile:
        """Begin a segment.

        :raises OSError: it cannot be made.
        :raises JournalError: the journal is failing.
        """
        if self._problem:
            raise JournalError(self._problem)
        self._close_file()
        self._sequence += 1
        key = Key(self.node, self._worker, self._sequence)
        segment = Segment(self._directory / key.file_name, key, self._now())
        self._file = SegmentFile(segment, self._write)
        return self._file

    def _measure(self) -> None:
        used = self.bytes + sum(self._aside.values())
        self.full = bool(self._problem) or self._shut or used >= self._size

    def shut(self, shut: bool) -> None:
        """Whether it is full for a reason of others: all processes together have too much."""
        self._shut = shut
        self._measure()

    # --- other processes ------------------------------------------------------------------

    def adopt(self) -> Deferred[None]:
        """Take over the segments of processes that have ended meanwhile.

        To be called every few seconds. It does not fail.
        """
        return self._taking.run(self._adopt)

    def _adopt(self) -> Deferred[None]:
        if self.lock < 0:
            return succeed(None)
        known = {segment.key for segment in self.closed}
        found = self._in_thread(lambda: left_over(self._directory, self._owners, known))
        return found.addCallbacks(self._take_over, self._cannot_adopt)

    def receive(self, name: str, since: float, records: int, size: int) -> Deferred[None]:
        """Take over a segment that another process hands over; see :class:`Segment`."""
        key = Key.of_file(name)
        if key is None:
            raise ValueError(name)
        segment = Segment(self._directory / name, key, since, records, size)
        return self._taking.run(self._receive, segment)

    def _receive(self, segment: Segment) -> None:
        # Its process may have ended meanwhile, and all that it has left was taken over.
        known = any(segment.key == each.key for each in self.closed)
        if not known and segment.path.exists():
            self._queue([segment])

    def done(self, sequence: int) -> None:
        """The store has a segment that was handed over. Never fails."""
        for segment in self.closed:
            if segment.key.sequence == sequence:
                self._forget(segment)
                return

    def _queue(self, segments: Sequence[Segment]) -> None:
        in_order = sorted([*self.closed, *segments], key=lambda each: (each.since, each.key))
        self.closed.clear()
        self.closed.extend(in_order)
        self.records += sum(segment.records for segment in segments)
        self.bytes += sum(segment.size for segment in segments)
        self._measure()

    def _take_over(self, segments: Sequence[Segment]) -> None:
        self._queue(segments)
        if records := sum(segment.records for segment in segments):
            log.info(
                "{records} usage records of an earlier run wait for the store", records=records
            )

    def _cannot_adopt(self, failure: Failure) -> None:
        if isinstance(failure.value, ConfigurationError):
            log.warn("What other processes have left: {problem}", problem=str(failure.value))
        else:
            log.failure("What other processes have left could not be taken over", failure)

    # --- failing --------------------------------------------------------------------------

    @property
    def failing(self) -> bool:
        """Whether nothing can be written now."""
        return self.failing_since is not None

    def look_after(self) -> Deferred[None]:
        """Find out whether a failing journal can be written to again, and what was cleared away.

        To be called about once a second, and not again before it has fired. It does not fail.
        """
        if self._aside:
            self._aside = {path: size for path, size in self._aside.items() if path.exists()}
            self._measure()
        if self.failing_since is None:
            return succeed(None)
        force = None if self.fsync == "none" else self._force
        return self._in_thread(lambda: probe(self._directory, self._write, force)).addCallbacks(
            self._recovered, self._still_failing
        )

    def _failed(self, error: OSError) -> JournalError:
        """Begin to fail. The segment is closed: only a new one can be trusted."""
        self._problem = f"state_dir: {self._directory}: {reason(error)}"
        self._close_file()
        self.full = True
        if self.failing_since is None:
            self.failing_since = self._now()
            log.critical("Usage cannot be written down: {problem}", problem=self._problem)
        return JournalError(self._problem)

    def _recovered(self, _: None) -> None:
        assert self.failing_since is not None
        log.info(
            "Usage can be written down again, after {seconds:.0f} s; {refused} records are not in "
            "the journal, which their clients know",
            seconds=self._now() - self.failing_since,
            refused=self.refused,
        )
        self.failing_since, self._problem = None, ""
        self._measure()

    def _still_failing(self, failure: Failure) -> None:
        if isinstance(failure.value, OSError):
            self._problem = f"state_dir: {self._directory}: {reason(failure.value)}"
        else:
            log.failure("The journal could not be tried", failure)

    # --- reading --------------------------------------------------------------------------

    def read(self, segment: Segment) -> Deferred[Reading]:
        """Read a closed segment, in a thread.

        :raises OSError: it cannot be read.
        """

        def read() -> Reading:
            with segment.path.open("rb") as file:
                data = file.read(segment.size)
            return Reading(data, scan(data))

        return self._in_thread(read)

    def remove(self, segment: Segment) -> None:
        """Delete a closed segment: the store has it. Never fails."""
        self._forget(segment)
        try:
            segment.path.unlink()
        except OSError as error:
            log.error(
                "{path} is in the store and cannot be deleted: {why}",
                path=segment.path,
                why=reason(error),
            )

    def set_aside(self, segment: Segment, ending: Ending) -> Path:
        """Keep a closed segment under a name of its own, where nothing here reads it again.

        Returns where it is. It counts for the journal's size as long as it is there. Never fails.
        """
        self._forget(segment)
        path = segment.path.with_name(f"{segment.path.name}.{ending}")
        try:
            segment.path.rename(path)
        except OSError as error:
            log.error("{path} cannot be renamed: {why}", path=segment.path, why=reason(error))
            path = segment.path
        self._aside[path] = segment.size
        self._measure()
        return path

    def _forget(self, segment: Segment) -> None:
        self.closed.remove(segment)
        segment.gone = True
        if segment.sums is not None:
            self._summed -= len(segment.sums.counters)
        self.records -= segment.records
        self.bytes -= segment.size
        self._measure()


def _owners(directory: Path, own: Owner) -> Owners:
    """The owners of segments, our own claimed.

    :raises ConfigurationError: that is not possible.
    """
    try:
        owners = Owners(directory)
        if owners.claim(own):
            return owners
    except OSError as error:
        raise unusable(directory, error) from error
    raise ConfigurationError([Problem("state_dir", f"{directory}: {own[0]} is another process")])
