from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from gatekeeper.management.attempts import (
    FORGOTTEN_AFTER,
    FREE,
    LONGEST_WAIT,
    Attempts,
)

PEER = "192.0.2.1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock.seconds, most=3)


def test_some_are_free(attempts: Attempts) -> None:
    for _ in range(FREE):
        assert attempts.wait(PEER) == 0
        attempts.failed(PEER)
    assert attempts.wait(PEER) == 1


def test_each_further_one_doubles_the_wait(attempts: Attempts, clock: Clock) -> None:
    waits = []
    for _ in range(FREE + 30):
        attempts.failed(PEER)
        waits.append(attempts.wait(PEER))
        clock.advance(waits[-1])
        assert attempts.wait(PEER) == 0
    assert waits[FREE - 1 : FREE + 6] == [1, 2, 4, 8, 16, 32, LONGEST_WAIT]
    assert max(waits) == LONGEST_WAIT


def test_waiting_counts_down(attempts: Attempts, clock: Clock) -> None:
    for _ in range(FREE + 2):
        attempts.failed(PEER)
    clock.advance(1.5)
    assert attempts.wait(PEER) == 2.5


def test_the_right_token_clears_it(attempts: Attempts) -> None:
    for _ in range(FREE):
        attempts.failed(PEER)
    attempts.succeeded(PEER)
    assert attempts.wait(PEER) == 0
    assert len(attempts) == 0


def test_it_is_forgotten(attempts: Attempts, clock: Clock) -> None:
    for _ in range(FREE + 1):
        attempts.failed(PEER)
    clock.advance(FORGOTTEN_AFTER)
    assert attempts.wait(PEER) == 0
    assert len(attempts) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_who_is_the_same(attempts: Attempts, one: str, other: str, same: bool) -> None:
    for _ in range(FREE):
        attempts.failed(one)
    assert (attempts.wait(other) > 0) == same


def test_peers_are_bounded(attempts: Attempts) -> None:
    for _ in range(FREE):
        attempts.failed(PEER)
    for number in range(3):
        attempts.failed(f"198.51.100.{number}")
    assert len(attempts) == 3
    assert attempts.wait(PEER) == 0
