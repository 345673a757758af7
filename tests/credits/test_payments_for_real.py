"""Credits that are really there: in a store's file, and in the real contract on a private chain."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock

from gatekeeper.auth.http_client import HttpClient
from gatekeeper.auth.interfaces import Subscription
from gatekeeper.config.model import Store
from gatekeeper.config.model_selling import ServiceCredits
from gatekeeper.credits.accounts import Accounts
from gatekeeper.credits.admission import Admission, Admitted, Caller, Limit
from gatekeeper.credits.balances import Balances
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.lending import Lending
from gatekeeper.credits.payments import ChainCredits, PrepaidCredits
from gatekeeper.credits.price_book import PriceBook
from gatekeeper.credits.rpc import Rpc
from gatekeeper.errors import Refusal
from gatekeeper.store.interface import IStore
from gatekeeper.store.leases import owner_of
from gatekeeper.store.opening import make_store
from gatekeeper.store.state import AuditEntry
from gatekeeper.usage.records import PREPAID, Account, Batch, Counted
from tests.anvil import BURNER, Anvil
from tests.auth.http_peers import RealServer, Script, fixture_in_reactor, in_reactor, json_response
from tests.contracts import UPGRADEABLE, WITHOUT_BLOCKS, call_data, deploy
from tests.credits.ddos import OWNER, TOKEN_ID, USER, service_ddo, subscription_ddo
from tests.credits.sellers import DID, SUBSCRIPTION, TOKEN, caller

TTL = 30.0
ALICE = Account(PREPAID, "default", "alice")
COUNTED = {("acme", "alice", "/", "", 0): Counted(1, 0, 0, 1, 0.0)}


class Documents(Script):
    """A marketplace's answers, by DID."""

    def __init__(self, documents: dict[str, Any]) -> None:
        super().__init__()
        self.documents = documents

    def next(self) -> bytes:
        did = self.requests[-1].line.split(b" ")[1].rpartition(b"/")[2].decode()
        return json_response(self.documents[did])


class Shop:
    """One process that sells requests, with a clock of its own."""

    def __init__(self, store: IStore, chain: Chain | None = None, node: str = "here") -> None:
        from twisted.internet import reactor

        def call_soon(call: Callable[[], None]) -> object:
            loop: Any = reactor
            return loop.callLater(0, call)

        self.store = store
        self.clock = Clock()
        self.node = node
        self.sequence = 0
        balances = Balances(store, chain, 31337 if chain is not None else None)
        lending = Lending(store, balances, TTL, self.clock.seconds)
        self.accounts = Accounts(lending, TTL, self.clock.seconds, call_soon)
        self.accounts.open(owner_of(node, 0))

    async def admit(
        self, limit: Limit, who: Caller, count: int
    ) -> tuple[list[Admitted], list[Refusal]]:
        """Requests that come at once: those that were let through, and those that were not."""
        admission = Admission([limit])
        waiting = []
        for _ in range(count):
            try:
                found = admission.admit(who)
            except Refusal as refusal:
                found = Deferred()
                found.errback(refusal)
            if isinstance(found, Admitted):
                answer: Deferred[Admitted] = Deferred()
                answer.callback(found)
                found = answer
            waiting.append(found)
        answers = await DeferredList(waiting, consumeErrors=True)
        taken = [each for good, each in answers if good]
        refused = [each.value for good, each in answers if not good]  # type: ignore[attr-defined]
        assert all(isinstance(each, Refusal) for each in refused)
        return taken, refused

    async def charge(self, *ended: Admitted) -> int:
        """They end well, and their usage comes into the store; what that was."""
        spent: dict[Account, int] = {}
        for each in ended:
            for source, name, holder, amount in each.settle(200, 1):
                account = Account(source, name, holder)
                spent[account] = spent.get(account, 0) + amount
        self.sequence += 1
        await self.store.write_batch(Batch(self.node, 0, self.sequence, COUNTED, (), spent))
        self.accounts.flushed(spent)
        return sum(spent.values())


@fixture_in_reactor
async def store(tmp_path: Path) -> AsyncIterator[IStore]:
    store = make_store(Store(url=f"sqlite:///{tmp_path / 'gatekeeper.sqlite'}"))
    await store.open()
    yield store
    await store.close()


