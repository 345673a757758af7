from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.credits.fees import FeeBounds, Fees
from gatekeeper.credits.ledger import (
    CARRIED,
    CHARGES,
    SETTLEMENTS,
    ChargeEvent,
    ChargeState,
    Facts,
    IllegalTransitionError,
    Look,
    Mark,
    Policy,
    Receipt,
    Send,
    Sent,
    Settlement,
    SettlementEvent,
    SettlementState,
    Sign,
    Wait,
    after_charge,
    after_settlement,
    choose_nonce,
    next_step,
    when_refused,
)

S, E = SettlementState, SettlementEvent

NOW = 1_000.0
FIRST, SECOND, STRANGER = "0x01", "0x02", "0x99"
LOW, HIGH = Fees(100, 8), Fees(200, 16)
POLICY = Policy(FeeBounds(max_fee=1000, max_priority=100), 5, resend=15, stuck=120, retries=2)


def facts(**changes: Any) -> Facts:
    usual: dict[str, Any] = {
        "head": 100,
        "spent": 7,
        "settled": 7,
        "now": NOW,
        "receipts": {},
        "wanted": LOW,
    }
    return Facts(**usual | changes)


def settlement(
    state: SettlementState, *, waited: float = 0.0, sent: float | None = 0.0, attempts: int = 0
) -> Settlement:
    """One transaction under nonce 7, signed and sent so many seconds ago."""
    if state is S.CLAIMED:
        return Settlement(state, attempts=attempts)
    sent_at = None if sent is None else NOW - sent
    return Settlement(state, 7, (Sent(FIRST, LOW, NOW - waited, sent_at),), attempts)


# --- the tables ---------------------------------------------------------------------------


def test_what_is_not_in_the_tables_is_illegal() -> None:
    for state, event in product(ChargeState, ChargeEvent):
        if (state, event) in CHARGES:
            assert after_charge(state, event) is CHARGES[state, event]
        else:
            with pytest.raises(IllegalTransitionError, match=f"of a {state.value} charge"):
                after_charge(state, event)
    for state2, event2 in product(S, E):
        if (state2, event2) in SETTLEMENTS:
            assert after_settlement(state2, event2) is SETTLEMENTS[state2, event2]
        else:
            with pytest.raises(IllegalTransitionError, match=f"of a {state2.value} settlement"):
                after_settlement(state2, event2)


def reached(table: Mapping[tuple[Any, Any], Any], start: Any) -> set[Any]:
    found = {start}
    while more := {after for (state, _), after in table.items() if state in found} - found:
        found |= more
    return found


def test_every_state_can_be_reached_and_left_or_is_an_end() -> None:
    assert reached(SETTLEMENTS, S.CLAIMED) == set(S)
    ends = {S.CONFIRMED, S.ERROR}
    assert {state for state, _ in SETTLEMENTS} == set(S) - ends
    for state in set(S) - ends:
        assert reached(SETTLEMENTS, state) >= ends
    assert reached(CHARGES, ChargeState.PENDING) == set(ChargeState) - {ChargeState.UNCOLLECTED}
    assert reached(CHARGES, ChargeState.UNCOLLECTED) == set(ChargeState)
    assert {state for state, _ in CHARGES} == set(ChargeState) - {ChargeState.BURNED}


def test_every_event_is_in_the_tables() -> None:
    assert {event for _, event in CHARGES} == set(ChargeEvent)
    assert {event for _, event in SETTLEMENTS} == set(E)


def test_every_end_of_a_settlement_ends_its_charges() -> None:
    ends = {state for state in S if not any(key[0] is state for key in SETTLEMENTS)}
    assert set(CARRIED) == ends
    for event in CARRIED.values():
        assert (ChargeState.CLAIMED, event) in CHARGES


