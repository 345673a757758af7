"""A zone that nodes share over Redis: one call to the server that gives tokens, for all of them.

Requests are answered from the process's copy (`redis_copy`), so that Redis is asked once for a
token; whoever has been shut out is known without asking. Changes go to Redis, and are done once
they have come back from there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.interfaces import IReadiness
from gatekeeper.auth.redis_commands import Found
from gatekeeper.auth.redis_copy import RedisCopy
from gatekeeper.auth.token_cache import IClaims, ITokenCache
from gatekeeper.auth.token_entries import REVOKED, SIZE, TokenCacheError

#: Seconds until it is looked again whether a token has come that another process asks for: the
#: first time, and the longest; twice as long each time.
_LOOK: Final = 0.01
_LONGEST_LOOK: Final = 0.1

T = TypeVar("T")


@implementer(ITokenCache, IClaims, IReadiness)
class RedisTokenCache:
    """A zone of which ``copy`` is the copy. To be started when the loop runs.

    While it is cut off from Redis, operators' changes fail. If ``serve``, requests are answered
    from the copy, and new tokens are kept there; else they fail, too, but for those whose
    revocation is known.
    """

    _log = Logger()

    def __init__(self, copy: RedisCopy, *, serve: bool) -> None:
        self.ttl = copy.entries.ttl
        self._copy = copy
        self._entries = copy.entries
        self._serve = serve
        self._sharing = True
        self._name = secrets.token_hex(8)
        self._claimed: set[str] = set()

    def __repr__(self) -> str:
        return f"<RedisTokenCache: {self._copy!r}>"

    @property
    def tokens(self) -> int:
        """See :class:`ITokenCache`."""
        return self._entries.tokens

    @property
    def revocations(self) -> int:
        """See :class:`ITokenCache`."""
        return self._entries.revocations

    @property
    def caught_up(self) -> bool:
        """See :class:`ITokenCache`."""
        return self._copy.caught_up

    @property
    def outages(self) -> int:
        """See :class:`ITokenCache`."""
        return self._copy.link.outages

    def ready(self) -> str | None:
        """See :class:`IReadiness`."""
        if self.caught_up:
            return self._copy.problem
        doing = "served from what is known" if self._serve else "refused"
        problem = self._copy.link.problem or "revocations are being read"
        return f"{problem}; requests are {doing}"

    def start(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        try:
            return self._copy.start()
        except TokenCacheError:
            return fail()

    def close(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return _deferred(self._copy.link.stop(self._copy))

    # --- for requests ---------------------------------------------------------------------

    def get(self, key: str) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        return self._look_up(key, self._fetch)

    def claim(self, key: str, seconds: float) -> Deferred[str | None]:
        """See :class:`IClaims`. While Redis is away each process asks for itself."""
        return self._look_up(key, partial(self._claim, seconds=seconds))

    def release(self, key: str) -> None:
        """See :class:`IClaims`."""
        if key in self._claimed:
            self._claimed.remove(key)
            releasing = self._copy.link.entry(self._copy.keys, "release", key, self._name)
            # Where it fails, the claim ends by itself.
            _deferred(releasing).addErrback(lambda failure: failure.trap(TokenCacheError))

    def add(self, key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        known = self._known(key)
        if known is not None:
            return succeed(known)
        if value == REVOKED:
            return _deferred(self._change("add", key, value, ttl)).addCallback(_value)
        if not (self.caught_up or self._serve):
            return fail(self._cut_off())
        adding = self._add(key, value, self.ttl if ttl is None else ttl)
        return _deferred(adding).addCallback(self._unless_revoked, key)

    def _look_up(
        self, key: str, ask: Callable[[str], Coroutine[Any, Any, str | None]]
    ) -> Deferred[str | None]:
        known = self._known(key)
        if known is not None:
            return succeed(known)
        if not self.caught_up:
            return succeed(None) if self._serve else fail(self._cut_off())
        return _deferred(ask(key)).addCallback(self._unless_revoked, key)

    @property
    def _is_up_to_date(self) -> bool:
        return self.caught_up and self._copy.link.is_fresh

    @property
    def _may_answer(self) -> bool:
        """Whether the copy counts where Redis cannot be asked."""
        return self._is_up_to_date or self._serve

    def _known(self, key: str) -> str | None:
        """What the copy says and may be believed; a revocation always is."""
        known = self._entries.get(key)
        believed = self._is_up_to_date or (self._serve and not self.caught_up)
        return known if known == REVOKED or believed else None

    def _unless_revoked(self, value: str | None, key: str) -> str | None:
        """What was read a moment ago may count no more. From here on nothing comes between."""
        return REVOKED if self._entries.get(key) == REVOKED else value

    async def _fetch(self, key: str) -> str | None:
        found = await self._entry(key, "get")
        return self._entries.get(key) if found is None else found.value

    async def _claim(self, key: str, seconds: float) -> str | None:
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + seconds, _LOOK
        while loop.time() < give_up_at:
            found = await self._entry(key, "claim", self._name, seconds)
            if found is None:
                break
            if found.change == 0:
                if found.value is None:
                    self._claimed.add(key)
                return found.value
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
        return self._entries.get(key)

    async def _entry(self, key: str, what: str, value: str = "", life: float = 0.0) -> Found | None:
        """What Redis has, which is kept; None where that is not known, and need not be."""
        position = self._copy.position
        try:
            found = await self._copy.link.entry(self._copy.keys, what, key, value, life)
        except TokenCacheError:
            if not self._may_answer:
                raise
            return None
        self._copy.keep(key, found.value, found.left, position)
        return found

    async def _add(self, key: str, value: str, life: float) -> str | None:
        position = self._copy.position
        try:
            found = await self._copy.link.entry(self._copy.keys, "add", key, value, life)
        except TokenCacheError as error:
            if not self._may_answer:
                raise
            if self.caught_up and self._sharing:
                self._log.error("Tokens cannot be shared now: {error}", error=error)
                self._sharing = False
            return self._add_here(key, value, life)
        self._sharing = True
        self._claimed.discard(key)
        if found.value is None:
            self._copy.keep(key, value, life, position)
        else:
            self._copy.keep(key, found.value, found.left, position)
        return found.value

    def _add_here(self, key: str, value: str, life: float) -> str | None:
        known = self._entries.get(key)
        if known is None:
            self._entries.put(key, value, life)
        return known

    # --- for operators --------------------------------------------------------------------

    def replace(self, key: str, value: str, ttl: float | None = None) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        return _deferred(self._change("replace", key, value, ttl)).addCallback(_was_there)

    def revoke(self, key: str, ttl: float | None = None) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return _deferred(self._change("revoke", key, REVOKED, ttl)).addCallback(lambda _: None)

    def delete(self, key: str) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        return _deferred(self._change("delete", key)).addCallback(_was_there)

    def clear(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return _deferred(self._clear())

    def items(self) -> Deferred[Mapping[str, str]]:
        """See :class:`ITokenCache`."""
        return _deferred(self._items())

    def subscribe(self, revoked: Callable[[str], None]) -> Callable[[], None]:
        """See :class:`ITokenCache`."""
        return self._entries.subscribe(revoked)

    def _cut_off(self) -> TokenCacheError:
        return TokenCacheError(self.ready() or "Redis is just coming back")

    async def _change(
        self, what: str, key: str, value: str = "", ttl: float | None = None
    ) -> Found:
        if not self.caught_up:
            raise self._cut_off()
        if value == REVOKED:
            self._entries.check_room(key)
        life = self.ttl if ttl is None else ttl
        copy = self._copy
        found = await copy.link.entry(copy.keys, what, key, value, life, SIZE)
        if found.change < 0:
            raise TokenCacheError("too many revocations")
        await copy.until_known(found.change)
        return found

    async def _clear(self) -> None:
        if not self.caught_up:
            raise self._cut_off()
        await self._copy.until_known(await self._copy.link.commands.clear(self._copy.keys))

    async def _items(self) -> Mapping[str, str]:
        if not self.caught_up:
            raise self._cut_off()
        found: dict[str, str] = {}
        async for page in self._copy.link.commands.tokens(self._copy.keys):
            found |= page
            if len(found) > SIZE:
                raise TokenCacheError("too many tokens to show them all")
        return found | dict.fromkeys(self._entries.revoked(), REVOKED)


def _value(found: Found) -> str | None:
    return found.value


def _was_there(found: Found) -> bool:
    return found.value is not None


def _deferred(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    return Deferred.fromFuture(asyncio.ensure_future(work)).addErrback(_given_up)


def _given_up(failure: Failure) -> Failure:
    """A cancelled task must not take those along who wait for it: that error is none of theirs."""
    if failure.check(asyncio.CancelledError):
        return Failure(TokenCacheError("the question was given up"))
    return failure
