"""Accounts: one question for all who want to know; what is spent is counted exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from gatekeeper.credits.accounts import Accounts, AwayError, OutageError, UnreadableError
from gatekeeper.credits.reservations import FullError, Reservation, Shortage
from gatekeeper.store.leases import ChainBalance, Leased, Seen, Wish, share
from gatekeeper.usage.records import QUOTA, Account, Spent
from tests.auth.support import Logged, outcome
from tests.credits.sellers import ALICE, ON_CHAIN, Turns, now

BOB = ALICE._replace(holder="bob")
DAILY = Account(QUOTA, "acme/user/day/2024-05-01", "alice")
OTHER_CHAIN = ON_CHAIN._replace(source="0x" + "0c" * 20)


class World:
    """Accounts of one owner, who is the only one, and a lender that answers when it is told to."""

    def __init__(self, size: int = 100, ttl: float = 30.0, *, open: bool = True) -> None:
        self.turns = Turns()
        self.clock = Clock()
        self.granted: dict[Account, int] = {}
        self.spent: dict[Account, int] = {}
        self.leased: dict[Account, int] = {}
        self.unreadable: dict[Account, UnreadableError] = {}
        self.asked: list[tuple[Sequence[Wish], Deferred[Sequence[Leased]]]] = []
        self.released: list[Sequence[str]] = []
        self.accounts = Accounts(self, ttl, self.clock.seconds, self.turns.call_soon, size, 600.0)
        if open:
            self.accounts.open("me")

    # --- as a lender

    async def on_chain(
        self, accounts: Sequence[Account]
    ) -> Sequence[ChainBalance | UnreadableError | None]:
        return [self.unreadable.get(each) for each in accounts]

    async def lease(self, owner: str, wishes: Sequence[Wish]) -> Sequence[Leased]:
        assert owner == "me"
        answered: Deferred[Sequence[Leased]] = Deferred()
        self.asked.append((wishes, answered))
        return await answered

    async def release(self, owners: Sequence[str], older: float) -> None:
        self.released.append(owners)
        self.leased.clear()

    # --- what a test does

    def answer(self, number: int = 0) -> None:
        """The store does what it was asked for."""
        wishes, answered = self.asked.pop(number)
        answered.callback([self._done(wish) for wish in wishes])

    def _done(self, wish: Wish) -> Leased:
        account = wish.account
        had = self.leased.get(account, 0)
        in_all = self.granted.get(account, 0) + wish.allowance
        change, free = share(wish, had, in_all, self.spent.get(account, 0))
        self.leased[account] = had + change
        return Leased(had + change, max(change, 0), free)

    def read(self, account: Account) -> list[Any]:
        read = outcome(self.accounts.read(account))
        self.turns.run()
        self.answer()
        return read

    def reserve(self, account: Account, amount: int) -> Reservation:
        found = self.accounts.reserve(account, amount, amount)
        if found is None:
            assert self.read(account) == [None]
            found = self.accounts.reserve(account, amount, amount)
        assert isinstance(found, Reservation)
        return found

    def flush(self, spent: dict[Account, int]) -> None:
        """Usage comes into the store."""
        for account, amount in spent.items():
            self.spent[account] = self.spent.get(account, 0) + amount
            self.leased[account] = max(0, self.leased.get(account, 0) - amount)
        self.accounts.flushed(spent)


def failed(read: list[Any]) -> BaseException:
    (failure,) = read
    error: BaseException = failure.value
    return error


# --- asking -------------------------------------------------------------------------------


def test_an_account_is_leased_before_anything_is_reserved() -> None:
    world = World()
    world.granted[ALICE] = 10
    assert world.accounts.reserve(ALICE, 1, 1) is None
    assert world.accounts.available(ALICE) is None
    world.reserve(ALICE, 7)
    assert world.leased[ALICE] >= 7
    assert world.accounts.reserve(ALICE, 4, 4) == Shortage(4, 3)


def test_an_allowance_is_beside_what_was_granted() -> None:
    world = World()
    world.spent[DAILY] = 8
    assert world.accounts.reserve(DAILY, 3, 3, 10) is None
    world.read(DAILY)
    assert world.accounts.reserve(DAILY, 3, 3, 10) == Shortage(3, 2)
    assert world.accounts.reserve(DAILY, 2, 2, 10) is None
    world.read(DAILY)
    assert isinstance(world.accounts.reserve(DAILY, 2, 2, 10), Reservation)


def test_one_account_is_asked_for_once_at_a_time() -> None:
    world = World()
    before = outcome(world.accounts.read(ALICE))
    world.turns.run()
    after = outcome(world.accounts.read(ALICE))
    assert world.turns.run() == 0
    assert len(world.asked) == 1
    world.answer()
    assert before == after == [None]
    world.accounts.read(ALICE)
    assert world.turns.run() == 1


def test_those_of_one_turn_are_asked_for_together_and_each_place_by_itself() -> None:
    world = World()
    world.unreadable[OTHER_CHAIN] = OutageError("away")
    accounts = (ON_CHAIN, ALICE, OTHER_CHAIN, DAILY, BOB, ALICE)
    reads = [outcome(world.accounts.read(each)) for each in accounts]
    world.turns.run()
    asked = [[wish.account for wish in wishes] for wishes, _ in world.asked]
    assert asked == [[ON_CHAIN], [ALICE, DAILY, BOB]]
    world.answer(1)
    assert [reads[number] for number in (1, 3, 4, 5)] == [[None]] * 4
    assert isinstance(failed(reads[2]), OutageError)
    assert reads[0] == []


def test_a_question_is_about_so_many_at_the_most() -> None:
    world = World(size=2000)
    accounts = [ALICE._replace(holder=str(number)) for number in range(201)]
    for account in accounts:
        world.accounts.read(account)
    world.turns.run()
    assert [len(wishes) for wishes, _ in world.asked] == [100, 100, 1]


def test_what_all_wait_for_is_leased_at_once() -> None:
    world = World()
    world.granted[ALICE] = 7
    for _ in range(100):
        assert world.accounts.reserve(ALICE, 2, 2) is None
    world.read(ALICE)
    found = [world.accounts.reserve(ALICE, 2, 2) for _ in range(100)]
    assert sum(isinstance(each, Reservation) for each in found) == 3
    assert found[3] == Shortage(2, 1)


def test_who_cancels_leaves_the_others_alone() -> None:
    world = World()
    world.granted[ALICE] = 5
    first, second = world.accounts.read(ALICE), outcome(world.accounts.read(ALICE))
    world.turns.run()
    first.cancel()
    with pytest.raises(CancelledError):
        now(first)
    world.answer()
    assert second == [None]


def test_an_unreadable_account_is_asked_for_again() -> None:
    world = World(size=1)
    for kind in (UnreadableError, OutageError):
        world.unreadable[ON_CHAIN] = kind("no")
        read = outcome(world.accounts.read(ON_CHAIN))
        world.turns.run()
        assert type(failed(read)) is kind
        assert world.accounts.reserve(ON_CHAIN, 1, 1) is None
    assert world.asked == []


def test_what_should_not_happen_is_logged_and_makes_accounts_unreadable(logged: Logged) -> None:
    world = World()
    reads = [outcome(world.accounts.read(each)) for each in (ALICE, BOB)]
    world.turns.run()
    world.asked.pop()[1].errback(ZeroDivisionError("a bug"))
    assert all(isinstance(failed(read), UnreadableError) for read in reads)
    assert "ZeroDivisionError" in logged.text
    world.granted[ALICE] = 5
    world.reserve(ALICE, 5)


def test_an_account_that_was_changed_is_read_again_before_it_is_drawn_on() -> None:
    world = World()
    world.granted[ALICE] = 5
    world.accounts.release(world.reserve(ALICE, 1))
    world.accounts.expire(ALICE)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    world.read(ALICE)
    assert isinstance(world.accounts.reserve(ALICE, 1, 1), Reservation)


def test_there_is_no_room_for_one_more() -> None:
    world = World(size=1)
    world.granted.update({ALICE: 5, BOB: 5})
    world.reserve(ALICE, 1)
    read = outcome(world.accounts.read(BOB))
    world.turns.run()
    assert isinstance(failed(read), UnreadableError)
    for take in (world.accounts.spend, world.accounts.set_aside):
        with pytest.raises(FullError):
            take(BOB, 1)


# --- the store is away --------------------------------------------------------------------


def test_what_was_leased_may_be_spent_while_the_store_is_away() -> None:
    world = World(ttl=5.0)
    world.granted[ALICE] = 100
    world.accounts.release(world.reserve(ALICE, 3))
    world.clock.advance(5.0)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    read = outcome(world.accounts.read(ALICE))
    world.turns.run()
    world.asked.pop()[1].errback(AwayError("away"))
    assert read == [None]
    assert isinstance(world.accounts.reserve(ALICE, 1, 1), Reservation)


def test_but_not_for_ever() -> None:
    world = World(ttl=5.0)
    world.granted[ALICE] = 100
    world.accounts.release(world.reserve(ALICE, 3))
    world.clock.advance(600.0)
    read = outcome(world.accounts.read(ALICE))
    world.turns.run()
    world.asked.pop()[1].errback(AwayError("away"))
    assert isinstance(failed(read), AwayError)
    assert world.accounts.reserve(ALICE, 1, 1) is None


def test_nothing_is_reserved_or_read_before_it_is_open() -> None:
    world = World(open=False)
    assert world.accounts.reserve(ALICE, 1, 1) is None
    error = failed(outcome(world.accounts.read(ALICE)))
    assert isinstance(error, UnreadableError)
    assert not isinstance(error, OutageError)
    assert world.turns.run() == 0
    world.accounts.flushed({ALICE: 100})  # an earlier run's
    world.accounts.open("me")
    world.granted[ALICE] = 5
    world.reserve(ALICE, 5)


def test_all_is_given_back_in_the_end() -> None:
    world = World()
    world.granted[ALICE] = 5
    world.accounts.release(world.reserve(ALICE, 5))
    now(Deferred.fromCoroutine(world.accounts.close()))
    assert world.released == [["me"]]
    assert world.accounts.reserve(ALICE, 1, 1) is None


# --- spending -----------------------------------------------------------------------------


def test_what_was_spent_counts_once_before_and_after_the_store_has_it() -> None:
    world = World()
    world.granted[ALICE] = 10
    world.accounts.settle(world.reserve(ALICE, 10), 3)
    assert world.accounts.available(ALICE) == 7
    world.flush({ALICE: 3, BOB: 0})
    assert world.accounts.available(ALICE) == 7
    world.read(ALICE)
    world.reserve(ALICE, 7)
    assert world.accounts.available(ALICE) == 0


def test_a_flush_during_a_reading_is_never_missed() -> None:
    world = World()
    world.granted[ALICE] = 10
    world.accounts.settle(world.reserve(ALICE, 10), 4)
    world.accounts.read(ALICE)
    world.turns.run()
    world.flush({ALICE: 4})
    world.answer()
    available = world.accounts.available(ALICE)
    assert available is not None
    assert available <= 6
    world.read(ALICE)
    assert world.accounts.available(ALICE) == 6


def test_what_was_not_written_down_was_not_spent() -> None:
    world = World()
    world.granted[ALICE] = 10
    world.accounts.settle(world.reserve(ALICE, 10), 3)
    world.accounts.lost([Spent(*ALICE, 3), Spent(*BOB, 0)])
    assert world.accounts.available(ALICE) == 10


def test_what_is_set_aside_whether_it_is_there_or_not() -> None:
    world = World()
    world.granted[ALICE] = 10
    held = [world.accounts.set_aside(ALICE, 6), world.accounts.set_aside(ALICE, 6)]
    assert world.accounts.reserve(ALICE, 1, 1) is None
    world.read(ALICE)
    assert world.accounts.reserve(ALICE, 1, 1) == Shortage(1, 0)
    world.accounts.settle(held[0], 5)
    world.accounts.release(held[1])
    world.flush({ALICE: 5})
    world.reserve(ALICE, 5)


def test_nothing_was_seen_of_a_chain_unless_it_is_said() -> None:
    assert Seen().still_holds(Seen(frozenset({1})))
    assert not Seen(frozenset({1})).still_holds(Seen())
