"""What a kill leaves: which records count, and which do not."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from twisted.python.failure import Failure

from gatekeeper.usage import undelivered as undelivered_module
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.undelivered import GROUP, Lost, Undelivered, undelivered
from tests.usage.journals import journal_files, levels, logged, make_journal, records_in

FIRST = "n-0-00000001.journal"


class Wire:
    """A transport, and what has come out at its other end."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.number = self.ours.fileno()
        self.written = b""

    def descriptor(self) -> int:
        return self.number

    def write(self, data: bytes | memoryview) -> None:
        self.written += bytes(data)

    def send(self, data: bytes) -> None:
        self.written += data

    def received(self) -> bytes:
        self.theirs.setblocking(False)
        try:
            return self.theirs.recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def lost(path: Path) -> list[Lost]:
    """What would be found if the process were killed now."""
    return undelivered(path)


class TestNotes:
    def test_what_has_been_sent_counts(self, path: Path, wire: Wire) -> None:
        notes = Undelivered(path)
        first = notes.begin(7, 800, ["a", "b", "c"])
        assert lost(path) == [Lost(7, 800, 3, {0, 1, 2})]
        notes.send(first + 1, wire, b"the end")
        assert lost(path) == [Lost(7, 800, 3, {0, 2})]
        assert wire.received() == b"the end"
        assert wire.written == b""
        notes.send(first, wire, b"x")
        notes.send(first + 2, wire, b"y")
        assert lost(path) == []

    def test_what_has_no_response_counts(self, path: Path) -> None:
        notes = Undelivered(path)
        notes.begin(1, 8, ["a", None, "c", None])
        assert lost(path) == [Lost(1, 8, 4, {0, 2})]

    def test_nothing_is_left_of_a_group_that_has_ended(self, path: Path, wire: Wire) -> None:
        notes = Undelivered(path)
        first = notes.begin(1, 8, ["a", "b"])
        notes.send(first, wire, b"x")
        notes.end(first)
        assert lost(path) == []
        notes.begin(2, 99, ["c"])
        assert lost(path) == [Lost(2, 99, 1, {0})], "and what was sent before is forgotten"

    def test_a_whole_group(self, path: Path, wire: Wire) -> None:
        notes = Undelivered(path)
        first = notes.begin(1, 8, ["x"] * GROUP)
        notes.send(first + GROUP - 1, wire, b"x")
        assert lost(path) == [Lost(1, 8, GROUP, set(range(GROUP - 1)))]

    def test_many_groups(self, path: Path, wire: Wire) -> None:
        notes = Undelivered(path, groups=3)
        groups = [notes.begin(1, 100 * number, ["a", "b"]) for number in range(3)]
        notes.send(groups[1] + 1, wire, b"x")
        assert {each.offset: each.numbers for each in lost(path)} == {
            0: {0, 1}, 100: {0}, 200: {0, 1},
        }  # fmt: skip
        notes.end(groups[0])
        assert {each.offset for each in lost(path)} == {100, 200}
        notes.begin(2, 5, ["c"])
        assert {each.offset for each in lost(path)} == {5, 100, 200}

    def test_more_groups_than_there_is_room_for(self, path: Path, wire: Wire) -> None:
        """They are served, and a kill counts them."""
        notes = Undelivered(path, groups=1)
        notes.begin(1, 8, ["a"])
        second, third = notes.begin(1, 9, ["b"]), notes.begin(1, 10, ["c", "d"])
        notes.send(second, wire, b"x")
        notes.send(third + 1, wire, b"y")
        notes.end(second)
        notes.end(third)
        assert wire.received() == b"xy"
        assert lost(path) == [Lost(1, 8, 1, {0})]

    def test_without_a_file(self, wire: Wire) -> None:
        notes = Undelivered()
        first = notes.begin(1, 8, ["a"])
        notes.send(first, wire, b"x")
        notes.end(first)
        notes.close()
        assert wire.received() == b"x"

    def test_file_that_cannot_be_made(self, tmp_path: Path, wire: Wire) -> None:
        with logged("undelivered") as events:
            notes = Undelivered(tmp_path / "nowhere" / "notes")
        assert levels(events) == ["warn"]
        notes.send(notes.begin(1, 8, ["a"]), wire, b"x")
        assert wire.received() == b"x"

    def test_nothing_is_left_of_an_end_in_good_order(self, path: Path) -> None:
        notes = Undelivered(path)
        assert path.stat().st_mode & 0o777 == 0o600
        first = notes.begin(1, 8, ["a"])
        assert notes.busy
        notes.end(first)
        assert not notes.busy
        notes.close()
        notes.close()
        assert not path.exists()
        assert lost(path) == []

    def test_what_has_not_ended_by_then_is_known_later(self, path: Path) -> None:
        notes = Undelivered(path)
        notes.begin(1, 8, ["a"])
        notes.close()
        assert lost(path) == [Lost(1, 8, 1, {0})]

    @pytest.mark.parametrize("length", [0, 1, 100, 4096, 8191])
    def test_file_that_is_cut_off(self, path: Path, length: int) -> None:
        Undelivered(path).begin(1, 8, ["a"])
        os.truncate(path, length)
        assert lost(path) == []

    def test_of_an_earlier_start_of_the_machine(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What had not come to the disk then may have been sent."""
        Undelivered(path).begin(1, 8, ["a"])
        assert len(lost(path)) == 1
        other = tmp_path / "boot_id"
        other.write_text("dd2aeca8-8c5e-4d05-a9ef-f1d6ae8d4f0e\n")
        for boot in (other, tmp_path / "none"):
            monkeypatch.setattr(undelivered_module, "_BOOT_ID", boot)
            assert lost(path) == []
            Undelivered(tmp_path / "again").begin(1, 8, ["a"])
            assert len(lost(tmp_path / "again")) == (boot is other)


class TestSending:
    """What the kernel does not take at once counts from then on, and goes the usual way."""

    def sent(self, path: Path, wire: Wire, data: bytes) -> None:
        notes = Undelivered(path)
        number = notes.begin(1, 8, ["a"])
        notes.send(number, wire, data)
        assert lost(path) == []

    def test_a_part(self, path: Path, wire: Wire) -> None:
        wire.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection, listener = socket.socket(), socket.create_server(("127.0.0.1", 0))
        with connection, listener:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            connection.connect(listener.getsockname())
            connection.setblocking(False)
            wire.number = connection.fileno()
            data = os.urandom(200_000)
            self.sent(path, wire, data)
            taken = len(data) - len(wire.written)
            assert 0 < taken < len(data)
            assert wire.written == data[taken:]

    def test_nothing(self, path: Path, wire: Wire) -> None:
        with suppress(BlockingIOError):
            while wire.ours.send(bytes(65536)):
                pass
        self.sent(path, wire, b"the end")
        assert wire.written == b"the end"

    def test_the_peer_has_gone(self, path: Path, wire: Wire) -> None:
        wire.theirs.close()
        self.sent(path, wire, b"the end")
        assert wire.written == b"the end", "the loop finds out"

    def test_what_waits_already_comes_first(self, path: Path, wire: Wire) -> None:
        wire.number = -1
        self.sent(path, wire, b"the end")
        assert wire.written == b"the end"
        assert wire.received() == b""

    def test_what_is_very_long(self, path: Path, wire: Wire) -> None:
        data = os.urandom((1 << 18) + 1)
        self.sent(path, wire, data)
        assert wire.written == data


Some = Callable[..., list[UsageRecord]]


def broken(_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class TestWhatIsFound:
    """A journal that another process has left, with its notes."""

    @pytest.fixture
    def left(self, tmp_path: Path) -> Iterator[Journal]:
        journal = make_journal(tmp_path)
        yield journal
        journal.undelivered._path = None

    @pytest.fixture
    def some(self, record: UsageRecord) -> Some:
        return lambda ids: [record._replace(id=each) for each in ids]

    def found(self, left: Journal) -> list[str]:
        """Ids in segments that the next process finds."""
        left.undelivered._path = None  # it was killed
        left.close()
        self.journal = make_journal(left._directory, node="m")
        return [record.id for segment in self.journal.closed for record in records_in(segment.path)]

    def test_what_was_not_sent_does_not_count(self, left: Journal, some: Some, wire: Wire) -> None:
        for turn in ("ab", "cd"):
            first = left.append(some(turn), list(turn))
            for number in range(first, first + 2):
                left.undelivered.send(number, wire, b"x")
            left.undelivered.end(first)
        first = left.append(some("efgh"), ["e", "f", None, "h"])
        left.undelivered.send(first + 1, wire, b"x")
        with logged("journal_directory") as events:
            assert self.found(left) == list("abcdfg")
        assert self.journal.records == 6
        assert self.journal.bytes == sum(segment.size for segment in self.journal.closed)
        assert levels(events) == ["info"]
        assert events[0]["count"] == 2
        assert journal_files(left._directory) == [FIRST]
        (segment,) = self.journal.closed
        assert segment.path.stat().st_mode & 0o777 == 0o600
        assert not (left._directory / "n-0.undelivered").exists()

    def test_a_segment_of_which_nothing_counts(self, left: Journal, some: Some) -> None:
        left.append(some("ab"), list("ab"))
        assert self.found(left) == []
        assert journal_files(left._directory) == []

    def test_killed_before_anything_was_written_down(self, left: Journal, some: Some) -> None:
        left.append(some("a"))
        segment = left._file
        assert segment is not None
        left.undelivered.begin(1, segment.segment.size, ["b"])
        assert self.found(left) == ["a"]

    def test_it_was_done_already(self, left: Journal, some: Some, wire: Wire) -> None:
        """Who did it was killed before the notes were deleted."""
        first = left.append(some("abc"), list("abc"))
        left.undelivered.send(first + 2, wire, b"x")
        notes = left._directory / "n-0.undelivered"
        content = notes.read_bytes()
        assert self.found(left) == ["c"]
        self.journal.close()
        notes.write_bytes(content)
        journal = make_journal(left._directory, node="o")
        (segment,) = journal.closed
        assert [record.id for record in records_in(segment.path)] == ["c"]

    def test_a_segment_waits_for_its_responses(self, tmp_path: Path, some: Some) -> None:
        """What nobody has got yet does not get into the store, whence nobody takes it back."""
        journal = make_journal(tmp_path, fsync="always")
        first = journal.append(some("ab"), list("ab"))
        journal.rotate()
        second = journal.append(some("c"), ["c"])
        assert journal_files(tmp_path) == [FIRST]
        journal.undelivered.end(first)
        journal.rotate()
        assert not journal.closed
        journal.undelivered.end(second)
        journal.append(some("d"))
        assert [segment.records for segment in journal.closed] == [3]
        journal.append(some("e"))
        assert len(journal.closed) == 1

    def test_withdrawn(self, tmp_path: Path, some: Some, wire: Wire) -> None:
        """An fsync has failed: who waits for it gets nothing, and owes nothing."""
        journal = make_journal(tmp_path, fsync="always", force=broken, counters=Counters())
        journal.append(some("a"))
        first = journal.append(some("bcd"), ["b", None, "d"])
        second = journal.append(some("ef"), ["e", "f"])
        journal.undelivered.send(second, wire, b"x")
        failed: list[Failure] = []
        journal.sync().addErrback(failed.append)
        assert len(failed) == 1
        assert journal.records == 6
        assert journal.withdraw()
        (segment,) = journal.closed
        assert segment.sums is None
        assert [record.id for record in records_in(segment.path)] == ["a", "c", "e"]
        assert (segment.records, segment.size) == (3, segment.path.stat().st_size)
        assert (journal.records, journal.bytes) == (3, segment.size)
        journal.undelivered.end(first)
        journal.undelivered.end(second)
        assert journal.withdraw(), "nothing more to do"
        assert list(journal.closed) == [segment]

    def test_withdrawn_altogether(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path, fsync="always", force=broken)
        journal.append(some("a"), ["a"])
        journal.sync().addErrback(lambda _: None)
        assert journal.withdraw()
        assert not journal.closed
        assert (journal.records, journal.bytes) == (0, 0)
        assert journal_files(tmp_path) == []

    def test_withdrawing_fails_too(
        self, tmp_path: Path, some: Some, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = make_journal(tmp_path, fsync="always", force=broken)
        journal.append(some("a"), ["a"])
        journal.sync().addErrback(lambda _: None)
        monkeypatch.setattr(Path, "read_bytes", broken)
        with logged("journal") as events:
            assert not journal.withdraw()
        assert levels(events) == ["critical"]
        assert [segment.records for segment in journal.closed] == [1]

    def test_notes_of_one_who_runs_are_left_alone(self, tmp_path: Path, some: Some) -> None:
        journal = make_journal(tmp_path)
        journal.append(some("ab"), list("ab"))
        beside = make_journal(tmp_path, node="m", lock=os.dup(journal.lock))
        assert not beside.closed
        assert len(lost(tmp_path / "n-0.undelivered")) == 1

    def test_notes_without_a_segment_are_cleared_away(self, left: Journal) -> None:
        notes = left._directory / "n-0.undelivered"
        assert notes.exists()
        assert self.found(left) == []
        assert not notes.exists()


def test_kill_at_any_moment(tmp_path: Path, record: UsageRecord) -> None:
    """What has arrived is what is found, exactly."""
    for round_ in range(15):
        ours, theirs = socket.socketpair()
        directory = tmp_path / str(round_)
        pid = os.fork()
        if pid == 0:
            try:
                _answer(make_journal(directory), record, ours)
            finally:
                os._exit(1)
        ours.close()
        received = b""
        while received.count(b"\n") < 100 + 33 * round_:
            received += theirs.recv(1 << 16)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while piece := theirs.recv(1 << 16):
            received += piece
        theirs.close()
        journal = make_journal(directory, node="m")
        found = [each.id for segment in journal.closed for each in records_in(segment.path)]
        assert found == received.decode().splitlines()
        journal.close()


def _answer(journal: Journal, record: UsageRecord, connection: socket.socket) -> None:
    """Turns of one to seven responses, for ever."""
    wire = Wire()
    wire.number = connection.fileno()
    count = 0
    while True:
        select.select([], [connection], [])  # much more than a turn has room then
        ids = [str(count + number) for number in range(1 + count % 7)]
        count += len(ids)
        first = journal.append([record._replace(id=each) for each in ids], ids)
        for number, each in enumerate(ids, first):
            journal.undelivered.send(number, wire, each.encode() + b"\n")
        journal.undelivered.end(first)
        assert not wire.written
