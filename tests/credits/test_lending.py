"""Leases with balances of a chain: read after what is owed, and believed until something burns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gatekeeper.credits.accounts import AwayError, OutageError
from gatekeeper.credits.balances import Balances
from gatekeeper.credits.lending import Lending
from gatekeeper.store.leases import ChainBalance, Leased, Seen, Wish
from gatekeeper.usage.records import Account
from tests.auth.support import Logged
from tests.credits.callers import Clock
from tests.credits.sellers import ALICE, ON_CHAIN, MemoryLedger, Node, now

TTL = 30.0
BOB = ON_CHAIN._replace(holder="0x" + "b0" * 20)
SEEN = Seen(burning=frozenset({(0, 0)}))


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = MemoryLedger()
        self.node = Node()
        for account, amount in ((ON_CHAIN, 10), (BOB, 20)):
            self.node.hold(account.source, account.holder, amount)
        store: Any = self.ledger
        balances = Balances(store, self.node.chain, None)
        self.lending = Lending(store, balances, TTL, self.clock)

    def on_chain(self, *accounts: Account) -> list[Any]:
        return now(Deferred.fromCoroutine(self.lending.on_chain(accounts)))

    def lease(self, *wishes: Wish) -> Sequence[Leased]:
        return now(Deferred.fromCoroutine(self.lending.lease("here-0", wishes)))


def test_balances_are_read_once_for_some_time() -> None:
    world = World()
    assert world.on_chain(ALICE) == [None]
    assert world.node.calls == []
    one, two = ChainBalance(10, SEEN), ChainBalance(20, SEEN)
    assert world.on_chain(ON_CHAIN, ALICE) == [one, None]
    assert world.on_chain(ON_CHAIN, BOB, ON_CHAIN) == [one, two, one]
    assert world.node.calls == ["batch", "batch"]
    world.node.hold(ON_CHAIN.source, ON_CHAIN.holder, 11)
    world.clock.now += TTL - 0.1
    assert world.on_chain(ON_CHAIN) == [one]
    world.clock.now += 0.1
    assert world.on_chain(ON_CHAIN) == [ChainBalance(11, SEEN)]
    assert repr(world.lending) == "<Lending: 1 balances>"


def test_what_is_owed_is_looked_at_before_the_balance() -> None:
    world = World()
    see = world.ledger.see

    def watched(accounts: Sequence[Account]) -> Any:
        assert world.node.calls == []
        return see(accounts)

    world.ledger.see = watched  # type: ignore[method-assign]
    assert world.on_chain(ON_CHAIN) == [ChainBalance(10, SEEN)]


def test_a_burn_makes_a_balance_worthless() -> None:
    world = World()
    (balance,) = world.on_chain(ON_CHAIN)
    wish = Wish(ON_CHAIN, demand=4, balance=balance)
    assert world.lease(wish) == [Leased(4, 4, 6)]
    assert world.lease(Wish(ON_CHAIN, give=1)) == [Leased(3)]  # no balance, nothing to find out
    assert world.on_chain(ON_CHAIN) == [balance]
    world.ledger.burned[ON_CHAIN] = 1
    world.node.hold(ON_CHAIN.source, ON_CHAIN.holder, 9)
    assert world.lease(wish) == [Leased(3)]
    (balance,) = world.on_chain(ON_CHAIN)
    assert balance.credits == 9
    assert world.lease(Wish(ON_CHAIN, demand=4, balance=balance)) == [Leased(7, 4, 2)]


def test_what_cannot_be_read_is_asked_for_again() -> None:
    world = World()
    world.node.status = 502
    error, nothing = world.on_chain(ON_CHAIN, ALICE)
    assert isinstance(error, OutageError)
    assert nothing is None
    world.node.status = 200
    assert world.on_chain(ON_CHAIN) == [ChainBalance(10, SEEN)]


def test_the_store_is_away(logged: Logged) -> None:
    world = World()
    world.ledger.away = True
    for _ in range(2):
        with pytest.raises(AwayError, match="the store: the disk is full"):
            world.on_chain(ON_CHAIN)
        with pytest.raises(AwayError):
            world.lease(Wish(ALICE))
        with pytest.raises(AwayError):
            now(Deferred.fromCoroutine(world.lending.release(["here-0"], 1.0)))
    assert world.node.calls == []
    world.ledger.away = False
    now(Deferred.fromCoroutine(world.lending.release(["here-0"], 1.0)))
    problem, back = [str(event.get("problem") or event.get("what")) for event in logged]
    assert (problem, back) == ("the store: the disk is full", "the store")


def test_how_many_balances_are_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.credits.lending._MOST_BALANCES", 5)
    world = World()
    for number in range(20):
        world.on_chain(ON_CHAIN._replace(name=str(number)))
    assert repr(world.lending) == "<Lending: 5 balances>"
