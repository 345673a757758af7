"""Credits as a limit of requests: what a request may cost is set aside while it runs."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Literal

from gatekeeper.auth.interfaces import Subscription
from gatekeeper.config.model_selling import ServiceCredits
from gatekeeper.credits.accounts import Accounts, OutageError, UnreadableError
from gatekeeper.credits.admission import STALE, Caller, Ending, Hold, Limit, Stale
from gatekeeper.credits.price_book import PriceBook
from gatekeeper.credits.pricing import FREE, MAX_CREDITS, ChargeType, Pricing, read_address
from gatekeeper.credits.reservations import FullError, Reservation, Shortage
from gatekeeper.errors import Refusal
from gatekeeper.usage.records import PREPAID, Account, Spent

#: For so many seconds after a chain was found out of reach, nobody waits for it again.
_OUTAGE: Final = 10.0
_MOST_OUTAGES: Final = 1000

_RETRY: Final = ((b"retry-after", b"5"),)


class _Payment(Hold):
    """What one request may cost, set aside of its payer's credits."""

    __slots__ = ("_account", "_accounts", "_by_units", "_pricing", "_reservation")

    def __init__(
        self,
        accounts: Accounts,
        account: Account,
        reservation: Reservation,
        pricing: Pricing,
        by_units: bool,
    ) -> None:
        self._accounts = accounts
        self._account = account
        self._reservation = reservation
        self._pricing = pricing
        self._by_units = by_units

    def settle(self, ending: Ending) -> Spent | None:
        """See :class:`Hold`. Where a price has no bound, more is charged than was set aside."""
        requested = min(ending.units, MAX_CREDITS) if self._by_units else ending.requested
        cost = self._pricing.cost(self._account.holder, ending.status, requested)
        self._accounts.settle(self._reservation, cost)
        return Spent(*self._account, cost) if cost else None

    def release(self) -> None:
        """See :class:`Hold`."""
        self._accounts.release(self._reservation)


class _Credits(Limit):
    """What every kind of credits has in common.

    :param assumed: set aside at the least where the upstream may ask for any price.
    :param by_units: the price that the upstream asks for is what the service's meter says.
    """

    def __init__(self, accounts: Accounts, assumed: int, by_units: bool = False) -> None:
        self._accounts = accounts
        self._assumed = assumed
        self._by_units = by_units

    def reserve(self, caller: Caller) -> Hold | Stale | None:
        """See :class:`Limit`."""
        pricing = self._pricing(caller)
        if not isinstance(pricing, Pricing):
            return pricing
        need = pricing.need(caller.grant.user, self._assumed)
        if need == FREE:  # and then it costs nothing in the end
            return None
        account = self._account(caller, pricing)
        reserved = self._accounts.reserve(account, *need)
        if reserved is None:
            reserved = self._trust(account, need.reserved)
        if reserved is None:
            return STALE
        if isinstance(reserved, Shortage):
            raise _insufficient(reserved, self._members(account))
        return _Payment(self._accounts, account, reserved, pricing, self._by_units)

    async def read(self, caller: Caller) -> None:
        """See :class:`Limit`."""
        pricing = self._pricing(caller)
        if not isinstance(pricing, Pricing):
            return
        account = self._account(caller, pricing)
        try:
            await self._accounts.read(account)
        except UnreadableError as error:
            self._unreadable(account, error)

    @abstractmethod
    def _pricing(self, caller: Caller) -> Pricing | Stale | None:
        """The prices for a caller; ``None``: it pays nothing.

        :raises Refusal: 403, it cannot pay.
        """

    @abstractmethod
    def _account(self, caller: Caller, pricing: Pricing) -> Account:
        """What a caller pays out of.

        :raises Refusal: 403, it cannot pay.
        """

    @abstractmethod
    def _members(self, account: Account) -> Mapping[str, str | int]:
        """Says in a problem document which credits are short."""

    def _trust(self, account: Account, amount: int) -> Reservation | None:
        """Set something aside of an account that cannot be read; ``None``: it has to be read."""
        return None

    def _unreadable(self, account: Account, error: UnreadableError) -> None:
        """An account cannot be read.

        :raises Refusal: 503, unless it is trusted.
        """
        raise _unavailable()


