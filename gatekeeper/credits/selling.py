"""What services sell, put together: accounts, prices, and the limits of each route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from gatekeeper.auth.http_client import HttpClient
from gatekeeper.auth.metadata import MAX_DOCUMENT
from gatekeeper.config.model_credits import Credits
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_selling import ServiceCredits
from gatekeeper.config.model_services import Service
from gatekeeper.credits.accounts import Accounts
from gatekeeper.credits.admission import Admission, Limit
from gatekeeper.credits.balances import Balances
from gatekeeper.credits.buckets import BucketMemory
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.leasing import Leasing
from gatekeeper.credits.lending import Lending
from gatekeeper.credits.payments import ChainCredits, PrepaidCredits
from gatekeeper.credits.price_book import PriceBook
from gatekeeper.credits.quotas import QuotaLimit
from gatekeeper.credits.rates import RateLimit
from gatekeeper.credits.rpc import Rpc
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.store.interface import IStore

#: Of an answer of a chain's node, in bytes.
_MAX_ANSWER: Final = 4 * 1024 * 1024

#: Of the time after which others free a lease, it is spent for so much: clocks need not agree.
_LASTS: Final = 0.8


class Selling:
    """Makes the :class:`Admission` of routes; all of them draw on the same ``accounts``.

    ``balances`` reads them anew.

    :param counted: whether usage is counted; nothing can be sold otherwise.
    :param wall_clock: seconds since the epoch.
    :param monotonic: seconds of a clock that nobody sets, and that goes on while we sleep.
    :param call_soon: calls a function in the event loop's next turn.
    :param buckets: what rates are counted in.
    """

    def __init__(
        self,
        settings: Credits,
        counted: bool,
        store: IStore,
        wall_clock: Callable[[], float],
        monotonic: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        buckets: BucketMemory,
    ) -> None:
        self._settings = settings
        self._counted = counted
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._buckets = buckets
        self._chain = _make_chain(settings)
        self._prices = _make_price_book(settings)
        self.balances = Balances(store, self._chain, settings.chain_id)
        ttl = settings.balance_ttl
        self._lending = Lending(store, self.balances, ttl, monotonic)
        self.accounts = Accounts(
            self._lending, ttl, monotonic, call_soon, lasts=_LASTS * settings.lease_ttl
        )

    def admission(self, seller: Service | Listener) -> Admission | None:
        """What a service, or a forward proxy, asks of those who use it; ``None``: nothing.

        :raises ConfigurationError: settings that it needs were changed, and are not in effect yet.
        """
        for key in ("credits", "quotas"):
            if getattr(seller, key) and not self._counted:
                raise _later(key, "usage.enabled")
        name = seller.name
        kind = type(seller).__name__
        limits: list[Limit] = [
            RateLimit(name, f"{kind}/{name}/{number}", rate, self._monotonic, self._buckets)
            for number, rate in enumerate(seller.rates)
        ]
        units = seller.meter.units if isinstance(seller, Service) else "requests"
        limits += [
            QuotaLimit(name, quota, self.accounts, self._wall_clock, units)
            for quota in seller.quotas
        ]
        if seller.credits is not None:
            limits.append(self._credits(seller.credits))
        return Admission(limits) if limits else None

    def leasing(self, clock: IReactorTime) -> Leasing:
        """The life of the accounts, for whoever meters."""
        return Leasing(self.accounts, self._lending, clock, self._settings.lease_ttl)

    def close(self) -> None:
        """Keep no connection."""
        if self._chain is not None:
            self._chain.close()
        if self._prices is not None:
            self._prices.close()

    def _credits(self, sold: ServiceCredits) -> Limit:
        if sold.source == "prepaid":
            return PrepaidCredits(self.accounts, sold)
        if self._prices is None or self._chain is None:
            raise _later("credits.source", "credits")
        return ChainCredits(
            self.accounts,
            self._prices,
            sold.assumed,
            self._settings.on_chain_outage,
            self._settings.chain_id,
        )


def _later(path: str, needed: str) -> ConfigurationError:
    return ConfigurationError(
        [Problem(path, f"needs `{needed}`, which a restart puts into effect")]
    )


def _make_chain(settings: Credits) -> Chain | None:
    if settings.rpc_url is None:
        return None
    client = HttpClient(
        "credits.rpc_url",
        timeout=settings.timeout,
        max_body=_MAX_ANSWER,
        ca_file=settings.ca_file,
        secret_path=True,
    )
    return Chain(Rpc(settings.rpc_url, client))


def _make_price_book(settings: Credits) -> PriceBook | None:
    if settings.marketplace_url is None:
        return None
    client = HttpClient(
        "credits.marketplace_url",
        timeout=settings.timeout,
        max_body=MAX_DOCUMENT,
        ca_file=settings.ca_file,
    )
    return PriceBook(settings.marketplace_url, client, settings.price_ttl)
