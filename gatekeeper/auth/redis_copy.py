"""A process's copy of a zone in Redis, and how it is kept up to date.

It has every revocation, and those tokens that were asked for here. Changes come one after the
other, each with its number. Where one is missing, or the process was cut off, all revocations are
read again and the tokens forgotten before the copy counts as caught up. So it is where another
process has brought along what Redis had lost, but the copy goes on meanwhile: it was told in time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gatekeeper.auth.redis_commands import Change, Past, order
from gatekeeper.auth.redis_link import RedisLink
from gatekeeper.auth.redis_mark import Mark
from gatekeeper.auth.redis_scripts import Keys
from gatekeeper.auth.token_entries import REVOKED, SIZE, Entries, TokenCacheError

_ECHO: Final = 5.0  # seconds within which our own change must come back

#: Ends of one revocation that are not further apart, in seconds, are the same.
_SAME: Final = 1.0


class RedisCopy:
    """The copy of ``zone``: a :class:`gatekeeper.auth.redis_link.Follower`.

    ``problem`` says what is wrong though it has caught up; None: nothing is.

    :param entries: what is in it, nothing yet.
    """

    _log = Logger()

    def __init__(self, zone: str, link: RedisLink, entries: Entries, mark: Mark) -> None:
        self.zone = zone
        self.keys = Keys.of(zone)
        self.link = link
        self.entries = entries
        self.last = "0-0"
        self.caught_up = False
        self.stale = False
        self.problem: str | None = None
        self._mark = mark
        self._promised = 0  # the last change that Redis had half a second ago
        self._started: list[Deferred[None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<RedisCopy of {self.zone!r}: {'caught up' if self.caught_up else 'cut off'}>"

    def start(self) -> Deferred[None]:
        """Read the files and begin; fires when it has caught up, or cannot.

        :raises TokenCacheError: the revocations on disk cannot be read.
        """
        self.entries.load()
        self._mark.load()
        started: Deferred[None] = Deferred()
        self._started.append(started)
        self.link.start(self)
        return started

    @property
    def position(self) -> tuple[str, int, bool]:
        """What is another one after every change."""
        return self._mark.history, self._mark.change, self.caught_up

    def keep(
        self, key: str, value: str | None, life: float, position: tuple[str, int, bool]
    ) -> None:
        """Keep a token that was read at ``position``, unless a change may have come since."""
        if value is not None and value != REVOKED and position == self.position:
            self.entries.put(key, value, life)

    async def until_known(self, change: int) -> None:
        """Wait until this change has come here.

        :raises TokenCacheError: it does not.
        """
        if change <= self._mark.change:
            return
        known = asyncio.get_running_loop().create_future()
        self._waiting.append((change, known))
        try:
            await asyncio.wait_for(known, _ECHO)
        except TimeoutError:
            raise TokenCacheError("Redis does not tell what was changed") from None
        finally:
            self._waiting = [each for each in self._waiting if each[1] is not known]

    # --- following Redis ------------------------------------------------------------------

    async def catch_up(self) -> None:
        """See :class:`Follower`."""
        commands, mark = self.link.commands, self._mark
        past = await commands.begin(self.keys, secrets.token_hex(8), mark.history, mark.change)
        revoked = await self._read(past)
        if past.history != mark.history:
            # Redis has lost its memory, or was another one: what is known here still holds. What
            # other processes have told it already needs no telling.
            held = self.entries.revoked().items()
            lost = {key: left for key, left in held if left > revoked.get(key, 0.0) + _SAME}
            if lost:
                self._log.warn(
                    "Redis has another history of the zone {zone}: it is told {count} revocations",
                    zone=self.zone,
                    count=len(lost),
                )
                await commands.merge(self.keys, lost)
                past = await commands.begin(self.keys, past.history, past.history, past.change)
                revoked = await self._read(past)
        mark.history, mark.change, self.last = past.history, past.change, past.last
        self._promised = past.change
        self._write_down(partial(self.entries.adopt, revoked))
        self.caught_up, self.stale = True, False
        self._tell()

    async def _read(self, past: Past) -> dict[str, float]:
        """Who is shut out, and for how many seconds."""
        revoked: dict[str, float] = {}
        async for key, end in self.link.commands.revoked(self.keys):
            if end > past.now:
                revoked[key] = (end - past.now) / 1000
            if len(revoked) > SIZE:
                raise TokenCacheError("too many revocations")
        return revoked

    def follow(self, changes: Sequence[Change]) -> None:
        """See :class:`Follower`."""
        if not changes:
            return
        learnt: list[tuple[str, float | None]] = []
        try:
            for number, fields in changes:
                if order(number) <= order(self.last):
                    continue
                self.last = number
                if int(fields["n"]) != self._mark.change + 1:
                    raise ValueError("a change is missing")
                if "revoked" in fields:
                    learnt.append((fields["revoked"], int(fields["for"]) / 1000))
                elif "forgotten" in fields:
                    learnt.append((fields["forgotten"], None))
                elif "cleared" in fields:
                    self._write_down(partial(self.entries.learn, learnt))
                    self._write_down(partial(self.entries.adopt, {}))
                    learnt = []
                elif "merged" in fields:
                    self.stale = True
                    break
                else:
                    raise ValueError("an unknown change")
                self._mark.change += 1
        except (KeyError, ValueError):
            self.caught_up = False  # all of it is read again
        self._write_down(partial(self.entries.learn, learnt))
        if self.caught_up:
            self._tell()

    def compare(self, history: str, change: int) -> None:
        """See :class:`Follower`. A change that was made just now is still to come."""
        if history != self._mark.history or not self._promised <= self._mark.change <= change:
            self.caught_up = False
        self._promised = change
        if self.problem is not None:
            self._write_down(self.entries.save)

    def cut_off(self) -> None:
        """See :class:`Follower`."""
        self.caught_up = False
        for _, known in self._waiting:
            if not known.done():
                known.set_exception(TokenCacheError(self.link.problem or "the link has ended"))
        self._say_started()

    def _write_down(self, take_over: Callable[[], None]) -> None:
        """Take something over, which counts whether or not the disk will have it."""
        try:
            take_over()
            self._mark.save()
        except TokenCacheError as error:
            if self.problem is None:
                self._log.error("Revocations would not outlive a restart: {error}", error=error)
            self.problem = f"revocations would not outlive a restart: {error}"
        else:
            self.problem = None

    def _tell(self) -> None:
        for change, known in self._waiting:
            if change <= self._mark.change and not known.done():
                known.set_result(None)
        self._say_started()

    def _say_started(self) -> None:
        started, self._started = self._started, []
        for each in started:
            each.callback(None)
