"""Credits as a limit: never more is admitted than there is, and what was used is charged."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.auth.interfaces import Subscription
from gatekeeper.config.model_selling import ServiceCredits
from gatekeeper.credits.accounts import Accounts
from gatekeeper.credits.admission import Admission, Admitted, Caller, Limit
from gatekeeper.credits.balances import Balances
from gatekeeper.credits.lending import Lending
from gatekeeper.credits.payments import ChainCredits, PrepaidCredits
from gatekeeper.credits.price_book import PriceBook
from gatekeeper.credits.pricing import MAX_CREDITS
from gatekeeper.errors import Refusal
from gatekeeper.replies import make_reply
from gatekeeper.store.ledger import Kept
from gatekeeper.usage.records import Account, Spent
from tests.auth.support import Logged, outcome
from tests.credits.ddos import CONTRACT, OWNER, TOKEN_ID, USER, service_ddo, subscription_ddo
from tests.credits.sellers import (
    ALICE,
    DID,
    ON_CHAIN,
    SUBSCRIPTION,
    TOKEN,
    Market,
    MemoryLedger,
    Node,
    Turns,
    caller,
    now,
)
from tests.documents import named

BUYER = caller(USER, SUBSCRIPTION)
PRICE_FIELD = b"nvmcreditsconsumed: "


class Shop:
    """A service that sells its requests, with all that it asks."""

    def __init__(self, *, size: int = 100, open: bool = True) -> None:
        self.turns = Turns()
        self.clock = Clock()
        self.ledger = MemoryLedger()
        self.node = Node()
        balances = Balances(self.ledger, self.node.chain, 7)  # type: ignore[arg-type]
        self.accounts = Accounts(
            Lending(self.ledger, balances, 30.0, self.clock.seconds),  # type: ignore[arg-type]
            30.0,
            self.clock.seconds,
            self.turns.call_soon,
            size,
        )
        if open:
            self.accounts.open("here-0")

    def sell_prepaid(self, granted: int, spent: int = 0, **settings: Any) -> None:
        self.ledger.kept[ALICE] = Kept(granted, spent)
        sold = ServiceCredits(source="prepaid", **settings)
        self.limit: Limit = PrepaidCredits(self.accounts, sold)

    def sell_subscriptions(
        self,
        balance: int,
        charge: str | None = None,
        kind: str | None = None,
        on_outage: Literal["refuse", "admit"] = "refuse",
        chain_id: int | None = 7,
        assumed: int = 1,
        **attributes: str,
    ) -> None:
        self.node.hold(ON_CHAIN.source, ON_CHAIN.holder, balance)
        self.market = Market(
            {
                DID: service_ddo(charge, **attributes),
                "did:nv:" + SUBSCRIPTION.token: subscription_ddo(kind),
            }
        )
        prices = PriceBook("https://market", self.market.http, 300.0, 10, self.clock.seconds)
        self.limit = ChainCredits(
            self.accounts, prices, assumed, on_outage, chain_id, self.clock.seconds
        )

    def admit_all(self, *callers: Caller) -> list[Admitted | Refusal]:
        """What becomes of requests that come in one turn of the loop."""
        admission = Admission([self.limit])
        outcomes: list[list[Any]] = []
        for each in callers:
            try:
                outcomes.append(outcome(admission.admit(each)))
            except Refusal as refusal:
                outcomes.append([refusal])
        while self.turns.run():
            pass
        found = []
        for (one,) in outcomes:
            found.append(one if isinstance(one, Admitted | Refusal) else one.value)
        return found

    def admit(self, who: Caller) -> Admitted:
        (found,) = self.admit_all(who)
        assert isinstance(found, Admitted), found
        return found

    def refuse(self, who: Caller) -> Refusal:
        (found,) = self.admit_all(who)
        assert isinstance(found, Refusal)
        return found


def ended(
    admitted: Admitted, status: int = 200, units: int = 1, price: bytes | None = None
) -> tuple[Spent, ...]:
    admitted.read_price([] if price is None else [PRICE_FIELD + price])
    return admitted.settle(status, units)


# --- prepaid ------------------------------------------------------------------------------


def test_100_parallel_requests_with_7_credits_at_price_2() -> None:
    shop = Shop()
    shop.sell_prepaid(10, 3, amount=2)
    found = shop.admit_all(*[caller()] * 100)
    taken = [each for each in found if isinstance(each, Admitted)]
    assert len(taken) == 3
    for refusal in found[3:]:
        assert isinstance(refusal, Refusal)
        assert refusal.status == 402
        assert refusal.reason == "insufficient_credits"
        assert refusal.members == {"required": 2, "available": 1, "pool": "default"}
        assert "required: 2, available: 1" in refusal.detail
    assert len(shop.ledger.asked) == 1
    assert [ended(each) for each in taken] == [(Spent(*ALICE, 2),)] * 3
    assert shop.accounts.available(ALICE) == 1


def test_what_fails_at_the_upstream_costs_nothing_and_comes_back() -> None:
    shop = Shop()
    shop.sell_prepaid(2, amount=2)
    for status in (0, 302, 404, 500):
        admitted = shop.admit(caller())
        assert shop.refuse(caller()).status == 402
        assert ended(admitted, status) == ()
    shop.admit(caller()).release()
    assert ended(shop.admit(caller()), 204) == (Spent(*ALICE, 2),)


def test_a_pool_is_shared_by_services_and_told_apart_from_others() -> None:
    shop = Shop()
    shop.ledger.kept[ALICE._replace(name="gpu")] = Kept(3)
    shop.sell_prepaid(2, pool="gpu", amount=2)
    (spent,) = ended(shop.admit(caller()))
    assert spent == Spent("prepaid", "gpu", "alice", 2)
    other = Shop()
    other.accounts = shop.accounts
    other.turns = shop.turns
    other.sell_prepaid(0, pool="gpu", amount=1)
    assert ended(other.admit(caller())) == (Spent("prepaid", "gpu", "alice", 1),)
    assert shop.refuse(caller()).members == {"required": 2, "available": 0, "pool": "gpu"}


@pytest.mark.parametrize(
    ("settings", "price", "units", "cost"),
    [
        ({"amount": 3}, None, 9, 3),
        ({"amount": 3}, b"7", 9, 3),
        ({"amount": 3, "minimum": 5}, None, 9, 5),
        ({"amount": 3}, b"0", 9, 0),
        ({"amount": 3, "charge": "dynamic"}, None, 9, 3),
        ({"amount": 3, "charge": "dynamic"}, b"7", 9, 7),
        ({"amount": 3, "charge": "dynamic", "maximum": 5}, b"7", 9, 5),
        ({"amount": 3, "charge": "dynamic", "minimum": 2}, b"1", 9, 2),
        ({"charge": "units"}, None, 9, 9),
        ({"charge": "units"}, b"7", 9, 9),
        ({"charge": "units", "maximum": 5}, None, 9, 5),
        ({"charge": "units", "minimum": 20}, None, 9, 20),
        ({"charge": "units"}, None, 0, 0),
        ({"charge": "units"}, None, 1 << 70, MAX_CREDITS),
    ],
)
def test_prices_of_prepaid_credits(
    settings: dict[str, Any], price: bytes | None, units: int, cost: int
) -> None:
    shop = Shop()
    shop.sell_prepaid(100, **settings)
    expected = (Spent(*ALICE, cost),) if cost else ()
    assert ended(shop.admit(caller()), units=units, price=price) == expected
    assert shop.accounts.available(ALICE) == 100 - cost


@pytest.mark.parametrize(
    ("settings", "left", "required"),
    [
        ({"amount": 3, "required": 50}, 49, 50),
        ({"charge": "dynamic", "maximum": 50}, 49, 50),
        ({"charge": "dynamic", "assumed": 50}, 49, 50),
        ({"charge": "units", "assumed": 5}, 4, 5),
        ({"charge": "units", "maximum": 5}, 4, 5),
    ],
)
def test_how_much_has_to_be_there(settings: dict[str, Any], left: int, required: int) -> None:
    shop = Shop()
    shop.sell_prepaid(left, **settings)
    refusal = shop.refuse(caller())
    assert (refusal.members["required"], refusal.members["available"]) == (required, left)
    enough = Shop()
    enough.sell_prepaid(required, **settings)
    enough.admit(caller())


def test_more_than_was_set_aside_may_be_charged_where_nothing_bounds_it() -> None:
    shop = Shop()
    shop.sell_prepaid(5, charge="dynamic")
    assert ended(shop.admit(caller()), price=b"40") == (Spent(*ALICE, 40),)
    assert shop.accounts.available(ALICE) == -35
    refusal = shop.refuse(caller())
    assert refusal.members["available"] == 0


def test_an_account_that_is_in_debt_admits_nothing() -> None:
    shop = Shop()
    shop.sell_prepaid(5, 9, required=0)
    assert shop.refuse(caller()).members == {"required": 1, "available": 0, "pool": "default"}


@pytest.mark.parametrize(
    "settings", [{"amount": 0}, {"charge": "dynamic", "amount": 0, "maximum": 0}]
)
def test_what_is_free_asks_nothing(settings: dict[str, Any]) -> None:
    shop = Shop()
    shop.sell_prepaid(0, **settings)
    assert ended(shop.admit(caller()), price=b"5") == ()
    assert shop.ledger.asked == []


@pytest.mark.parametrize("who", [caller(""), caller(counted=False)])
def test_who_makes_no_usage_record_pays_nothing(who: Caller) -> None:
    for sell in (Shop.sell_prepaid, Shop.sell_subscriptions):
        shop = Shop()
        sell(shop, 0)
        assert ended(shop.admit(who)) == ()
        now(Deferred.fromCoroutine(shop.limit.read(who)))
        assert shop.ledger.asked == []
        assert shop.node.calls == []


def test_credits_granted_meanwhile_are_there_after_a_while() -> None:
    shop = Shop()
    shop.sell_prepaid(0)
    shop.refuse(caller())
    shop.ledger.kept[ALICE] = Kept(5)
    shop.refuse(caller())
    shop.clock.advance(30.0)
    shop.admit(caller())
    assert len(shop.ledger.asked) == 2


def test_the_store_is_away() -> None:
    shop = Shop()
    shop.ledger.away = True
    shop.sell_prepaid(5)
    refusal = shop.refuse(caller())
    assert (refusal.status, refusal.reason) == (503, "balance_unavailable")
    assert dict(refusal.fields)[b"retry-after"].isdigit()
    assert "disk" not in refusal.detail
    shop.ledger.away = False
    shop.admit(caller())


def test_usage_of_an_earlier_run_is_not_in_the_store_yet() -> None:
    shop = Shop(open=False)
    shop.sell_prepaid(5)
    assert shop.refuse(caller()).reason == "balance_unavailable"
    shop.accounts.open("here-0")
    shop.admit(caller())


def test_there_is_no_room_for_one_more_payer() -> None:
    shop = Shop(size=1)
    shop.sell_prepaid(5)
    shop.ledger.kept[ALICE._replace(holder="bob")] = Kept(5)
    admitted = shop.admit(caller())
    assert shop.refuse(caller("bob")).reason == "balance_unavailable"
    admitted.release()
    shop.admit(caller("bob"))


def test_a_request_that_is_given_up_while_it_waits_takes_nothing() -> None:
    shop = Shop()
    shop.sell_prepaid(2, amount=2)
    waiting = [Admission([shop.limit]).admit(caller()) for _ in range(3)]
    results = [outcome(each) for each in waiting[1:]]
    first = waiting[0]
    assert isinstance(first, Deferred)
    first.addErrback(lambda failure: None).cancel()
    shop.turns.run()
    assert isinstance(results[0][0], Admitted)
    assert results[1][0].value.status == 402
    results[0][0].release()
    assert shop.accounts.available(ALICE) == 2


# --- on a chain ---------------------------------------------------------------------------


def test_100_parallel_requests_with_7_credits_on_a_chain() -> None:
    shop = Shop()
    shop.ledger.kept[ON_CHAIN] = Kept(0, 3)  # metered, and not burned yet
    shop.sell_subscriptions(10, amount="2")
    found = shop.admit_all(*[BUYER] * 100)
    taken = [each for each in found if isinstance(each, Admitted)]
    assert len(taken) == 3
    for refusal in found[3:]:
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.reason) == (402, "insufficient_credits")
        assert refusal.members == {
            "required": 2,
            "available": 1,
            "contract": CONTRACT.lower(),
            "token": "0x" + TOKEN_ID,
            "chain_id": 7,
        }
    assert len(shop.market.asked) == 2
    assert shop.node.calls == ["eth_chainId", "batch"]
    assert [ended(each) for each in taken] == [(Spent(*ON_CHAIN, 2),)] * 3
    assert shop.refuse(BUYER).members["available"] == 1
    assert len(shop.node.calls) == 2


def test_a_chain_without_a_number() -> None:
    shop = Shop()
    shop.sell_subscriptions(0, chain_id=None)
    assert shop.refuse(BUYER).members == {
        "required": 1,
        "available": 0,
        "contract": CONTRACT.lower(),
        "token": "0x" + TOKEN_ID,
    }


@pytest.mark.parametrize(
    ("kind", "attributes", "who"),
    [
        ("time", {"amount": "5"}, BUYER),
        ("time", {"amount": "5"}, caller("no address", SUBSCRIPTION)),
        (None, {"amount": "0"}, BUYER),
        (None, {"amount": "5"}, caller(OWNER, SUBSCRIPTION)),
        (None, {"amount": "5"}, caller(OWNER.lower(), SUBSCRIPTION)),
    ],
)
def test_a_time_what_is_free_and_the_owner_ask_nothing(
    kind: str | None, attributes: dict[str, Any], who: Caller
) -> None:
    shop = Shop()
    shop.sell_subscriptions(0, kind=kind, **attributes)
    assert ended(shop.admit(who), price=b"9") == ()
    assert shop.node.calls == []
    assert shop.ledger.asked == []


def test_who_claims_to_be_the_owner_pays_all_the_same() -> None:
    shop = Shop()
    shop.sell_subscriptions(0)
    claiming = caller(USER, SUBSCRIPTION._replace(owner=USER))
    assert shop.refuse(claiming).status == 402


@pytest.mark.parametrize(
    ("price", "cost"), [(None, 4), (b"7", 7), (b"1", 2), (b"99", 10), (b"x", 4)]
)
def test_a_dynamic_price(price: bytes | None, cost: int) -> None:
    shop = Shop()
    shop.sell_subscriptions(
        10, "dynamic", amount="4", minCreditsToCharge="2", maxCreditsToCharge="10"
    )
    admitted = shop.admit(BUYER)
    assert shop.refuse(BUYER).members["available"] == 0  # so much it may cost
    assert ended(admitted, price=price) == (Spent(*ON_CHAIN, cost),)
    assert shop.accounts.available(ON_CHAIN) == 10 - cost


def test_what_is_assumed_of_a_price_without_a_maximum() -> None:
    shop = Shop()
    shop.sell_subscriptions(10, "dynamic", assumed=6)
    admitted = shop.admit(BUYER)
    assert shop.refuse(BUYER).members == {
        "required": 6,
        "available": 4,
        "contract": CONTRACT.lower(),
        "token": "0x" + TOKEN_ID,
        "chain_id": 7,
    }
    assert ended(admitted, price=b"25") == (Spent(*ON_CHAIN, 25),)
    assert shop.accounts.available(ON_CHAIN) == -15


@pytest.mark.parametrize(
    "subscription",
    [
        None,
        Subscription("", "", ""),
        SUBSCRIPTION._replace(did=""),
        SUBSCRIPTION._replace(token=""),
    ],
)
def test_credentials_that_name_no_subscription(subscription: Subscription | None) -> None:
    shop = Shop()
    shop.sell_subscriptions(10)
    refusal = shop.refuse(caller(USER, subscription))
    assert (refusal.status, refusal.reason) == (403, "no_subscription")
    assert shop.market.asked == []


def test_a_user_that_is_no_address() -> None:
    shop = Shop()
    shop.sell_subscriptions(10)
    refusal = shop.refuse(caller("alice", SUBSCRIPTION))
    assert (refusal.status, refusal.reason) == (403, "no_subscription")
    assert "address" in refusal.detail
    assert shop.node.calls == []


def test_which_nft_is_paid_with_is_what_the_document_says() -> None:
    shop = Shop()
    shop.sell_subscriptions(10)
    assert int(SUBSCRIPTION.token, 16) != TOKEN
    assert ended(shop.admit(BUYER)) == (Spent(CONTRACT.lower(), str(TOKEN), USER.lower(), 1),)


def test_prices_that_are_not_known(logged: Logged) -> None:
    shop = Shop()
    shop.sell_subscriptions(10, on_outage="admit")
    documents = dict(shop.market.documents)
    for broken in (500, 404):
        shop.market.documents[DID] = broken
        refusal = shop.refuse(BUYER)
        assert (refusal.status, refusal.reason) == (503, "prices_unavailable")
    shop.market.documents = documents
    shop.clock.advance(30.0)
    shop.admit(BUYER)
    shop.clock.advance(300.0)
    shop.market.away = True
    assert shop.refuse(BUYER).reason == "prices_unavailable"
    assert shop.node.calls == ["eth_chainId", "batch"]


@pytest.mark.parametrize("on_outage", ["refuse", "admit"])
def test_only_an_outage_of_the_chain_may_be_bridged(
    on_outage: Literal["refuse", "admit"], logged: Logged
) -> None:
    shop = Shop()
    shop.sell_subscriptions(10, on_outage=on_outage)
    shop.ledger.away = True
    assert shop.refuse(BUYER).reason == "balance_unavailable"
    shop.ledger.away = False
    shop.node.chain_id = 8
    assert shop.refuse(BUYER).reason == "balance_unavailable"
    shop.node.chain_id = 7
    shop.node.broken[ON_CHAIN.source] = "0x"
    refusal = shop.refuse(BUYER)
    assert (refusal.status, refusal.reason) == (503, "balance_unavailable")
    assert CONTRACT.lower() in logged.text
    assert CONTRACT.lower() not in refusal.detail


def test_the_chain_is_away() -> None:
    shop = Shop()
    shop.sell_subscriptions(10)
    shop.node.status = 502
    refusal = shop.refuse(BUYER)
    assert (refusal.status, refusal.reason) == (503, "balance_unavailable")
    assert dict(refusal.fields)[b"retry-after"].isdigit()
    shop.node.status = 200
    shop.admit(BUYER)


def test_requests_are_admitted_while_the_chain_is_away_and_charged() -> None:
    shop = Shop()
    shop.sell_subscriptions(10, on_outage="admit", amount="4")
    shop.node.status = 502
    running = shop.admit(BUYER)
    asked = len(shop.node.calls)
    for _ in range(2):  # nobody waits for the chain again
        assert ended(shop.admit(BUYER)) == (Spent(*ON_CHAIN, 4),)
    shop.admit(BUYER).release()
    assert ended(shop.admit(BUYER), 500) == ()
    assert len(shop.node.calls) == asked
    assert repr(shop.limit) == "<ChainCredits: 1 contracts away>"
    shop.clock.advance(10.0)
    assert ended(shop.admit(BUYER)) == (Spent(*ON_CHAIN, 4),)
    assert len(shop.node.calls) > asked
    shop.node.status = 200
    shop.clock.advance(10.0)
    refusal = shop.refuse(BUYER)  # 12 were spent, and 4 are set aside
    assert (refusal.status, refusal.members["available"]) == (402, 0)
    assert ended(running) == (Spent(*ON_CHAIN, 4),)
    assert shop.accounts.available(ON_CHAIN) == 10 - 16
    assert repr(shop.limit) == "<ChainCredits: 0 contracts away>"


def test_a_balance_that_is_known_holds_during_an_outage_too() -> None:
    shop = Shop()
    shop.sell_subscriptions(4, on_outage="admit", amount="4")
    shop.admit(BUYER)
    shop.node.status = 502
    assert shop.refuse(BUYER).status == 402


def test_an_outage_concerns_the_contracts_that_could_not_be_asked() -> None:
    shop = Shop()
    shop.sell_subscriptions(10, on_outage="admit")
    shop.node.broken[ON_CHAIN.source] = {"code": -32005, "message": "limit exceeded"}
    shop.admit(BUYER)
    other = "0x" + "0c" * 20
    document = service_ddo(amount="5")
    conditions = document["service"][2]["attributes"]["serviceAgreementTemplate"]["conditions"]
    conditions[1]["parameters"][1]["value"] = other
    elsewhere = SUBSCRIPTION._replace(did="did:nv:" + "77" * 32)
    shop.market.documents[elsewhere.did] = document
    assert shop.refuse(caller(USER, elsewhere)).members["contract"] == other


def test_the_memory_of_outages_is_bounded() -> None:
    shop = Shop(size=5000)
    shop.sell_subscriptions(10, on_outage="admit")
    shop.node.status = 502
    for number in range(1001):
        document = service_ddo()
        conditions = document["service"][2]["attributes"]["serviceAgreementTemplate"]["conditions"]
        conditions[1]["parameters"][1]["value"] = f"0x{number:040x}"
        did = f"did:nv:{number:064x}"
        shop.market.documents[did] = document
        shop.admit(caller(USER, SUBSCRIPTION._replace(did=did)))
    assert repr(shop.limit) == "<ChainCredits: 1 contracts away>"


def test_there_is_no_room_during_an_outage() -> None:
    shop = Shop(size=1)
    shop.sell_subscriptions(10, on_outage="admit")
    shop.node.status = 502
    admitted = shop.admit(BUYER)
    other = caller("0x" + "99" * 20, SUBSCRIPTION)
    assert shop.refuse(other).reason == "balance_unavailable"
    admitted.release()
    assert ended(shop.admit(other)) == (Spent(*ON_CHAIN._replace(holder=other.grant.user), 1),)


def test_how_it_shows() -> None:
    shop = Shop()
    shop.sell_prepaid(1)
    assert repr(shop.limit) == "<PrepaidCredits of pool 'default'>"


# --- whatever requests come ---------------------------------------------------------------

_requests = st.lists(
    st.tuples(
        st.integers(0, 4),  # how many others are under way when it ends
        st.sampled_from([200, 204, 404, 0]),
        st.none() | st.integers(0, 12),
    ),
    max_size=25,
)


@given(
    _requests,
    st.integers(0, 30),
    st.integers(0, 5),
    st.none() | st.integers(0, 5),
    st.integers(5, 9),
    st.sampled_from(["fixed", "dynamic"]),
)
def test_with_a_bounded_price_never_more_is_spent_than_there_was(
    requests: list[tuple[int, int, int | None]],
    credits: int,
    amount: int,
    minimum: int | None,
    maximum: int,
    charge: str,
) -> None:
    shop = Shop()
    bounds = {} if charge == "fixed" else {"maximum": maximum}
    shop.sell_prepaid(credits, charge=charge, amount=amount, minimum=minimum, **bounds)
    running: list[tuple[Admitted, int, int | None]] = []
    spent = 0

    def end(count: int) -> int:
        total = 0
        while len(running) > count:
            admitted, status, price = running.pop(0)
            ending = ended(admitted, status, price=None if price is None else b"%d" % price)
            total += sum(each.amount for each in ending)
        return total

    for others, status, price in requests:
        (found,) = shop.admit_all(caller())
        if isinstance(found, Admitted):
            running.append((found, status, price))
        else:
            assert found.status == 402
            required, available = found.members["required"], found.members["available"]
            assert isinstance(required, int)
            assert isinstance(available, int)
            assert 0 <= available < required
        spent += end(others)
    spent += end(0)
    assert 0 <= spent <= credits
    if amount or charge == "dynamic":
        known = shop.accounts.available(ALICE)
        assert known is None or known == credits - spent


def test_each_payer_has_an_account() -> None:
    shop = Shop()
    shop.sell_prepaid(1)
    shop.ledger.kept[Account("prepaid", "default", "bob")] = Kept(2)
    found = shop.admit_all(*[caller(), caller("bob")] * 3)
    assert [isinstance(each, Admitted) for each in found] == [True, True, False, True, False, False]


# --- the documentation --------------------------------------------------------------------


def test_the_problem_document_that_is_shown() -> None:
    shop = Shop()
    shop.sell_subscriptions(1, amount="2")
    reply = make_reply(shop.refuse(BUYER), [b"application/json"])
    assert json.loads(reply.body) == json.loads(named("insufficient-credits").text)