def test_a_nonce_is_let_go_only_when_it_is_used() -> None:
    """Back to CLAIMED leads from a block of our own, or of a stranger, and from nowhere else."""
    back = {
        key for key, after in SETTLEMENTS.items() if after is S.CLAIMED and key[0] is not S.CLAIMED
    }
    assert back == {(S.MINED, E.REVERT), (S.SIGNED, E.DISPLACE), (S.SENT, E.DISPLACE)}


# --- one step -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.CONFIRMED, S.ERROR])
def test_what_has_ended_needs_nothing(state: SettlementState) -> None:
    assert next_step(settlement(state), facts(), POLICY) is None


def test_a_claimed_one_is_signed_unless_gas_is_too_dear() -> None:
    assert next_step(settlement(S.CLAIMED), facts(), POLICY) == Sign(E.SIGN, fees=LOW)
    step = next_step(settlement(S.CLAIMED), facts(wanted=None), POLICY)
    assert step == Wait("gas costs more than is allowed")


def test_a_signed_one_is_sent_however_often_that_was_tried() -> None:
    assert next_step(settlement(S.SIGNED, sent=None), facts(), POLICY) == Send(FIRST)
    assert next_step(settlement(S.SIGNED, sent=None, waited=99), facts(), POLICY) == Send(FIRST)


def test_a_sent_one_is_sent_again_now_and_then() -> None:
    assert isinstance(next_step(settlement(S.SENT, sent=14.9), facts(), POLICY), Wait)
    assert next_step(settlement(S.SENT, sent=15), facts(), POLICY) == Send(FIRST)


@pytest.mark.parametrize("state", [S.SIGNED, S.SENT])
def test_a_stuck_one_is_replaced_under_its_nonce(state: SettlementState) -> None:
    stuck = settlement(state, waited=120, sent=1)
    step = next_step(stuck, facts(wanted=HIGH), POLICY)
    assert step == Sign(E.REPLACE, 7, HIGH)
    step = next_step(stuck, facts(wanted=None), POLICY)
    assert step == Sign(E.REPLACE, 7, Fees(113, 9))


def test_a_stuck_one_at_the_highest_fee_is_only_sent_again() -> None:
    tight = Policy(FeeBounds(max_fee=105, max_priority=100), stuck=120, resend=15)
    stuck = settlement(S.SENT, waited=120, sent=1)
    assert isinstance(next_step(stuck, facts(), tight), Wait)
    assert next_step(settlement(S.SENT, waited=120, sent=20), facts(), tight) == Send(FIRST)


@pytest.mark.parametrize("state", [S.SIGNED, S.SENT])
def test_a_receipt_is_written_down_first(state: SettlementState) -> None:
    for succeeded in (True, False):
        seen = facts(receipts={FIRST: Receipt(10, succeeded)}, spent=8, settled=8)
        assert next_step(settlement(state, waited=999), seen, POLICY) == Mark(E.MINE, FIRST)


def test_the_receipt_may_be_a_sibling_s() -> None:
    two = Settlement(S.SENT, 7, (Sent(FIRST, LOW, NOW), Sent(SECOND, HIGH, NOW, NOW)))
    for name in (FIRST, SECOND):
        seen = facts(receipts={name: Receipt(99, True)}, spent=8)
        assert next_step(two, seen, POLICY) == Mark(E.MINE, name)


@pytest.mark.parametrize(
    ("block", "succeeded", "attempts", "event"),
    [
        (96, True, 0, None),
        (96, False, 0, None),
        (95, True, 0, E.CONFIRM),
        (95, True, 2, E.CONFIRM),
        (95, False, 0, E.REVERT),
        (95, False, 1, E.REVERT),
        (95, False, 2, E.GIVE_UP),
    ],
)
def test_a_block_counts_when_so_many_others_stand_on_it(
    block: int, succeeded: bool, attempts: int, event: SettlementEvent | None
) -> None:
    seen = facts(receipts={FIRST: Receipt(block, succeeded)}, spent=8)
    step = next_step(settlement(S.MINED, attempts=attempts), seen, POLICY)
    if event is None:
        assert isinstance(step, Wait)
    else:
        assert step == Mark(event, FIRST)


