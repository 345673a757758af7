"""What a start finds: what earlier processes left, and another process that is there still."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.usage.journal_directory import wait_until_free
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.segments import HEAD, encode_blocks
from tests.daemon import wait_until
from tests.usage.journals import NOW, journal_files, levels, logged, make_journal


@pytest.fixture
def block(record: UsageRecord) -> bytes:
    return encode_blocks([record])


def test_segments_of_earlier_processes_the_oldest_first(tmp_path: Path, block: bytes) -> None:
    for age, name in enumerate(["b-0-00000001", "a-0-00000001", "a-0-00000002", "c-1-00000009"]):
        path = tmp_path / f"{name}.journal"
        path.write_bytes(HEAD + block * (age + 1))
        os.utime(path, (NOW - age, NOW - age))
    with logged("journal", "journal_directory") as events:
        journal = make_journal(tmp_path)
    assert [segment.key for segment in journal.closed] == [
        ("c", 1, 9), ("a", 0, 2), ("a", 0, 1), ("b", 0, 1),
    ]  # fmt: skip
    assert [segment.records for segment in journal.closed] == [4, 3, 2, 1]
    assert journal.records == 10
    assert journal.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.journal"))
    assert journal.age == 3
    assert levels(events) == ["info"]
    assert events[0]["records"] == 10


def test_segments_of_one_moment_in_their_order(tmp_path: Path, block: bytes) -> None:
    for number in (3, 1, 2):
        path = tmp_path / f"a-0-0000000{number}.journal"
        path.write_bytes(HEAD + block)
        os.utime(path, (NOW, NOW))
    assert [each.key.sequence for each in make_journal(tmp_path).closed] == [1, 2, 3]


def test_own_segments_come_behind(tmp_path: Path, block: bytes, record: UsageRecord) -> None:
    path = tmp_path / "a-0-00000001.journal"
    path.write_bytes(HEAD + block)
    os.utime(path, (NOW + 100, NOW + 100))  # the clock was set back
    journal = make_journal(tmp_path)
    journal.append([record])
    journal.rotate()
    assert [segment.key.node for segment in journal.closed] == ["a", "n"]


def test_every_torn_tail_is_cut(tmp_path: Path, block: bytes) -> None:
    path = tmp_path / "a-0-00000001.journal"
    data = HEAD + 3 * block
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        whole = max(0, cut - len(HEAD)) // len(block)
        good = len(HEAD) + whole * len(block)
        torn = max(0, cut - good)
        with logged("journal_directory") as events:
            journal = make_journal(tmp_path)
        journal.close()
        assert [event["torn"] for event in events] == ([torn] if torn else [])
        assert levels(events) == (["warn"] if torn else [])
        assert [segment.records for segment in journal.closed] == ([whole] if whole else [])
        assert path.exists() == bool(whole)
        if whole:
            assert path.read_bytes() == data[:good]
            assert journal.closed[0].size == good


def test_damage_in_the_middle_is_left_for_the_flush(tmp_path: Path, block: bytes) -> None:
    path = tmp_path / "a-0-00000001.journal"
    data = HEAD + block + b"x" + block
    path.write_bytes(data)
    journal = make_journal(tmp_path)
    assert journal.closed[0].records == 2
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "content", [b"gkusage\x02" + b"future", b"#!/bin/sh\n", bytes(4096), b"GKUSAGE\x01"]
)
def test_what_is_not_ours_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a-0-00000001.journal"
    path.write_bytes(content)
    with logged("journal_directory") as events:
        journal = make_journal(tmp_path)
    assert levels(events) == ["critical"]
    assert events[0]["path"] == path
    assert "not a segment of this version" in events[0]["why"]
    assert not journal.closed
    assert path.read_bytes() == content


def test_what_is_too_long_is_left_alone(tmp_path: Path, block: bytes) -> None:
    path = tmp_path / "a-0-00000001.journal"
    path.write_bytes(HEAD + block)
    os.truncate(path, (1 << 30) + 1)
    with logged("journal_directory") as events:
        assert not make_journal(tmp_path).closed
    assert levels(events) == ["critical"]
    assert path.stat().st_size == (1 << 30) + 1


def test_what_cannot_be_read_is_left_alone(tmp_path: Path, block: bytes) -> None:
    (tmp_path / "a-0-00000001.journal").mkdir()
    (tmp_path / "a-0-00000002.journal").write_bytes(HEAD + block)
    with logged("journal_directory") as events:
        journal = make_journal(tmp_path)
    assert [segment.key.sequence for segment in journal.closed] == [2]
    assert [event["why"] for event in events] == ["is a directory"]


def test_other_files_are_nothing_to_us(tmp_path: Path, block: bytes) -> None:
    names = ["a-0-00000001.journal.damaged", "a-0-00000002.journal.rejected", "notes", "a-0-3.gz"]
    for name in names:
        (tmp_path / name).write_bytes(HEAD + block)
    with logged("journal", "journal_directory") as events:
        journal = make_journal(tmp_path, size=1)
    assert not journal.closed
    assert events == []
    assert journal.full, "what was set aside takes room"
    assert journal_files(tmp_path) == sorted(names)


def test_another_gatekeeper_uses_it(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    journal = make_journal(directory)
    with pytest.raises(ConfigurationError) as caught:
        make_journal(directory)
    assert str(caught.value) == f"state_dir: another gatekeeper uses it ({directory})"
    journal.close()
    make_journal(directory).close()


def test_one_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    directory, naps = tmp_path / "journal", list[float]()
    wait_until_free(directory, 1.0, naps.append)
    assert naps == []
    journal = make_journal(directory)
    wait_until_free(directory, 1.0, naps.append)
    assert sum(naps) == pytest.approx(1.0)
    with pytest.raises(ConfigurationError):
        make_journal(directory)
    wait_until_free(directory, 1.0, lambda seconds: journal.close())
    make_journal(directory).close()


def test_lock_goes_with_its_process_and_lives_on_in_its_child(tmp_path: Path) -> None:
    """A daemon goes into the background after it has opened everything."""
    program = (
        "import os, sys; from pathlib import Path; from tests.usage.journals import make_journal\n"
        "journal = make_journal(Path(sys.argv[1]))\n"
        "if os.fork(): os._exit(0)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert process.wait() == 0
        with pytest.raises(ConfigurationError):
            make_journal(tmp_path)
        process.stdin.close()
        assert process.stdout.read() == b""  # it ends
    wait_until(lambda: _may_be_opened(tmp_path), "the lock is given back")


def _may_be_opened(directory: Path) -> bool:
    try:
        make_journal(directory).close()
    except ConfigurationError:
        return False
    return True


@pytest.mark.parametrize("what", ["file", "in a file"])
def test_directory_that_cannot_be(tmp_path: Path, what: str) -> None:
    path = tmp_path / "journal"
    path.touch()
    with pytest.raises(ConfigurationError, match=r"^state_dir: .*/journal"):
        make_journal(path if what == "file" else path / "journal")
