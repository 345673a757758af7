"""Prices: asked for once, believed for a while; a marketplace's trouble is never the caller's."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from gatekeeper.auth.http_client import HttpClient
from gatekeeper.auth.interfaces import Subscription
from gatekeeper.credits.price_book import PriceBook
from gatekeeper.credits.pricing import Pricing, SubscriptionType, Token
from gatekeeper.errors import Refusal
from tests.auth.http_peers import FakeHttp, RealServer, Script, in_reactor, json_response
from tests.auth.support import Logged, outcome
from tests.credits.ddos import CONTRACT, OWNER, service_ddo, subscription_ddo
from tests.credits.sellers import DID, SUBSCRIPTION, TOKEN, Market, now

SUBSCRIPTION_DID = "did:nv:" + SUBSCRIPTION.token
PRICES = Pricing(amount=2, owner=OWNER.lower(), token=Token(CONTRACT.lower(), TOKEN))
DOCUMENTS = {DID: service_ddo(amount="2"), SUBSCRIPTION_DID: subscription_ddo()}


class Asking:
    def __init__(self, http: FakeHttp, size: int = 10) -> None:
        self.clock = Clock()
        self.book = PriceBook("https://market/", http, 300.0, size, self.clock.seconds)

    def read(self, subscription: Subscription = SUBSCRIPTION) -> Deferred[Pricing]:
        return Deferred.fromCoroutine(self.book.read(subscription, "192.0.2.1"))


def refused(answer: Deferred[Pricing]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        now(answer)
    assert (caught.value.status, caught.value.reason) == (503, "prices_unavailable")
    assert dict(caught.value.fields)[b"retry-after"].isdigit()
    return caught.value


def test_both_documents_are_asked_for_and_remembered() -> None:
    market = Market(DOCUMENTS)
    asking = Asking(market.http)
    assert asking.book.get(SUBSCRIPTION) is None
    assert now(asking.read()) == PRICES
    assert market.asked == [DID, SUBSCRIPTION_DID]
    for each in market.http.asked:
        assert (each.method, each.client) == ("GET", "192.0.2.1")
        assert each.url.startswith("https://market/api/v1/metadata/assets/ddo/did:nv:")
    asking.clock.advance(299.0)
    assert asking.book.get(SUBSCRIPTION) == PRICES
    assert now(asking.read()) == PRICES
    assert len(market.asked) == 2
    asking.clock.advance(1.0)
    assert asking.book.get(SUBSCRIPTION) is None
    assert now(asking.read()) == PRICES
    assert len(market.asked) == 4


def test_the_kind_of_subscription_is_in_its_own_document() -> None:
    market = Market(DOCUMENTS | {SUBSCRIPTION_DID: subscription_ddo("time")})
    assert now(Asking(market.http).read()).subscription is SubscriptionType.TIME


def test_prices_of_one_service_under_several_subscriptions() -> None:
    other = SUBSCRIPTION._replace(token="77" * 32)
    market = Market(DOCUMENTS | {"did:nv:" + other.token: subscription_ddo("time")})
    asking = Asking(market.http)
    assert now(asking.read()).subscription is SubscriptionType.CREDITS
    assert now(asking.read(other)).subscription is SubscriptionType.TIME
    assert asking.book.get(SUBSCRIPTION) == PRICES
    assert repr(asking.book).endswith(": 2 known>")


def test_who_owns_a_service_is_in_its_document_and_not_in_a_token() -> None:
    market = Market(DOCUMENTS)
    asking = Asking(market.http)
    claimed = SUBSCRIPTION._replace(
        owner="0x" + "99" * 20, did=DID.upper().replace("DID:NV", DID[:6])
    )
    assert now(asking.read(claimed)).owner == OWNER.lower()
    assert asking.book.get(SUBSCRIPTION) == PRICES  # the same question


def test_equal_questions_are_asked_once_and_each_can_be_cancelled() -> None:
    http = FakeHttp()
    asking = Asking(http)
    first, second = asking.read(), asking.read()
    third = outcome(asking.read())
    assert len(http.asked) == 2
    first.cancel()
    with pytest.raises(CancelledError):
        now(first)
    http.answer(200, subscription_ddo())
    assert outcome(second) == third == []
    http.asked.pop()
    http.answer(200, service_ddo(amount="2"))
    assert third == [PRICES]
    assert asking.book.get(SUBSCRIPTION) == PRICES


@pytest.mark.parametrize("which", [DID, SUBSCRIPTION_DID])
@pytest.mark.parametrize("status", [500, 502, 301, 401, 403, 429])
def test_a_marketplace_that_does_not_say(which: str, status: int) -> None:
    market = Market(DOCUMENTS | {which: status})
    asking = Asking(market.http)
    refused(asking.read())
    market.documents = dict(DOCUMENTS)
    assert now(asking.read()) == PRICES  # that is not remembered


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id": "did:nv:00"}'])
def test_an_answer_that_is_no_document(body: bytes) -> None:
    refused(Asking(Market(DOCUMENTS | {DID: body}).http).read())


def test_prices_are_not_believed_for_longer_while_the_marketplace_is_away() -> None:
    market = Market(DOCUMENTS)
    asking = Asking(market.http)
    now(asking.read())
    asking.clock.advance(300.0)
    market.away = True
    refused(asking.read())
    assert asking.book.get(SUBSCRIPTION) is None
    market.away = False
    assert now(asking.read()) == PRICES


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({DID: 404}, "has no such document"),
        ({SUBSCRIPTION_DID: 410}, "has no such document"),
        ({DID: service_ddo(amount=2)}, "nftAttributes.amount"),
        ({DID: {}}, "_contractAddress"),
        ({SUBSCRIPTION_DID: subscription_ddo("free")}, "subscriptionType"),
    ],
)
def test_documents_that_do_not_say_it_are_asked_for_again_soon(
    wrong: dict[str, Any], named: str, logged: Logged
) -> None:
    market = Market(DOCUMENTS | wrong)
    asking = Asking(market.http)
    for _ in range(3):
        assert named not in refused(asking.read()).detail
    assert len(market.asked) == 2
    assert len(logged) == 1
    assert named in logged.text
    assert DID in logged.text
    assert asking.book.get(SUBSCRIPTION) is None
    market.documents = dict(DOCUMENTS)
    asking.clock.advance(29.0)
    refused(asking.read())
    asking.clock.advance(1.0)
    assert now(asking.read()) == PRICES


def test_the_memory_is_bounded() -> None:
    tokens = [f"{number:064x}" for number in range(3)]
    market = Market(
        {DID: service_ddo()} | {f"did:nv:{each}": subscription_ddo() for each in tokens}
    )
    asking = Asking(market.http, size=2)
    for token in tokens:
        now(asking.read(Subscription(DID, token, "")))
    known = [asking.book.get(Subscription(DID, token, "")) is not None for token in tokens]
    assert known == [False, True, True]


def test_closing() -> None:
    http = FakeHttp()
    Asking(http).book.close()
    assert http.closed


@in_reactor
async def test_a_real_server() -> None:
    server = RealServer(Script(always=json_response(service_ddo(amount="2") | {"id": None})))
    book = PriceBook(f"http://127.0.0.1:{server.port}", HttpClient("the test", timeout=30.0))
    try:
        with pytest.raises(Refusal):
            await book.read(SUBSCRIPTION)
        server.script.always = json_response(service_ddo(amount="2"))
        assert await book.read(SUBSCRIPTION) == PRICES
    finally:
        book.close()
        await server.stop()
    away = PriceBook(f"http://127.0.0.1:{server.port}", HttpClient("the test", timeout=30.0))
    with pytest.raises(Refusal) as caught:
        await away.read(SUBSCRIPTION)
    assert caught.value.status == 503
    away.close()
