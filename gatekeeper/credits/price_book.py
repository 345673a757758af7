"""The prices of services under subscriptions, asked of a marketplace and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger

from gatekeeper.auth.answer_cache import AnswerCache
from gatekeeper.auth.http_client import Asks, HttpError
from gatekeeper.auth.interfaces import Subscription
from gatekeeper.auth.metadata import MISSING_TTL, Marketplace, read_document
from gatekeeper.credits.pricing import DocumentError, Pricing
from gatekeeper.errors import Refusal

log = Logger()

_RETRY: Final = ((b"retry-after", b"5"),)


class PriceBook:
    """Knows what requests cost, as the documents of a service and of a subscription say.

    A price is believed for ``ttl`` seconds and not longer: while the marketplace is away after
    that, nobody can say what a request costs. That a document is missing or malformed is believed
    for a short while, too.

    :param url: the marketplace's, with or without a ``/`` at the end.
    :param client: what asks.
    :param size: prices kept; what was not asked for the longest goes first.
    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        url: str,
        client: Asks,
        ttl: float = 300.0,
        size: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        def ttl_of(found: Pricing | None) -> float:
            return min(ttl, MISSING_TTL) if found is None else ttl

        self._marketplace = Marketplace(url, client)
        self._cache: AnswerCache[tuple[str, str], Pricing | None] = AnswerCache(
            ttl_of, size, monotonic
        )

    def __repr__(self) -> str:
        return f"<PriceBook of {self._marketplace!r}: {len(self._cache)} known>"

    def get(self, subscription: Subscription) -> Pricing | None:
        """The prices, where they are known now."""
        return self._cache.get(_key(subscription))

    async def read(self, subscription: Subscription, client: str = "") -> Pricing:
        """The prices. ``client`` is the address of whoever wants to know.

        :raises Refusal: 503; a caller is not to blame for a marketplace.
        """
        key = _key(subscription)

        def ask() -> Deferred[Pricing | None]:
            return Deferred.fromCoroutine(self._ask(*key, client))

        found = None
        with suppress(HttpError):  # which is in the log
            found = await self._cache.find(key, ask)
        if found is None:
            raise Refusal(
                "prices_unavailable",
                "What this request costs is not known at the moment.",
                status=503,
                fields=_RETRY,
            )
        return found

    def close(self) -> None:
        """Keep no connection."""
        self._marketplace.close()

    async def _ask(self, did: str, token: str, client: str) -> Pricing | None:
        """The prices; ``None``: the documents do not say them, and why is logged.

        :raises HttpError: the marketplace does not say.
        """
        dids = did, f"did:nv:{token}"  # a subscription's token id is its document's
        asked = [
            self._marketplace.ask(each, partial(read_document, did=each), client) for each in dids
        ]
        try:
            service, subscription = await gatherResults(asked, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        try:
            if service is None or subscription is None:
                raise DocumentError("the marketplace has no such document")
            return Pricing.from_ddo(service, subscription)
        except DocumentError as problem:
            log.error(
                "Prices of {did} under the subscription {subscription} are not known: {problem}",
                did=dids[0],
                subscription=dids[1],
                problem=str(problem),
            )
            return None


def _key(subscription: Subscription) -> tuple[str, str]:
    return subscription.did.lower(), subscription.token