@in_reactor
async def test_prepaid_credits_in_a_store(store: IStore) -> None:
    def entry() -> AuditEntry:
        return AuditEntry(time.time(), "nobody", "", "grant", "alice")

    await store.grant(ALICE, 7, entry())
    shop = Shop(store)
    limit = PrepaidCredits(shop.accounts, ServiceCredits(source="prepaid", amount=2))
    taken, refused = await shop.admit(limit, caller(), 100)
    assert len(taken) == 3
    assert {(each.status, each.members["available"]) for each in refused} == {(402, 1)}
    assert await shop.charge(*taken[:2]) == 4
    taken[2].release()
    other = Shop(store, node="there")
    for each in (shop, other):
        each.clock.advance(TTL)
        limit = PrepaidCredits(each.accounts, ServiceCredits(source="prepaid", amount=2))
        (one,), (refusal,) = await each.admit(limit, caller(), 2)
        assert refusal.members == {"required": 2, "available": 1, "pool": "default"}
        one.release()
        each.clock.advance(TTL)
        await each.accounts.give_back()  # for what one has, another one has not
        if each is shop:
            await each.accounts.close()  # what it has leased is free again
    await store.grant(ALICE, 1, entry())
    taken, refused = await other.admit(limit, caller(), 3)
    assert (len(taken), len(refused)) == (2, 1)
    assert await other.charge(*taken) == 4
    assert [tuple(each) for each in await store.read_accounts([ALICE])] == [(8, 8)]


@pytest.mark.parametrize("kind", [UPGRADEABLE, WITHOUT_BLOCKS])
@in_reactor
async def test_credits_on_a_chain(kind: str, node: Anvil, store: IStore) -> None:
    contract = deploy(node, kind)
    contract.prepare(TOKEN)
    contract.mint(USER, TOKEN, 7)
    text = json.dumps(service_ddo(amount="2"))
    document = json.loads(text.replace("0x" + "Cc" * 20, contract.address))
    market = RealServer(
        Documents({DID: document, "did:nv:" + SUBSCRIPTION.token: subscription_ddo()})
    )
    prices = PriceBook(f"http://127.0.0.1:{market.port}", HttpClient("prices", timeout=30.0))
    chain = Chain(Rpc(node.url, HttpClient("the chain", secret_path=True, max_body=1 << 20)))
    shop = Shop(store, chain)
    limit = ChainCredits(shop.accounts, prices, 1, "refuse", node.chain_id, shop.clock.seconds)
    buyer = caller(USER, Subscription(DID, SUBSCRIPTION.token, ""))
    try:
        taken, refused = await shop.admit(limit, buyer, 100)
        assert len(taken) == 3
        assert len(market.script.requests) == 2
        for each in refused:
            assert each.status == 402
            assert each.members == {
                "required": 2,
                "available": 1,
                "contract": contract.address.lower(),
                "token": "0x" + TOKEN_ID,
                "chain_id": 31337,
            }
        assert await shop.charge(*taken) == 6

        # Metered, and not burned: what is on the chain is more than what is left.
        shop.clock.advance(TTL)
        _, (refusal,) = await shop.admit(limit, buyer, 1)
        assert refusal.members["available"] == 1
        another = Shop(store, chain)
        other_limit = ChainCredits(
            another.accounts, prices, 1, "refuse", None, another.clock.seconds
        )
        _, (refusal,) = await another.admit(other_limit, buyer, 1)
        assert refusal.members["available"] == 1

        # More is bought, and somebody burns outside of us.
        contract.mint(USER, TOKEN, 4)
        burned = call_data(
            "burn(address,uint256,uint256)", ("address", "uint256", "uint256"), USER, TOKEN, 1
        )
        node.transact(BURNER, contract.address, burned)
        shop.clock.advance(TTL)
        taken, refused = await shop.admit(limit, buyer, 3)
        assert (len(taken), len(refused)) == (2, 1)
        taken[0].release()
        taken[1].release()

        # The zero address, for which one of the contracts reverts, spoils it for itself only.
        shop.clock.advance(TTL)
        both = DeferredList(
            [
                Deferred.fromCoroutine(shop.admit(limit, who, 1))
                for who in (buyer, caller("0x" + "00" * 20, buyer.grant.subscription))
            ]
        )
        ((_, (taken, _)), (_, (_, (refusal,)))) = await both
        assert len(taken) == 1
        assert (
            refusal.reason
            == {
                UPGRADEABLE: "insufficient_credits",
                WITHOUT_BLOCKS: "balance_unavailable",
            }[kind]
        )

        # The owner asks for nothing.
        (owner,), _ = await shop.admit(limit, caller(OWNER, buyer.grant.subscription), 1)
        assert owner.settle(200, 1) == ()
    finally:
        prices.close()
        chain.close()
        await market.stop()