def test_a_receipt_that_is_gone_was_reorganized() -> None:
    for spent in (7, 8):
        seen = facts(spent=spent)
        assert next_step(settlement(S.MINED), seen, POLICY) == Mark(E.REORGANIZE, FIRST)


@pytest.mark.parametrize("state", [S.SIGNED, S.SENT])
def test_a_nonce_that_somebody_used_is_let_go_only_with_a_proof(state: SettlementState) -> None:
    ours = settlement(state, waited=999, sent=999)
    assert isinstance(next_step(ours, facts(spent=8, settled=7), POLICY), Wait)
    assert next_step(ours, facts(spent=8, settled=8), POLICY) == Look(7, 95)
    by_us = facts(spent=8, settled=8, spender=FIRST)
    assert isinstance(next_step(ours, by_us, POLICY), Wait)
    by_another = facts(spent=8, settled=8, spender=STRANGER)
    assert next_step(ours, by_another, POLICY) == Mark(E.DISPLACE, STRANGER)


def test_refusals_are_counted() -> None:
    assert [when_refused(n, POLICY) for n in range(4)] == [E.REVERT, E.REVERT, E.GIVE_UP, E.GIVE_UP]


@pytest.mark.parametrize(
    ("spent", "settled", "ours", "nonce"),
    [
        (0, 0, (), 0),
        (7, 7, (), 7),
        (7, 7, (7,), 8),
        (7, 7, (7, 8), 9),
        (7, 7, (3,), 7),  # displaced, and not yet written down
        (8, 7, (7,), 8),
        (9, 7, (7, 8, 9), 10),
        (8, 7, (), None),  # somebody else's, and not final
        (9, 7, (8,), None),
        (2**60, 0, (7,), None),
    ],
)
def test_the_next_nonce(spent: int, settled: int, ours: tuple[int, ...], nonce: int | None) -> None:
    assert choose_nonce(spent, settled, ours) == nonce


@given(
    st.sampled_from(S),
    st.integers(0, 3),
    st.integers(1, 3),
    st.builds(
        facts,
        head=st.integers(90, 110),
        spent=st.integers(6, 9),
        settled=st.integers(6, 9),
        spender=st.sampled_from([None, FIRST, STRANGER]),
        receipts=st.dictionaries(
            st.sampled_from([FIRST, SECOND]),
            st.builds(Receipt, st.integers(80, 110), st.booleans()),
        ),
        wanted=st.sampled_from([None, LOW, HIGH]),
        now=st.floats(NOW, NOW + 300),
    ),
)
def test_every_step_is_legal(
    state: SettlementState, attempts: int, count: int, seen: Facts
) -> None:
    """Whatever the facts: the event is in the table, and without a receipt nothing is final."""
    sent = tuple(Sent(f"0x0{n}", LOW, NOW, NOW) for n in range(1, count + 1))
    claimed = state is S.CLAIMED
    given = Settlement(state, None if claimed else 7, () if claimed else sent, attempts)
    step = next_step(given, seen, POLICY)
    names = {each.hash for each in sent}
    if isinstance(step, Mark | Sign):
        assert (state, step.event) in SETTLEMENTS
    if isinstance(step, Send):
        assert (state, E.SEND) in SETTLEMENTS
        assert not seen.receipts.keys() & names
    if isinstance(step, Mark) and step.event in (E.CONFIRM, E.REVERT, E.GIVE_UP):
        receipt = seen.receipts[step.hash]
        assert step.hash in names
        assert receipt.block + POLICY.confirmations <= seen.head
        assert receipt.succeeded is (step.event is E.CONFIRM)
    if isinstance(step, Mark) and step.event is E.DISPLACE:
        assert not seen.receipts.keys() & names
        assert seen.settled > 7
        assert seen.spender == STRANGER
