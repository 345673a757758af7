"""Leases of accounts: from the store, and with what the chain says of those that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gatekeeper.credits.accounts import UnreadableError
from gatekeeper.credits.balances import Balances
from gatekeeper.errors import StoreError
from gatekeeper.store.leases import ChainBalance, ILeases, Leased, Wish
from gatekeeper.usage.records import Account

_MOST_BALANCES: Final = 10_000


class Lending:
    """See :class:`~gatekeeper.credits.accounts.Lender`.

    A balance on a chain is believed for ``ttl`` seconds, as long as the store knows of no burn
    since it was read: to lease more of the same account, no chain is asked.

    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self, store: ILeases, balances: Balances, ttl: float, monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._balances = balances
        self._ttl = ttl
        self._monotonic = monotonic
        #: The oldest first, with the time when they came.
        self._known: dict[Account, tuple[float, ChainBalance]] = {}

    def __repr__(self) -> str:
        return f"<Lending: {len(self._known)} balances>"

    async def on_chain(
        self, accounts: Sequence[Account]
    ) -> list[ChainBalance | UnreadableError | None]:
        """See :class:`.Lender`."""
        self._forget()
        known: dict[Account, ChainBalance | UnreadableError] = {
            each: self._known[each][1] for each in accounts if each in self._known
        }
        unknown = [each for each in accounts if each.is_on_chain and each not in known]
        if unknown:
            try:
                seen = await self._store.see(unknown)
            except StoreError as error:
                raise self._balances.store_is_away(error) from None
            self._balances.store_is_back()
            found = await self._balances.on_chain(unknown)
            now = self._monotonic()
            for account, before, balance in zip(unknown, seen, found, strict=True):
                if isinstance(balance, UnreadableError):
                    known[account] = balance
                else:
                    known[account] = new = ChainBalance(balance, before)
                    self._known.pop(account, None)
                    self._known[account] = now, new
        return [known.get(each) for each in accounts]

    async def lease(self, owner: str, wishes: Sequence[Wish]) -> list[Leased]:
        """See :class:`.Lender`."""
        try:
            leased = await self._store.lease(owner, wishes)
        except StoreError as error:
            raise self._balances.store_is_away(error) from None
        self._balances.store_is_back()
        for wish, each in zip(wishes, leased, strict=True):
            if wish.balance is not None and each.free is None:  # something was burned since
                self._known.pop(wish.account, None)
        return leased

    async def release(self, owners: Sequence[str], older: float) -> None:
        """See :class:`.Lender`."""
        try:
            await self._store.release(owners, older)
        except StoreError as error:
            raise self._balances.store_is_away(error) from None
        self._balances.store_is_back()

    def _forget(self) -> None:
        """Forget balances that are too old, and the oldest where there are too many."""
        now = self._monotonic()
        for account, (since, _) in list(self._known.items()):
            if now - since < self._ttl and len(self._known) < _MOST_BALANCES:
                return
            del self._known[account]
