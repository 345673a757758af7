"""Admission: all limits or none, and whatever was set aside ends once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from gatekeeper.credits.admission import (
    STALE,
    Admission,
    Admitted,
    Caller,
    Ending,
    Hold,
    Limit,
    Stale,
)
from gatekeeper.errors import Refusal
from gatekeeper.usage.records import Spent
from tests.auth.support import outcome
from tests.credits.sellers import caller, now

ALICE = caller()


class Ticket(Hold):
    """Keeps count of what becomes of it."""

    def __init__(self, gate: Gate, lines: Sequence[bytes] = ()) -> None:
        self.gate = gate
        self.lines = lines
        self.ended = 0
        gate.held.append(self)

    def settle(self, ending: Ending) -> Spent | None:
        self._end()
        self.gate.endings.append(ending)
        return self.gate.spent

    def release(self) -> None:
        self._end()

    def _end(self) -> None:
        self.ended += 1
        self.gate.held.remove(self)


class Gate(Limit):
    """A limit that does as it is told: ``unknown`` so often, then ``answer``."""

    def __init__(self, unknown: int = 0, answer: Refusal | bool = True) -> None:
        self.unknown = unknown
        self.answer = answer
        self.held: list[Ticket] = []
        self.endings: list[Ending] = []
        self.spent: Spent | None = None
        self.lines: Sequence[bytes] = ()
        self.reads: list[Deferred[None]] = []
        self.reserved = 0

    def reserve(self, caller: Caller) -> Hold | Stale | None:
        assert caller is ALICE
        self.reserved += 1
        if self.unknown:
            return STALE
        if isinstance(self.answer, Refusal):
            raise self.answer
        return Ticket(self, self.lines) if self.answer else None

    async def read(self, caller: Caller) -> None:
        assert caller is ALICE
        self.reads.append(Deferred())
        await self.reads[-1]

    def tell(self) -> None:
        self.unknown -= 1
        self.reads.pop().callback(None)


def admitted(admission: Admission) -> Admitted:
    found = admission.admit(ALICE)
    assert isinstance(found, Admitted)
    return found


def later(admission: Admission) -> list[Any]:
    found = admission.admit(ALICE)
    assert isinstance(found, Deferred)
    return outcome(found)


NO = Refusal("insufficient_credits", "no", status=402)


def test_all_limits_set_something_aside_at_once() -> None:
    first, unconcerned, last = Gate(), Gate(answer=False), Gate()
    first.lines, last.lines = (b"ratelimit: a",), (b"x: 1", b"y: 2")
    found = admitted(Admission([first, unconcerned, last]))
    assert found.lines == [b"ratelimit: a", b"x: 1", b"y: 2"]
    assert [len(gate.held) for gate in (first, unconcerned, last)] == [1, 0, 1]


def test_it_is_settled_with_what_was_used() -> None:
    first, silent, last = Gate(), Gate(), Gate()
    first.spent, last.spent = Spent("a", "b", "c", 1), Spent("d", "e", "f", 2)
    found = admitted(Admission([first, silent, last]))
    found.read_price([b"content-length: 5", b"NVMCreditsConsumed: 7"])
    assert found.settle(201, 9) == (first.spent, last.spent)
    for gate in (first, silent, last):
        assert gate.endings == [Ending(201, 9, 7)]
        assert gate.held == []


def test_it_is_released_as_a_whole() -> None:
    gates = [Gate(), Gate()]
    admitted(Admission(gates)).release()
    assert [gate.held for gate in gates] == [[], []]
    assert [gate.endings for gate in gates] == [[], []]


@pytest.mark.parametrize(
    ("lines", "price"),
    [
        ([], None),
        ([b"nvmcreditsconsumed:7"], 7),
        ([b"x: 1", b"NVMCREDITSCONSUMED: \t7 "], 7),
        ([b"nvmcreditsconsumed: 0"], 0),
        ([b"nvmcreditsconsumed: 7", b"nvmcreditsconsumed: 7"], None),
        ([b"nvmcreditsconsumed: -7"], None),
        ([b"nvmcreditsconsumed-x: 7", b"x-nvmcreditsconsumed: 7"], None),
        ([b"nvmcreditsconsumed : 7"], None),
    ],
)
def test_the_price_that_the_upstream_states(lines: list[bytes], price: int | None) -> None:
    gate = Gate()
    found = admitted(Admission([gate]))
    assert found.requested is None
    found.read_price(lines)
    found.settle(200, 1)
    assert gate.endings == [Ending(200, 1, price)]


def test_a_refusal_leaves_nothing_set_aside() -> None:
    first, refusing, last = Gate(), Gate(answer=NO), Gate()
    with pytest.raises(Refusal) as caught:
        Admission([first, refusing, last]).admit(ALICE)
    assert caught.value is NO
    assert first.held == []
    assert last.reserved == 0


def test_while_something_is_found_out_nothing_is_set_aside() -> None:
    first, stale, last = Gate(), Gate(unknown=1), Gate()
    found = later(Admission([first, stale, last]))
    assert found == []
    assert first.held == []
    stale.tell()
    (result,) = found
    assert isinstance(result, Admitted)
    assert [len(gate.held) for gate in (first, stale, last)] == [1, 1, 1]
    result.settle(200, 1)


def test_a_refusal_after_it_was_found_out() -> None:
    first, stale = Gate(), Gate(unknown=1, answer=NO)
    found = later(Admission([first, stale]))
    stale.tell()
    assert found[0].value is NO
    assert first.held == []


def test_what_cannot_be_found_out() -> None:
    first, stale = Gate(), Gate(unknown=1)
    found = later(Admission([first, stale]))
    away = Refusal("balance_unavailable", "away", status=503)
    stale.reads[0].errback(away)
    assert found[0].value is away
    assert first.held == []


def test_who_is_cancelled_has_set_nothing_aside() -> None:
    first, stale, last = Gate(), Gate(unknown=1), Gate()
    waiting = Admission([first, stale, last]).admit(ALICE)
    assert isinstance(waiting, Deferred)
    waiting.cancel()
    with pytest.raises(CancelledError):
        now(waiting)
    assert [gate.held for gate in (first, stale, last)] == [[], [], []]
    assert last.reserved == 0


def test_every_limit_may_have_to_find_out_something_first() -> None:
    gates = [Gate(unknown=1) for _ in range(5)]
    found = later(Admission(gates))
    for gate in gates:
        assert found == []
        gate.tell()
    (result,) = found
    result.release()
    assert all(gate.held == [] for gate in gates)


def test_what_is_never_known_for_long_enough_ends() -> None:
    first, stale = Gate(), Gate(unknown=1000)
    found = later(Admission([first, stale]))
    for _ in range(20):
        if not found:
            stale.tell()
    refusal = found[0].value
    assert (refusal.status, refusal.reason) == (503, "admission_busy")
    assert refusal.fields == ((b"retry-after", b"1"),)
    assert first.held == []
    assert stale.reads == []


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([True, False, NO])), max_size=5),
    st.none() | st.integers(0, 12),
)
def test_all_or_nothing(plan: list[tuple[int, Refusal | bool]], cancel_at: int | None) -> None:
    gates = [Gate(*each) for each in plan]
    try:
        found = Admission(gates).admit(ALICE)
    except Refusal:
        assert any(each is NO for _, each in plan)
        assert all(gate.held == [] for gate in gates)
        return
    answers = []
    if isinstance(found, Deferred):
        answers = outcome(found)
        steps = 0
        while not answers:
            assert all(gate.held == [] for gate in gates)
            if steps == cancel_at:
                found.cancel()
            else:
                (stale,) = [gate for gate in gates if gate.reads]
                stale.tell()
            steps += 1
    else:
        answers = [found]
    (answer,) = answers
    if isinstance(answer, Admitted):
        assert all(each is not NO for _, each in plan)
        assert [len(gate.held) for gate in gates] == [int(each is True) for _, each in plan]
        answer.settle(200, 1)
    assert all(gate.held == [] for gate in gates)
