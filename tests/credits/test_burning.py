"""What becomes of settlements, on a chain and a ledger in memory."""

from __future__ import annotations

import pytest

from gatekeeper.credits.burn_report import Ending, Trouble
from gatekeeper.credits.burn_terms import Schedule, Seam
from gatekeeper.credits.chain import Sending
from gatekeeper.credits.ledger import ChargeState, SettlementState
from gatekeeper.credits.pricing import Token
from gatekeeper.credits.rpc import RefusedError, UnreachableError
from tests.credits.burning import (
    ALICE,
    BOB,
    CAROL,
    CONTRACT,
    DAVE,
    GWEI,
    POLICY,
    House,
)

PENDING, CLAIMED, BURNED = ChargeState.PENDING, ChargeState.CLAIMED, ChargeState.BURNED
UNCOLLECTED, ERROR = ChargeState.UNCOLLECTED, ChargeState.ERROR


def burned(house: House) -> list[list[tuple[str, int]]]:
    """What each transaction in a block burns that has succeeded."""
    return [
        house.node.burns(house.signer.signed[name].data)
        for block in house.node.blocks
        for name in block
        if house.node.succeeded.get(name)
    ]


# --- when all is well -----------------------------------------------------------------------------


def test_a_charge_is_burned() -> None:
    house = House(alice=10)
    house.ledger.owe(ALICE, 7)
    house.go()
    assert house.state() is SettlementState.MINED
    assert house.ledger.total(CLAIMED) == 7
    house.go(blocks=2)
    assert house.state() is SettlementState.CONFIRMED
    assert burned(house) == [[(ALICE, 7)]]
    assert house.node.balances_of[ALICE] == 3
    assert house.ledger.total(BURNED) == 7
    report = house.report
    assert (report.burned, report.endings[Ending.CONFIRMED]) == (7, 1)
    assert report.gas_spent == 50_000 * house.node.base_fee
    assert not report.failures


def test_charges_of_a_payer_are_burned_at_once() -> None:
    house = House(alice=10)
    for credits in (1, 2, 3):
        house.ledger.owe(ALICE, credits)
    house.go()
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 6)]]


def test_several_payers_are_burned_with_one_transaction() -> None:
    house = House(alice=10, bob=10, carol=10)
    for holder, credits in ((ALICE, 1), (BOB, 2), (CAROL, 3)):
        house.ledger.owe(holder, credits)
    house.go()
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 1), (BOB, 2), (CAROL, 3)]]


def test_a_batch_has_an_end() -> None:
    house = House(schedule=Schedule(interval=0, batch=2), alice=10, bob=10, carol=10)
    for holder in (ALICE, BOB, CAROL):
        house.ledger.owe(holder, 5)
    house.go()
    house.go(blocks=2)
    assert [len(each) for each in burned(house)] == [2, 1]
    assert {each.nonce for each in house.signer.signed.values()} == {0, 1}


def test_it_is_stored_before_it_is_sent() -> None:
    def look(seam: Seam) -> None:
        stored = [each.transactions for each in house.ledger.kept.values()]
        if seam is Seam.SIGNED:
            assert stored == [()]
        if seam is Seam.STORED:
            ((transaction,),) = stored
            assert transaction.sent_at is None
            assert transaction.hash in house.signer.signed
            assert house.node.sent == []

    house = House(alice=10, reached=look)
    house.ledger.owe(ALICE, 7)
    house.go()
    house.go(blocks=2)
    assert house.seams == [
        Seam.SIGNING,
        Seam.SIGNED,
        Seam.STORED,
        Seam.SENT,
        Seam.MARKED,
        Seam.ENDING,
        Seam.ENDED,
    ]


# --- who is short ---------------------------------------------------------------------------------


def test_who_has_not_enough_pays_what_there_is() -> None:
    house = House(alice=10, bob=3, carol=0)
    for holder in (ALICE, BOB, CAROL):
        house.ledger.owe(holder, 5)
    house.go()
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 5), (BOB, 3)]]
    assert house.ledger.total(UNCOLLECTED) == 2 + 5
    assert house.ledger.total(BURNED) == 15  # of which the others are what is short


