from __future__ import annotations

from math import inf

import pytest

from gatekeeper.credits.reservations import (
    RECHECK,
    FullError,
    Reservation,
    Reservations,
    Shortage,
    Want,
)

TTL = 10.0
Key = tuple[str, int, str]
ALICE: Key = ("0xc0", 7, "alice")
BOB: Key = ("0xc0", 7, "bob")
CAROL: Key = ("0xc0", 7, "carol")


def opened(
    lease: int, free: int = 0, now: float = 0.0, size: int = 100, lasts: float = inf
) -> Reservations[Key]:
    """Alice has leased so much, and nobody so much."""
    reservations: Reservations[Key] = Reservations(TTL, size, lasts)
    reservations.read(reservations.look(ALICE, now), lease, lease, free)
    return reservations


def taken(got: Reservation | Shortage | None) -> Reservation:
    assert isinstance(got, Reservation)
    return got


def spent(reservations: Reservations[Key], credits: int, now: float = 0.0) -> None:
    """Alice has spent so much, and it is in the journal."""
    reservations.settle(taken(reservations.reserve(ALICE, 0, credits, now)), credits)


# --- requests -----------------------------------------------------------------------------


def test_of_100_parallel_requests_exactly_3_are_admitted_with_7_credits_at_price_2() -> None:
    reservations = opened(7)
    got = [reservations.reserve(ALICE, 2, 2, 0.0) for _ in range(100)]
    assert sum(isinstance(each, Reservation) for each in got) == 3
    assert got[3:] == [Shortage(2, 1)] * 97


def test_what_was_reserved_and_not_used_comes_back() -> None:
    reservations = opened(7)
    first = taken(reservations.reserve(ALICE, 5, 5, 0.0))
    assert reservations.reserve(ALICE, 5, 5, 0.0) == Shortage(5, 2)
    reservations.release(first)
    second = taken(reservations.reserve(ALICE, 5, 5, 0.0))
    reservations.settle(second, 3)
    assert reservations.available(ALICE) == 4


def test_more_may_be_required_than_is_reserved() -> None:
    reservations = opened(7)
    assert reservations.reserve(ALICE, 8, 1, 0.0) == Shortage(8, 7)
    taken(reservations.reserve(ALICE, 7, 1, 0.0))
    assert reservations.reserve(ALICE, 7, 1, 0.0) == Shortage(7, 6)


def test_a_request_may_cost_more_than_it_reserved() -> None:
    reservations = opened(7)
    reservations.settle(taken(reservations.reserve(ALICE, 1, 1, 0.0)), 10)
    assert reservations.reserve(ALICE, 1, 1, 0.0) == Shortage(1, 0)


def test_nobody_is_sent_away_as_long_as_more_can_be_leased() -> None:
    reservations = opened(2, free=5)
    assert reservations.reserve(ALICE, 3, 3, 0.0) is None
    assert reservations.reserve(ALICE, 8, 8, 0.0) == Shortage(8, 7)
    assert reservations.available(ALICE) == 7
    taken(reservations.reserve(ALICE, 2, 2, 0.0))


def test_that_there_is_no_more_is_believed_for_a_moment() -> None:
    reservations = opened(1)
    assert reservations.reserve(ALICE, 2, 2, RECHECK - 0.1) == Shortage(2, 1)
    assert reservations.reserve(ALICE, 2, 2, RECHECK) is None
    assert isinstance(reservations.reserve(ALICE, 1, 1, RECHECK), Reservation)


def test_an_account_is_read_first_and_again_in_time() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    assert reservations.reserve(ALICE, 1, 1, 0.0) is None
    reading = reservations.look(ALICE, 5.0)
    assert reservations.reserve(ALICE, 1, 1, 5.0) is None
    reservations.read(reading, 7, 7)
    assert isinstance(reservations.reserve(ALICE, 1, 1, 14.9), Reservation)
    assert reservations.reserve(ALICE, 1, 1, 15.0) is None
    assert reservations.reserve(BOB, 1, 1, 5.0) is None


def test_an_answer_is_believed_from_when_it_came() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    reservations.read(reservations.look(ALICE, 0.0), 10, 10, now=20.0)
    assert isinstance(reservations.reserve(ALICE, 1, 1, 29.9), Reservation)
    assert reservations.reserve(ALICE, 1, 1, 30.0) is None


