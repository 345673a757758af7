"""The loop: when it does something, and that nothing ends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from gatekeeper.credits import burn_report, burner
from gatekeeper.credits.burn_report import Trouble
from gatekeeper.credits.burn_terms import Schedule
from gatekeeper.credits.chain import Sending
from gatekeeper.credits.ledger import ChargeState, SettlementState
from gatekeeper.credits.pricing import Token
from gatekeeper.credits.rpc import (
    MalformedError,
    RefusedError,
    StrangeContractError,
    UnreachableError,
)
from gatekeeper.errors import StoreError
from tests.credits.burning import ACCOUNT, ALICE, BOB, House

PENDING, BURNED = ChargeState.PENDING, ChargeState.BURNED


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The log's lines, as text."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        logger = event.get("log_logger")
        if logger in (burn_report.log, burner.log) and event["log_level"] is not LogLevel.debug:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def asked(house: House) -> int:
    """How many passes have asked the chain something."""
    return house.node.asked.count("chain_id")


# --- when -----------------------------------------------------------------------------------------


def test_it_polls() -> None:
    house = House()
    house.burner.start()
    assert asked(house) == 1
    house.clock.advance(4.9)
    assert asked(house) == 1
    house.clock.advance(0.2)
    assert asked(house) == 2
    house.clock.pump([5.0] * 3)
    assert asked(house) == 5


def test_charges_wait_for_their_time() -> None:
    house = House(schedule=Schedule(interval=3600), alice=10)
    house.ledger.owe(ALICE, 5, since=1_000_000)
    house.burner.start()
    house.clock.pump([5.0] * 719)
    assert house.ledger.total(PENDING) == 5
    house.clock.advance(5)
    assert house.ledger.total(PENDING) == 0


def test_enough_of_them_do_not_wait() -> None:
    house = House(schedule=Schedule(interval=3600, amount=10), alice=100, bob=100)
    house.ledger.owe(ALICE, 6, since=1_000_000)
    house.ledger.owe(BOB, 6, since=1_000_000)
    house.go()
    assert house.ledger.total(PENDING) == 12
    house.ledger.owe(ALICE, 4, since=1_000_005)
    house.go()
    house.go(blocks=2)
    assert house.ledger.total(BURNED) == 10
    assert house.ledger.total(PENDING) == 6


def test_what_comes_later_waits_until_the_payers_first_burn_has_ended() -> None:
    house = House(alice=10)
    house.ledger.owe(ALICE, 5)
    house.go()
    house.ledger.owe(ALICE, 5)
    house.go(passes=3)
    assert house.ledger.total(PENDING) == 5
    house.go(blocks=2)
    house.go(blocks=2)
    house.go(blocks=2)
    assert house.ledger.total(BURNED) == 10


def test_not_all_is_claimed_at_once() -> None:
    """A node keeps a few waiting transactions of an account only."""
    house = House(schedule=Schedule(interval=0, batch=1))
    house.node.automine = False
    for number in range(40):
        holder = f"0x{number:040x}"
        house.node.balances_of[holder] = 10
        house.ledger.owe(holder, 1)
    house.go(passes=2)
    assert len(house.ledger.kept) == burner.MOST_UNDER_WAY
    assert house.report.under_way == burner.MOST_UNDER_WAY
    assert sorted(house.node.waiting) == list(range(burner.MOST_UNDER_WAY))
    house.go(passes=10, blocks=3)
    assert house.ledger.total(BURNED) == 40


def test_a_stop_ends_a_sleep() -> None:
    house = House()
    house.burner.start()
    stopped: list[object] = []
    house.burner.stop().addBoth(stopped.append)
    assert stopped == [None]
    assert house.clock.getDelayedCalls() == []
    assert house.ledger.owner is None


def test_a_stop_waits_for_the_pass_under_way() -> None:
    house = House(alice=10)
    house.ledger.owe(ALICE, 5)
    answer: Deferred[Sending] = Deferred()

    async def slow(raw: bytes, name: str) -> Sending:
        return await answer

    house.node.send = slow  # type: ignore[method-assign]
    house.burner.start()
    assert house.state() is SettlementState.SIGNED
    stopped: list[object] = []
    house.burner.stop().addBoth(stopped.append)
    assert stopped == []
    assert house.ledger.owner is not None
    answer.callback(Sending.TAKEN)
    assert stopped == [None]
    assert house.state() is SettlementState.SENT
    assert house.ledger.owner is None


def test_who_never_started_stops_at_once() -> None:
    stopped: list[object] = []
    House().burner.stop().addBoth(stopped.append)
    assert stopped == [None]


# --- owning the account ---------------------------------------------------------------------------


def test_only_one_burns(said: list[str]) -> None:
    first = House(alice=10)
    second = House(ledger=first.ledger, node=first.node)
    first.ledger.owe(ALICE, 5)
    first.burner.start()
    second.burner.start()
    second.clock.pump([5.0] * 10)
    assert (first.report.owner, second.report.owner) == (True, False)
    assert asked(first) == 1
    assert said.count(f"Another process burns from {ACCOUNT}; waiting") == 1
    first.burner.stop()
    second.clock.advance(5)
    assert second.report.owner
    assert said.count(f"Burning from {ACCOUNT}") == 2


def test_a_connection_that_is_lost_takes_the_account_with_it() -> None:
    house = House(alice=10)
    house.burner.start()
    assert house.report.owner
    house.ledger.failure = StoreError("store.url: the server hung up")
    house.clock.advance(5)
    assert not house.report.owner
    house.ledger.failure = None
    house.ledger.owner = None  # the lock went with the connection
    house.ledger.owe(ALICE, 5)
    house.clock.pump([5.0] * 3)
    assert house.report.owner
    house.node.mine(2)
    house.clock.advance(5)
    assert house.ledger.total(BURNED) == 5


def test_settlements_of_another_account_are_told_of(said: list[str]) -> None:
    house = House(alice=10)
    house.ledger.owe(ALICE, 5)
    house.node.failures["look"] = UnreachableError("away")
    house.go()
    house.ledger.kept[1] = house.only._replace(account="0x" + "01" * 20)
    house.ledger.owner = None
    again = House(ledger=house.ledger, node=house.node)
    again.go()
    assert again.report.owner
    assert any("0x0101" in line and "can finish" in line for line in said)


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (UnreachableError("the chain: no answer within 10 s"), Trouble.UNREACHABLE),
        (MalformedError("a number is none"), Trouble.MALFORMED),
        (RefusedError(-32005, "slow down"), Trouble.REFUSED),
        (ZeroDivisionError("a bug"), Trouble.FAULT),
    ],
)
def test_a_chain_that_fails_is_told_once(
    error: Exception, trouble: Trouble, said: list[str]
) -> None:
    house = House(alice=10)
    house.node.failures["all"] = error
    house.burner.start()
    house.clock.pump([5.0] * 100)
    assert house.report.troubles == {trouble}
    assert house.report.failures[trouble] > 5
    complaints = [line for line in said if line.startswith("Burning: ")]
    assert len(complaints) == 1 + (trouble is Trouble.FAULT)  # and its traceback
    house.node.failures.clear()
    house.clock.advance(burner.LONGEST_DELAY)
    assert not house.report.troubles
    assert sum(line.startswith("Burning: over: ") for line in said) == 1
    house.ledger.owe(ALICE, 5)
    house.clock.advance(5)
    house.node.mine(2)
    house.clock.advance(5)
    assert house.ledger.total(BURNED) == 5


def test_another_failure_is_told_too(said: list[str]) -> None:
    house = House()
    for text in ("connection refused", "connection refused", "no answer within 10 s"):
        house.node.failures["all"] = UnreachableError(text)
        house.go()
    assert [line for line in said if line.startswith("Burning: ")] == [
        "Burning: the node at credits.rpc_url: connection refused",
        "Burning: the node at credits.rpc_url: no answer within 10 s",
    ]


def test_who_fails_is_asked_less_often() -> None:
    house = House()
    house.node.failures["all"] = UnreachableError("away")
    house.burner.start()
    times = []
    for second in range(400):
        before = asked(house)
        house.clock.advance(1)
        if asked(house) > before:
            times.append(second + 1)
    assert times == [5, 15, 35, 75, 135, 195, 255, 315, 375]
    house.node.failures.clear()
    house.clock.advance(60)
    before = asked(house)
    house.clock.pump([5.0] * 3)
    assert asked(house) == before + 3


def test_a_store_that_fails_is_told_once_and_asked_again(said: list[str]) -> None:
    house = House(alice=10)
    house.ledger.failure = StoreError("store.url: away")
    house.burner.start()
    house.clock.pump([5.0] * 50)
    assert house.report.troubles == {Trouble.STORE}
    assert said == ["Burning: store.url: away"]
    house.ledger.failure = None
    house.clock.advance(burner.LONGEST_DELAY)
    assert house.report.owner


def test_another_chain_burns_nothing(said: list[str]) -> None:
    house = House(alice=10)
    house.node.number = 137
    house.ledger.owe(ALICE, 5)
    house.go(passes=5)
    assert set(house.node.asked) == {"chain_id"}
    assert house.report.troubles == {Trouble.WRONG_CHAIN}
    assert [line for line in said if line.startswith("Burning: ")] == [
        "Burning: credits.chain_id is 5, and the node at credits.rpc_url is one of chain 137: "
        "nothing is burned"
    ]


def test_a_node_that_becomes_one_of_another_chain() -> None:
    """Its nonces would make us believe that another wallet has used ours."""
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go()
    house.node.number = 137
    house.node.use_nonce("stranger")
    house.node.mine(10)
    house.go(passes=5)
    assert len(house.signer.signed) == 1
    assert house.only.settlement.nonce == 0


def test_a_fault_in_one_settlement_does_not_stop_another(said: list[str]) -> None:
    house = House(alice=10, bob=10)
    house.ledger.owe(ALICE, 5)
    house.ledger.owe(BOB, 5, Token("0x" + "c1" * 20, 7))
    look = house.node.look
    calls = iter([ZeroDivisionError("a bug")])

    async def fail_once(*arguments: Any) -> Any:
        for error in calls:
            raise error
        return await look(*arguments)

    house.node.look = fail_once  # type: ignore[assignment, method-assign]
    house.go()
    assert house.ledger.states == [SettlementState.CLAIMED, SettlementState.MINED]
    assert house.report.problem == "settlement 1: a fault; see the traceback in the log"
    house.go()
    house.go(blocks=2)
    assert house.ledger.total(BURNED) == 10


def test_one_contract_that_fails_does_not_keep_others_from_being_looked_at() -> None:
    other = Token("0x" + "c1" * 20, 7)
    house = House(alice=10, bob=10)
    for holder, token in ((ALICE, None), (BOB, other)):
        number = house.ledger.owe(holder, 5, token) if token else house.ledger.owe(holder, 5)
        house.ledger.charges[number].state = ChargeState.UNCOLLECTED
    balances = house.node.balances

    async def fail_for_one(contract: str, holders: list[tuple[str, int]]) -> list[int]:
        if contract != other.contract:
            raise StrangeContractError("there is no such contract")
        return await balances(contract, holders)

    house.node.balances = fail_for_one  # type: ignore[method-assign, assignment]
    house.go()
    assert house.ledger.total(ChargeState.UNCOLLECTED) == 5
    assert house.ledger.charges[1].looked > 0
    house.go(blocks=2)
    assert house.ledger.total(BURNED) == 5


# --- what is told ---------------------------------------------------------------------------------


def test_what_is_owed_is_read_now_and_then() -> None:
    house = House(schedule=Schedule(interval=3600), alice=10)
    house.ledger.owe(ALICE, 5, since=1_000_000)
    house.go()
    (owed,) = house.report.owed
    assert (owed.credits, owed.charges, owed.since) == (5, 1, 1_000_000)
    assert house.report.funds == 10**18
    house.ledger.owe(ALICE, 5, since=1_000_000)
    house.go(passes=5)
    assert house.report.owed[0].credits == 5
    house.go(passes=2)
    assert house.report.owed[0].credits == 10


def test_the_report_says_when_all_was_well_last() -> None:
    house = House()
    assert house.report.finished_at is None
    house.go(passes=2)
    assert house.report.finished_at == 10
    house.node.failures["all"] = UnreachableError("away")
    house.go(passes=2)
    assert house.report.finished_at == 10
