from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gatekeeper.errors import JournalError
from gatekeeper.usage import journal as journal_module
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.journal import SEGMENT_RECORDS, SUMMED_RECORDS, Journal
from gatekeeper.usage.records import Account, Spent, UsageRecord
from gatekeeper.usage.segments import HEAD, encode_blocks
from tests.usage.journals import (
    NOW,
    at_once,
    journal_files,
    levels,
    logged,
    make_journal,
    records_in,
)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FIRST, SECOND = "n-0-00000001.journal", "n-0-00000002.journal"

result_of = SynchronousTestCase().successResultOf


class Disk:
    """``os.write`` with faults: a script of how many bytes to take, or what to raise."""

    def __init__(self) -> None:
        self.script: list[int | OSError] = []
        self.broken: OSError | None = None
        self.calls = 0

    def write(self, fd: int, data: bytes) -> int:
        self.calls += 1
        step = self.script.pop(0) if self.script else self.broken
        if isinstance(step, OSError):
            raise step
        return os.write(fd, data if step is None else data[:step])


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Journal:
    return make_journal(tmp_path / "journal", write=disk.write)


@pytest.fixture
def some(record: UsageRecord) -> Callable[..., list[UsageRecord]]:
    return lambda *ids: [record._replace(id=each) for each in ids]


Some = Callable[..., list[UsageRecord]]


def ids(path: Path) -> list[str]:
    return [record.id for record in records_in(path)]


class TestAppending:
    def test_one_write_for_each(self, journal: Journal, disk: Disk, some: Some) -> None:
        journal.append(some("a", "b"))
        journal.append(some("c"))
        assert disk.calls == 2
        assert (journal.records, journal.appended, journal.refused) == (3, 3, 0)
        journal.rotate()
        (segment,) = journal.closed
        assert segment.key == ("n", 0, 1)
        assert (segment.records, segment.size) == (3, segment.path.stat().st_size)
        assert journal.bytes == segment.size
        assert ids(segment.path) == ["a", "b", "c"]

    def test_what_is_written_is_there_at_once(self, journal: Journal, some: Some) -> None:
        journal.append(some("a"))
        (path,) = (path for path in journal._directory.iterdir() if path.suffix == ".journal")
        assert ids(path) == ["a"]

    def test_nobody_else_may_read_it(self, tmp_path: Path, some: Some) -> None:
        before = os.umask(0)
        try:
            journal = make_journal(tmp_path / "journal")
            journal.append(some("a"))
        finally:
            os.umask(before)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
        assert modes == {
            "journal": 0o700, "lock": 0o600, "owners": 0o600, "n-0.undelivered": 0o600,
            FIRST: 0o600,
        }  # fmt: skip

    def test_a_segment_ends_with_so_many_records(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, segment_records=3)
        for each in "abcdefg":
            journal.append(some(each))
        assert [ids(segment.path) for segment in journal.closed] == [list("abc"), list("def")]
        assert [segment.key.sequence for segment in journal.closed] == [1, 2]

    def test_a_turn_is_never_divided(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, segment_records=3)
        journal.append(some(*"ab"))
        journal.append(some(*"cdefg"))
        journal.append(some("h"))
        assert [ids(segment.path) for segment in journal.closed] == [list("abcdefg")]

    def test_a_segment_ends_with_so_many_bytes(
        self, journal: Journal, some: Some, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 2 * len(encode_blocks(some("a"))))
        for each in "abcde":
            journal.append(some(each))
        assert [ids(segment.path) for segment in journal.closed] == [["a", "b"], ["c", "d"]]

    def test_nothing_appended_no_segment(self, journal: Journal) -> None:
        journal.rotate()
        journal.close()
        assert not journal.closed
        assert journal_files(journal._directory) == []

    def test_a_segment_is_closed_after_its_responses_are_sent(
        self, tmp_path: Path, some: Some
    ) -> None:
        """Whoever it is handed over to would count them, even if we were killed now."""
        handed: list[object] = []
        journal = make_journal(tmp_path, segment_records=1, hand_over=handed.append)
        first = journal.append(some("a"), ["a"])
        assert handed == []
        journal.undelivered.end(first)
        journal.append(some("b"), ["b"])
        assert len(handed) == 1

    @pytest.mark.parametrize("fsync", ["none", "interval", "always"])
    def test_descriptors_are_given_back(self, tmp_path: Path, some: Some, fsync: str) -> None:
        before = os.listdir("/proc/self/fd")
        journal = make_journal(tmp_path, fsync=fsync, segment_records=1)
        for _ in range(3):
            journal.append(some("a"))
            result_of(journal.sync())
        journal.append(some("a"))
        journal.close()
        journal.close()
        assert os.listdir("/proc/self/fd") == before

    def test_every_process_is_a_node_of_its_own(self, tmp_path: Path) -> None:
        nodes = {make_journal(tmp_path / name, node=None).node for name in "ab"}
        assert len(nodes) == 2
        assert all(len(node) == 16 for node in nodes)


