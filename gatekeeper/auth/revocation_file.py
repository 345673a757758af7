"""Who has been shut out, on disk: a restart must not let them in again."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from gatekeeper.files import write_atomically

#: A file with so many superfluous lines is written anew.
_SUPERFLUOUS: Final = 10_000

log = Logger()


class RevocationFile:
    """A file of lines ``["KEY", END]``, ``END`` in seconds since the epoch; 0 takes one back.

    The last line of a key counts. A line is on the disk when :meth:`note` returns. The file is made
    with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = 0

    def __repr__(self) -> str:
        return f"<RevocationFile {self.path}>"

    def load(self, now: float) -> dict[str, float]:
        """Read which keys are shut out until when, and tidy up; a missing file is an empty one.

        What is no such line, a torn end for one, is told in the log and passed over.

        :raises OSError: it cannot be read or written.
        """
        ends: dict[str, float] = {}
        unreadable = 0
        try:
            lines = [line for line in self.path.read_bytes().splitlines() if line]
        except FileNotFoundError:
            lines = []
        for line in lines:
            try:
                key, end = json.loads(line)
                if not isinstance(key, str) or isinstance(end, bool):
                    raise TypeError
                ends[key] = float(end)
            except (ValueError, TypeError, RecursionError, OverflowError):
                unreadable += 1
        if unreadable:
            log.error(
                "{path} has {count} lines that are no revocations", path=self.path, count=unreadable
            )
        held = {key: end for key, end in ends.items() if end > now}
        if len(held) != len(lines):
            self.write(held)
        self._lines = len(held)
        return held

    def note(
        self, ends: Mapping[str, float], count: int, held: Callable[[], Mapping[str, float]]
    ) -> None:
        """Add lines. ``held`` gives all that there are with them, which are about ``count``.

        :raises OSError: it is not known whether the lines are there.
        """
        if self._lines > count + _SUPERFLUOUS:
            self.write(held())
            return
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # The line break comes first, too: the line before may have been torn.
            data = b"\n" + b"".join(_lines(ends))
            if os.write(handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
        self._lines += len(ends)

    def write(self, held: Mapping[str, float]) -> None:
        """Have just these in the file.

        :raises OSError: it is as it was.
        """
        write_atomically(self.path, b"".join(_lines(held)))
        self._lines = len(held)


def _lines(ends: Mapping[str, float]) -> Iterator[bytes]:
    return (json.dumps([key, end]).encode("ascii") + b"\n" for key, end in ends.items())