def test_who_has_nothing_is_sent_nothing() -> None:
    house = House(alice=0)
    house.ledger.owe(ALICE, 5)
    house.go()
    assert house.state() is SettlementState.CONFIRMED
    assert house.node.sent == []
    assert "dry_run" not in house.node.asked
    assert house.ledger.total(UNCOLLECTED) == 5
    assert house.report.endings[Ending.NOTHING] == 1


def test_whose_balance_is_back_pays_the_rest() -> None:
    house = House(alice=2, bob=0)
    house.ledger.owe(ALICE, 5)
    house.ledger.owe(BOB, 5)
    house.go()
    house.go(blocks=2)
    assert house.ledger.total(UNCOLLECTED) == 8
    house.node.balances_of[ALICE] = 10
    house.go(passes=15)  # it is looked at now and then
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 2)], [(ALICE, 3)]]
    assert house.ledger.total(UNCOLLECTED) == 5  # still Bob's
    assert house.node.balances_of == {ALICE: 7, BOB: 0}


def test_a_balance_that_is_being_burned_is_not_back() -> None:
    house = House(alice=4)
    house.node.automine = False
    number = house.ledger.owe(ALICE, 9)
    house.ledger.charges[number].state = UNCOLLECTED
    house.ledger.owe(ALICE, 4)
    house.go()  # the uncollected charge is looked at first, and belongs to the burn
    house.ledger.owe(ALICE, 1)
    assert house.ledger.total(CLAIMED) == 13
    number = house.ledger.owe(ALICE, 2)
    house.ledger.charges[number].state = UNCOLLECTED
    house.go(passes=15)
    assert house.ledger.total(CLAIMED) == 13
    assert house.ledger.total(PENDING) == 1
    assert house.ledger.total(UNCOLLECTED) == 2


# --- whom the contract refuses --------------------------------------------------------------------


def test_the_bad_one_is_found_and_the_others_are_burned() -> None:
    house = House(alice=10, bob=10, carol=10, dave=10)
    house.node.refuses[CAROL] = "no"
    for holder in (ALICE, BOB, CAROL, DAVE):
        house.ledger.owe(holder, 5)
    house.go()
    assert burned(house) == [[(ALICE, 5), (BOB, 5), (DAVE, 5)]]
    bad = house.ledger.kept[2]
    assert [each.holder for each in bad.entries] == [CAROL]
    assert bad.settlement.attempts == 1
    assert bad.reason == "reverted: no"
    house.go(passes=5, blocks=2)
    assert house.ledger.states == [SettlementState.CONFIRMED, SettlementState.ERROR]
    assert house.ledger.total(ERROR) == 5
    assert house.ledger.charges[3].reason == "reverted: no"
    assert house.report.endings == {Ending.CONFIRMED: 1, Ending.ERROR: 1}
    assert house.report.failures[Trouble.REVERTED] == POLICY.retries + 1


def test_a_role_that_is_missing_is_no_reason_to_split() -> None:
    house = House(alice=10, bob=10)
    house.node.refuses = dict.fromkeys((ALICE, BOB), "ERC1155: caller is not owner nor approved")
    house.ledger.owe(ALICE, 5)
    house.ledger.owe(BOB, 5)
    house.go(passes=POLICY.retries)
    assert house.state() is SettlementState.CLAIMED
    house.go()
    assert house.state() is SettlementState.ERROR
    assert "caller is not owner" in house.only.reason
    assert house.node.sent == []
    assert house.ledger.total(ERROR) == 10


def test_what_is_refused_when_it_comes_to_it_is_tried_again() -> None:
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go()
    house.node.balances_of[ALICE] = 1  # meanwhile they are somewhere else
    house.go(blocks=3)
    assert house.only.settlement.attempts == 1
    assert house.state() is SettlementState.CLAIMED
    assert house.only.settlement.nonce is None
    assert "was reverted in block 10" in house.only.reason
    house.go()
    house.go(blocks=3)
    assert burned(house) == [[(ALICE, 1)]]
    assert house.ledger.total(UNCOLLECTED) == 4
    assert [each.nonce for each in house.signer.signed.values()] == [0, 1]


