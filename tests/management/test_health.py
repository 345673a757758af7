from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from gatekeeper.management.health import Readiness, Report


class SlowCheck:
    """A check that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[str | None]] = []

    def __call__(self) -> Deferred[str | None]:
        self.asked.append(Deferred())
        return self.asked[-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def result(deferred: Deferred[Report]) -> Report | Failure | None:
    """What there is by now."""
    results: list[Report | Failure] = []

    def keep(one: Report | Failure) -> Report | None:
        results.append(one)
        return one if isinstance(one, Report) else None

    deferred.addBoth(keep)
    return results[0] if results else None


def report(deferred: Deferred[Report]) -> Report:
    found = result(deferred)
    assert isinstance(found, Report)
    return found


def test_nothing_to_check(clock: Clock) -> None:
    assert report(Readiness({}).report(clock)).ready


def test_all_is_well(clock: Clock) -> None:
    found = report(Readiness({"store": lambda: None, "usage": lambda: None}).report(clock))
    assert found.ready
    assert found.problems == {"store": None, "usage": None}


def test_one_problem_is_enough(clock: Clock) -> None:
    found = report(Readiness({"store": lambda: "is full", "usage": lambda: None}).report(clock))
    assert not found.ready
    assert found.problems == {"store": "is full", "usage": None}


def test_draining_is_not_ready(clock: Clock) -> None:
    readiness = Readiness({"store": lambda: None})
    readiness.draining = True
    found = report(readiness.report(clock))
    assert found.draining
    assert not found.ready


def test_a_check_may_answer_later(clock: Clock) -> None:
    check = SlowCheck()
    waiting = Readiness({"store": check}).report(clock)
    assert result(waiting) is None
    check.asked[0].callback("is away")
    assert report(waiting).problems == {"store": "is away"}
    assert clock.getDelayedCalls() == []


def test_a_check_that_is_silent_is_a_problem(clock: Clock) -> None:
    waiting = Readiness({"store": SlowCheck(), "usage": lambda: None}, timeout=2.0).report(clock)
    clock.advance(2)
    assert report(waiting).problems == {"store": "no answer within 2 s", "usage": None}


def test_a_silent_check_is_not_asked_again_nor_cancelled(clock: Clock) -> None:
    check = SlowCheck()
    readiness = Readiness({"store": check})
    for _ in range(3):
        waiting = readiness.report(clock)
        clock.advance(2)
        assert not report(waiting).ready
    assert len(check.asked) == 1
    assert not check.asked[0].called
    waiting = readiness.report(clock)
    check.asked[0].callback(None)
    assert report(waiting).ready
    readiness.report(clock)
    assert len(check.asked) == 2


def test_who_goes_away_does_not_disturb_others(clock: Clock) -> None:
    check = SlowCheck()
    readiness = Readiness({"store": check})
    first, second = readiness.report(clock), readiness.report(clock)
    first.cancel()
    gone = result(first)
    assert isinstance(gone, Failure)
    assert gone.check(CancelledError)
    check.asked[0].callback(None)
    assert report(second).ready
    assert clock.getDelayedCalls() == []


def test_a_check_that_fails_is_a_problem_told_to_the_log_only(clock: Clock) -> None:
    def check() -> None:
        raise ValueError("postgresql://user:secret@host")

    with capturedLogs() as events:
        found = report(Readiness({"store": check}).report(clock))
    assert found.problems == {"store": "the check itself failed; see the log"}
    assert [event["name"] for event in events] == ["store"]
