"""The journal's directory at a start: who may use it, and what earlier processes left there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Final, Literal, get_args

from twisted.logger import Logger

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.usage.owners import Owner, Owners, file_of, owner_of
from gatekeeper.usage.segment_file import Segment, Write
from gatekeeper.usage.segments import HEAD, Key, decode_blocks, encode_blocks, scan
from gatekeeper.usage.undelivered import Lost, undelivered

log = Logger()

#: What is put behind the names of segments that somebody has to look at: nothing here reads them
#: again.
Ending = Literal["damaged", "rejected"]

_LOCK: Final = "lock"
_NOTES: Final = "undelivered"

#: Seconds between two looks whether that is free.
_LOOK: Final = 0.05

#: Bytes that it must be possible to write before a journal that failed is trusted again.
_PROBE: Final = 65_536

#: A segment is a few megabytes at the most. What is so long that it could not be read is none.
_LONGEST: Final = 1 << 30


def open_directory(directory: Path, inherited: int = -1) -> int:
    """Make the directory (mode 0700) if need be, and lock it for this process.

    Returns the lock, a file descriptor: closing it, or the end of the process, gives it back. It
    lives on in a process that is forked, and in one that has ``inherited`` it: these share the
    directory, see :mod:`gatekeeper.usage.owners`. A lock of another directory is closed.

    :raises ConfigurationError: another process has it, or it cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if inherited >= 0:
            if os.path.sameopenfile(lock, inherited):
                lock, inherited = inherited, lock
                os.set_inheritable(lock, False)
            os.close(inherited)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
    except BlockingIOError as error:
        raise ConfigurationError(
            [Problem("state_dir", f"another gatekeeper uses it ({directory})")]
        ) from error
    except OSError as error:
        raise unusable(directory, error) from error
    return lock


def wait_until_free(
    directory: Path, patience: float, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Wait until nobody has the directory, for so many seconds at the most.

    Workers of a process that was killed end by themselves, and have its lock until then.
    """
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # there is none yet; what else is wrong shows when it is opened
    try:
        for _ in range(ceil(patience / _LOOK)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sleep(_LOOK)
            else:
                return
    finally:
        os.close(lock)


def left_over(
    directory: Path, owners: Owners, known: Collection[Key] = frozenset()
) -> list[Segment]:
    """Return the segments of those who have ended, the oldest first: they are claimed then.

    Whose were claimed before are not among them, nor those that are ``known``. Torn tails are cut,
    segments without a record are deleted. What is no segment of this version, or cannot be read, is
    left alone, with a line in the log.

    :raises ConfigurationError: the directory cannot be read.
    """
    found: dict[Owner, list[tuple[Path, Key]]] = {}
    segments = []
    try:
        for path in directory.iterdir():
            owner = owner_of(path.name, _NOTES)
            if owner is not None and owner not in owners:
                found.setdefault(owner, [])
            key = Key.of_file(path.name)
            if key is not None and key[:2] not in owners and key not in known:
                found.setdefault(key[:2], []).append((path, key))
        for owner, files in found.items():
            if owners.claim(owner):
                notes = notes_of(directory, owner)
                lost = undelivered(notes)
                # Looked for again: he may have ended, and cleared away, since we looked.
                left = (_left_over(path, key, lost) for path, key in files if path.exists())
                segments += [segment for segment in left if segment is not None]
                notes.unlink(missing_ok=True)
    except OSError as error:
        raise unusable(directory, error) from error
    return sorted(segments, key=lambda segment: (segment.since, segment.key))


def set_aside(directory: Path) -> dict[Path, int]:
    """Return the files that were set aside, and how many bytes each has."""
    return {
        path: path.stat().st_size
        for ending in get_args(Ending)
        for path in directory.glob(f"*.journal.{ending}")
    }


def notes_of(directory: Path, owner: Owner) -> Path:
    """Where an owner notes what it is about to deliver (:class:`.undelivered.Undelivered`)."""
    return file_of(directory, owner, _NOTES)


def probe(directory: Path, write: Write, force: Callable[[int], None] | None) -> None:
    """See whether the directory can be written to, and with ``force`` its disk; may take long.

    :raises OSError: it cannot.
    """
    path = directory / f"probe-{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        left = _PROBE
        while left > 0:
            left -= write(fd, bytes(left))
        if force is not None:
            force(fd)
    finally:
        os.close(fd)
        path.unlink()


def unusable(path: Path, error: OSError) -> ConfigurationError:
    """The error for a start without a journal."""
    return ConfigurationError([Problem("state_dir", f"{path}: {reason(error)}")])


def reason(error: OSError) -> str:
    """Return what the system says, as a part of a sentence."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _left_over(path: Path, key: Key, lost: Sequence[Lost]) -> Segment | None:
    try:
        status = path.stat()
        data = path.read_bytes() if status.st_size <= _LONGEST else b""
        if status.st_size <= _LONGEST and HEAD.startswith(data[: len(HEAD)]):
            return repaired(path, key, status.st_mtime, data, lost)
        why = "it is not a segment of this version"
    except OSError as error:
        why = reason(error)
    log.critical("{path} is left alone, usage in it is not counted: {why}", path=path, why=why)
    return None


def repaired(
    path: Path, key: Key, since: float, data: bytes, lost: Sequence[Lost]
) -> Segment | None:
    """Take out of a segment, of which ``data`` is everything, what was ``lost``, and a torn tail.

    ``None``: there is nothing else in it, and it is deleted.

    :raises OSError: it stays as it is.
    """
    of_it = {each.offset: each for each in lost if each.sequence == key.sequence}
    if of_it:
        data = _without(path, data, of_it)
    found = scan(data)
    if found.torn:
        log.warn(
            "{path}: the last {torn} bytes, of a write that was not finished, are cut off",
            path=path,
            torn=found.torn,
        )
    if not found.blocks:
        path.unlink()
        return None
    if found.end < len(data):
        os.truncate(path, found.end)
    return Segment(path, key, since, found.records, found.end)


def _without(path: Path, data: bytes, lost: Mapping[int, Lost]) -> bytes:
    """Take out of the segment ``path`` the records of responses that nobody has got.

    ``lost`` is by the offset of their block. Returns what is left.
    """
    left, count, position = list[bytes](), 0, 0
    for block in scan(data).blocks:
        those = lost.get(block.header)
        if those is None or those.records != block.records:  # else it was done before
            continue
        records = decode_blocks(data, [block])
        kept = [record for number, record in enumerate(records) if number not in those.numbers]
        left += data[position : block.header], encode_blocks(kept)
        position = block.end
        count += len(records) - len(kept)
    if not count:
        return data
    data = b"".join((*left, data[position:]))
    new = path.with_name(f"{path.name}.repaired")
    new.touch(0o600)
    new.write_bytes(data)
    new.replace(path)
    log.info(
        "{path}: {count} responses had not gone out to their end: they do not count",
        path=path,
        count=count,
    )
    return data
