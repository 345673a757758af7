"""Tokens that were handed out for credentials, and who has been shut out.

One cache is one *zone*: keys and values that operators see and change, shared by all that use it.
The value ``"0"`` shuts out whoever the key stands for.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.errors import ConfigurationError, GatekeeperError, Problem

REVOKED: Final = "0"

#: The longest key and the longest value, in bytes of UTF-8.
LONGEST: Final = 8192

_SIZE: Final = 100_000
_CHARACTERS: Final = 64 * 1024 * 1024


class TokenCacheError(GatekeeperError):
    """The cache did not do what was asked: it cannot be reached, or is full."""


class ITokenCache(Interface):
    """One zone. Every Deferred may fail with :class:`TokenCacheError`.

    Whether it is in memory or shared with other nodes, what is true once a Deferred has fired is
    true for all who use the zone. Keys and values are strings of up to `LONGEST` bytes.
    """

    ttl: float = Attribute("Seconds that an entry lives of which nothing else is said.")

    def start() -> Deferred[None]:
        """Get ready; fires when every revocation is known. Before that, nothing is asked."""

    def close() -> Deferred[None]:
        """Give back what it holds."""

    def get(key: str) -> Deferred[str | None]:
        """The value, None where there is none that still holds."""

    def add(key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        """Add an entry where there is none: None. Else the value that is there, and stays."""

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
    checkers: Mapping[str, IChecker], make: Callable[[str, float], ITokenCache]
) -> dict[str, ITokenCache]:
    """Give every checker that wants one its zone; the zones by name.

    ``make`` makes a zone, from its name and ``ttl``.

    :raises ConfigurationError: two checkers want one zone: what one server said would count for
        the other. Paths from the configuration's root.
    """
    zones: dict[str, ITokenCache] = {}
    problems = []
    for name, checker in checkers.items():
        user = IUsesTokenCache(checker, None)
        if user is None:
            continue
        if user.zone in zones:
            message = f"another checker has the zone `{user.zone}` already"
            problems.append(Problem(f"checkers.{name}.zone", message))
            continue
        zones[user.zone] = make(user.zone, user.ttl)
        user.use(zones[user.zone])
    if problems:
        raise ConfigurationError(problems)
    return zones


class _Area:
    """Entries with their ends, oldest first, and how many characters they are."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self.characters = 0

    def put(self, key: str, value: str, end: float) -> None:
        self.remove(key)
        self.entries[key] = (value, end)
        self.characters += _weight(key, value)

    def remove(self, key: str) -> bool:
        entry = self.entries.pop(key, None)
        if entry is None:
            return False
        self.characters -= _weight(key, entry[0])
        return True

    def purge(self, now: float) -> None:
        for key in [key for key, (_, end) in self.entries.items() if end <= now]:
            self.remove(key)