class ChainCredits(_Credits):
    """Credits on a chain, at the prices that the documents say which an access token names.

    Which NFT is paid with is what the *service's* document says, and not the token: whoever minted
    that may not know of a document that has changed since.

    :param assumed: set aside at the least where the upstream may ask for any price.
    :param on_outage: ``admit``: while the chain is out of reach, requests are let through and
        charged, whatever is left.
    :param chain_id: for problem documents.
    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        accounts: Accounts,
        prices: PriceBook,
        assumed: int,
        on_outage: Literal["refuse", "admit"],
        chain_id: int | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(accounts, assumed)
        self._prices = prices
        self._admits = on_outage == "admit"
        self._chain_id = chain_id
        self._monotonic = monotonic
        #: Contracts that could not be asked, and until when they are not asked again.
        self._away: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<ChainCredits: {len(self._away)} contracts away>"

    async def read(self, caller: Caller) -> None:
        """See :class:`Limit`. It takes two of these: for the price, and then for the balance."""
        if self._pricing(caller) is STALE:
            await self._prices.read(_subscription(caller), caller.client)
        else:
            await super().read(caller)

    def _pricing(self, caller: Caller) -> Pricing | Stale | None:
        if not caller.counted or not caller.grant.user:  # such as where a URL is open to everybody
            return None
        return self._prices.get(_subscription(caller)) or STALE

    def _account(self, caller: Caller, pricing: Pricing) -> Account:
        holder = read_address(caller.grant.user)
        if holder is None:
            raise _no_subscription("The credentials name no address that credits could be held at.")
        token = pricing.token
        assert token is not None, "there is none only where nobody pays"
        return Account(token.contract, str(token.id), holder)

    def _members(self, account: Account) -> Mapping[str, str | int]:
        members: dict[str, str | int] = {
            "contract": account.source,
            "token": f"0x{int(account.name):064x}",
        }
        if self._chain_id is not None:
            members["chain_id"] = self._chain_id
        return members

    def _trust(self, account: Account, amount: int) -> Reservation | None:
        if self._monotonic() >= self._away.get(account.source, 0.0):
            self._away.pop(account.source, None)
            return None
        try:
            return self._accounts.set_aside(account, amount)
        except FullError:
            raise _unavailable() from None

    def _unreadable(self, account: Account, error: UnreadableError) -> None:
        if not self._admits or not isinstance(error, OutageError):
            raise _unavailable()
        if len(self._away) >= _MOST_OUTAGES:
            self._away.clear()
        self._away[account.source] = self._monotonic() + _OUTAGE


class PrepaidCredits(_Credits):
    """Credits that an operator has granted to users, at the prices of the configuration."""

    def __init__(self, accounts: Accounts, sold: ServiceCredits) -> None:
        super().__init__(accounts, sold.assumed, sold.charge == "units")
        self._pool = sold.pool
        self._prices = Pricing(
            charge=ChargeType.FIXED if sold.charge == "fixed" else ChargeType.DYNAMIC,
            amount=0 if sold.charge == "units" else sold.amount,
            minimum=sold.minimum,
            maximum=sold.maximum,
            required=sold.required,
        )

    def __repr__(self) -> str:
        return f"<PrepaidCredits of pool {self._pool!r}>"

    def _pricing(self, caller: Caller) -> Pricing | Stale | None:
        return self._prices if caller.counted and caller.grant.user else None

    def _account(self, caller: Caller, pricing: Pricing) -> Account:
        return Account(PREPAID, self._pool, caller.grant.user)

    def _members(self, account: Account) -> Mapping[str, str | int]:
        return {"pool": self._pool}


def _subscription(caller: Caller) -> Subscription:
    """What a caller's access token says.

    :raises Refusal: 403, its credentials are of another kind, or say too little.
    """
    found = caller.grant.subscription
    if found is None:
        raise _no_subscription(
            "This service is paid for with a subscription's credits: an access token is needed "
            "that names the subscription."
        )
    if not found.did or not found.token:
        raise _no_subscription("The access token does not name its service and subscription.")
    return found


def _no_subscription(detail: str) -> Refusal:
    return Refusal("no_subscription", detail, status=403)


def _insufficient(shortage: Shortage, members: Mapping[str, str | int]) -> Refusal:
    required, available = shortage
    return Refusal(
        "insufficient_credits",
        f"Credits required: {required}, available: {available}. Get more, or wait until other "
        "requests have ended.",
        status=402,
        members={"required": required, "available": available, **members},
    )


def _unavailable() -> Refusal:
    return Refusal(
        "balance_unavailable",
        "How many credits are left is not known at the moment.",
        status=503,
        fields=_RETRY,
    )
