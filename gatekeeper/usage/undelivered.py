"""Which responses were about to end when a process was killed.

Usage records are written down before the ends of their responses go out. Of a process that is
killed between the two, the records stay, and the clients have no whole responses. So there is a
file that names them meanwhile, and the system call that takes the last bytes of a response notes
there that it has: sendmmsg(2) writes how many bytes of a message it took (``msg_len``) into the
memory that it was given, and a process does not die within a system call. Whoever comes then knows
which records do not count.

That holds for what is sent without TLS, by HTTP/1, to a client that reads; anything else is taken
for delivered right before it is sent.

The file begins with the machine's boot id: what a machine that has gone down had in mind is not
what its disk has, and says nothing. The first 4096 bytes have nothing else; then come groups of as
many, in which numbers are the machine's own:

=========  =====  ===========================================================================
sequence   8      of the segment where the records are; 0: there are none
offset     8      of their block there
records    8      how many they are
            40
messages   63x64  one for each record, ``struct mmsghdr``; ``msg_len`` is not 0: it counts
=========  =====  ===========================================================================
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from twisted.logger import Logger

log = Logger()

#: Records that one group can have.
GROUP: Final = 63

#: Bytes of a response's end that one call can take.
_LONGEST: Final = 1 << 18

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_FLAGS: Final = 0x40 | 0x4000  # MSG_DONTWAIT | MSG_NOSIGNAL
_HEADER: Final = struct.Struct("=QQQ")
_MESSAGE: Final = 64  # bytes, and as many are in front of a group's messages
_SIZE: Final = _MESSAGE * (1 + GROUP)
_TAKEN: Final = 56  # where msg_len is in a message


class Sending(Protocol):
    """What is needed of a transport (:class:`gatekeeper.net.transports.LoopTransport`)."""

    def descriptor(self) -> int:
        """The socket's, if it takes bytes as they are, and has taken all so far; -1: it has not."""

    def write(self, data: bytes | memoryview) -> object:
        """Send it when that is possible."""

    def send(self, data: bytes) -> object:
        """Send it now, as far as that is possible."""


class Lost(NamedTuple):
    """Records that do not count: which ones of a block that had so many."""

    sequence: int
    offset: int
    records: int
    numbers: Collection[int]


class Undelivered:
    """Notes on up to so many (``groups``) groups of records at a time, in the file ``path``.

    Without a path, and where the file cannot be made, they are lost with the process. A response is
    known by a number: that of its group and its place there.
    """

    def __init__(self, path: Path | None = None, groups: int = 1) -> None:
        self._path = path
        self._groups = groups
        self._free = list(range(1, 1 + groups))
        # Group 0 is for what finds no other: several may use it at once, and nobody will ask.
        self._memory = _map(path, (1 + groups) * _SIZE)
        boot = _boot_id()
        self._memory[: len(boot)] = boot
        self._taken = memoryview(self._memory).cast("I")  # of message n: n * 16 + 14
        # A copy of what is sent: the bytes of a response do not belong into a file.
        self._copy = mmap.mmap(-1, _LONGEST + mmap.PAGESIZE)
        self._length = memoryview(self._copy)[_LONGEST + 8 : _LONGEST + 16].cast("Q")
        copy = _address(self._copy)
        struct.pack_into("=QQ", self._copy, _LONGEST, copy, 0)  # struct iovec
        message = struct.pack("=QIxxxxQQQQIxxxxIxxxx", 0, 0, copy + _LONGEST, 1, 0, 0, 0, 0)
        self._messages = [message * count for count in range(1 + GROUP)]
        begin = _address(self._memory)
        self._pointers = [
            ctypes.c_void_p(begin + _MESSAGE * number)
            for number in range((1 + groups) * (1 + GROUP))
        ]

    @property
    def busy(self) -> bool:
        """Whether a group has begun and not ended."""
        return len(self._free) < self._groups

    def begin(self, sequence: int, offset: int, held: Sequence[object]) -> int:
        """Note that responses are about to end, before their records are written down.

        Where, and which (false: there is no response to that record). Returns the number of the
        first; those of the others follow.
        """
        group = self._free.pop() if self._free else 0
        begin, count = group * _SIZE, len(held)
        self._memory[begin + _MESSAGE : begin + _MESSAGE * (1 + count)] = self._messages[count]
        first = group * (1 + GROUP) + 1
        if not all(held):
            for number, each in enumerate(held, first):
                if not each:
                    self.settle(number)
        if group:
            _HEADER.pack_into(self._memory, begin, sequence, offset, count)
        return first

    def lost(self) -> list[Lost]:
        """Return which records would not count if the process ended now."""
        return _lost(self._memory)

    def end(self, first: int) -> None:
        """All of a group have ended."""
        group = first // (1 + GROUP)
        if group:
            _HEADER.pack_into(self._memory, group * _SIZE, 0, 0, 0)
            self._free.append(group)

    def settle(self, number: int) -> None:
        """This record counts, whatever becomes of its response."""
        self._taken[number * 16 + 14] = 1

    def send(self, number: int, transport: Sending, data: bytes) -> None:
        """Send the end of a response: with the last byte of it its record counts."""
        size = len(data)
        descriptor = transport.descriptor()
        if descriptor < 0 or size > _LONGEST:
            self.settle(number)
            transport.send(data)
            return
        self._copy[:size] = data
        self._length[0] = size
        _sendmmsg(descriptor, self._pointers[number], 1, _FLAGS)
        taken = self._taken[number * 16 + 14]
        if taken != size:  # the rest has to wait, or the peer is gone, which the loop finds out
            self.settle(number)
            transport.write(memoryview(data)[taken:])

    def close(self) -> None:
        """Nothing ends any more; may be called again. Notes on what has not ended are left."""
        for view in (self._taken, self._length):
            view.release()
        for memory in (self._memory, self._copy):
            memory.close()
        if self._path is not None and not self.busy:
            with suppress(OSError):
                self._path.unlink()


def undelivered(path: Path) -> list[Lost]:
    """Return which records were written down, and have not ended a response.

    Of a process that has ended; none where it has left no notes, or the machine was started since.

    :raises OSError: they cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    boot = _boot_id()
    if not boot or not data.startswith(boot):
        return []
    return _lost(data)


def _lost(data: bytes | mmap.mmap) -> list[Lost]:
    lost = []
    for begin in range(_SIZE, len(data) - _SIZE + 1, _SIZE):
        sequence, offset, count = _HEADER.unpack_from(data, begin)
        messages = range(begin + _MESSAGE, begin + _MESSAGE * (1 + min(count, GROUP)), _MESSAGE)
        numbers = {
            number
            for number, message in enumerate(messages)
            if data[message + _TAKEN : message + _TAKEN + 4] == bytes(4)
        }
        if sequence and numbers:
            lost.append(Lost(sequence, offset, count, numbers))
    return lost


def _boot_id() -> bytes:
    """What is another one whenever the machine is started; ``b""``: it is not known."""
    try:
        return _BOOT_ID.read_bytes()
    except OSError:
        return b""


def _map(path: Path | None, size: int) -> mmap.mmap:
    if path is not None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
                return mmap.mmap(fd, size)
            finally:
                os.close(fd)
        except OSError as error:
            log.warn("{error}: a kill may count some responses too many", error=error)
    return mmap.mmap(-1, size)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


# It does not wait, so the interpreter's lock is kept meanwhile.
_sendmmsg: Final = ctypes.PyDLL(None).sendmmsg
