"""One process's link to Redis, which all its zones share.

A task follows what is changed there: it lets each zone catch up and hands it every change after
that. Where Redis is away, or says nothing for seconds, the zones are cut off until the task has got
through again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from twisted.logger import Logger

from gatekeeper.auth.redis_commands import Change, Found, RedisCommands, order
from gatekeeper.auth.redis_scripts import Keys
from gatekeeper.auth.token_cache import TokenCacheError

_BEAT: Final = 0.5  # seconds without a change, after which Redis is asked whether that is so
_RETRY: Final = 0.1  # seconds until it is tried again, the first time; twice as long each time
_LONGEST_RETRY: Final = 5.0

#: Seconds without a word from Redis after which what is known here is not believed. There is one
#: every half second, unless this process has stood still; then it wakes up with an old view.
_FRESH: Final = 1.0

_AT_ONCE: Final = 16  # questions to Redis

_NOT_YET: Final = "Redis has not been asked yet"
_FAULT: Final = "a fault of ours; see the log"


class Follower(Protocol):
    """A zone, as the link sees it."""

    keys: Keys
    last: str
    caught_up: bool
    stale: bool
    """Whether there is more to be read than it was told, though it has caught up."""

    async def catch_up(self) -> None:
        """Read all that was changed.

        :raises TokenCacheError: that failed.
        """

    def follow(self, changes: Sequence[Change]) -> None:
        """Take over what was changed, in order; some of it may be known.

        If a change is missing, it is not caught up any more.
        """

    def compare(self, history: str, change: int) -> None:
        """See whether it stands where Redis does; it is not caught up any more if it does not."""

    def cut_off(self) -> None:
        """It is not known any more what others change."""


class RedisLink:
    """The link to the Redis that ``url`` names. It begins with the first :meth:`start`.

    ``problem`` says what is wrong, for the operator; None: nothing is. ``outages`` counts.

    :param ca_file: PEM file of the authorities that a ``rediss://`` is verified with; the
        system's if ``None``.
    """

    _log = Logger()

    def __init__(self, url: str, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self.problem: str | None = _NOT_YET
        self.outages = 0
        self._place = f"{parts.hostname}:{parts.port or 6379}"
        self._make = partial(RedisCommands, url, ca_file)
        self._followers: list[Follower] = []
        self._task: asyncio.Task[None] | None = None
        self._heard = 0.0  # until when nothing is unknown

    def __repr__(self) -> str:
        return f"<RedisLink {self._place}: {self.problem or 'there'}>"

    @property
    def is_fresh(self) -> bool:
        """Whether a change of the last moments would be known, as far as there is a link."""
        return time.monotonic() - self._heard < _FRESH

    def start(self, follower: Follower) -> None:
        """Let this zone catch up, and from then on follow. To be called when the loop runs."""
        self._followers.append(follower)
        if self._task is None:
            self.problem = _NOT_YET
            self.commands = self._make()
            self._slots = asyncio.Semaphore(_AT_ONCE)
            self._task = asyncio.ensure_future(self._run())

    def stop(self, follower: Follower) -> Coroutine[Any, Any, None]:
        """Serve this zone no more; with the last one the link ends, as soon as it can."""
        if follower in self._followers:
            self._followers.remove(follower)
            follower.cut_off()
        if self._followers or self._task is None:
            return _nothing()
        task, self._task = self._task, None
        task.cancel()
        return _end(task, self.commands)

    async def entry(
        self, keys: Keys, what: str, key: str, value: str = "", ttl: float = 0.0, most: int = 0
    ) -> Found:
        """Read or change one entry, as `ENTRY` says. A moment may pass until it is its turn.

        :raises TokenCacheError: Redis is away, or refuses. It may have been done.
        """
        async with self._slots:
            if self.problem is not None:  # or a crowd would wait here, a few seconds each
                raise TokenCacheError(self.problem)
            return await self.commands.entry(keys, what, key, value, ttl, most)

    async def _run(self) -> None:
        """Ends when it is cancelled, for nothing else: nobody would be told then."""
        loop = asyncio.get_running_loop()
        delay = _RETRY
        while not _ending():
            began, problem = loop.time(), _FAULT
            try:
                await self._follow()
            except asyncio.CancelledError:
                if _ending():
                    raise
            except TokenCacheError as error:
                problem = str(error)
            except Exception:
                self._log.failure("Redis cannot be followed")
            if _ending():  # connecting makes an error of its own of being cancelled
                return
            self._lost(problem)
            # One that breaks off again and again is not asked ten times a second.
            lasted = loop.time() - began
            delay = _RETRY if lasted > 2 * _LONGEST_RETRY else min(2 * delay, _LONGEST_RETRY)
            try:
                await self.commands.hang_up()
            except TokenCacheError as error:
                self._log.debug("A connection to Redis ended badly: {error}", error=error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret

    async def _follow(self) -> None:
        while not _ending():
            asked = time.monotonic()
            for follower in list(self._followers):
                if follower.stale or not follower.caught_up:
                    await follower.catch_up()
                    self._heard = asked
                    if follower not in self._followers:
                        follower.cut_off()
            self._reached()
            followers, since = list(self._followers), self._since()
            asked = time.monotonic()
            changes = await self.commands.changes(since, _BEAT)
            # The answer may be older than it seems. Where there is none, Redis has waited for one.
            self._heard = asked if changes else asked + _BEAT
            for follower in followers:
                if follower in self._followers:  # it may have been stopped meanwhile
                    follower.follow(changes.get(follower.keys.changes, ()))
            if not changes:  # somebody may have emptied Redis, which no stream tells
                histories = await self.commands.histories([each.keys for each in followers])
                for follower, (history, change) in zip(followers, histories, strict=True):
                    if follower in self._followers:
                        follower.compare(history, change)

    def _since(self) -> dict[str, str]:
        """The streams, and the last entries that all who follow them know.

        After a change of the configuration there are two of a zone for a while.
        """
        since: dict[str, str] = {}
        for each in self._followers:
            name = each.keys.changes
            since[name] = min(each.last, since.get(name, each.last), key=order)
        return since

    def _reached(self) -> None:
        if self.problem is not None:
            self._log.info("Redis at {place} is there; all is known", place=self._place)
            self.problem = None

    def _lost(self, problem: str) -> None:
        """Say so once, however often it is tried again meanwhile."""
        said = f"Redis at {self._place} cannot be followed: {problem}"
        if self.problem is None:
            self.outages += 1
        if self.problem in (None, _NOT_YET):
            self._log.error("{problem}", problem=said)
        self.problem = said
        for follower in list(self._followers):
            follower.cut_off()


async def _nothing() -> None:
    return


async def _end(task: asyncio.Task[None], commands: RedisCommands) -> None:
    await asyncio.wait([task])
    await commands.close()


def _ending() -> bool:
    """Whether somebody has cancelled the task that runs."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
