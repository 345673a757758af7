"""Accounts: one question for all who want to know; what is spent is counted exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from gatekeeper.credits.accounts import Accounts, Answer, OutageError, UnreadableError
from gatekeeper.credits.reservations import FullError, Reservation, Shortage
from gatekeeper.usage.records import QUOTA, Account, Spent
from tests.auth.support import Logged, outcome
from tests.credits.sellers import ALICE, ON_CHAIN, Turns, now

BOB = ALICE._replace(holder="bob")
DAILY = Account(QUOTA, "acme/user/day/2024-05-01", "alice")
OTHER_CHAIN = ON_CHAIN._replace(source="0x" + "0c" * 20)


class World:
    """Accounts whose readings are answered by the test."""

    def __init__(self, size: int = 100, ttl: float = 30.0, *, open: bool = True) -> None:
        self.turns = Turns()
        self.clock = Clock()
        self.asked: list[tuple[list[Account], Deferred[Sequence[Answer]]]] = []
        self.accounts = Accounts(
            self._read, ttl, self.clock.seconds, self.turns.call_soon, size=size
        )
        if open:
            self.accounts.open()

    async def _read(self, accounts: Sequence[Account]) -> Sequence[Answer]:
        answered: Deferred[Sequence[Answer]] = Deferred()
        self.asked.append((list(accounts), answered))
        return await answered

    def know(self, account: Account, balance: int, owed: int = 0) -> None:
        """Read an account."""
        read = outcome(self.accounts.read(account))
        self.turns.run()
        self.asked.pop()[1].callback([(balance, owed)])
        assert read == [None]

    def reserve(self, account: Account, amount: int) -> Reservation:
        found = self.accounts.reserve(account, amount, amount)
        assert isinstance(found, Reservation)
        return found


def failed(read: list[Any]) -> BaseException:
    (failure,) = read
    error: BaseException = failure.value
    return error


# --- reading ------------------------------------------------------------------------------


def test_an_account_is_read_before_anything_is_reserved() -> None:
    world = World()
    assert world.accounts.reserve(ALICE, 1, 1) is None
    assert world.accounts.available(ALICE) is None
    world.know(ALICE, 10, owed=3)
    assert world.accounts.available(ALICE) == 7
    assert world.accounts.reserve(ALICE, 8, 1) == Shortage(8, 7)
    world.reserve(ALICE, 7)
    assert world.accounts.reserve(ALICE, 1, 1) == Shortage(1, 0)
    world.clock.advance(30.0)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    assert repr(world.accounts) == "<Accounts: 1>"


def test_an_allowance_is_beside_what_the_account_has() -> None:
    world = World()
    world.know(DAILY, 0, owed=8)
    assert world.accounts.reserve(DAILY, 3, 3, 10) == Shortage(3, 2)
    assert isinstance(world.accounts.reserve(DAILY, 2, 2, 10), Reservation)


def test_one_account_is_asked_for_once_at_a_time() -> None:
    world = World()
    before = outcome(world.accounts.read(ALICE))
    world.turns.run()
    after = outcome(world.accounts.read(ALICE))
    assert world.turns.run() == 0
    ((accounts, answered),) = world.asked
    assert accounts == [ALICE]
    answered.callback([(5, 0)])
    assert before == after == [None]
    world.accounts.read(ALICE)
    assert world.turns.run() == 1


def test_all_of_one_turn_are_asked_for_together() -> None:
    world = World()
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB, DAILY, ALICE)]
    assert world.turns.run() == 1
    ((accounts, answered),) = world.asked
    assert accounts == [ALICE, BOB, DAILY]
    later = outcome(world.accounts.read(ON_CHAIN))  # belongs to the next turn
    answered.callback([(5, 0), UnreadableError("broken"), (7, 1)])
    assert (reads[0], reads[2], reads[3], later) == ([None], [None], [None], [])
    assert str(failed(reads[1])) == "broken"
    assert world.accounts.available(ALICE) == 5
    assert world.accounts.available(BOB) is None
    assert world.accounts.available(DAILY) == 6
    assert world.turns.run() == 1
    assert world.asked[1][0] == [ON_CHAIN]


def test_nobody_waits_for_a_chain_that_is_not_theirs() -> None:
    world = World()
    accounts = (ON_CHAIN, ALICE, OTHER_CHAIN, DAILY, ON_CHAIN._replace(name="9"))
    reads = [outcome(world.accounts.read(each)) for each in accounts]
    world.turns.run()
    assert [asked for asked, _ in world.asked] == [
        [ON_CHAIN, ON_CHAIN._replace(name="9")],
        [ALICE, DAILY],
        [OTHER_CHAIN],
    ]
    world.asked[1][1].callback([(1, 0), (2, 0)])
    assert reads == [[], [None], [], [None], []]
    world.asked[2][1].errback(OutageError("away"))
    assert isinstance(failed(reads[2]), OutageError)
    assert reads[0] == []


def test_a_question_is_about_so_many_at_the_most() -> None:
    world = World(size=2000)
    accounts = [ALICE._replace(holder=str(number)) for number in range(1201)]
    reads = [outcome(world.accounts.read(each)) for each in accounts]
    world.turns.run()
    assert [len(asked) for asked, _ in world.asked] == [500, 500, 201]
    for number, (asked, answered) in enumerate(world.asked):
        if number == 1:
            answered.errback(UnreadableError("this part only"))
        else:
            answered.callback([(int(each.holder), 0) for each in asked])
    for number, (account, read) in enumerate(zip(accounts, reads, strict=True)):
        if 500 <= number < 1000:
            assert str(failed(read)) == "this part only"
        else:
            assert world.accounts.available(account) == number


def test_who_cancels_leaves_the_others_alone() -> None:
    world = World()
    first, second = world.accounts.read(ALICE), outcome(world.accounts.read(ALICE))
    world.turns.run()
    first.cancel()
    with pytest.raises(CancelledError):
        now(first)
    world.asked[0][1].callback([(5, 0)])
    assert second == [None]
    assert world.accounts.available(ALICE) == 5


def test_when_all_have_cancelled_the_answer_is_still_kept() -> None:
    world = World()
    only = world.accounts.read(ALICE)
    only.cancel()
    assert isinstance(failed(outcome(only)), CancelledError)
    world.turns.run()
    world.asked[0][1].callback([(5, 0)])
    assert world.accounts.available(ALICE) == 5


def test_an_unreadable_account_is_asked_for_again() -> None:
    world = World(size=1)
    for kind in (UnreadableError, OutageError):
        read = outcome(world.accounts.read(ALICE))
        world.turns.run()
        world.asked.pop()[1].callback([kind("no")])
        assert type(failed(read)) is kind
        assert world.accounts.reserve(ALICE, 1, 1) is None
    world.know(BOB, 5)  # for which there is room: nothing was left behind


def test_what_should_not_happen_is_logged_and_makes_accounts_unreadable(logged: Logged) -> None:
    world = World()
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB)]
    world.turns.run()
    world.asked[0][1].errback(ZeroDivisionError("a bug"))
    assert all(isinstance(failed(read), UnreadableError) for read in reads)
    assert "ZeroDivisionError" in logged.text
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB)]
    world.turns.run()
    world.asked[1][1].callback([(5, 0)])  # one answer for two
    assert all(isinstance(failed(read), UnreadableError) for read in reads)
    world.know(ALICE, 5)


def test_answers_that_come_late_are_believed_all_the_same() -> None:
    world = World(ttl=5.0)
    read = outcome(world.accounts.read(ALICE))
    world.turns.run()
    world.clock.advance(60.0)
    world.asked[0][1].callback([(5, 0)])
    assert read == [None]
    world.reserve(ALICE, 1)
    world.clock.advance(4.9)
    world.reserve(ALICE, 1)
    world.clock.advance(0.1)
    assert world.accounts.reserve(ALICE, 1, 1) is None


def test_there_is_no_room_for_one_more() -> None:
    world = World(size=1)
    world.know(ALICE, 5)
    held = world.reserve(ALICE, 1)
    read = outcome(world.accounts.read(BOB))
    assert isinstance(failed(read), UnreadableError)
    assert world.turns.run() == 0
    for take in (world.accounts.spend, world.accounts.set_aside):
        with pytest.raises(FullError):
            take(BOB, 1)
    world.accounts.release(held)
    world.know(BOB, 5)
    assert len(world.asked) == 0


# --- before the store has what an earlier run has metered -----------------------------------


def test_nothing_is_reserved_or_read_before_it_is_open() -> None:
    world = World(open=False)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    error = failed(outcome(world.accounts.read(ALICE)))
    assert isinstance(error, UnreadableError)
    assert not isinstance(error, OutageError)
    assert world.turns.run() == 0
    world.accounts.flushed({ALICE: 100})  # an earlier run's
    world.accounts.open()
    world.know(ALICE, 10, owed=4)
    assert world.accounts.available(ALICE) == 6


# --- spending -----------------------------------------------------------------------------


def test_what_was_spent_counts_until_the_store_counts_it() -> None:
    world = World()
    world.know(ALICE, 10)
    world.accounts.settle(world.reserve(ALICE, 4), 3)
    assert world.accounts.available(ALICE) == 7
    world.know(ALICE, 10)  # not in the store yet
    assert world.accounts.available(ALICE) == 7
    world.accounts.flushed({ALICE: 3, BOB: 0})
    assert world.accounts.available(ALICE) == 7  # what is known was read before
    world.know(ALICE, 10, owed=3)
    assert world.accounts.available(ALICE) == 7


def test_a_flush_during_a_reading_is_never_missed() -> None:
    world = World()
    world.know(ALICE, 10)
    world.accounts.settle(world.reserve(ALICE, 4), 4)
    read = outcome(world.accounts.read(ALICE))
    world.turns.run()
    world.accounts.flushed({ALICE: 4})
    world.asked[0][1].callback([(10, 0)])  # it was read before that
    assert read == [None]
    assert world.accounts.available(ALICE) == 6
    world.know(ALICE, 10, owed=4)
    assert world.accounts.available(ALICE) == 6


def test_what_was_not_written_down_was_not_spent() -> None:
    world = World(size=1)
    world.know(ALICE, 10)
    world.accounts.settle(world.reserve(ALICE, 4), 3)
    world.accounts.lost([Spent(*ALICE, 3), Spent(*BOB, 0)])
    assert world.accounts.available(ALICE) == 10
    world.know(BOB, 1)  # nothing is left of Alice that has to be kept


def test_what_is_spent_without_a_reservation() -> None:
    world = World()
    world.accounts.spend(ALICE, 3)
    assert world.accounts.available(ALICE) is None
    world.know(ALICE, 10)
    assert world.accounts.available(ALICE) == 7
    assert world.accounts.reserve(ALICE, 8, 8) == Shortage(8, 7)


def test_what_is_set_aside_whether_it_is_there_or_not() -> None:
    world = World()
    held = [world.accounts.set_aside(ALICE, 6), world.accounts.set_aside(ALICE, 6)]
    world.know(ALICE, 10)
    assert world.accounts.available(ALICE) == -2
    assert world.accounts.reserve(ALICE, 1, 1) == Shortage(1, 0)
    world.accounts.settle(held[0], 5)
    world.accounts.release(held[1])
    assert world.accounts.available(ALICE) == 5
    world.accounts.flushed({ALICE: 5})
    world.know(ALICE, 10, owed=5)
    assert world.accounts.available(ALICE) == 5


# --- whatever happens, in whatever order ----------------------------------------------------


class Machine(RuleBasedStateMachine):
    """One prepaid account that is read, drawn on, flushed and granted more, at any time."""

    held = Bundle("held")

    @initialize(granted=st.integers(0, 12))
    def begin(self, granted: int) -> None:
        self.world = World(ttl=5.0)
        self.granted = granted
        self.stored = self.local = self.reserved = 0

    @rule()
    def ask(self) -> None:
        self.world.accounts.read(ALICE).addErrback(lambda failure: None)

    @rule(fails=st.booleans())
    def answer(self, fails: bool) -> None:
        self.world.turns.run()
        for asked, answered in self.world.asked:
            one: Answer = UnreadableError("no") if fails else (self.granted, self.stored)
            answered.callback([one] * len(asked))
        self.world.asked.clear()

    @rule(target=held, amount=st.integers(1, 4))
    def reserve(self, amount: int) -> tuple[Reservation, int] | None:
        found = self.world.accounts.reserve(ALICE, amount, amount)
        if not isinstance(found, Reservation):
            return None
        assert amount <= self.granted - self.stored - self.local - self.reserved
        self.reserved += amount
        return found, amount

    @rule(one=consumes(held), share=st.integers(0, 4))
    def settle(self, one: tuple[Reservation, int] | None, share: int) -> None:
        if one is not None:
            reservation, amount = one
            cost = min(share, amount)
            self.world.accounts.settle(reservation, cost)
            self.reserved -= amount
            self.local += cost

    @rule()
    def flush(self) -> None:
        flushed, self.local = self.local, 0
        self.stored += flushed
        self.world.accounts.flushed({ALICE: flushed})

    @rule()
    def lose(self) -> None:
        lost, self.local = self.local, 0
        self.world.accounts.lost([Spent(*ALICE, lost)])

    @rule(more=st.integers(1, 5))
    def grant(self, more: int) -> None:
        self.granted += more

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @invariant()
    def never_more_than_there_is(self) -> None:
        available = self.world.accounts.available(ALICE)
        left = self.granted - self.stored - self.local - self.reserved
        assert left >= 0
        if available is not None:
            assert available <= left


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase
