from __future__ import annotations

import errno
import gc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs

from gatekeeper.errors import BatchRejected, StoreError
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.flushing import Flusher
from gatekeeper.usage.journal import Reading
from gatekeeper.usage.loading import SLICE
from gatekeeper.usage.records import Batch, UsageRecord
from gatekeeper.usage.segment_file import Segment
from gatekeeper.usage.segments import HEAD, encode_blocks
from tests.usage.journals import journal_files, levels, logged, make_journal

INTERVAL = 5.0


class FakeStore:
    """Takes batches at once, fails with ``error``, or hangs until ``answers`` are given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.error: Exception | None = None
        self.rejects: set[int] = set()  # sequences
        self.hanging = False
        self.answers: list[Deferred[None]] = []

    def write_batch(self, batch: Batch) -> Deferred[None]:
        self.batches.append(batch)
        if self.hanging:
            self.answers.append(Deferred())
            return self.answers[-1]
        if batch.sequence in self.rejects:
            return fail(BatchRejected("number out of range"))
        return succeed(None) if self.error is None else fail(self.error)

    @property
    def sequences(self) -> list[int]:
        return [batch.sequence for batch in self.batches]


class Turns(Clock):
    """A clock like a reactor: what is to be called soon is called in the next turn."""

    def turn(self) -> None:
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            self.calls.remove(call)
            call.called = True
            call.func(*call.args, **call.kw)


class Setup:
    """A flusher with a real journal, a store that is none, and a clock that is ours."""

    def __init__(self, record: UsageRecord, directory: Path, **options: Any) -> None:
        self.record = record
        self.directory = directory
        self.clock = Turns()
        self.clock.advance(1000)
        self.store = FakeStore()
        self.journal = make_journal(directory, worker=3, segment_records=4)
        self.flusher = Flusher(
            self.store,  # type: ignore[arg-type]
            self.journal,
            Counters(),
            self.clock,
            INTERVAL,
            jitter=lambda: 1.0,
            **options,
        )
        self.flusher.start()

    def use(self, *paths: str) -> None:
        for path in paths or ["/a"]:
            self.journal.append([self.record._replace(path=path)])

    def settle(self) -> None:
        """Run what only waits for a turn of the loop."""
        self.clock.advance(0)

    def intervals(self, number: int = 1) -> None:
        for _ in range(number):
            self.clock.advance(INTERVAL)

    def stop(self, timeout: float = 10.0) -> list[int]:
        remaining: list[int] = []
        self.flusher.stop(timeout).addCallback(remaining.append)
        self.settle()
        return remaining

    def paths(self, number: int) -> list[str]:
        """The paths in a batch that the store was given."""
        return sorted(key[2] for key in self.store.batches[number].counters)


@pytest.fixture
def setup(record: UsageRecord, tmp_path: Path) -> Setup:
    return Setup(record, tmp_path / "journal")


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    with logged("flushing") as found:
        yield found


class TestFlushing:
    def test_at_every_interval(self, setup: Setup) -> None:
        setup.use()
        assert setup.store.batches == []
        setup.intervals()
        setup.use("/b", "/c")
        setup.intervals()
        assert [batch[:3] for batch in setup.store.batches] == [("n", 3, 1), ("n", 3, 2)]
        assert setup.paths(1) == ["/b", "/c"]
        assert (setup.journal.records, setup.journal.bytes) == (0, 0)
        assert journal_files(setup.directory) == []
        assert setup.flusher.written == 2

    def test_records_are_added_up(self, setup: Setup) -> None:
        setup.use("/a", "/a", "/b")
        setup.intervals()
        (batch,) = setup.store.batches
        assert {key[2]: counted.requests for key, counted in batch.counters.items()} == {
            "/a": 2,
            "/b": 1,
        }
        assert batch.records == ()

    def test_single_records_where_they_are_kept(self, record: UsageRecord, tmp_path: Path) -> None:
        setup = Setup(record, tmp_path, keep_records=True)
        setup.use("/a", "/b", "/a")
        setup.intervals()
        (batch,) = setup.store.batches
        assert [each.path for each in batch.records] == ["/a", "/b", "/a"]

    def test_nothing_used_nothing_written(self, setup: Setup) -> None:
        setup.intervals(3)
        assert setup.store.batches == []
        assert journal_files(setup.directory) == []

    def test_much_goes_in_several_batches(self, setup: Setup) -> None:
        setup.use(*(f"/{number}" for number in range(10)))
        setup.intervals()
        assert [len(batch.counters) for batch in setup.store.batches] == [4, 4, 2]
        assert setup.store.sequences == [1, 2, 3]

    def test_bound_on_paths_holds_over_batches(self, record: UsageRecord, tmp_path: Path) -> None:
        setup = Setup(record, tmp_path)
        setup.flusher._loading._counters = Counters(max_paths=2)
        setup.use("/a", "/b", "/c", "/d", "/e", "/a")
        setup.intervals()
        assert [setup.paths(0), setup.paths(1)] == [["*", "/a", "/b"], ["*", "/a"]]

    def test_what_comes_during_a_flush_waits_for_the_next_one(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use(*"abcd")
        setup.use(*"ef")
        setup.intervals()
        assert setup.store.sequences == [1]
        setup.use(*"gh", *"ij")
        setup.store.answers[0].callback(None)
        setup.settle()
        setup.store.answers[1].callback(None)
        setup.settle()
        setup.store.answers[2].callback(None)
        assert setup.store.sequences == [1, 2, 3]
        assert setup.journal.records == 0
        setup.use("k")
        setup.settle()
        assert setup.store.sequences == [1, 2, 3]
        setup.intervals()
        assert setup.store.sequences == [1, 2, 3, 4]

    def test_one_flush_at_a_time(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use()
        setup.intervals(10)
        setup.use()
        setup.intervals(10)
        assert setup.store.sequences == [1]

    def test_what_earlier_processes_left_comes_first(
        self, record: UsageRecord, tmp_path: Path
    ) -> None:
        for number in (1, 2):
            path = tmp_path / f"old-0-0000000{number}.journal"
            path.write_bytes(HEAD + encode_blocks([record] * number))
        setup = Setup(record, tmp_path)
        setup.use()
        setup.intervals()
        assert [batch[:3] for batch in setup.store.batches] == [
            ("old", 0, 1),
            ("old", 0, 2),
            ("n", 3, 1),
        ]
        assert journal_files(tmp_path) == []


class TestCatchingUp:
    def test_the_loop_gets_its_turns(self, record: UsageRecord, tmp_path: Path) -> None:
        """Never more than a slice of records, or one segment, without a turn in between."""
        for number in range(50):
            path = tmp_path / f"old-0-{number:08}.journal"
            path.write_bytes(HEAD + encode_blocks([record] * 2 * SLICE))
        setup = Setup(record, tmp_path)
        added: list[int] = []

        class Watched(Counters):
            def add_all(self, records: Any) -> None:
                added.append(len(records))
                super().add_all(records)

        setup.flusher._loading._counters = Watched()
        setup.clock.rightNow += INTERVAL
        turns = 0
        while setup.journal.closed:
            before, batches = sum(added), len(setup.store.batches)
            setup.clock.turn()
            turns += 1
            assert sum(added) - before <= SLICE
            assert len(setup.store.batches) - batches <= 1
        assert setup.store.sequences == list(range(50))
        assert sum(added) == 50 * 2 * SLICE
        assert turns == 1 + 3 * 50

    def test_small_blocks_make_no_turns(self, record: UsageRecord, tmp_path: Path) -> None:
        path = tmp_path / "old-0-00000001.journal"
        path.write_bytes(HEAD + encode_blocks([record]) * (SLICE - 1))
        setup = Setup(record, tmp_path)
        setup.clock.rightNow += INTERVAL
        for _ in range(3):
            setup.clock.turn()
        assert setup.store.sequences == [1]


class TestStoreAway:
    def test_failed_batch_is_repeated_unchanged(self, setup: Setup) -> None:
        setup.store.error = StoreError("away")
        setup.use("/a")
        setup.intervals()
        setup.use("/a", "/b")
        setup.store.error = None
        setup.intervals(2)
        first, second, third = setup.store.batches
        assert first is second
        assert setup.paths(1) == ["/a"]
        assert third.sequence == 2
        assert setup.paths(2) == ["/a", "/b"]
        assert setup.journal.records == 0

    def test_no_small_segments_meanwhile(self, setup: Setup) -> None:
        """An outage of days must not leave a hundred thousand files."""
        setup.store.error = StoreError("away")
        for _ in range(10):
            setup.use()
            setup.intervals(20)
        assert [segment.records for segment in setup.journal.closed] == [1, 4, 4]

    def test_backs_off_up_to_a_minute(self, setup: Setup) -> None:
        setup.store.error = StoreError("away")
        setup.use()
        attempts = []
        for _ in range(400):
            before = len(setup.store.batches)
            setup.clock.advance(1.0)
            if len(setup.store.batches) > before:
                attempts.append(setup.clock.seconds())
        waits = [later - earlier for earlier, later in pairwise(attempts)]
        assert waits == [5, 10, 20, 40, 60, 60, 60, 60, 60]
        assert setup.flusher.failures == len(attempts)

    def test_back_off_begins_anew_after_a_success(self, setup: Setup) -> None:
        setup.store.error = StoreError("away")
        setup.use()
        setup.intervals(20)
        setup.store.error = None
        setup.intervals(20)
        setup.store.error = StoreError("away again")
        setup.use()
        setup.intervals()
        before = len(setup.store.batches)
        setup.intervals()
        assert len(setup.store.batches) == before + 1

    def test_failing_since_and_lag(self, setup: Setup) -> None:
        setup.use()
        setup.intervals()
        assert setup.flusher.failing_since is None
        assert setup.flusher.lag == 0
        setup.store.error = StoreError("away")
        setup.use()
        setup.intervals(2)
        assert setup.flusher.failing_since == 1010
        assert setup.flusher.lag == 10
        setup.store.error = None
        setup.intervals(4)
        assert setup.flusher.failing_since is None
        assert setup.flusher.lag == 0

    def test_hanging_store_shows_in_the_lag(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use()
        setup.intervals(6)
        assert setup.flusher.lag == 30

    def test_logs_changes_of_state_only(self, setup: Setup, events: list[LogEvent]) -> None:
        setup.store.error = StoreError("away")
        setup.use()
        setup.intervals(50)
        assert levels(events) == ["error"]
        setup.store.error = None
        setup.intervals(50)
        assert levels(events) == ["error", "info"]

    def test_error_that_nobody_thought_of_does_not_end_the_loop(
        self, setup: Setup, events: list[LogEvent]
    ) -> None:
        setup.store.error = ZeroDivisionError()
        setup.use()
        setup.intervals()
        assert levels(events) == ["critical"]
        assert events[0]["log_failure"].check(ZeroDivisionError)
        setup.store.error = None
        setup.intervals(4)
        assert setup.store.sequences == [1, 1]
        assert setup.journal.records == 0


class TestSettingAside:
    def test_what_the_store_will_never_take(self, setup: Setup, events: list[LogEvent]) -> None:
        setup.store.rejects = {2}
        setup.use(*"abcdefghij")
        setup.intervals()
        assert setup.store.sequences == [1, 2, 3]
        assert journal_files(setup.directory) == ["n-3-00000002.journal.rejected"]
        assert levels(events) == ["critical"]
        assert events[0]["path"].name == "n-3-00000002.journal.rejected"
        assert "number out of range" in events[0]["why"]
        assert (setup.flusher.written, setup.flusher.rejected) == (2, 1)
        assert setup.flusher.failing_since is None
        setup.intervals(3)
        assert setup.store.sequences == [1, 2, 3]

    def test_what_is_damaged_costs_its_block_only(
        self, record: UsageRecord, tmp_path: Path, events: list[LogEvent]
    ) -> None:
        blocks = [encode_blocks([record._replace(path=path)] * 2) for path in "abc"]
        broken = bytearray(HEAD + b"".join(blocks))
        broken[len(HEAD) + len(blocks[0]) + 30] ^= 1
        path = tmp_path / "old-0-00000001.journal"
        path.write_bytes(broken)
        setup = Setup(record, tmp_path)
        setup.use("after")
        setup.intervals()
        assert setup.paths(0) == ["a", "c"]
        assert setup.paths(1) == ["after"]
        assert levels(events) == ["critical"]
        assert events[0]["why"] == (
            f"{len(blocks[1])} bytes are damaged and 0 records cannot be understood; "
            "the other 4 are counted"
        )
        assert journal_files(tmp_path) == [f"{path.name}.damaged"]
        assert (tmp_path / f"{path.name}.damaged").read_bytes() == broken
        assert setup.flusher.rejected == 1

    def test_what_is_damaged_is_kept_until_the_store_has_the_rest(
        self, record: UsageRecord, tmp_path: Path
    ) -> None:
        block = encode_blocks([record])
        path = tmp_path / "old-0-00000001.journal"
        path.write_bytes(HEAD + block + b"x" + block)
        setup = Setup(record, tmp_path)
        setup.store.error = StoreError("away")
        setup.intervals()
        assert journal_files(tmp_path) == [path.name]
        setup.store.error = None
        setup.intervals(2)
        assert journal_files(tmp_path) == [f"{path.name}.damaged"]
        first, second = setup.store.batches
        assert first is second

    def test_damaged_after_the_start(
        self, setup: Setup, record: UsageRecord, events: list[LogEvent]
    ) -> None:
        """Also where nothing good is left."""
        setup.use()
        setup.journal.rotate()
        path = setup.journal.closed[0].path
        path.write_bytes(HEAD + bytes(path.stat().st_size - len(HEAD)))
        setup.use("/b")
        setup.intervals()
        assert setup.store.sequences == [2]
        assert levels(events) == ["critical"]
        assert journal_files(setup.directory) == [f"{path.name}.damaged"]

    def test_records_that_cannot_be_understood(
        self, record: UsageRecord, tmp_path: Path, events: list[LogEvent]
    ) -> None:
        strange: Any = record._replace(user=b"bytes")  # type: ignore[arg-type]
        path = tmp_path / "old-0-00000001.journal"
        path.write_bytes(HEAD + encode_blocks([record, strange]))
        setup = Setup(record, tmp_path)
        setup.intervals()
        (batch,) = setup.store.batches
        assert [counted.requests for counted in batch.counters.values()] == [1]
        assert "1 records cannot be understood" in events[0]["why"]
        assert journal_files(tmp_path) == [f"{path.name}.damaged"]

    def test_file_that_has_gone(self, setup: Setup, events: list[LogEvent]) -> None:
        setup.use()
        setup.journal.rotate()
        setup.journal.closed[0].path.unlink()
        setup.use("/b")
        setup.intervals()
        assert setup.store.sequences == [2]
        assert levels(events) == ["critical"]
        assert "no such file" in events[0]["why"]
        assert setup.journal.records == 0

    def test_file_that_cannot_be_read_now(
        self, setup: Setup, events: list[LogEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Too many open files are no reason to give up a segment."""

        def busy(*arguments: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        setup.use()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", busy)
            setup.intervals()
        assert setup.journal.records == 1
        assert levels(events) == ["error"]
        assert str(events[0]["error"]).endswith("too many open files")
        setup.intervals(2)
        assert setup.store.sequences == [1]
        assert setup.journal.records == 0

    def test_the_next_one_is_read_while_the_store_works(
        self, setup: Setup, events: list[LogEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where that cannot be done, it is tried again when its time comes."""
        with monkeypatch.context() as patched:
            self.only_the_first_can_be_read(setup, patched)
            assert setup.store.sequences == [1]
            setup.store.hanging = False
            setup.store.answers[0].callback(None)
            setup.settle()
        assert levels(events) == ["error"]
        setup.intervals(2)
        assert setup.store.sequences == [1, 2, 3]
        assert setup.journal.records == 0

    def test_nobody_asks_for_it_any_more(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.only_the_first_can_be_read(setup, monkeypatch)
        with capturedLogs() as events:
            assert setup.stop(1.0) == []
            setup.clock.advance(1.0)
            del setup.flusher, setup.store.answers[:]
            gc.collect()
        assert levels(list(events)) == ["warn"], "that usage stays, and nothing else"

    def only_the_first_can_be_read(self, setup: Setup, patched: pytest.MonkeyPatch) -> None:
        """While the store works on that, the second one is tried."""
        read: list[Segment] = []
        original = setup.journal.read

        def reading(segment: Segment) -> Deferred[Reading]:
            read.append(segment)
            return original(segment) if len(read) == 1 else fail(OSError(errno.EMFILE, "busy"))

        patched.setattr(setup.journal, "read", reading)
        setup.store.hanging = True
        setup.use(*"abcdefghi")
        setup.intervals()
        assert [segment.key.sequence for segment in read] == [1, 2]


class TestStopping:
    def test_flushes_once_more(self, setup: Setup) -> None:
        setup.use()
        assert setup.stop() == [0]
        assert setup.store.sequences == [1]
        assert setup.clock.getDelayedCalls() == []

    def test_without_start(self, record: UsageRecord, tmp_path: Path) -> None:
        setup = Setup(record, tmp_path)
        setup.flusher._loop.stop()
        clock, store, journal = Clock(), FakeStore(), setup.journal
        journal.append([record])
        remaining: list[int] = []
        flusher = Flusher(store, journal, Counters(), clock)  # type: ignore[arg-type]
        flusher.stop().addCallback(remaining.append)
        clock.advance(0)
        assert remaining == [0]
        assert store.sequences == [1]

    def test_waits_for_the_flush_under_way_and_then_flushes(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use("/a")
        setup.intervals()
        setup.use("/b")
        remaining = setup.stop()
        setup.store.hanging = False
        assert setup.store.sequences == [1]
        setup.store.answers[0].callback(None)
        setup.settle()
        assert setup.store.sequences == [1, 2]
        assert remaining == [0]
        assert setup.clock.getDelayedCalls() == []

    def test_tries_a_store_that_was_away(self, setup: Setup) -> None:
        setup.store.error = StoreError("away")
        setup.use()
        setup.intervals(20)
        setup.store.error = None
        assert setup.stop() == [0]

    def test_tells_what_stays(self, setup: Setup, events: list[LogEvent]) -> None:
        setup.store.error = StoreError("away")
        setup.use("/a")
        setup.intervals()
        setup.use("/b", "/c")
        assert setup.stop() == [3]
        assert levels(events) == ["error", "warn"]
        assert events[-1]["records"] == 3
        setup.journal.close()
        assert make_journal(setup.directory, node="next").records == 3

    def test_does_not_wait_for_ever(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use(*"abcdefgh")
        remaining = setup.stop(timeout=7.0)
        setup.clock.advance(6.9)
        assert remaining == []
        setup.clock.advance(0.2)
        assert remaining == [8]
        setup.journal.close()
        # The answer comes after all: it counts, and nothing more is begun.
        setup.store.answers[0].callback(None)
        setup.settle()
        assert setup.store.sequences == [1]
        assert journal_files(setup.directory) == ["n-3-00000002.journal"]
        assert remaining == [8]
        assert setup.clock.getDelayedCalls() == []

    def test_nothing_is_written_after_giving_up(self, setup: Setup) -> None:
        """The store is about to be closed then."""
        setup.use()
        remaining: list[int] = []
        setup.flusher.stop(timeout=0.0).addCallback(remaining.append)
        setup.settle()
        assert remaining == [1]
        assert setup.store.batches == []


class TestFlushNow:
    def test_what_was_used_is_in_the_store_then(self, setup: Setup) -> None:
        setup.use("/a", "/b")
        answers: list[bool] = []
        setup.flusher.flush_now().addCallback(answers.append)
        assert answers == []
        setup.settle()
        assert answers == [True]
        assert sum(each.requests for each in setup.store.batches[0].counters.values()) == 2

    def test_several_who_ask_while_one_runs_share_the_next(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use("/a")
        answers: list[bool] = []
        setup.flusher.flush_now().addCallback(answers.append)
        setup.settle()
        setup.use("/b")
        for _ in range(3):
            setup.flusher.flush_now().addCallback(answers.append)
        assert len(setup.store.batches) == 1
        setup.store.answers.pop().callback(None)
        setup.settle()
        assert answers == [True]
        assert len(setup.store.batches) == 2
        setup.store.answers.pop().callback(None)
        assert answers == [True] * 4

    def test_it_does_not_run_beside_the_one_of_the_interval(self, setup: Setup) -> None:
        setup.store.hanging = True
        setup.use("/a")
        setup.intervals()
        setup.flusher.flush_now()
        setup.settle()
        assert len(setup.store.batches) == 1

    def test_a_store_that_is_away_is_not_asked_more_often(self, setup: Setup) -> None:
        setup.store.error = StoreError("away")
        setup.use("/a")
        answers: list[bool] = []
        setup.flusher.flush_now().addCallback(answers.append)
        setup.settle()
        setup.flusher.flush_now().addCallback(answers.append)
        setup.settle()
        assert answers == [False, False]
        assert len(setup.store.batches) == 1

    def test_unless_it_is_urgent(self, setup: Setup) -> None:
        setup.store.error = StoreError("away")
        setup.use("/a")
        setup.flusher.flush_now()
        setup.settle()
        setup.store.error = None
        answers: list[bool] = []
        setup.flusher.flush_now(urgent=True).addCallback(answers.append)
        setup.settle()
        assert answers == [True]
