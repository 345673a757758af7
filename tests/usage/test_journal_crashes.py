"""The journal on real disks: a process that is killed, a limit on files, a disk that is full."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from gatekeeper.errors import JournalError
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import UsageRecord
from tests.usage.journals import levels, logged, make_journal, records_in

ROUNDS = 20
_COUNT = struct.Struct(">I")

result_of = SynchronousTestCase().successResultOf


class Child:
    """A process that appends, and tells after each append how many records there are."""

    def __init__(self, work: Callable[[Callable[[int], None]], None]) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work(lambda count: _check(os.write(writing, _COUNT.pack(count))))
            finally:
                os._exit(0)
        os.close(writing)

    def told(self) -> int | None:
        """The next number; ``None``: it has ended."""
        data = os.read(self._reading, _COUNT.size)
        return _COUNT.unpack(data)[0] if data else None

    def end(self) -> int:
        """Kill it, and return the last number that it told."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        last = 0
        while (number := self.told()) is not None:
            last = number
        os.close(self._reading)
        return last


def _check(written: int) -> None:
    assert written == _COUNT.size


def append_turns(
    directory: Path, record: UsageRecord, tell: Callable[[int], None], node: str
) -> None:
    """Append turns of 1, 2, 3, ... records, numbered from 0 on, for ever."""
    journal = make_journal(directory, node=node, size=1 << 30)
    count = turn = 0
    while True:
        turn += 1
        journal.append([record._replace(user=node, id=str(count + index)) for index in range(turn)])
        count += turn
        tell(count)


def test_kill_at_any_moment(tmp_path: Path, record: UsageRecord) -> None:
    """Everything that was acknowledged is there, and no part of a turn that was not."""
    kept: dict[str, int] = {}
    for round_ in range(ROUNDS):
        node = f"n{round_}"

        def work(tell: Callable[[int], None], node: str = node) -> None:
            append_turns(tmp_path, record, tell, node)

        child = Child(work)
        for _ in range(1 + 7 * round_):
            assert child.told() is not None
        acknowledged = child.end()
        journal = make_journal(tmp_path, node="x")
        found = [
            int(each.id)
            for segment in journal.closed
            for each in records_in(segment.path)
            if each.user == node
        ]
        count = len(found)
        assert sorted(found) == list(range(count))
        assert count >= acknowledged
        assert count in {turn * (turn + 1) // 2 for turn in range(count + 2)}, "whole turns"
        kept[node] = count
        assert journal.records == sum(kept.values())
        journal.close()
    assert len(kept) == ROUNDS


def append_until_it_fails(journal: Journal, record: UsageRecord) -> int:
    """Append turns of 50 until one fails; return how many records were taken."""
    taken = 0
    while True:
        try:
            journal.append([record._replace(id=str(taken + index)) for index in range(50)])
        except JournalError:
            return taken
        taken += 50


def test_limit_on_files(tmp_path: Path, record: UsageRecord) -> None:
    """A write is cut short by the system, then fails; a new segment works."""

    def work(tell: Callable[[int], None]) -> None:
        limit = 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        journal = make_journal(tmp_path)
        taken = 0
        for _ in range(3):
            taken += append_until_it_fails(journal, record)
            tell(taken if journal.failing else 0)
            result_of(journal.look_after())
            if journal.failing:
                break

    child = Child(work)
    told = [child.told(), child.told(), child.told(), child.told()]
    child.end()
    assert told[3] is None
    first, _, total = told[:3]
    assert first
    assert total == 3 * first, "each segment takes as much"
    with logged("journal_directory") as events:
        journal = make_journal(tmp_path, node="x")
    assert events == [], "what was cut short has been undone"
    assert journal.records == total
    assert len(journal.closed) == 3
    for segment in journal.closed:
        assert [each.id for each in records_in(segment.path)] == [str(n) for n in range(first)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_full_disk(small_disk: Path, record: UsageRecord) -> None:
    journal = make_journal(small_disk / "journal", segment_records=1000)
    with logged("journal") as events:
        taken = append_until_it_fails(journal, record)
        assert taken >= 2000
        assert events[0]["problem"].endswith("no space left on device")
        result_of(journal.look_after())
        assert journal.failing
        assert journal.records == taken
        for segment in tuple(journal.closed)[:2]:
            journal.remove(segment)
        result_of(journal.look_after())
        assert not journal.full
        assert append_until_it_fails(journal, record)
    assert levels(events) == ["critical", "info", "critical"]
    records = journal.records
    journal.close()
    with logged("journal_directory") as found:
        journal = make_journal(small_disk / "journal", node="x")
    assert found == []
    assert journal.records == records
    journal.close()
