"""Tokens that were handed out for credentials, and who has been shut out.

One cache is one *zone*: keys and values that operators see and change, shared by all that use it.
The value ``"0"`` shuts out whoever the key stands for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import Attribute, Interface, implementer

from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_entries import REVOKED, Entries, TokenCacheError
from gatekeeper.errors import ConfigurationError, Problem

__all__ = [
    "LONGEST",
    "REVOKED",
    "IClaims",
    "IRevoking",
    "ITokenCache",
    "IUsesTokenCache",
    "MemoryTokenCache",
    "TokenCacheError",
    "share_token_caches",
]

#: The longest key and the longest value, in bytes of UTF-8.
LONGEST: Final = 8192

P = ParamSpec("P")
T = TypeVar("T")


class ITokenCache(Interface):
    """One zone. Every Deferred may fail with :class:`TokenCacheError`.

    What is true once a Deferred has fired is true for all in this process who use the zone, and,
    where it is shared with other nodes, a moment later (far less than 100 ms, unless one of them is
    cut off) for all there. Keys and values are strings of up to `LONGEST` bytes.
    """

    ttl: float = Attribute("Seconds that an entry lives of which nothing else is said.")
    tokens: int = Attribute("How many tokens this process holds; some may have ended.")
    revocations: int = Attribute("How many revocations it holds; some may have ended.")
    caught_up: bool = Attribute("Whether all is known here that was changed by others.")
    outages: int = Attribute("How often that was so no more, since the process began.")

    def start() -> Deferred[None]:
        """Get ready; fires when every revocation is known, or what is shared is out of reach.

        Before that, nothing is asked.
        """

    def close() -> Deferred[None]:
        """Give back what it holds."""

    def get(key: str) -> Deferred[str | None]:
        """The value, None where there is none that still holds."""

    def add(key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        """Add an entry where there is none: None. Else the value that is there, and stays.

        While the other nodes are out of reach, a token may be added for this one alone.
        """

    def replace(key: str, value: str, ttl: float | None = None) -> Deferred[bool]:
        """Change an entry, which lives ``ttl`` seconds from now; False where there is none."""

    def revoke(key: str, ttl: float | None = None) -> Deferred[None]:
        """Set an entry to ``"0"``, whether there was one or not."""

    def delete(key: str) -> Deferred[bool]:
        """Remove an entry; False where there is none."""

    def clear() -> Deferred[None]:
        """Remove all entries."""

    def items() -> Deferred[Mapping[str, str]]:
        """All entries that still hold."""

    def subscribe(revoked: Callable[[str], None]) -> Callable[[], None]:
        """Call ``revoked`` with the key of each entry that is set to ``"0"`` from now on.

        It is called soon after the change, wherever that was made. Gives a function that ends it.
        """


class IClaims(Interface):
    """What a zone provides beside :class:`ITokenCache` that several processes have.

    Of those that look for one token which there is none of, one asks for it, and the others wait.
    """

    def claim(key: str, seconds: float) -> Deferred[str | None]:
        """As :meth:`ITokenCache.get`; who is told None shall add it, or :meth:`release` the key.

        It is said to one of all processes at a time. That has so many seconds, and nobody waits
        longer.
        """

    def release(key: str) -> None:
        """Do not add it any more. Nothing happens where it was added, or was not claimed here."""


class IRevoking(Interface):
    """What a checker provides beside :class:`IChecker` whose grants can be taken back."""

    def on_revoked(revoked: Callable[[str], None]) -> None:
        """Call ``revoked`` with the ``key_id`` of grants that hold no more.

        What runs under such a grant must end at once.
        """


class IUsesTokenCache(Interface):
    """What a checker provides beside :class:`IChecker` that keeps its tokens in a shared zone."""

    zone: str = Attribute("The zone's name.")
    ttl: float = Attribute("What :attr:`ITokenCache.ttl` is to be.")

    def use(cache: ITokenCache) -> None:
        """Use this cache from now on. To be called before the first request."""


def share_token_caches(
    checkers: Mapping[str, IChecker],
    make: Callable[[str, float], ITokenCache],
    others: Mapping[str, IChecker] | None = None,
) -> dict[str, ITokenCache]:
    """Give every checker that wants one its zone; the zones by name.

    ``make`` makes a zone, from its name and ``ttl``. ``others`` are checkers that have theirs.

    :raises ConfigurationError: two checkers want one zone: what one server said would count for
        the other. Paths from the configuration's root.
    """
    zones: dict[str, ITokenCache] = {}
    problems = []
    taken = {user.zone for user in map(_uses, (others or {}).values()) if user is not None}
    for name, checker in checkers.items():
        user = _uses(checker)
        if user is None:
            continue
        if user.zone in zones or user.zone in taken:
            message = f"another checker has the zone `{user.zone}` already"
            problems.append(Problem(f"checkers.{name}.zone", message))
            continue
        zones[user.zone] = make(user.zone, user.ttl)
        user.use(zones[user.zone])
    if problems:
        raise ConfigurationError(problems)
    return zones


def _uses(checker: IChecker) -> IUsesTokenCache | None:
    user: IUsesTokenCache | None = IUsesTokenCache(checker, None)
    return user


def _done(do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    try:
        return succeed(do(*args, **kwargs))
    except TokenCacheError:
        return fail()


@implementer(ITokenCache)
class MemoryTokenCache:
    """A zone of this process alone. The parameters are those of `Entries`."""

    caught_up = True
    outages = 0

    def __init__(
        self,
        ttl: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        file: RevocationFile | None = None,
        wall: Callable[[], float] = time.time,
        **bounds: int,
    ) -> None:
        self.ttl = ttl
        self._entries = Entries(ttl, monotonic=monotonic, file=file, wall=wall, **bounds)

    def __repr__(self) -> str:
        return f"<MemoryTokenCache: {self.tokens} tokens, {self.revocations} revoked>"

    @property
    def tokens(self) -> int:
        """See :class:`ITokenCache`."""
        return self._entries.tokens

    @property
    def revocations(self) -> int:
        """See :class:`ITokenCache`."""
        return self._entries.revocations

    def start(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return _done(self._entries.load)

    def close(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return succeed(None)

    def get(self, key: str) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        return succeed(self._entries.get(key))

    def add(self, key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        found = self._entries.get(key)
        if found is not None:
            return succeed(found)
        return _done(self._entries.put, key, value, ttl).addCallback(lambda _: None)

    def replace(self, key: str, value: str, ttl: float | None = None) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        if self._entries.get(key) is None:
            return succeed(False)
        return _done(self._entries.put, key, value, ttl).addCallback(lambda _: True)

    def revoke(self, key: str, ttl: float | None = None) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return _done(self._entries.put, key, REVOKED, ttl)

    def delete(self, key: str) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        return _done(self._entries.remove, key)

    def clear(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return _done(self._entries.clear)

    def items(self) -> Deferred[Mapping[str, str]]:
        """See :class:`ITokenCache`."""
        return succeed(self._entries.items())

    def subscribe(self, revoked: Callable[[str], None]) -> Callable[[], None]:
        """See :class:`ITokenCache`."""
        return self._entries.subscribe(revoked)
