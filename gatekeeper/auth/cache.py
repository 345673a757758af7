"""Verdicts, remembered for a while."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from math import inf
from typing import TypeAlias

from gatekeeper.auth.interfaces import Deny, Grant

#: A verdict, when to forget it (monotonic clock), when it ends by itself (wall clock), and whether
#: it is about a token that may be revoked.
_Entry: TypeAlias = tuple[Grant | Deny, float, float, bool]


class VerdictCache:
    """Grants and denials by a digest of what was presented; both bounded, the oldest go first.

    They are kept apart so that a flood of wrong credentials cannot push right ones out, and a
    grant that is in use stays. No credential is held, only digests under a key that dies with
    the process.

    :param size: entries kept of each sort.
    :param ttl: seconds that a grant is believed, at the most; its own expiry may be sooner.
    :param negative_ttl: seconds that a denial is believed.
    :param wall: seconds since the epoch; :attr:`Grant.expires` is told by this clock.
    :param monotonic: seconds of a clock that nobody sets; the two periods go by this one, so that
        setting the wall clock back does not lengthen a grant's life.
    """

    def __init__(
        self,
        size: int,
        ttl: float,
        negative_ttl: float,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._wall = wall
        self._monotonic = monotonic
        self._root = secrets.token_bytes(32)
        self._grants: OrderedDict[bytes, _Entry] = OrderedDict()
        self._denials: OrderedDict[bytes, _Entry] = OrderedDict()
        #: Goes up whenever verdicts are dropped; see :meth:`put`.
        self.generation = 0

    def __repr__(self) -> str:
        return f"<VerdictCache: {len(self._grants)} grants, {len(self._denials)} denials>"

    @property
    def grants(self) -> int:
        """How many grants are held; some may have ended."""
        return len(self._grants)

    @property
    def denials(self) -> int:
        """How many denials are held."""
        return len(self._denials)

    def secret_for(self, name: str) -> bytes:
        """The key that the chain ``name`` makes its digests with: 32 bytes."""
        return blake2b(name.encode(), key=self._root, digest_size=32).digest()

    def get(self, key: bytes) -> Grant | Deny | None:
        """The verdict under ``key``, None where there is none that still holds."""
        entry = self._grants.get(key)
        if entry is not None:
            if self._monotonic() < entry[1] and self._wall() < entry[2]:
                self._grants.move_to_end(key)
                return entry[0]
            del self._grants[key]
            return None
        entry = self._denials.get(key)
        if entry is not None:
            if self._monotonic() < entry[1]:
                return entry[0]
            del self._denials[key]
        return None

    def put(
        self, key: bytes, verdict: Grant | Deny, generation: int, *, revocable: bool = False
    ) -> None:
        """Remember a verdict; ``revocable``: about a token that may be revoked.

        ``generation`` is what :attr:`generation` was when the question was asked: an answer from
        before the last drop may be one of those that were to be dropped, and is not kept.
        """
        if generation != self.generation:
            return
        now = self._monotonic()
        if isinstance(verdict, Grant):
            expires = inf if verdict.expires is None else verdict.expires
            lifetime = min(self._ttl, expires - self._wall())
            area, other = self._grants, self._denials
        else:
            expires = inf
            lifetime = self._negative_ttl
            area, other = self._denials, self._grants
        other.pop(key, None)
        area.pop(key, None)
        if lifetime <= 0:
            return
        if len(area) >= self._size:
            area.popitem(last=False)
        area[key] = (verdict, now + lifetime, expires, revocable)

    def drop(self, unwanted: Callable[[Grant | Deny], bool]) -> None:
        """Forget all verdicts that ``unwanted`` says True of."""
        self.generation += 1
        for area in (self._grants, self._denials):
            for key in [key for key, entry in area.items() if unwanted(entry[0])]:
                del area[key]

    def drop_revocable(self) -> None:
        """Forget what is known of tokens: one of them counts no more, or again."""
        self.generation += 1
        for area in (self._grants, self._denials):
            for key in [key for key, entry in area.items() if entry[3]]:
                del area[key]

    def clear(self) -> None:
        """Forget everything."""
        self.generation += 1
        self._grants.clear()
        self._denials.clear()
