"""Accounts: one question for all who want to know; what is spent is counted exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from gatekeeper.credits.accounts import Accounts, AwayError, OutageError, UnreadableError
from gatekeeper.credits.reservations import FullError, Reservation, Shortage
from gatekeeper.store.leases import ChainBalance, Leased, Seen, Wish
from gatekeeper.usage.records import QUOTA, Account, Spent
from tests.auth.support import Logged, outcome
from tests.credits.sellers import ALICE, ON_CHAIN, Turns, now

BOB = ALICE._replace(holder="bob")
DAILY = Account(QUOTA, "acme/user/day/2024-05-01", "alice")
OTHER_CHAIN = ON_CHAIN._replace(source="0x" + "0c" * 20)
TTL = 30.0


class World:
    """Accounts whose leases are answered by the test."""

    def __init__(self, size: int = 100, *, lasts: float = 100.0, open: bool = True) -> None:
        self.turns = Turns()
        self.clock = Clock()
        self.asked: list[tuple[list[Wish], Deferred[Sequence[Leased]]]] = []
        self.chain: list[tuple[list[Account], Deferred[Sequence[Any]]]] = []
        self.released: list[Sequence[str]] = []
        self.accounts = Accounts(
            self, TTL, self.clock.seconds, self.turns.call_soon, size=size, lasts=lasts
        )
        if open:
            self.accounts.open("here-0")

    # What accounts need of a lender.

    async def on_chain(self, accounts: Sequence[Account]) -> Sequence[Any]:
        if not any(each.is_on_chain for each in accounts):
            return [None] * len(accounts)
        self.chain.append((list(accounts), Deferred()))
        return await self.chain[-1][1]

    async def lease(self, owner: str, wishes: Sequence[Wish]) -> Sequence[Leased]:
        assert owner == "here-0"
        self.asked.append((list(wishes), Deferred()))
        return await self.asked[-1][1]

    async def release(self, owners: Sequence[str], older: float) -> None:
        self.released.append(owners)

    # What tests do.

    def answer(self, *leased: Leased) -> list[Wish]:
        """Answer the one question that is open; what it was."""
        ((wishes, answered),) = self.asked
        self.asked.clear()
        answered.callback(leased)
        return wishes

    def know(self, account: Account, lease: int, taken: int = 0, free: int = 0) -> None:
        """Read an account."""
        read = outcome(self.accounts.read(account))
        self.turns.run()
        self.answer(Leased(lease, taken, free))
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
    world.know(ALICE, 7, 7)
    assert world.accounts.available(ALICE) == 7
    assert world.accounts.reserve(ALICE, 8, 1) == Shortage(8, 7)
    world.reserve(ALICE, 7)
    assert world.accounts.reserve(ALICE, 1, 1) == Shortage(1, 0)
    world.clock.advance(TTL)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    assert repr(world.accounts) == "<Accounts: 1>"


def test_what_requests_wait_for_is_asked_for() -> None:
    world = World()
    for amount in (3, 2, 4):
        assert world.accounts.reserve(DAILY, amount, amount, 50) is None
        world.accounts.read(DAILY)
    world.turns.run()
    (wish,) = world.answer(Leased(9, 9, 41))
    assert wish == Wish(DAILY, 0, 2, 9, 36, 50)
    assert world.accounts.available(DAILY) == 50


def test_one_account_is_asked_for_once_at_a_time() -> None:
    world = World()
    before = outcome(world.accounts.read(ALICE))
    world.turns.run()
    after = outcome(world.accounts.read(ALICE))
    assert world.turns.run() == 0
    assert [wish.account for wish in world.answer(Leased(5))] == [ALICE]
    assert before == after == [None]
    world.accounts.read(ALICE)
    assert world.turns.run() == 1


def test_all_of_one_turn_are_asked_for_together() -> None:
    world = World()
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB, DAILY, ALICE)]
    assert world.turns.run() == 1
    later = outcome(world.accounts.read(ALICE._replace(name="other")))  # belongs to the next turn
    wishes = world.answer(Leased(5), Leased(6), Leased(7))
    assert [wish.account for wish in wishes] == [ALICE, BOB, DAILY]
    assert reads == [[None]] * 4
    assert later == []
    assert [world.accounts.available(each) for each in (ALICE, BOB, DAILY)] == [5, 6, 7]
    assert world.turns.run() == 1
    assert len(world.asked) == 1


def test_nobody_waits_for_a_chain_that_is_not_theirs() -> None:
    world = World()
    second = ON_CHAIN._replace(name="9")
    reads = [
        outcome(world.accounts.read(each)) for each in (ON_CHAIN, ALICE, OTHER_CHAIN, DAILY, second)
    ]
    world.turns.run()
    assert [asked for asked, _ in world.chain] == [[ON_CHAIN, second], [OTHER_CHAIN]]
    world.answer(Leased(1), Leased(2))
    assert reads == [[], [None], [], [None], []]
    world.chain[1][1].errback(OutageError("away"))
    assert isinstance(failed(reads[2]), OutageError)
    assert reads[0] == []


def test_balances_on_a_chain_go_with_the_question() -> None:
    world = World()
    second = ON_CHAIN._replace(name="9")
    reads = []
    for account in (ON_CHAIN, second):
        assert world.accounts.reserve(account, 3, 3) is None
        reads.append(outcome(world.accounts.read(account)))
    world.turns.run()
    world.accounts.reserve(ON_CHAIN, 2, 2)  # it waits, too, while the chain is asked
    late = outcome(world.accounts.read(ON_CHAIN))
    balance = ChainBalance(10, Seen())
    world.chain[0][1].callback([balance, UnreadableError("broken")])
    assert str(failed(reads[1])) == "broken"
    (wish,) = world.answer(Leased(5, 5, 5))
    assert (wish.account, wish.demand, wish.balance) == (ON_CHAIN, 5, balance)
    assert reads[0] == late == [None]
    read = outcome(world.accounts.read(second))
    world.turns.run()
    world.chain[1][1].callback([balance])
    (wish,) = world.answer(Leased(0, 0, 10))
    assert wish.demand == 0, "nobody waits any more"
    assert read == [None]


def test_a_question_is_about_so_many_at_the_most() -> None:
    world = World(size=2000)
    accounts = [ALICE._replace(holder=str(number)) for number in range(250)]
    reads = [outcome(world.accounts.read(each)) for each in accounts]
    world.turns.run()
    assert [len(wishes) for wishes, _ in world.asked] == [100, 100, 50]
    for number, (wishes, answered) in enumerate(world.asked):
        if number == 1:
            answered.errback(UnreadableError("this part only"))
        else:
            answered.callback([Leased(int(wish.account.holder)) for wish in wishes])
    for number, (account, read) in enumerate(zip(accounts, reads, strict=True)):
        if 100 <= number < 200:
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
    world.answer(Leased(5))
    assert second == [None]
    assert world.accounts.available(ALICE) == 5


def test_when_all_have_cancelled_the_answer_is_still_kept() -> None:
    world = World()
    only = world.accounts.read(ALICE)
    only.cancel()
    assert isinstance(failed(outcome(only)), CancelledError)
    world.turns.run()
    world.answer(Leased(5))
    assert world.accounts.available(ALICE) == 5


def test_an_unreadable_account_is_asked_for_again() -> None:
    world = World(size=1)
    for kind in (UnreadableError, OutageError, AwayError):
        read = outcome(world.accounts.read(ALICE))
        world.turns.run()
        world.asked.pop()[1].errback(kind("no"))
        assert type(failed(read)) is kind
        assert world.accounts.reserve(ALICE, 1, 1) is None
    world.know(BOB, 5)  # for which there is room: nothing was left behind


def test_what_should_not_happen_is_logged_and_makes_accounts_unreadable(logged: Logged) -> None:
    world = World()
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB)]
    world.turns.run()
    world.asked.pop()[1].errback(ZeroDivisionError("a bug"))
    assert all(isinstance(failed(read), UnreadableError) for read in reads)
    assert "ZeroDivisionError" in logged.text
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB)]
    world.turns.run()
    world.answer(Leased(5))  # one answer for two
    assert isinstance(failed(reads[1]), UnreadableError)
    world.know(BOB, 5)


def test_answers_that_come_late_are_believed_all_the_same() -> None:
    world = World()
    read = outcome(world.accounts.read(ALICE))
    world.turns.run()
    world.clock.advance(60.0)
    world.answer(Leased(5, 5))
    assert read == [None]
    world.reserve(ALICE, 1)
    world.clock.advance(29.9)
    world.reserve(ALICE, 1)
    world.clock.advance(0.1)
    assert world.accounts.reserve(ALICE, 1, 1) is None


def test_there_is_no_room_for_one_more() -> None:
    world = World(size=1)
    world.know(ALICE, 5, 5)
    held = world.reserve(ALICE, 1)
    assert world.accounts.reserve(BOB, 1, 1) is None
    read = outcome(world.accounts.read(BOB))
    world.turns.run()
    assert isinstance(failed(read), UnreadableError)
    assert world.asked == []
    for take in (world.accounts.spend, world.accounts.set_aside):
        with pytest.raises(FullError):
            take(BOB, 1)
    world.accounts.release(held)
    world.know(BOB, 5)


def test_a_change_is_looked_for() -> None:
    world = World()
    world.know(ALICE, 5, 5)
    world.accounts.expire(ALICE)
    assert world.accounts.reserve(ALICE, 1, 1) is None


# --- before the store has what an earlier run has metered -----------------------------------


def test_nothing_is_reserved_or_read_before_it_is_open() -> None:
    world = World(open=False)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    error = failed(outcome(world.accounts.read(ALICE)))
    assert isinstance(error, UnreadableError)
    assert not isinstance(error, OutageError | AwayError)
    assert world.turns.run() == 0
    world.accounts.flushed({ALICE: 100})  # an earlier run's
    world.accounts.open("here-0")
    world.know(ALICE, 6, 6)
    assert world.accounts.available(ALICE) == 6


# --- spending -----------------------------------------------------------------------------


def test_what_was_spent_counts_until_it_has_gone_off_the_lease() -> None:
    world = World()
    world.know(ALICE, 10, 10)
    world.accounts.settle(world.reserve(ALICE, 10), 3)
    assert world.accounts.available(ALICE) == 7
    world.know(ALICE, 10)  # not in the store yet
    assert world.accounts.available(ALICE) == 7
    world.accounts.flushed({ALICE: 3, BOB: 0})
    assert world.accounts.available(ALICE) == 7  # what is known was answered before
    world.know(ALICE, 7)
    assert world.accounts.available(ALICE) == 7


def test_what_was_not_written_down_was_not_spent() -> None:
    world = World(size=1)
    world.know(ALICE, 10, 10)
    world.accounts.settle(world.reserve(ALICE, 4), 3)
    world.accounts.lost([Spent(*ALICE, 3), Spent(*BOB, 0)])
    assert world.accounts.available(ALICE) == 10
    world.know(BOB, 1)  # nothing is left of Alice that has to be kept


def test_what_is_spent_without_a_reservation() -> None:
    world = World()
    world.accounts.spend(ALICE, 3)
    assert world.accounts.available(ALICE) is None
    world.know(ALICE, 10, 10)
    assert world.accounts.available(ALICE) == 7
    assert world.accounts.reserve(ALICE, 8, 8) == Shortage(8, 7)


# --- the store is away ----------------------------------------------------------------------


def lose_the_store(world: World) -> list[Any]:
    """Try to read an account, and fail."""
    read = outcome(world.accounts.read(ALICE))
    world.turns.run()
    if world.asked:
        world.asked.pop()[1].errback(AwayError("away"))
    return read


def test_what_is_leased_may_be_spent_while_the_store_is_away() -> None:
    world = World(lasts=100.0)
    world.know(ALICE, 5, 5, 20)
    world.reserve(ALICE, 1)
    world.clock.advance(TTL)
    for _ in range(2):  # from the second time on, nobody waits
        assert world.accounts.reserve(ALICE, 1, 1) is None
        assert lose_the_store(world) == [None]
        world.reserve(ALICE, 1)
        world.clock.advance(TTL)
    assert world.accounts.reserve(ALICE, 3, 3) is None
    assert lose_the_store(world) == [None]
    assert world.accounts.reserve(ALICE, 3, 3) is None, "it cannot be said that there is no more"
    assert isinstance(failed(lose_the_store(world)), AwayError)
    world.clock.advance(10.0)
    assert world.accounts.reserve(ALICE, 1, 1) is None, "the lease has ended"
    assert isinstance(failed(lose_the_store(world)), AwayError)
    world.know(ALICE, 3, 0, 20)
    assert world.accounts.available(ALICE) == 20


def test_after_the_store_was_found_to_be_away_nobody_waits_who_has_a_lease() -> None:
    world = World()
    for account in (ALICE, BOB):
        world.know(account, 5, 5)
        world.reserve(account, 4)
    world.clock.advance(TTL)
    assert lose_the_store(world) == [None]
    assert outcome(world.accounts.read(BOB)) == [None]
    assert world.turns.run() == 0
    world.reserve(BOB, 1)
    read = outcome(world.accounts.read(DAILY))  # who has none asks
    world.turns.run()
    world.answer(Leased(5, 5))
    assert read == [None]
    world.clock.advance(TTL)
    world.accounts.read(BOB)
    assert world.turns.run() == 1, "it is there again"


# --- giving back ----------------------------------------------------------------------------


def test_what_nobody_draws_on_is_given_back() -> None:
    world = World()
    world.know(ALICE, 5, 5)
    world.know(BOB, 6, 6)
    held = world.reserve(BOB, 2)
    world.clock.advance(TTL)
    gave = outcome(Deferred.fromCoroutine(world.accounts.give_back()))
    assert world.accounts.reserve(ALICE, 3, 3) is None
    waiting = outcome(world.accounts.read(ALICE))  # two questions at once could not be told apart
    assert world.turns.run() == 0
    assert world.answer(Leased(0), Leased(2)) == [Wish(ALICE, 5), Wish(BOB, 4)]
    assert gave == waiting == [None]
    assert [world.accounts.available(each) for each in (ALICE, BOB)] == [0, 0]
    world.accounts.release(held)
    assert world.accounts.available(BOB) == 2


def test_whoever_is_being_asked_for_gives_nothing_back() -> None:
    world = World()
    world.know(ALICE, 5, 5)
    world.clock.advance(TTL)
    world.accounts.read(ALICE)
    assert outcome(Deferred.fromCoroutine(world.accounts.give_back())) == [None]
    world.turns.run()
    world.answer(Leased(5))
    assert world.accounts.available(ALICE) == 5


def test_the_store_is_away_when_something_is_given_back() -> None:
    world = World(size=2000)
    accounts = [ALICE._replace(holder=str(number)) for number in range(150)]
    for account in accounts:
        world.know(account, 5, 5)
    world.clock.advance(TTL)
    gave = outcome(Deferred.fromCoroutine(world.accounts.give_back()))
    waiting = [outcome(world.accounts.read(each)) for each in accounts]
    world.asked.pop()[1].errback(AwayError("away"))
    assert isinstance(failed(gave), AwayError)
    assert waiting == [[None]] * 150
    assert world.accounts.available(accounts[0]) == 0, "it may have been done"
    world.know(accounts[0], 5)
    assert world.accounts.available(accounts[0]) == 5


def test_all_is_given_back_at_the_end() -> None:
    world = World()
    world.know(ALICE, 5, 5)
    assert outcome(Deferred.fromCoroutine(world.accounts.close())) == [None]
    assert world.released == [["here-0"]]
    assert world.accounts.reserve(ALICE, 1, 1) is None
    assert isinstance(failed(outcome(world.accounts.read(ALICE))), UnreadableError)
    never = World(open=False)
    assert outcome(Deferred.fromCoroutine(never.accounts.close())) == [None]
    assert never.released == []


def test_nothing_is_leased_after_the_end(logged: Logged) -> None:
    """Nobody would give it back."""
    world = World()
    asking = outcome(world.accounts.read(ON_CHAIN))
    world.turns.run()
    waiting = outcome(world.accounts.read(ALICE))
    closed = outcome(Deferred.fromCoroutine(world.accounts.close()))
    world.turns.run()
    world.chain[0][1].callback([ChainBalance(10, Seen())])
    assert closed == [None]
    assert world.asked == []
    for read in asking, waiting:
        assert isinstance(failed(read), UnreadableError)
    assert logged == []