@implementer(ITokenCache)
class MemoryTokenCache:
    """A zone of this process alone.

    It is bounded by entries and by characters. Where it is full the oldest tokens go; a revocation
    never goes for a token, and where revocations alone fill it, no more are taken. Tokens are gone
    with the process; revocations are in ``file`` before they count, and are read from it again.

    :param ttl: see :attr:`ITokenCache.ttl`.
    :param size: entries of each sort; ``characters`` is what keys and values may come to.
    :param file: where revocations outlive the process; ``None``: nowhere.
    :param monotonic: seconds of a clock that nobody sets; ``wall`` those since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        ttl: float = 300.0,
        size: int = _SIZE,
        characters: int = _CHARACTERS,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        file: RevocationFile | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.ttl = ttl
        self._size = size
        self._characters = characters
        self._monotonic = monotonic
        self._file = file
        self._wall = wall
        self._tokens = _Area()
        self._revoked = _Area()
        self._listeners: list[Callable[[str], None]] = []

    def __repr__(self) -> str:
        return f"<MemoryTokenCache: {self.tokens} tokens, {self.revocations} revoked>"

    @property
    def tokens(self) -> int:
        """How many tokens are held; some may have ended."""
        return len(self._tokens.entries)

    @property
    def revocations(self) -> int:
        """How many revocations are held."""
        return len(self._revoked.entries)

    def start(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        if self._file is not None:
            wall, now = self._wall(), self._monotonic()
            try:
                held = self._file.load(wall)
            except OSError as error:
                return fail(_unwritable(self._file, error))
            for key, end in held.items():
                self._revoked.put(key, REVOKED, now + end - wall)
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return succeed(None)

    def get(self, key: str) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        return succeed(self._get(key))

    def add(self, key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        found = self._get(key)
        if found is not None:
            return succeed(found)
        return self._put(key, value, ttl).addCallback(lambda _: None)

    def replace(self, key: str, value: str, ttl: float | None = None) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        if self._get(key) is None:
            return succeed(False)
        return self._put(key, value, ttl).addCallback(lambda _: True)

    def revoke(self, key: str, ttl: float | None = None) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return self._put(key, REVOKED, ttl)

    def delete(self, key: str) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        found = self._get(key) is not None
        try:
            self._note(key, None)
        except TokenCacheError:
            return fail()
        self._tokens.remove(key)
        self._revoked.remove(key)
        return succeed(found)

    def clear(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        if self._file is not None and self._revoked.entries:
            try:
                self._file.write({})
            except OSError as error:
                return fail(_unwritable(self._file, error))
        self._tokens, self._revoked = _Area(), _Area()
        return succeed(None)

    def items(self) -> Deferred[Mapping[str, str]]:
        """See :class:`ITokenCache`."""
        now = self._monotonic()
        found: dict[str, str] = {}
        for area in (self._tokens, self._revoked):
            area.purge(now)
            found.update((key, value) for key, (value, _) in area.entries.items())
        return succeed(found)

    def subscribe(self, revoked: Callable[[str], None]) -> Callable[[], None]:
        """See :class:`ITokenCache`."""
        self._listeners.append(revoked)
        return lambda: self._listeners.remove(revoked)

    def _get(self, key: str) -> str | None:
        for area in (self._revoked, self._tokens):
            entry = area.entries.get(key)
            if entry is not None:
                if self._monotonic() < entry[1]:
                    return entry[0]
                area.remove(key)
        return None

    def _put(self, key: str, value: str, ttl: float | None) -> Deferred[None]:
        now = self._monotonic()
        revoked = value == REVOKED
        if revoked and not self._has_room(key, now):
            return fail(TokenCacheError("too many revocations"))
        end = now + (self.ttl if ttl is None else ttl)
        try:
            self._note(key, end if revoked else None)
        except TokenCacheError:
            return fail()
        area, other = (self._revoked, self._tokens) if revoked else (self._tokens, self._revoked)
        area.put(key, value, end)
        other.remove(key)
        while len(self._tokens.entries) > self._size or self._too_large():
            self._tokens.remove(next(iter(self._tokens.entries)))
        if revoked:
            self._tell(key)
        return succeed(None)

    def _note(self, key: str, end: float | None) -> None:
        """Write down that a key is shut out until ``end``, or (``None``) is not any more.

        :raises TokenCacheError: that failed, so it must not count either.
        """
        file, entries = self._file, self._revoked.entries
        if file is None or (end is None and key not in entries):
            return
        since = self._wall() - self._monotonic()

        def held() -> dict[str, float]:
            ends = {each: until + since for each, (_, until) in entries.items() if each != key}
            return ends if end is None else {**ends, key: end + since}

        try:
            file.note(key, 0.0 if end is None else end + since, len(entries), held)
        except OSError as error:
            raise _unwritable(file, error) from error

    def _has_room(self, key: str, now: float) -> bool:
        area = self._revoked
        if key in area.entries:
            return True
        if (
            len(area.entries) >= self._size
            or area.characters + _weight(key, REVOKED) > self._characters
        ):
            area.purge(now)
        return (
            len(area.entries) < self._size
            and area.characters + _weight(key, REVOKED) <= self._characters
        )

    def _too_large(self) -> bool:
        return bool(self._tokens.entries) and (
            self._tokens.characters + self._revoked.characters > self._characters
        )

    def _tell(self, key: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(key)
            except Exception:
                self._log.failure("A revocation could not be passed on")


def _unwritable(file: RevocationFile, error: OSError) -> TokenCacheError:
    return TokenCacheError(f"state_dir: {file.path}: {error.strerror}")


def _weight(key: str, value: str) -> int:
    return len(key) + len(value)