def test_a_change_makes_what_is_known_and_what_is_being_read_worthless() -> None:
    reservations = opened(7)
    held = taken(reservations.reserve(ALICE, 5, 5, 0.0))
    before = reservations.look(ALICE, 1.0)
    reservations.expire(ALICE)
    assert reservations.reserve(ALICE, 1, 1, 1.0) is None
    reservations.read(before, 7)
    assert reservations.reserve(ALICE, 1, 1, 1.0) is None
    reservations.read(reservations.look(ALICE, 1.0), 9, 2)
    assert reservations.available(ALICE) == 4, "what is set aside stays so"
    reservations.settle(held, 5)
    taken(reservations.reserve(ALICE, 4, 4, 1.0))


def test_a_change_of_what_nobody_asks_for() -> None:
    reservations = opened(7)
    reservations.expire(BOB)
    assert len(reservations) == 1
    assert reservations.available(ALICE) == 7


def test_something_can_be_set_aside_whether_it_is_there_or_not() -> None:
    reservations: Reservations[Key] = Reservations(TTL, size=1)
    reservation = reservations.set_aside(ALICE, 4)
    with pytest.raises(FullError):
        reservations.set_aside(BOB, 1)
    reservations.read(reservations.look(ALICE, 0.0), 3, 3)
    assert reservations.reserve(ALICE, 1, 1, 0.0) == Shortage(1, 0)
    reservations.settle(reservation, 2)
    assert reservations.available(ALICE) == 1


def test_nothing_ends_twice() -> None:
    reservations = opened(7)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    reservations.release(reservation)
    with pytest.raises(ValueError, match="has ended"):
        reservations.settle(reservation, 1)
    reading = reservations.look(ALICE, 0.0)
    reservations.abandon(reading)
    before = reservations.available(ALICE)
    with pytest.raises(ValueError, match="has ended"):
        reservations.read(reading, 100)
    assert reservations.available(ALICE) == before


def test_what_cannot_be_is_refused() -> None:
    reservations = opened(7)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    with pytest.raises(ValueError, match="negative"):
        reservations.settle(reservation, -1)
    with pytest.raises(ValueError, match="more was flushed"):
        reservations.flushed(ALICE, 1)
    with pytest.raises(ValueError, match="more was flushed"):
        reservations.flushed(BOB, 1)


# --- what was spent goes off the lease ------------------------------------------------------


def test_what_was_metered_stays_until_an_answer_has_surely_seen_it() -> None:
    reservations = opened(10)
    spent(reservations, 4)
    early = reservations.look(ALICE, 1.0)
    reservations.flushed(ALICE, 4)
    reservations.read(early, 10)  # it was answered before the commit
    assert reservations.available(ALICE) == 6
    reservations.read(reservations.look(ALICE, 2.0), 6)
    assert reservations.available(ALICE) == 6


def test_nobody_is_sent_away_because_something_counts_twice() -> None:
    """What the store has committed already, and we do not know of, is counted by both of us."""
    reservations = opened(10)
    spent(reservations, 4)
    reservations.read(reservations.look(ALICE, 1.0), 6)  # answered after the commit
    assert reservations.available(ALICE) == 2
    assert reservations.reserve(ALICE, 3, 3, 1.0) is None
    taken(reservations.reserve(ALICE, 2, 2, 1.0))
    reservations.flushed(ALICE, 4)
    for _ in range(2):  # what we had expected was too little; and now it is what is there
        assert reservations.reserve(ALICE, 5, 5, 1.0) is None
        reservations.read(reservations.look(ALICE, 1.0), 6)
    assert reservations.available(ALICE) == 4
    assert reservations.reserve(ALICE, 5, 5, 1.0) == Shortage(5, 4)


def test_a_lease_does_not_go_below_0() -> None:
    reservations = opened(5)
    reservations.settle(taken(reservations.reserve(ALICE, 5, 5, 0.0)), 8)
    assert reservations.look(ALICE, 1.0).want.demand == 3, "the rest is to be covered"
    reservations.flushed(ALICE, 8)  # and now it is charged to the account
    assert reservations.look(ALICE, 1.0).want == Want(0, 0, 0, 0, 0)


def test_what_was_metered_before_anything_is_known_counts() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    reservations.meter(ALICE, 4)
    assert reservations.look(ALICE, 0.0).want.demand == 4
    reservations.flushed(ALICE, 4)
    reading = reservations.look(ALICE, 0.0)
    assert reading.want.demand == 0
    reservations.read(reading, 10, 10)
    assert reservations.available(ALICE) == 10


def test_what_is_taken_back_was_never_spent() -> None:
    reservations = opened(10)
    spent(reservations, 3)
    assert reservations.available(ALICE) == 7
    reservations.take_back(ALICE, 3)
    assert reservations.available(ALICE) == 10
    with pytest.raises(ValueError, match="more was taken back"):
        reservations.take_back(ALICE, 1)


# --- what is wanted of a lease --------------------------------------------------------------


