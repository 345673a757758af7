from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import globalLogPublisher

from gatekeeper.net.sweep import NEVER, Sweep
from tests.auth.support import Logged


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Waiting:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.calls = 0

    def timed_out(self) -> None:
        self.calls += 1
        self.deadline = NEVER


@pytest.fixture
def logged() -> Iterator[Logged]:
    events = Logged()
    globalLogPublisher.addObserver(events)
    yield events
    globalLogPublisher.removeObserver(events)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sweep(clock: Clock) -> Sweep:
    return Sweep(clock)


def test_deadlines_are_never_early(sweep: Sweep, clock: Clock) -> None:
    waiting = Waiting(101.0)
    sweep.timed.add(waiting)
    sweep.run()
    clock.now = 101.0
    sweep.run()
    assert waiting.calls == 0
    clock.now = 101.1
    sweep.run()
    assert waiting.calls == 1


def test_now_is_the_time_of_the_last_run(sweep: Sweep, clock: Clock) -> None:
    clock.now = 200.0
    assert sweep.now == 100.0
    sweep.run()
    assert sweep.now == 200.0


def test_who_has_been_given_more_time_meanwhile_is_left_alone(sweep: Sweep, clock: Clock) -> None:
    """One time-out may bring about what another was waiting for, in either order."""

    class Generous(Waiting):
        other: Waiting

        def timed_out(self) -> None:
            super().timed_out()
            self.other.deadline = 500.0

    one, two = Generous(101.0), Generous(101.0)
    one.other, two.other = two, one
    sweep.timed |= {one, two}
    clock.now = 102.0
    sweep.run()
    assert one.calls + two.calls == 1


def test_so_is_who_has_left(sweep: Sweep, clock: Clock) -> None:
    class Jealous(Waiting):
        other: Waiting

        def timed_out(self) -> None:
            super().timed_out()
            sweep.timed.discard(self.other)

    one, two = Jealous(101.0), Jealous(101.0)
    one.other, two.other = two, one
    sweep.timed |= {one, two}
    clock.now = 102.0
    sweep.run()
    assert one.calls + two.calls == 1


def test_who_fails_does_not_stop_the_others(sweep: Sweep, clock: Clock, logged: Logged) -> None:
    class Broken(Waiting):
        def timed_out(self) -> None:
            raise ValueError("broken")

    broken, others = Broken(101.0), [Waiting(101.0) for _ in range(5)]
    sweep.timed |= {broken, *others}
    clock.now = 102.0
    sweep.run()
    assert [waiting.calls for waiting in others] == [1] * 5
    assert len(logged) == 1
    clock.now = 103.0
    sweep.run()
    assert len(logged) == 1  # once is enough
