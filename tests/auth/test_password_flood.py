"""While wrong passwords are being checked, nobody else is kept waiting."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gatekeeper.auth.basic import BasicChecker
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.hashing import HashingQueue
from gatekeeper.auth.interfaces import Deny, Grant, Unavailable
from gatekeeper.auth.users import ConfiguredUsers, Decoys
from tests.auth.support import ALICE, ManualThreads, basic, credentials, outcome

ADDRESSES = 16
PER_ADDRESS = 50
WAITING = 64


class House:
    """A chain whose passwords are checked when the test says so."""

    def __init__(self) -> None:
        self.threads = ManualThreads()
        self.queue: HashingQueue[bool] = HashingQueue(self.threads, WAITING)
        users = {"alice": ALICE, "bob": ALICE}
        checker = BasicChecker(
            "users", [ConfiguredUsers(users)], Decoys(list(users.values())), self.queue
        )
        self.chain = Chain("acme", [checker], VerdictCache(10_000, 300.0, 5.0))

    def ask(self, user: str, password: str, client: str) -> list[Any]:
        return outcome(self.chain.check(credentials(basic(user, password), client=client)))

    def flood(self) -> list[list[Any]]:
        """More wrong passwords than may wait, for users who exist and who do not."""
        return [
            self.ask(
                "alice" if number % 2 else f"nobody-{number}", f"wrong {number} {n}", f"10.0.0.{n}"
            )
            for number in range(PER_ADDRESS)
            for n in range(ADDRESSES)
        ]


@pytest.fixture
def house() -> House:
    return House()


def test_no_password_is_checked_where_it_is_asked_about(house: House) -> None:
    answers = house.flood()
    assert house.threads.done == []
    assert len(house.threads.running) == house.threads.size
    assert [answer for answer in answers if answer and not isinstance(answer[0], Unavailable)] == []


def test_what_waits_is_bounded_and_the_rest_is_told_at_once(house: House) -> None:
    answers = house.flood()
    assert repr(house.queue) == f"<HashingQueue: 1 running, {WAITING} waiting>"
    told = [answer[0] for answer in answers if answer]
    assert len(told) == ADDRESSES * PER_ADDRESS - WAITING - 1
    assert {type(verdict) for verdict in told} == {Unavailable}
    house.threads.finish_all()
    assert Counter(type(answer[0]) for answer in answers) == {
        Unavailable: len(told),
        Deny: WAITING + 1,
    }


def test_who_is_known_does_not_wait(house: House) -> None:
    first = house.ask("alice", "wonderland", "192.0.2.7")
    house.threads.finish_all()
    assert first == [Grant(user="alice")]
    house.flood()
    assert house.chain.lookup(basic("alice", "wonderland")) == Grant(user="alice")
    assert house.ask("alice", "wonderland", "10.0.0.1") == [Grant(user="alice")]


def test_who_is_new_waits_for_one_turn_of_each_other_address(house: House) -> None:
    house.flood()
    bob = house.ask("bob", "wonderland", "192.0.2.7")
    for _ in range(1 + ADDRESSES):  # what runs already, then each of them once
        assert bob == []
        house.threads.finish()
    house.threads.finish()
    assert bob == [Grant(user="bob")]


def test_who_is_new_is_not_turned_away_while_others_wait_twice(house: House) -> None:
    house.flood()
    newcomers = [house.ask("bob", f"wrong {n}", f"192.0.2.{n}") for n in range(WAITING - ADDRESSES)]
    assert all(answer == [] for answer in newcomers)


def test_the_same_wrong_password_is_checked_once(house: House) -> None:
    answers = [house.ask("alice", "wrong", f"10.0.0.{n}") for n in range(100)]
    house.threads.finish_all()
    assert len(house.threads.done) == 1
    assert {type(answer[0]) for answer in answers} == {Deny}
    assert house.ask("alice", "wrong", "10.0.1.1") == [answers[0][0]]  # known for a while
    assert not house.threads.running