def test_all_that_requests_wait_for_is_wanted_and_some_more() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    for credits in (3, 2, 4):
        assert reservations.reserve(ALICE, credits, credits, 0.0, allowance=50) is None
    reading = reservations.look(ALICE, 0.0)
    assert reading.want == Want(0, least=2, demand=9, block=36, allowance=50)
    reservations.read(reading, 45, 45)
    assert reservations.reserve(ALICE, 46, 46, 0.0, allowance=50) == Shortage(46, 45)
    for credits in (3, 2, 4):
        taken(reservations.reserve(ALICE, credits, credits, 0.0, allowance=50))
    again = reservations.look(ALICE, 0.0)
    assert again.want == Want(36 - 9, 0, 0, 0, 50), "as much as was used is kept"


def test_what_must_be_there_and_is_not_set_aside_is_wanted_once() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    for _ in range(3):
        reservations.reserve(ALICE, 10, 1, 0.0)
    want = reservations.look(ALICE, 0.0).want
    assert (want.least, want.demand) == (10, 12)


def test_only_what_is_missing_is_wanted() -> None:
    reservations = opened(7, free=100)
    assert reservations.reserve(ALICE, 10, 10, 0.0) is None
    want = reservations.look(ALICE, 0.0).want
    assert (want.least, want.demand) == (3, 3)


def test_the_block_is_what_was_used_lately() -> None:
    reservations = opened(1000)
    for at in (1.0, 2.0):
        spent(reservations, 100, at)
    reservations.flushed(ALICE, 200)
    assert reservations.look(ALICE, 3.0).want.give == 800 - 200
    reservations = opened(1000)
    spent(reservations, 300, 1.0)
    assert reservations.look(ALICE, 10.0).want.give == 700 - 300, "in the time before this one"
    assert reservations.look(ALICE, 25.0).want.give == 300, "and longer ago"


def test_what_is_given_back_cannot_be_reserved_meanwhile() -> None:
    reservations = opened(10)
    reading = reservations.look(ALICE, 0.5)
    assert reading.want.give == 10
    assert reservations.reserve(ALICE, 1, 1, 0.5) == Shortage(1, 0)
    reservations.abandon(reading)  # it may have been done
    assert reservations.available(ALICE) == 0
    reservations.read(reservations.look(ALICE, 2.0), 10, free=4)
    assert reservations.reserve(ALICE, 11, 11, 2.0) is None, "that was not so; ask once more"
    assert reservations.available(ALICE) == 14


def test_more_is_leased_than_there_is() -> None:
    """An operator has taken credits back: what is not in use goes back, and cannot be reserved."""
    reservations = opened(10)
    held = taken(reservations.reserve(ALICE, 4, 4, 0.0))
    reading = reservations.look(ALICE, 1.0)
    assert reading.want.give == 2, "as much as was used is kept"
    reservations.read(reading, 8, free=-3)
    assert reservations.available(ALICE) == 1
    assert reservations.reserve(ALICE, 2, 2, 1.0) == Shortage(2, 1)
    taken(reservations.reserve(ALICE, 1, 1, 1.0))
    reading = reservations.look(ALICE, 2.0)
    assert reading.want.give == 3, "all but what requests have"
    reservations.read(reading, 5, free=-10)
    assert reservations.reserve(ALICE, 1, 1, 2.0) == Shortage(1, 0)
    reservations.release(held)
    assert reservations.reserve(ALICE, 1, 1, 2.0) == Shortage(1, 0)
    assert reservations.look(ALICE, 3.0).want.give == 4


def test_an_answer_that_cannot_tell_what_is_free() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    reservations.read(reservations.look(ALICE, 0.0), 0, 0, None)
    assert reservations.reserve(ALICE, 1, 1, 0.0) is None
    assert reservations.available(ALICE) == 0


def test_who_waits_is_told_and_waits_no_more() -> None:
    for end in (Reservations.abandon, lambda r, _: r.give_up(ALICE)):
        reservations: Reservations[Key] = Reservations(TTL)
        reservations.reserve(ALICE, 5, 5, 0.0)
        end(reservations, reservations.look(ALICE, 0.0))
        assert reservations.look(ALICE, 0.0).want.demand == 0
    reservations.give_up(BOB)


# --- how long a lease lasts -----------------------------------------------------------------