def test_a_batch_that_needs_too_much_gas_is_halved() -> None:
    house = House(alice=10, bob=10, carol=10, dave=10)
    house.node.gas_for_each = 450_000  # and a million is allowed
    for holder in (ALICE, BOB, CAROL, DAVE):
        house.ledger.owe(holder, 5)
    house.go()
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 5), (BOB, 5)], [(CAROL, 5), (DAVE, 5)]]
    assert {each.gas for each in house.signer.signed.values()} == {1_000_000}


def test_a_single_burn_that_needs_too_much_gas_is_an_error() -> None:
    house = House(alice=10)
    house.node.gas_for_each = 2_000_000
    house.ledger.owe(ALICE, 5)
    house.go(passes=4)
    assert house.ledger.total(ERROR) == 5
    assert house.only.reason == "2000000 units of gas are needed, 1000000 are allowed"


# --- transactions that do not get through ---------------------------------------------------------


def test_a_replacement_keeps_its_nonce_and_its_call() -> None:
    """Two transactions with one nonce cannot both be in a chain; with two, they could."""
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go()
    house.node.balances_of[ALICE] = 2  # is no reason to burn something else
    house.go(passes=30)
    first, second = house.signer.signed.values()
    assert first.nonce == second.nonce
    assert second == first._replace(fees=second.fees)
    assert second.fees.max_fee * 8 >= first.fees.max_fee * 9
    assert second.fees.priority * 8 >= first.fees.priority * 9
    assert [each.nonce for each in house.only.transactions] == [first.nonce] * 2
    assert house.only.settlement.nonce == first.nonce
    assert list(house.node.waiting.values()) == [house.only.settlement.transactions[1].hash]
    assert house.report.failures[Trouble.STUCK] == 1
    house.node.balances_of[ALICE] = 10
    house.go(blocks=3)
    assert burned(house) == [[(ALICE, 5)]]


def test_the_first_may_be_mined_in_place_of_its_replacement() -> None:
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go()
    (first,) = house.signer.signed
    house.go(passes=30)
    house.node.waiting[0] = first
    house.go(blocks=3)
    house.go(blocks=3)
    assert house.state() is SettlementState.CONFIRMED
    assert burned(house) == [[(ALICE, 5)]]


def test_fees_have_a_bound() -> None:
    house = House(alice=10)
    house.node.base_fee = 95 * GWEI  # at the most 100
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go(passes=40)
    assert len(house.signer.signed) == 1
    assert Trouble.TOO_DEAR in house.report.troubles


def test_it_is_sent_again_now_and_then() -> None:
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go(passes=7)  # of five seconds each
    assert house.node.sent == [next(iter(house.signer.signed))] * 3


def test_an_answer_that_is_lost_after_the_node_took_it() -> None:
    house = House(alice=10)
    house.node.failures["answer"] = UnreachableError("no answer within 10 s")
    house.ledger.owe(ALICE, 5)
    house.go()
    assert house.state() is SettlementState.SIGNED
    house.node.mine()
    house.node.failures.clear()
    house.go(blocks=2)
    assert house.state() is SettlementState.CONFIRMED
    assert burned(house) == [[(ALICE, 5)]]
    assert len(house.signer.signed) == 1


def test_an_answer_that_is_lost_before_the_node_took_it() -> None:
    house = House(alice=10)
    house.node.failures["send"] = UnreachableError("refused")
    house.ledger.owe(ALICE, 5)
    house.go()
    house.node.failures.clear()
    house.go()
    house.go(blocks=2)
    assert len(set(house.node.sent)) == 1 < len(house.node.sent)
    assert burned(house) == [[(ALICE, 5)]]


@pytest.mark.parametrize(
    ("says", "trouble"),
    [(Sending.NO_FUNDS, Trouble.NO_FUNDS), (Sending.UNDERPRICED, Trouble.UNDERPRICED)],
)
def test_what_the_node_does_not_take_is_kept(says: Sending, trouble: Trouble) -> None:
    house = House(alice=10)
    house.node.says = says
    house.ledger.owe(ALICE, 5)
    house.go(passes=3)
    assert house.report.troubles == {trouble}
    assert house.report.problem is not None
    assert house.state() is SettlementState.SIGNED
    house.node.says = Sending.TAKEN
    house.go()
    assert not house.report.troubles
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 5)]]
    assert len(house.signer.signed) == 1


