from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs

from gatekeeper.errors import StoreError
from gatekeeper.store.interface import Retention, Upkept
from gatekeeper.usage.retention import FIRST, INTERVAL, StoreUpkeep

KEEP = Retention(1.0, 2.0, None)


class FakeStore:
    """Answers as it is told to, and remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, Retention]] = []
        self.answer: Deferred[Upkept] | Exception = succeed(Upkept())

    def maintain(self, now: float, keep: Retention) -> Deferred[Upkept]:
        self.asked.append((now, keep))
        return fail(self.answer) if isinstance(self.answer, Exception) else self.answer


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logged() -> Iterator[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


def make(store: FakeStore, clock: Clock, jitter: float = 0.0) -> StoreUpkeep:
    upkeep = StoreUpkeep(store, KEEP, clock, lambda: 1e9 + clock.seconds(), lambda: jitter)  # type: ignore[arg-type]
    upkeep.start()
    return upkeep


def test_a_minute_after_the_start_then_hourly(store: FakeStore, clock: Clock) -> None:
    make(store, clock)
    clock.advance(FIRST - 1)
    assert store.asked == []
    clock.advance(1)
    assert store.asked == [(1e9 + FIRST, KEEP)]
    clock.pump([INTERVAL / 2] * 4)
    assert [now - 1e9 for now, _ in store.asked] == [FIRST, FIRST + INTERVAL, FIRST + 2 * INTERVAL]


def test_nodes_do_not_come_at_once(store: FakeStore, clock: Clock) -> None:
    make(store, clock, jitter=0.5)
    clock.advance(FIRST)
    assert store.asked == []
    clock.advance(0.05 * FIRST)
    clock.advance(INTERVAL)
    assert len(store.asked) == 1
    clock.advance(0.05 * INTERVAL)
    assert len(store.asked) == 2


@pytest.mark.parametrize("error", [StoreError("away"), ZeroDivisionError("a bug")])
def test_no_failure_ends_it(
    store: FakeStore, clock: Clock, logged: Sequence[LogEvent], error: Exception
) -> None:
    store.answer = error
    make(store, clock)
    clock.advance(FIRST)
    (event,) = logged
    assert event["log_level"] == (
        LogLevel.warn if isinstance(error, StoreError) else LogLevel.critical
    )
    store.answer = succeed(Upkept())
    clock.advance(INTERVAL)
    assert len(store.asked) == 2


def test_never_twice_at_once(store: FakeStore, clock: Clock) -> None:
    running: Deferred[Upkept] = Deferred()
    store.answer = running
    make(store, clock)
    clock.advance(FIRST)
    clock.pump([INTERVAL] * 3)
    assert len(store.asked) == 1
    running.callback(Upkept())
    clock.advance(INTERVAL)
    assert len(store.asked) == 2


def test_says_what_it_did_when_it_did_something(
    store: FakeStore, clock: Clock, logged: Sequence[LogEvent]
) -> None:
    make(store, clock)
    clock.advance(FIRST)
    assert not logged
    store.answer = succeed(Upkept(rolled_up=24, record_days=1))
    clock.advance(INTERVAL)
    (event,) = logged
    assert (event["rolled_up"], event["record_days"]) == (24, 1)


@pytest.mark.parametrize("after", [0.0, FIRST, FIRST + INTERVAL])
def test_stopped(store: FakeStore, clock: Clock, after: float) -> None:
    upkeep = make(store, clock)
    clock.advance(after)
    upkeep.stop()
    asked = len(store.asked)
    clock.pump([INTERVAL] * 3)
    assert len(store.asked) == asked
    assert clock.getDelayedCalls() == []


def test_store_that_is_closed_in_the_middle(
    store: FakeStore, clock: Clock, logged: Sequence[LogEvent]
) -> None:
    running: Deferred[Upkept] = Deferred()
    store.answer = running
    upkeep = make(store, clock)
    clock.advance(FIRST)
    upkeep.stop()
    running.errback(StoreError("the store is closed"))
    assert not logged
