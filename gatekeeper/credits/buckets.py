"""When the bucket of each caller will be full: tables in memory that several processes share.

Workers count together by it, and a process and the one that follows it. There is no lock: where two
processes let the same caller through within the same microsecond, these may count as one request.
"""

from __future__ import annotations

import mmap
import os
import weakref
from hashlib import blake2b
from typing import Final

#: Buckets of a table; a power of two.
_SLOTS: Final = 1 << 19

#: Where a caller's bucket may be: so many slots from the one that its digest says.
_REACH: Final = 8

#: What the memory begins with, and a secret behind it, so that nobody outside can say who shares a
#: bucket with whom. Another layout has another name.
_NAME: Final = b"gk-buckets-1\0\0\0\0"
_SECRET: Final = 32
_HEADER: Final = 64
_SLOT: Final = 16  # bytes: a digest, and when the bucket will be full


class Buckets:
    """A table: for each caller when its bucket will be full, in seconds. None is full for ever.

    A bucket that is full needs no room. Where all slots are in use that one could have, it *shares*
    a slot with somebody else. No limit is forgotten then, so that one cannot get around it by
    making the table overflow; nor is anybody shut out who does not come to share a bucket with
    somebody who has emptied it.
    """

    __slots__ = ("_digests", "_full_at", "_mask")

    def __init__(self, memory: memoryview) -> None:
        self._digests = memory.cast("Q")  # of these every second one
        self._full_at = memory.cast("d")  # and of these the others
        self._mask = len(memory) // _SLOT - 1

    def __repr__(self) -> str:
        return f"<Buckets: {self._mask + 1}>"

    def find(self, digest: int, now: float) -> int:
        """The slot of a caller's bucket, which stays there while it is not full.

        See :meth:`BucketMemory.digest`.
        """
        digests, mask = self._digests, self._mask
        first = (digest & mask) * 2
        if digests[first] == digest:
            return first
        full_at, free = self._full_at, -1
        for slot in range(digest, digest + _REACH):
            place = (slot & mask) * 2
            if digests[place] == digest:
                return place
            if free < 0 and full_at[place + 1] <= now:
                free = place
        if free < 0:
            return first
        digests[free] = digest
        full_at[free + 1] = 0.0
        return free

    def get(self, slot: int) -> float:
        """When this one will be full."""
        return self._full_at[slot + 1]

    def put(self, slot: int, full_at: float) -> None:
        """It will be full then."""
        self._full_at[slot + 1] = full_at


class BucketMemory:
    """Two tables: for ``named`` callers, and for ``addresses``, of which there may be very many.

    :param descriptor: of memory that another process has made; ours from now on. -1, or memory that
        is of another kind: new memory is made.
    """

    def __init__(self, descriptor: int = -1, slots: int = _SLOTS) -> None:
        size = _HEADER + 2 * slots * _SLOT
        found = _map(descriptor, size)
        if found is None:
            descriptor = os.memfd_create("gatekeeper-buckets", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, size)
            found = mmap.mmap(descriptor, size)
            found[:_HEADER] = (_NAME + os.urandom(_SECRET)).ljust(_HEADER, b"\0")
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        memory = memoryview(found)
        self._secret = bytes(memory[len(_NAME) : len(_NAME) + _SECRET])
        half = _HEADER + slots * _SLOT
        self.named = Buckets(memory[_HEADER:half])
        self.addresses = Buckets(memory[half:])

    def digest(self, key: str) -> int:
        """What a caller is known by; not 0."""
        text = key.encode("utf-8", "surrogatepass")
        found = blake2b(text, digest_size=8, key=self._secret).digest()
        return int.from_bytes(found, "little") or 1


def _map(descriptor: int, size: int) -> mmap.mmap | None:
    """The memory, if it is some of this kind."""
    if descriptor < 0:
        return None
    if os.fstat(descriptor).st_size == size:
        found = mmap.mmap(descriptor, size)
        if found[: len(_NAME)] == _NAME:
            return found
    os.close(descriptor)
    return None
