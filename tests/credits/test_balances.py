"""Balances: what is owed is read first; whatever is wrong is wrong for as few as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from gatekeeper.credits.accounts import OutageError, UnreadableError
from gatekeeper.credits.balances import Balances
from gatekeeper.store.ledger import Kept
from gatekeeper.usage.records import PREPAID, QUOTA, Account
from tests.auth.support import Logged
from tests.credits.sellers import ALICE, ON_CHAIN, MemoryLedger, Node, now

BOB = ON_CHAIN._replace(holder="0x" + "b0" * 20)
OTHER = ON_CHAIN._replace(source="0x" + "0c" * 20)
DAILY = Account(QUOTA, "acme/user/day/2024-05-01", "alice")
REVERT = {"code": 3, "message": "execution reverted: paused"}


class World:
    def __init__(self, chain_id: int | None = 7) -> None:
        self.ledger = MemoryLedger()
        self.node = Node()
        for account, amount in ((ON_CHAIN, 10), (BOB, 20), (OTHER, 30)):
            self.node.hold(account.source, account.holder, amount)
        self.balances = Balances(self.ledger, self.node.chain, chain_id)  # type: ignore[arg-type]

    def read(self, *accounts: Account) -> list[Any]:
        return now(Deferred.fromCoroutine(self.balances(accounts)))


def texts(logged: Logged) -> list[str]:
    return [str(event.get("problem") or "again: " + str(event.get("what"))) for event in logged]


def test_all_kinds_of_accounts_at_once() -> None:
    world = World()
    world.ledger.kept = {
        ALICE: Kept(granted=100, spent=30),
        DAILY: Kept(granted=0, spent=4),
        ON_CHAIN: Kept(granted=0, spent=3),
    }
    never = Account(PREPAID, "default", "nobody")
    asked = [BOB, DAILY, OTHER, ALICE, ON_CHAIN, never]
    assert world.read(*asked) == [(20, 0), (0, 4), (30, 0), (100, 30), (10, 3), (0, 0)]
    assert world.ledger.asked == [tuple(asked)]
    assert world.node.calls == ["eth_chainId", "batch", "batch"]


def test_what_is_owed_is_read_before_the_balance() -> None:
    world = World(None)

    class Watched(MemoryLedger):
        def read_accounts(self, accounts: Sequence[Account]) -> Deferred[list[Kept]]:
            assert world.node.calls == []
            return super().read_accounts(accounts)

    ledger = Watched()
    balances = Balances(ledger, world.node.chain, None)  # type: ignore[arg-type]
    assert now(Deferred.fromCoroutine(balances([ON_CHAIN]))) == [(10, 0)]
    assert len(ledger.asked) == 1
    assert world.node.calls == ["batch"]


def test_without_accounts_on_a_chain_no_chain_is_asked() -> None:
    world = World()
    assert world.read(ALICE, DAILY) == [(0, 0), (0, 0)]
    assert world.node.calls == []
    balances = Balances(world.ledger, None, None)  # type: ignore[arg-type]
    one, two = now(Deferred.fromCoroutine(balances([ALICE, ON_CHAIN])))
    assert one == (0, 0)
    assert isinstance(two, UnreadableError)
    assert "credits.rpc_url" in str(two)


def test_the_store_is_away(logged: Logged) -> None:
    world = World()
    world.ledger.away = True
    for _ in range(3):
        with pytest.raises(UnreadableError, match="the store: the disk is full") as caught:
            world.read(ON_CHAIN, ALICE)
        assert not isinstance(caught.value, OutageError)
    assert world.node.calls == []
    world.ledger.away = False
    assert world.read(ALICE) == [(0, 0)]
    assert world.read(ALICE) == [(0, 0)]
    assert texts(logged) == ["the store: the disk is full", "again: the store"]


def test_the_node_is_away(logged: Logged) -> None:
    world = World(None)
    world.node.status = 502
    for _ in range(3):
        chained, prepaid = world.read(ON_CHAIN, ALICE)
        assert isinstance(chained, OutageError)
        assert prepaid == (0, 0)
    world.node.status = 200
    assert world.read(ON_CHAIN) == [(10, 0)]
    problem, back = texts(logged)
    assert "the chain's node: the answer is 502" in problem
    assert back == "again: the chain's node"


def test_the_chain_is_checked_once_and_again_after_an_outage(logged: Logged) -> None:
    world = World()
    assert world.read(ON_CHAIN) == world.read(ON_CHAIN) == [(10, 0)]
    assert world.node.calls.count("eth_chainId") == 1
    world.node.status = 503
    (away,) = world.read(ON_CHAIN)
    assert isinstance(away, OutageError)
    world.node.status = 200
    world.node.chain_id = 8
    for _ in range(2):
        (wrong,) = world.read(ON_CHAIN)
        assert isinstance(wrong, UnreadableError)
        assert not isinstance(wrong, OutageError)  # its balances are another chain's
        assert "credits.chain_id" in str(wrong)
    world.node.chain_id = 7
    assert world.read(ON_CHAIN) == [(10, 0)]
    assert world.node.calls[-2:] == ["eth_chainId", "batch"]
    assert len(texts(logged)) == 3
    assert "is on chain 8, and `credits.chain_id` is 7" in texts(logged)[1]


def test_a_node_that_does_not_say_which_chain_it_is_on() -> None:
    world = World()
    world.node.status = 500
    (answer,) = world.read(ON_CHAIN)
    assert isinstance(answer, OutageError)
    world.node.status = 200
    world.node.chain_id = 1 << 300
    (answer,) = world.read(ON_CHAIN)
    assert isinstance(answer, UnreadableError)
    assert not isinstance(answer, OutageError)
    assert "batch" not in world.node.calls


@pytest.mark.parametrize(
    ("broken", "outage"),
    [
        (REVERT, False),
        ("0x", False),
        ("0x00", False),
        ({"code": -32000, "message": "out of gas"}, False),
        ({"code": -32005, "message": "too many requests"}, True),
    ],
)
def test_a_contract_that_misbehaves_fails_only_its_own(
    broken: Any, outage: bool, logged: Logged
) -> None:
    world = World()
    world.node.broken[OTHER.source] = broken
    for _ in range(2):
        first, wrong, second = world.read(ON_CHAIN, OTHER, BOB)
        assert (first, second) == ((10, 0), (20, 0))
        assert isinstance(wrong, OutageError if outage else UnreadableError)
        assert isinstance(wrong, OutageError) is outage
        assert OTHER.source in str(wrong)
    del world.node.broken[OTHER.source]
    assert world.read(OTHER) == [(30, 0)]
    problem, back = texts(logged)
    assert OTHER.source in problem
    assert back == f"again: {OTHER.source}"


@pytest.mark.parametrize("error", [REVERT, {"code": -32000, "message": "out of gas: needs more"}])
def test_one_holder_does_not_spoil_it_for_the_others(error: dict[str, Any]) -> None:
    world = World(None)
    zero = ON_CHAIN._replace(holder="0x" + "00" * 20)
    world.node.bad_holders[zero.holder] = error
    first, wrong, second = world.read(ON_CHAIN, zero, BOB)
    assert (first, second) == ((10, 0), (20, 0))
    assert isinstance(wrong, UnreadableError)
    assert not isinstance(wrong, OutageError)
    assert world.node.calls == ["batch", "one+one+one"]


def test_a_holder_may_have_several_tokens_of_a_contract() -> None:
    world = World(None)
    second = ON_CHAIN._replace(name="99")
    world.node.hold(second.source, second.holder, 5, token=99)
    assert world.read(second, ON_CHAIN) == [(5, 0), (10, 0)]


def test_how_many_problems_are_remembered_is_bounded() -> None:
    world = World(None)
    contracts = [f"0x{number:040x}" for number in range(1100)]
    accounts = [ON_CHAIN._replace(source=each) for each in contracts]
    world.node.broken = dict.fromkeys(contracts, REVERT)
    assert all(isinstance(each, UnreadableError) for each in world.read(*accounts))
    assert repr(world.balances) == "<Balances: 100 problems>"


_some = st.lists(
    st.builds(
        Account,
        st.sampled_from([PREPAID, QUOTA, ON_CHAIN.source, OTHER.source]),
        st.integers(0, 3).map(str),
        st.integers(0, 3).map(lambda number: f"0x{number:040x}"),
    ),
    unique=True,
    max_size=30,
)


@given(_some, st.sets(st.sampled_from([ON_CHAIN.source, OTHER.source])), st.booleans())
def test_each_account_gets_its_own_answer(
    accounts: list[Account], broken: set[str], bad_holder: bool
) -> None:
    world = World()
    for number, account in enumerate(accounts):
        world.ledger.kept[account] = Kept(
            granted=1000 + number if account.source == PREPAID else 0, spent=number
        )
        if account.is_on_chain:
            world.node.hold(account.source, account.holder, 2000 + number, int(account.name))
    world.node.broken = dict.fromkeys(broken, REVERT)
    bad = f"0x{1:040x}" if bad_holder else ""
    world.node.bad_holders = {bad: REVERT}
    for number, (account, answer) in enumerate(zip(accounts, world.read(*accounts), strict=True)):
        if account.source in broken or (account.is_on_chain and account.holder == bad):
            assert isinstance(answer, UnreadableError)
        elif account.is_on_chain:
            assert answer == (2000 + number, number)
        else:
            assert answer == (1000 + number if account.source == PREPAID else 0, number)
