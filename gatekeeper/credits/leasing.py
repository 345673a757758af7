"""The life of a process that leases: what it gives back, and what it frees of those who have ended.

When it begins it frees what is left of earlier runs. Then it sees every few seconds what nobody
draws on any more, and who has ended beside it. When it ends it gives everything back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gatekeeper.credits.accounts import Accounts, Lender, UnreadableError
from gatekeeper.store.leases import owner_of
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import Account, Spent

log = Logger()

#: Seconds between two looks.
LOOK: Final = 5.0

#: What others have not renewed is looked for so often in the time after which it is free.
_OFTEN: Final = 20


class Leasing:
    """What metering tells about the accounts; see :class:`.Spending`.

    :param lender: where the accounts are leased.
    :param ttl: seconds after which a lease is free again that was not renewed.
    """

    def __init__(self, accounts: Accounts, lender: Lender, clock: IReactorTime, ttl: float) -> None:
        self._accounts = accounts
        self._lender = lender
        self._clock = clock
        self._ttl = ttl
        self._journal: Journal | None = None
        self._aged_at = float("-inf")
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._look()))
        self._loop.clock = clock
        self._ended: Deferred[Any] = succeed(None)

    def open(self, journal: Journal) -> None:
        """The store has all that an earlier run has metered: requests may spend soon."""
        self._journal = journal
        self._ended = Deferred.fromCoroutine(self._begin(journal))

    def flushed(self, spent: Mapping[Account, int]) -> None:
        """See :meth:`.Accounts.flushed`."""
        self._accounts.flushed(spent)

    def lost(self, spent: Iterable[Spent]) -> None:
        """See :meth:`.Accounts.lost`."""
        self._accounts.lost(spent)

    async def close(self, left: int) -> None:
        """Give everything back, unless so many usage records are ``left`` out of the store.

        Then the next process here does it, after it has written them.
        """
        journal, self._journal = self._journal, None
        if self._loop.running:
            self._loop.stop()
        await self._ended
        if journal is None or left:
            return
        try:
            await self._accounts.close()
            journal.leases.remove()
        except UnreadableError:
            pass  # It is in the log.
        except OSError as error:
            log.error("state_dir: {error}", error=error.strerror)

    async def _begin(self, journal: Journal) -> None:
        """Free what is left, and go on then, whether or not that could be done. Never fails."""
        try:
            journal.leases.make()
        except OSError as error:
            why = "what is leased will not be free before `credits.lease_ttl` if we are killed"
            log.error("state_dir: {error}: {why}", error=error.strerror, why=why)
        await self._try(self._free)
        self._accounts.open(owner_of(*journal.leases.own))
        if self._journal is not None:
            self._ended = self._loop.start(LOOK, now=False)

    async def _look(self) -> None:
        await self._try(self._accounts.give_back)
        await self._try(self._free)

    async def _free(self) -> None:
        """Free what those have leased who have ended, and whom nobody has heard of for long."""
        now = self._clock.seconds()
        if now - self._aged_at >= self._ttl / _OFTEN:
            await self._lender.release([], self._ttl)
            self._aged_at = now
        if self._journal is None:
            return
        leases = self._journal.leases
        for owner in leases.ended():
            await self._lender.release([owner_of(*owner)], self._ttl)
            leases.remove(owner)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it. What fails is done at the next look."""
        try:
            await work()
        except UnreadableError:
            pass  # It is in the log.
        except OSError as error:
            log.error("state_dir: {error}: leases stay as they are", error=error.strerror)
        except Exception:
            log.failure("Leases could not be looked after")
