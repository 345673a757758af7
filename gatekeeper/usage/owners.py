"""Whose segments are whose, where several processes write into one journal's directory.

One process may follow another that still finishes what it has begun, and there may be several
workers. What one of them leaves when it ends, another one takes over: not earlier, and only one.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeAlias

#: A node and a worker: what the keys of a process's segments have in common.
Owner: TypeAlias = tuple[str, int]

_FILE: Final = "owners"
_OWNER: Final = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,6})")

#: ``struct flock`` of 64-bit Linux: type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("@hhqqi0q")


class Owners:
    """Claims on segments: locks on single bytes of a file, so that nothing is left to clear up.

    They are open file description locks (fcntl(2), ``F_OFD_SETLK``): they live on in a process that
    is forked, and are gone with the last that has them.

    :raises OSError: the file cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(directory / _FILE, flags, 0o600)
        self._claimed: set[Owner] = set()

    def __contains__(self, owner: Owner) -> bool:
        """Whether it was claimed here."""
        return owner in self._claimed

    def claim(self, owner: Owner) -> bool:
        """Take an owner's segments over; false while somebody else has them: itself, or an heir.

        :raises OSError: that cannot be found out.
        """
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _byte_of(owner), 1, 0)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):
            return False
        self._claimed.add(owner)
        return True

    def close(self) -> None:
        """Give up all claims; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def file_of(directory: Path, owner: Owner, ending: str) -> Path:
    """A file that an owner has beside its segments."""
    return directory / f"{owner[0]}-{owner[1]}.{ending}"


def owner_of(name: str, ending: str) -> Owner | None:
    """Whose file it is, see :func:`file_of`; ``None``: it is no such file."""
    stem, _, found = name.rpartition(".")
    owner = _OWNER.fullmatch(stem) if found == ending else None
    return None if owner is None else (owner[1], int(owner[2]))


def _byte_of(owner: Owner) -> int:
    """A byte of its own, in a file that has none."""
    digest = blake2b(repr(owner).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2
