from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from gatekeeper.auth.flight import SingleFlight
from tests.auth.support import outcome


def test_everybody_gets_the_one_answer() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    assert flights.join("k") is None
    work: Deferred[int] = Deferred()
    first = outcome(flights.lead("k", work))
    joined = flights.join("k")
    assert joined is not None
    second = outcome(joined)
    assert flights.join("other") is None
    assert (first, second, len(flights)) == ([], [], 1)
    work.callback(7)
    assert (first, second, len(flights)) == ([7], [7], 0)


def test_work_that_is_done_already() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    work: Deferred[int] = Deferred()
    work.callback(7)
    assert outcome(flights.lead("k", work)) == [7]
    assert len(flights) == 0


def test_a_failure_reaches_everybody() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    work: Deferred[int] = Deferred()
    first = outcome(flights.lead("k", work))
    joined = flights.join("k")
    assert joined is not None
    second = outcome(joined)
    work.errback(ValueError("broken"))
    for results in (first, second):
        assert isinstance(results[0], Failure)
        assert results[0].check(ValueError)


@pytest.mark.parametrize("leader_leaves", [True, False])
def test_who_leaves_does_not_disturb_the_others(leader_leaves: bool) -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    cancelled: list[object] = []
    work: Deferred[int] = Deferred(cancelled.append)
    leader = flights.lead("k", work)
    follower = flights.join("k")
    assert follower is not None
    leaves, stays = (leader, follower) if leader_leaves else (follower, leader)
    gone, there = outcome(leaves), outcome(stays)
    leaves.cancel()
    assert isinstance(gone[0], Failure)
    assert gone[0].check(CancelledError)
    assert cancelled == []
    work.callback(7)
    assert there == [7]


def test_the_answer_makes_one_caller_cancel_another() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    work: Deferred[int] = Deferred()
    leader = flights.lead("k", work)
    follower, third = flights.join("k"), flights.join("k")
    assert follower is not None
    assert third is not None
    leader.addCallback(lambda _: follower.cancel())
    gone, there = outcome(follower), outcome(third)
    work.callback(7)
    assert isinstance(gone[0], Failure)
    assert there == [7]
