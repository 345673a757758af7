from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from gatekeeper.usage.logfile import LogFile, LogStream


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_appends(path: Path, clock: Clock) -> None:
    path.write_bytes(b"old\n")
    log = LogFile(path, clock)
    log.write(b"one\n")
    log.write(b"two\nthree\n")
    assert path.read_bytes() == b"old\none\ntwo\nthree\n"
    log.close()


def test_group_may_read_it_whatever_the_umask(path: Path, clock: Clock) -> None:
    before = os.umask(0o077)
    try:
        log = LogFile(path, clock)
        log.write(b"one\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    log.close()


def test_permissions_of_an_existing_file_stay(path: Path, clock: Clock) -> None:
    path.touch(0o600)
    log = LogFile(path, clock)
    log.write(b"one\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_follows_rotation(path: Path, clock: Clock, replaced: bool) -> None:
    log = LogFile(path, clock)
    log.write(b"one\n")
    rotated = path.rename(path.with_suffix(".1"))
    if replaced:
        path.touch()
    log.write(b"two\n")  # Looked after about once a second, not at every write.
    clock.now += 1.0
    log.write(b"three\n")
    assert rotated.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"
    log.close()


def test_truncated_by_copytruncate(path: Path, clock: Clock) -> None:
    log = LogFile(path, clock)
    log.write(b"one\n")
    os.truncate(path, 0)
    log.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    log.close()


def test_full_disk_tears_one_line_only(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(path, clock)
    room = [6, 0]
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        if not room:
            return write(fd, data)
        free = room.pop(0)
        if free == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:free])

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(OSError, match="No space"):
        log.write(b"one\ntwo\n")
    log.write(b"three\n")
    log.write(b"four\n")
    assert path.read_bytes() == b"one\ntw\nthree\nfour\n"
    log.close()


def test_file_that_cannot_be_made_is_tried_again(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "later" / "access.log"
    log = LogFile(path, clock)
    with pytest.raises(FileNotFoundError):
        log.write(b"lost\n")
    path.parent.mkdir()
    log.write(b"one\n")
    assert path.read_bytes() == b"one\n"
    log.close()


def test_fifo_without_a_reader_does_not_stop_us(path: Path, clock: Clock) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):
        LogFile(path, clock).write(b"one\n")


def test_stream_writes_everything_before_it_closes() -> None:
    reading, writing = os.pipe()
    log = LogStream(writing)
    for number in range(100):
        log.write(b"%d\n" % number)
    log.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"".join(b"%d\n" % number for number in range(100))


def test_stream_that_nobody_reads_refuses_instead_of_waiting() -> None:
    reading, writing = os.pipe()
    log = LogStream(writing)
    block = b"x" * 65536 + b"\n"
    for _ in range(LogStream.blocks):
        log.write(block)
    with pytest.raises(BlockingIOError, match="nobody reads"):  # noqa: PT012
        # The thread has taken the first block, so there is room for one more.
        for _ in range(2):
            log.write(block)
    os.close(reading)  # Lets the thread go on: every write fails at once.
    log.close()
    os.close(writing)


def test_stream_tells_that_its_reader_is_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = LogStream(writing)
    log.write(b"lost\n")
    log.close()
    with pytest.raises(BrokenPipeError):
        log.write(b"also lost\n")
    os.close(writing)


def test_closing_a_stream_that_was_not_used() -> None:
    log = LogStream(1)
    log.close()
    assert os.fstat(1), "it is not ours to close"
