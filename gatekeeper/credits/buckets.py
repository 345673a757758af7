"""Until when the bucket of each caller is not full: a table with room for so many callers."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Final

#: Entries that are looked at, whether they can go, for each that comes.
_LOOK: Final = 4

#: Buckets that are shared when there is no room; a power of two.
_SHARED: Final = 1 << 18


class Buckets:
    """When the bucket of each key will be full; what was never put here is full.

    A bucket that is full is not worth keeping. Whenever one comes that is not there yet, some are
    looked at, those first that were not looked at for the longest, and the full ones go. Thus there
    are hardly more than are in use.

    Where ``size`` of them are in use at once, the others *share* a fixed number of buckets,
    by a hash that nobody outside can foresee. No limit is forgotten then, so that one cannot get
    around it by making the table overflow. Nor are others shut out, unless one comes to share a
    bucket with somebody who has emptied it.
    """

    __slots__ = ("_own", "_shared", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._own: OrderedDict[str, float] = OrderedDict()
        self._shared: array[float] | None = None  # 2 MiB, when they are needed

    def __len__(self) -> int:
        return len(self._own)

    def __repr__(self) -> str:
        return f"<Buckets: {len(self._own)}{', and shared ones' if self._shared else ''}>"

    def get(self, key: str) -> float:
        """When it will be full; 0: it is."""
        full_at = self._own.get(key)
        if full_at is None:
            shared = self._shared
            return 0.0 if shared is None else shared[hash(key) % _SHARED]
        return full_at

    def put(self, key: str, full_at: float, now: float) -> None:
        """It will be full then."""
        own = self._own
        if key in own or self._has_room(now):
            own[key] = full_at
            return
        if self._shared is None:
            self._shared = array("d", bytes(8 * _SHARED))
        self._shared[hash(key) % _SHARED] = full_at

    def _has_room(self, now: float) -> bool:
        own = self._own
        for _ in range(min(_LOOK, len(own))):
            key, full_at = own.popitem(last=False)
            if full_at > now:
                own[key] = full_at  # to the end
        return len(own) < self._size
