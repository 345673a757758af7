from __future__ import annotations

import pytest

from gatekeeper.credits.reservations import FullError, Reservation, Reservations, Shortage

TTL = 10.0
Key = tuple[str, int, str]
ALICE: Key = ("0xc0", 7, "alice")
BOB: Key = ("0xc0", 7, "bob")


def opened(balance: int, owed: int = 0, now: float = 0.0, size: int = 100) -> Reservations[Key]:
    reservations: Reservations[Key] = Reservations(TTL, size)
    reservations.read(reservations.look(ALICE, now), balance, owed)
    return reservations


def taken(got: Reservation | Shortage | None) -> Reservation:
    assert isinstance(got, Reservation)
    return got


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


def test_what_is_owed_is_not_available() -> None:
    assert opened(7, owed=5).available(ALICE) == 2
    assert opened(7, owed=9).reserve(ALICE, 1, 1, 0.0) == Shortage(1, 0)


def test_a_request_may_cost_more_than_it_reserved() -> None:
    reservations = opened(7)
    reservations.settle(taken(reservations.reserve(ALICE, 1, 1, 0.0)), 10)
    assert reservations.reserve(ALICE, 1, 1, 0.0) == Shortage(1, 0)


def test_an_account_is_read_first_and_again_in_time() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    assert reservations.reserve(ALICE, 1, 1, 0.0) is None
    reading = reservations.look(ALICE, 5.0)
    assert reservations.reserve(ALICE, 1, 1, 5.0) is None
    reservations.read(reading, 7)
    assert isinstance(reservations.reserve(ALICE, 1, 1, 14.9), Reservation)
    assert reservations.reserve(ALICE, 1, 1, 15.0) is None
    assert reservations.reserve(BOB, 1, 1, 5.0) is None


def test_an_abandoned_reading_changes_nothing() -> None:
    reservations = opened(7)
    reservations.abandon(reservations.look(ALICE, 20.0))
    assert reservations.reserve(ALICE, 1, 1, 20.0) is None
    assert isinstance(reservations.reserve(ALICE, 1, 1, 1.0), Reservation)


def test_what_was_metered_stays_until_a_reading_has_surely_seen_it() -> None:
    reservations = opened(10)
    reservations.settle(taken(reservations.reserve(ALICE, 4, 4, 0.0)), 4)
    early = reservations.look(ALICE, 1.0)
    reservations.flushed(ALICE, 4)
    reservations.read(early, 10, owed=0)  # it was read before the commit
    assert reservations.available(ALICE) == 6
    reservations.read(reservations.look(ALICE, 2.0), 10, owed=4)
    assert reservations.available(ALICE) == 6
    reservations.read(reservations.look(ALICE, 3.0), 6, owed=0)  # it has been burned
    assert reservations.available(ALICE) == 6


def test_a_reading_that_comes_late_is_not_believed() -> None:
    reservations = opened(10)
    slow, quick = reservations.look(ALICE, 1.0), reservations.look(ALICE, 2.0)
    reservations.read(quick, 3)
    reservations.read(slow, 10)
    assert reservations.available(ALICE) == 3


def test_what_was_metered_before_a_restart_counts() -> None:
    reservations: Reservations[Key] = Reservations(TTL)
    reservations.meter(ALICE, 4)
    reservations.read(reservations.look(ALICE, 0.0), 10)
    assert reservations.available(ALICE) == 6
    reservations.flushed(ALICE, 4)
    reservations.read(reservations.look(ALICE, 1.0), 10, owed=4)
    assert reservations.available(ALICE) == 6


def test_nothing_ends_twice() -> None:
    reservations = opened(7)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    reservations.release(reservation)
    with pytest.raises(ValueError, match="has ended"):
        reservations.settle(reservation, 1)
    reading = reservations.look(ALICE, 0.0)
    reservations.abandon(reading)
    with pytest.raises(ValueError, match="has ended"):
        reservations.read(reading, 100)
    assert reservations.available(ALICE) == 7


def test_what_cannot_be_is_refused() -> None:
    reservations = opened(7)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    with pytest.raises(ValueError, match="negative"):
        reservations.settle(reservation, -1)
    with pytest.raises(ValueError, match="more was flushed"):
        reservations.flushed(ALICE, 1)
    with pytest.raises(ValueError, match="more was flushed"):
        reservations.flushed(BOB, 1)


def test_the_accounts_are_bounded_and_the_oldest_idle_one_goes() -> None:
    reservations = opened(7, size=2)
    reservations.read(reservations.look(BOB, 0.0), 7)
    taken(reservations.reserve(ALICE, 1, 1, 0.0))  # so that Bob is the one who waits the longest
    carol: Key = ("0xc0", 7, "carol")
    reservations.read(reservations.look(carol, 0.0), 7)
    assert len(reservations) == 2
    assert reservations.available(BOB) is None
    assert reservations.available(ALICE) == 6


def test_an_account_that_is_in_use_is_not_forgotten() -> None:
    reservations = opened(7, size=1)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
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


def test_how_it_shows() -> None:
    reservations = opened(7)
    reservation = taken(reservations.reserve(ALICE, 1, 1, 0.0))
    assert repr(reservation) == "<Reservation of 1>"
    reservations.release(reservation)
    assert repr(reservation) == "<Reservation of 1, ended>"
    assert repr(reservations) == "<Reservations: 1 accounts>"


def test_credits_that_are_burned_during_a_reading_count_twice_and_never_not_at_all() -> None:
    reservations: Reservations[str] = Reservations(ttl=5.0)
    chain, stored = 10, 4
    reading = reservations.look("alice", 0.0)
    owed = stored  # asked first ...
    chain, stored = 6, 0  # ... the burner is at work meanwhile ...
    balance = chain  # ... asked second
    reservations.read(reading, balance, owed)
    assert reservations.available("alice") == 2 <= chain - stored


def test_what_is_taken_back_was_never_spent() -> None:
    reservations: Reservations[str] = Reservations(ttl=5.0)
    reservations.read(reservations.look("alice", 0.0), 10)
    reservation = reservations.reserve("alice", 4, 4, 0.0)
    assert isinstance(reservation, Reservation)
    reservations.settle(reservation, 3)
    assert reservations.available("alice") == 7
    reservations.take_back("alice", 3)
    assert reservations.available("alice") == 10
    with pytest.raises(ValueError, match="more was taken back"):
        reservations.take_back("alice", 1)


def test_an_allowance_is_beside_the_balance() -> None:
    reservations: Reservations[str] = Reservations(ttl=5.0)
    reservations.read(reservations.look("alice", 0.0), 0, owed=7)
    assert reservations.reserve("alice", 4, 4, 0.0, allowance=10) == Shortage(4, 3)
    assert isinstance(reservations.reserve("alice", 3, 3, 0.0, allowance=10), Reservation)