def test_a_block_that_is_replaced() -> None:
    house = House(alice=10)
    house.ledger.owe(ALICE, 5)
    house.go()
    assert house.state() is SettlementState.MINED
    house.node.blocks[-1] = []
    house.node.balances_of[ALICE] = 10
    house.go()
    assert house.report.failures[Trouble.REORGANIZED] == 1
    house.go(blocks=2)
    assert house.state() is SettlementState.CONFIRMED
    assert burned(house) == [[(ALICE, 5)]]
    assert len(house.signer.signed) == 1


def test_a_nonce_that_another_wallet_takes() -> None:
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go()
    house.node.use_nonce("stranger")
    house.go(passes=3)
    assert house.only.settlement.nonce == 0  # it may come undone
    assert len(house.signer.signed) == 1
    house.go(blocks=2)
    assert house.report.failures[Trouble.DISPLACED] == 1
    house.go()
    house.go(blocks=3)
    assert house.state() is SettlementState.CONFIRMED
    assert [each.nonce for each in house.signer.signed.values()] == [0, 1]
    assert burned(house) == [[(ALICE, 5)]]


def test_a_node_that_does_not_show_who_took_it() -> None:
    house = House(alice=10)
    house.node.automine = False
    house.ledger.owe(ALICE, 5)
    house.go()
    house.node.use_nonce("stranger")
    house.node.strangers["stranger"] = -1  # found nowhere
    house.go(passes=3, blocks=2)
    assert house.only.settlement.nonce == 0
    assert house.report.troubles == {Trouble.NONCE}
    assert len(house.signer.signed) == 1


def test_while_another_wallet_uses_the_account_nothing_is_signed() -> None:
    house = House(alice=10)
    house.node.use_nonce("stranger")
    house.ledger.owe(ALICE, 5)
    house.go()
    assert house.report.troubles == {Trouble.NONCE}
    assert not house.signer.signed
    house.go(blocks=2)
    assert [each.nonce for each in house.signer.signed.values()] == [1]


# --- one among others -----------------------------------------------------------------------------


def test_one_settlement_does_not_stop_another() -> None:
    other = Token("0x" + "c1" * 20, 7)
    house = House(alice=10, bob=10)
    house.ledger.owe(ALICE, 5)
    house.ledger.owe(BOB, 5, other)
    balances = house.node.balances

    async def fail_for_one(contract: str, holders: list[tuple[str, int]]) -> list[int]:
        if contract == CONTRACT:
            raise RefusedError(-32000, "I do not like it")
        return await balances(contract, holders)

    house.node.balances = fail_for_one  # type: ignore[method-assign, assignment]
    house.go(passes=2, blocks=2)
    house.go(blocks=2)
    assert burned(house) == [[(BOB, 5)]]
    assert house.report.troubles == {Trouble.REFUSED}
    assert house.report.problem == ("settlement 1: the node refused: I do not like it (-32000)")


def test_nothing_is_claimed_while_gas_is_too_dear() -> None:
    house = House(alice=10)
    house.node.base_fee = 200 * GWEI
    house.ledger.owe(ALICE, 5)
    house.go(passes=2)
    assert house.ledger.total(PENDING) == 5
    assert house.report.troubles == {Trouble.TOO_DEAR}
    house.node.base_fee = GWEI
    house.go()
    house.go(blocks=2)
    assert burned(house) == [[(ALICE, 5)]]
    assert not house.report.troubles


def test_what_is_claimed_waits_while_gas_is_too_dear() -> None:
    house = House(alice=10)
    house.node.failures["look"] = UnreachableError("away")
    house.ledger.owe(ALICE, 5)
    house.go()
    assert house.ledger.total(CLAIMED) == 5
    house.node.failures.clear()
    house.node.base_fee = 200 * GWEI
    house.go(passes=3)
    assert house.report.troubles == {Trouble.TOO_DEAR}
    assert not house.signer.signed
