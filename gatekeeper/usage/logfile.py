"""Where log lines go: a file that may be rotated, or a stream that may be read slowly."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol


class Sink(Protocol):
    """Takes whole lines; never waits for a reader."""

    def write(self, data: bytes) -> None:
        """Take lines, each with its newline.

        :raises OSError: they are lost, all or some.
        """

    def close(self) -> None:
        """Let go. No call may follow."""


class LogFile:
    """A file that lines are appended to.

    It is opened at the first write, with permissions 0640 if it has to be made, and again when
    another one (or none) is found under its name: about once a second this is looked after, so
    logrotate needs neither ``copytruncate`` nor a signal. ``seconds`` is a clock.
    """

    check_interval = 1.0

    def __init__(self, path: Path, seconds: Callable[[], float]) -> None:
        self._path = path
        self._seconds = seconds
        self._fd = -1
        self._check_at = 0.0
        self._torn = False

    def write(self, data: bytes) -> None:
        """Append ``data`` in one write.

        :raises OSError: the disk is full or failing; what did not fit is lost.
        """
        now = self._seconds()
        if self._fd < 0 or (now >= self._check_at and self._moved()):
            self.close()
            self._fd = _open_for_appending(self._path)
            self._torn = False
        if now >= self._check_at:
            self._check_at = now + self.check_interval
        if self._torn:  # End the line that a full disk has cut, or it spoils the next one as well.
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        finally:
            if written:
                self._torn = data[written - 1] != 0x0A

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _moved(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)


class LogStream:
    """A stream that is open already, such as standard output.

    It may be a pipe whose reader has stopped: a thread of its own waits for the reader, and what
    comes meanwhile is refused once ``blocks`` pieces are held.

    Where it is ``shared`` with other processes, lines of up to ``PIPE_BUF`` bytes stay whole.
    """

    blocks: Final = 256

    def __init__(self, fd: int, *, shared: bool = False) -> None:
        self._fd = fd
        self._shared = shared
        self._queue: queue.Queue[bytes | None] = queue.Queue(self.blocks)
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Have ``data`` written soon.

        :raises OSError: the reader is too slow or gone; ``data`` is lost.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._thread is None:  # Not earlier: threads do not survive the fork of a daemon.
            self._thread = threading.Thread(target=self._run, name="log stream", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(data)
        except queue.Full:
            raise BlockingIOError("nobody reads the log stream") from None

    def close(self) -> None:
        """Wait up to a second until everything is written. The stream itself stays open."""
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=1.0)
            except queue.Full:
                return
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                for piece in whole_lines(data) if self._shared else (data,):
                    written = 0
                    while written < len(piece):
                        written += os.write(self._fd, piece[written:])
            except OSError as error:
                self._error = error


def whole_lines(data: bytes) -> Iterator[bytes]:
    """Divide lines into pieces that a pipe takes as a whole (pipe(7)); a longer line is one."""
    begin = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + select.PIPE_BUF) + 1
        if end <= begin:
            end = data.find(b"\n", begin) + 1 or len(data)
        yield data[begin:end]
        begin = end


def _open_for_appending(path: Path) -> int:
    # O_NONBLOCK changes nothing for a file, and keeps a FIFO without a reader from stopping us.
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(fd, 0o640)  # A daemon's umask (077) would keep the group's log reader out.
    return fd