def test_a_lease_is_spent_without_answers_until_it_ends() -> None:
    reservations = opened(10, lasts=25.0)
    assert not reservations.go_on(BOB, 0.0)
    assert not reservations.go_on(ALICE, 9.9), "it is believed anyway"
    assert reservations.go_on(ALICE, 10.0)
    assert not reservations.go_on(ALICE, 10.0)
    taken(reservations.reserve(ALICE, 1, 1, 19.9))
    assert reservations.reserve(ALICE, 100, 100, 19.9) is None, "nobody knows"
    assert reservations.go_on(ALICE, 20.0)
    taken(reservations.reserve(ALICE, 1, 1, 24.9))
    assert reservations.reserve(ALICE, 1, 1, 25.0) is None
    assert not reservations.go_on(ALICE, 25.0)


def test_a_lease_lasts_from_when_it_was_asked_for() -> None:
    reservations: Reservations[Key] = Reservations(TTL, lasts=25.0)
    reservations.read(reservations.look(ALICE, 0.0), 10, 10, now=20.0)
    taken(reservations.reserve(ALICE, 1, 1, 24.9))
    assert reservations.reserve(ALICE, 1, 1, 25.0) is None


# --- what nobody draws on -------------------------------------------------------------------


def test_what_nobody_draws_on_goes_back_and_is_forgotten() -> None:
    reservations = opened(10)
    assert reservations.idle(9.9, 10) == []
    ((key, reading),) = reservations.idle(10.0, 10)
    assert (key, reading.want.give) == (ALICE, 10)
    assert reservations.idle(10.0, 10) == [], "it is under way"
    reservations.returned(reading, 0)
    assert reservations.reserve(ALICE, 1, 1, 10.0) is None
    assert reservations.idle(10.0, 10) == []
    assert len(reservations) == 0


def test_what_is_in_use_stays_and_is_renewed() -> None:
    reservations = opened(10, lasts=100.0)
    held = taken(reservations.reserve(ALICE, 3, 3, 0.0))
    spent(reservations, 2)
    ((_, reading),) = reservations.idle(10.0, 10)
    assert reading.want.give == 5
    reservations.returned(reading, 5)
    assert reservations.idle(59.9, 10) == []
    ((_, reading),) = reservations.idle(60.0, 10)
    assert reading.want.give == 0, "it is half over"
    reservations.returned(reading, 5)
    assert reservations.idle(60.0, 10) == []
    reservations.settle(held, 3)
    reservations.flushed(ALICE, 5)
    assert reservations.idle(60.0, 10) == []
    assert len(reservations) == 0


def test_what_somebody_asks_about_is_left_alone() -> None:
    reservations = opened(10)
    reservations.read(reservations.look(BOB, 0.0), 5, 5)
    assert [key for key, _ in reservations.idle(10.0, 10, {ALICE})] == [BOB]
    reservations = opened(10)
    reservations.read(reservations.look(BOB, 0.0), 5, 5)
    assert len(reservations.idle(10.0, 1)) == 1


# --- bounds ---------------------------------------------------------------------------------


def test_the_accounts_are_bounded_and_the_oldest_idle_one_goes() -> None:
    reservations = opened(7, size=2)
    reservations.read(reservations.look(BOB, 0.0), 7, 7)
    taken(reservations.reserve(ALICE, 1, 1, 0.0))  # so that Bob is the one who waits the longest
    reservations.read(reservations.look(CAROL, 0.0), 7, 7)
    assert len(reservations) == 2
    assert reservations.available(BOB) is None
    assert reservations.available(ALICE) == 6


def test_an_account_that_is_in_use_is_not_forgotten() -> None:
    reservations = opened(7, size=1)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    assert reservations.reserve(BOB, 1, 1, 0.0) is None
    with pytest.raises(FullError):
        reservations.look(BOB, 0.0)
    reservations.settle(reservation, 1)  # now it is metered, and in no store
    with pytest.raises(FullError):
        reservations.look(BOB, 0.0)
    reservations.flushed(ALICE, 1)
    reading = reservations.look(BOB, 0.0)
    with pytest.raises(FullError):
        reservations.look(ALICE, 0.0)
    reservations.abandon(reading)
    reservations.look(ALICE, 0.0)
    assert len(reservations) == 1


def test_what_was_leased_by_one_that_was_forgotten_is_found_again() -> None:
    reservations = opened(7, size=1)
    reservations.look(BOB, 0.0).account.readings = 0
    reading = reservations.look(ALICE, 1.0)
    reservations.read(reading, 7, 0, 3)
    assert reservations.reserve(ALICE, 20, 20, 1.0) is None, "it was not expected to be there"
    taken(reservations.reserve(ALICE, 7, 7, 1.0))


def test_how_it_shows() -> None:
    reservations = opened(7)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    assert repr(reservation) == "<Reservation of 1>"
    reservations.release(reservation)
    assert repr(reservation) == "<Reservation of 1, ended>"
    assert repr(reservations) == "<Reservations: 1 accounts>"