class TestSums:
    """Where it adds up, the flush need not read what is written."""

    def test_what_a_segment_comes_to(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, counters=Counters(), segment_records=2)
        for each in "abc":
            journal.append(some(each))
        journal.rotate()
        sums = [segment.sums for segment in journal.closed]
        assert [
            counted.requests
            for each in sums
            if each is not None
            for counted in each.counters.values()
        ] == [2, 1]

    def test_what_was_spent(self, tmp_path: Path, record: UsageRecord) -> None:
        journal = make_journal(tmp_path, counters=Counters())
        journal.append([record._replace(spent=(Spent("prepaid", "main", "alice", 3),))] * 2)
        journal.rotate()
        sums = journal.closed[0].sums
        assert sums is not None
        assert sums.spent == {Account("prepaid", "main", "alice"): 6}

    def test_many_records_may_be_few_counters(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, counters=Counters())
        for _ in range(SUMMED_RECORDS // 500 + 1):
            journal.append(some("a") * 500)
        assert [segment.records for segment in journal.closed] == [SUMMED_RECORDS]

    def test_many_counters_end_a_segment(self, tmp_path: Path, record: UsageRecord) -> None:
        journal = make_journal(tmp_path, counters=Counters(10_000))
        for number in range(SEGMENT_RECORDS // 500 + 1):
            journal.append([record._replace(path=f"/{number}/{each}") for each in range(500)])
        assert [segment.records for segment in journal.closed] == [SEGMENT_RECORDS]

    def test_not_more_than_fits_into_memory(
        self, tmp_path: Path, record: UsageRecord, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "_SUMS", 5)
        journal = make_journal(tmp_path, counters=Counters())

        def use(paths: int) -> bool:
            journal.append([record._replace(path=f"/{each}") for each in range(paths)])
            journal.rotate()
            return journal.closed[-1].sums is not None

        assert [use(3), use(3), use(2), use(1)] == [True, False, True, False]
        journal.remove(journal.closed[0])
        assert [use(3), use(1)] == [True, False]


class TestBound:
    def test_full_from_its_size_on(self, tmp_path: Path, some: Some) -> None:
        block = len(encode_blocks(some("a")))
        journal = make_journal(tmp_path, size=len(HEAD) + 2 * block)
        journal.append(some("a"))
        assert not journal.full
        journal.append(some("b"))
        assert journal.full
        assert not journal.failing

    def test_what_runs_is_taken_all_the_same(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, size=1)
        for each in "abc":
            journal.append(some(each))
        assert (journal.full, journal.appended, journal.refused) == (True, 3, 0)

    def test_room_again_once_the_store_has_it(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, size=1)
        journal.append(some("a"))
        journal.rotate()
        journal.remove(journal.closed[0])
        assert not journal.full
        assert (journal.records, journal.bytes) == (0, 0)
        assert journal_files(tmp_path) == []

    def test_what_was_set_aside_takes_room_until_it_is_cleared_away(
        self, tmp_path: Path, some: Some
    ) -> None:
        journal = make_journal(tmp_path, size=1)
        journal.append(some("a"))
        journal.rotate()
        path = journal.set_aside(journal.closed[0], "rejected")
        assert path.name == f"{FIRST}.rejected"
        assert ids(path) == ["a"]
        assert (journal.records, journal.bytes, journal.full) == (0, 0, True)
        result_of(journal.look_after())
        assert journal.full
        path.unlink()
        result_of(journal.look_after())
        assert not journal.full

    def test_age(self, tmp_path: Path, some: Some) -> None:
        now = NOW
        journal = make_journal(tmp_path, now=lambda: now)
        assert journal.age == 0
        journal.append(some("a"))
        now += 10
        journal.append(some("b"))
        assert journal.age == 10
        journal.rotate()
        now += 5
        journal.append(some("c"))
        now += 2
        assert journal.age == 17
        journal.remove(journal.closed[0])
        assert journal.age == 2
        now -= 100  # a clock that is set back
        assert journal.age == 0


ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EFBIG]


class TestFailing:
    @pytest.mark.parametrize("number", ERRORS)
    @pytest.mark.parametrize("taken", [None, 1, len(HEAD), 50])
    def test_all_or_nothing(
        self, journal: Journal, disk: Disk, some: Some, number: int, taken: int | None
    ) -> None:
        """An append that fails, at once or in the middle, leaves no trace."""
        journal.append(some("a"))
        error = OSError(number, os.strerror(number))
        disk.script = [error] if taken is None else [taken, error]
        with pytest.raises(JournalError) as caught:
            journal.append(some("b", "c"))
        text = os.strerror(number)
        assert str(caught.value) == (
            f"state_dir: {journal._directory}: {text[0].lower()}{text[1:]}"
        )
        assert (journal.full, journal.failing, journal.failing_since) == (True, True, NOW)
        assert (journal.records, journal.appended, journal.refused) == (1, 1, 2)
        (segment,) = journal.closed
        assert segment.path.stat().st_size == segment.size
        assert ids(segment.path) == ["a"]

    @pytest.mark.parametrize("taken", [None, 1, 50])
    def test_no_empty_segment_is_left(
        self, journal: Journal, disk: Disk, some: Some, taken: int | None
    ) -> None:
        disk.script = [FULL] if taken is None else [taken, FULL]
        with pytest.raises(JournalError):
            journal.append(some("a"))
        assert not journal.closed
        assert journal_files(journal._directory) == []

    def test_a_write_of_nothing_is_a_full_disk(
        self, journal: Journal, disk: Disk, some: Some
    ) -> None:
        disk.script = [5, 0]
        with pytest.raises(JournalError, match="no space left on device"):
            journal.append(some("a"))

    def test_many_small_writes_are_one_append(
        self, journal: Journal, disk: Disk, some: Some
    ) -> None:
        disk.script = [1, 2, 3]
        journal.append(some("a"))
        journal.rotate()
        assert ids(journal.closed[0].path) == ["a"]

    def test_what_cannot_be_undone_is_a_torn_tail(
        self, journal: Journal, disk: Disk, some: Some, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cannot(fd: int, size: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        journal.append(some("a"))
        disk.script = [50, FULL]
        monkeypatch.setattr(os, "ftruncate", cannot)
        with pytest.raises(JournalError):
            journal.append(some("b"))
        (segment,) = journal.closed
        assert segment.path.stat().st_size == segment.size + 50
        assert result_of(journal.read(segment)).found[1:] == (0, 0)
        journal.close()
        with logged("journal_directory") as events:
            (again,) = make_journal(journal._directory, node="m").closed
        assert (again.size, again.records) == (segment.size, 1)
        assert [event["torn"] for event in events] == [50]

    def test_whole_block_that_was_not_acknowledged_does_not_count(
        self, journal: Journal, disk: Disk, some: Some, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The response was withheld, though the first of two blocks had got to the disk."""
        monkeypatch.setattr("gatekeeper.usage.segments.BLOCK_RECORDS", 1)
        monkeypatch.setattr(os, "ftruncate", _raise(OSError(errno.EIO, "Input/output error")))
        journal.append(some("a"))
        disk.script = [len(encode_blocks(some("b"))), FULL]
        with pytest.raises(JournalError):
            journal.append(some("b", "c"))
        reading = result_of(journal.read(journal.closed[0]))
        assert reading.found.records == 1

    def test_nothing_is_tried_while_it_fails(
        self, journal: Journal, disk: Disk, some: Some
    ) -> None:
        disk.script = [FULL]
        with logged("journal") as events:
            for _ in range(3):
                with pytest.raises(JournalError):
                    journal.append(some("a"))
        assert disk.calls == 1
        assert journal.refused == 3
        assert levels(events) == ["critical"]
        assert "no space left on device" in events[0]["problem"]

    def test_it_finds_out_that_it_can_write_again(
        self, journal: Journal, disk: Disk, some: Some
    ) -> None:
        journal.append(some("a"))
        disk.broken = FULL
        with logged("journal") as events:
            with pytest.raises(JournalError):
                journal.append(some("b"))
            for _ in range(3):
                result_of(journal.look_after())
                assert journal.failing
                assert journal.full
            disk.broken = None
            result_of(journal.look_after())
        assert not journal.failing
        assert not journal.full
        assert levels(events) == ["critical", "info"]
        journal.append(some("c"))
        journal.rotate()
        assert [ids(segment.path) for segment in journal.closed] == [["a"], ["c"]]
        assert journal_files(journal._directory) == [FIRST, SECOND]

    def test_little_room_is_not_enough_to_begin_again(
        self, journal: Journal, disk: Disk, some: Some
    ) -> None:
        disk.script = [FULL, 4096, FULL]
        with pytest.raises(JournalError):
            journal.append(some("a"))
        result_of(journal.look_after())
        assert journal.failing
        assert journal_files(journal._directory) == []

    def test_why_it_fails_may_change(self, journal: Journal, disk: Disk, some: Some) -> None:
        disk.script = [FULL, OSError(errno.EROFS, "Read-only file system")]
        with pytest.raises(JournalError):
            journal.append(some("a"))
        result_of(journal.look_after())
        with pytest.raises(JournalError, match="read-only file system"):
            journal.append(some("a"))

    def test_full_and_failing(self, tmp_path: Path, disk: Disk, some: Some) -> None:
        """What ends the failing does not end its being full."""
        journal = make_journal(tmp_path, size=1, write=disk.write)
        journal.append(some("a"))
        disk.script = [FULL]
        with pytest.raises(JournalError):
            journal.append(some("b"))
        result_of(journal.look_after())
        assert (journal.failing, journal.full) == (False, True)
        journal.remove(journal.closed[0])
        assert not journal.full

    def test_room_does_not_end_the_failing(self, journal: Journal, disk: Disk, some: Some) -> None:
        journal.append(some("a"))
        disk.script = [FULL]
        with pytest.raises(JournalError):
            journal.append(some("b"))
        journal.remove(journal.closed[0])
        assert journal.full

    def test_directory_that_has_gone(self, journal: Journal, some: Some) -> None:
        (journal._directory / "lock").unlink()
        (journal._directory / "owners").unlink()
        (journal._directory / "n-0.undelivered").unlink()
        journal._directory.rmdir()
        with pytest.raises(JournalError, match="no such file or directory"):
            journal.append(some("a"))
        result_of(journal.look_after())
        assert journal.failing
        journal._directory.mkdir()
        result_of(journal.look_after())
        journal.append(some("a"))
        assert journal.records == 1


class TestForcing:
    """``fsync``: what is forced to the disk, and when."""

    def journal(self, directory: Path, fsync: str = "always", **options: Any) -> Journal:
        self.forced: list[str] = []
        self.fault: OSError | None = None

        def force(fd: int) -> None:
            self.forced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
            if self.fault is not None:
                raise self.fault

        return make_journal(directory / "journal", fsync=fsync, force=force, **options)

    def test_file_and_directory_once_it_is_new(self, tmp_path: Path, some: Some) -> None:
        journal = self.journal(tmp_path)
        result_of(journal.sync())
        assert self.forced == []
        journal.append(some("a"))
        result_of(journal.sync())
        assert self.forced == [FIRST, "journal"]
        result_of(journal.sync())
        assert self.forced == [FIRST, "journal"]
        journal.append(some("b"))
        result_of(journal.sync())
        assert self.forced == [FIRST, "journal", FIRST]

    def test_segments_that_were_closed_meanwhile(self, tmp_path: Path, some: Some) -> None:
        journal = self.journal(tmp_path, segment_records=1)
        journal.append(some("a"))
        journal.append(some("b"))
        result_of(journal.sync())
        assert self.forced == [FIRST, SECOND, "journal"]
        result_of(journal.sync())
        assert len(self.forced) == 3

    def test_what_the_store_has_need_not_be_forced(self, tmp_path: Path, some: Some) -> None:
        journal = self.journal(tmp_path, segment_records=1)
        journal.append(some("a"))
        journal.rotate()
        journal.remove(journal.closed[0])
        result_of(journal.sync())
        assert self.forced == []

    def test_what_comes_while_it_runs_is_for_the_next(self, tmp_path: Path, some: Some) -> None:
        jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def in_thread(function: Callable[[], Any]) -> Deferred[Any]:
            jobs.append((function, Deferred()))
            return jobs[-1][1]

        def run() -> None:
            function, done = jobs.pop(0)
            done.callback(function())

        journal = self.journal(tmp_path, in_thread=in_thread, segment_records=2)
        journal.append(some("a"))
        first = journal.sync()
        journal.append(some("b"))  # and the segment is closed, while a thread is at it
        second = journal.sync()
        assert len(jobs) == 1, "one at a time"
        run()
        assert result_of(first) is None
        assert self.forced == [FIRST, "journal"]
        SynchronousTestCase().assertNoResult(second)
        run()
        assert result_of(second) is None
        assert self.forced == [FIRST, "journal", FIRST]

    def test_failure(self, tmp_path: Path, some: Some) -> None:
        journal = self.journal(tmp_path)
        journal.append(some("a"))
        self.fault = OSError(errno.EIO, "Input/output error")
        with logged("journal") as events:
            failure = SynchronousTestCase().failureResultOf(journal.sync(), JournalError)
            assert "input/output error" in str(failure.value)
            assert journal.failing
            # What the system says about this file cannot be trusted any more: a new one.
            self.forced.clear()
            result_of(journal.sync())
            assert self.forced == []
            result_of(journal.look_after())
            assert journal.failing, "to write is not enough"
            assert self.forced == [f"probe-{os.getpid()}"]
            self.fault = None
            result_of(journal.look_after())
        assert levels(events) == ["critical", "info"]
        journal.append(some("b"))
        journal.rotate()
        assert [ids(segment.path) for segment in journal.closed] == [["a"], ["b"]]

    def test_fault_of_our_own_is_shown(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, fsync="always", force=_raise(ZeroDivisionError()))
        journal.append(some("a"))
        SynchronousTestCase().failureResultOf(journal.sync(), ZeroDivisionError)

    def test_none(self, tmp_path: Path, some: Some) -> None:
        journal = self.journal(tmp_path, "none", segment_records=1)
        journal.append(some("a"))
        journal.close()
        assert self.forced == []


class TestReading:
    def test_file_that_cannot_be_deleted(self, journal: Journal, some: Some) -> None:
        journal.append(some("a"))
        journal.rotate()
        segment = journal.closed[0]
        segment.path.unlink()
        with logged("journal") as events:
            journal.remove(segment)
        assert levels(events) == ["error"]
        assert (journal.records, len(journal.closed)) == (0, 0)

    def test_file_that_cannot_be_renamed(self, journal: Journal, some: Some) -> None:
        journal.append(some("a"))
        journal.rotate()
        segment = journal.closed[0]
        segment.path.unlink()
        with logged("journal") as events:
            assert journal.set_aside(segment, "damaged") == segment.path
        assert levels(events) == ["error"]
        assert (journal.records, len(journal.closed)) == (0, 0)

    def test_after_the_close(self, journal: Journal, some: Some) -> None:
        """The store may confirm a batch after we have given up waiting."""
        journal.append(some("a"))
        journal.close()
        assert result_of(journal.read(journal.closed[0])).found.records == 1
        journal.remove(journal.closed[0])
        assert journal_files(journal._directory) == []

    def test_what_cannot_be_read(self, journal: Journal, some: Some) -> None:
        journal.append(some("a"))
        journal.rotate()
        journal.closed[0].path.unlink()
        SynchronousTestCase().failureResultOf(journal.read(journal.closed[0]), FileNotFoundError)


def _raise(error: BaseException) -> Callable[..., Any]:
    def function(*arguments: object) -> None:
        raise error

    return function


def test_at_once_is_like_a_thread() -> None:
    SynchronousTestCase().failureResultOf(at_once(_raise(FULL)), OSError)
