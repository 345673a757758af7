from __future__ import annotations

from collections.abc import Callable

from gatekeeper.usage.counters import Counters
from gatekeeper.usage.meter import Meter
from gatekeeper.usage.records import UsageRecord


def test_records_are_handed_on_once_per_turn(record: UsageRecord) -> None:
    turn: list[Callable[[], None]] = []
    counters = Counters()
    meter = Meter(counters, turn.append)
    for requests in (3, 1):
        for _ in range(requests):
            meter.record(record)
        assert len(counters) == 0
        (drain,) = turn
        turn.clear()
        drain()
        (counted,) = counters.take(10).values()
        assert counted.requests == requests


def test_draining_by_hand_before_the_turn_ends(record: UsageRecord) -> None:
    turn: list[Callable[[], None]] = []
    counters = Counters()
    meter = Meter(counters, turn.append)
    meter.record(record)
    meter.drain()
    turn[0]()
    (counted,) = counters.take(10).values()
    assert counted.requests == 1


def test_full_when_the_counters_are(record: UsageRecord) -> None:
    meter = Meter(Counters(max_keys=1), lambda drain: None)
    assert not meter.full
    meter.record(record)
    meter.drain()
    assert meter.full
