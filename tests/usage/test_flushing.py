from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from gatekeeper.errors import StoreError
from gatekeeper.store.interface import IStore, UsageQuery, UsageRow
from gatekeeper.usage import flushing
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.flushing import Flusher
from gatekeeper.usage.records import Batch, UsageRecord

INTERVAL = 5.0


@implementer(IStore)
class FakeStore:
    """Takes batches at once, fails with ``error``, or hangs until ``answers`` are given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.error: Exception | None = None
        self.hanging = False
        self.answers: list[Deferred[None]] = []

    def write_batch(self, batch: Batch) -> Deferred[None]:
        self.batches.append(batch)
        if self.hanging:
            self.answers.append(Deferred())
            return self.answers[-1]
        return succeed(None) if self.error is None else fail(self.error)

    def open(self) -> Deferred[None]:
        return succeed(None)

    close = ping = open

    def usage(self, query: UsageQuery) -> Deferred[list[UsageRow]]:
        return succeed([])

    @property
    def sequences(self) -> list[int]:
        return [batch.sequence for batch in self.batches]


class Setup:
    def __init__(self, record: UsageRecord) -> None:
        self.record = record
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = FakeStore()
        self.counters = Counters()
        self.flusher = Flusher(
            self.store, self.counters, self.clock, INTERVAL, worker=3, node="n", jitter=lambda: 1.0
        )
        self.flusher.start()

    def use(self, *paths: str) -> None:
        self.counters.add_all(self.record._replace(path=path) for path in paths or ["/a"])

    def intervals(self, number: int) -> None:
        self.clock.pump([INTERVAL] * number)

    def stop(self, timeout: float = 10.0) -> list[int]:
        lost: list[int] = []
        self.flusher.stop(timeout).addCallback(lost.append)
        return lost


@pytest.fixture
def setup(record: UsageRecord) -> Setup:
    return Setup(record)


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    found: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == flushing.__name__:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def levels(events: list[LogEvent]) -> list[str]:
    return [event["log_level"].name for event in events]


def test_flushes_at_every_interval(setup: Setup) -> None:
    setup.use()
    assert setup.store.batches == []
    setup.intervals(1)
    setup.use("/b", "/c")
    setup.intervals(1)
    assert [(b.node, b.worker, b.sequence) for b in setup.store.batches] == [
        ("n", 3, 1),
        ("n", 3, 2),
    ]
    assert [len(batch.counters) for batch in setup.store.batches] == [1, 2]
    assert setup.flusher.pending == 0


def test_nothing_used_nothing_written(setup: Setup) -> None:
    setup.intervals(3)
    assert setup.store.batches == []


def test_much_goes_in_several_batches(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "BATCH_SIZE", 4)
    setup.use(*(f"/{number}" for number in range(10)))
    setup.intervals(1)
    assert [len(batch.counters) for batch in setup.store.batches] == [4, 4, 2]
    assert setup.store.sequences == [1, 2, 3]


def test_what_comes_during_a_flush_waits_for_the_next_one(setup: Setup) -> None:
    setup.store.hanging = True
    setup.use("/a")
    setup.intervals(1)
    setup.use("/b")
    setup.store.answers[0].callback(None)
    assert setup.store.sequences == [1]
    setup.intervals(1)
    assert setup.store.sequences == [1, 2]


def test_one_flush_at_a_time(setup: Setup) -> None:
    setup.store.hanging = True
    setup.use()
    setup.intervals(10)
    setup.use()
    setup.intervals(10)
    assert setup.store.sequences == [1]


def test_failed_batch_is_repeated_unchanged(setup: Setup) -> None:
    setup.store.error = StoreError("away")
    setup.use("/a")
    setup.intervals(1)
    setup.use("/a", "/b")
    setup.store.error = None
    setup.intervals(2)
    first, second, third = setup.store.batches
    assert first == second
    assert [key[2] for key in second.counters] == ["/a"]
    assert third.sequence == 2
    assert sorted(key[2] for key in third.counters) == ["/a", "/b"]
    assert setup.flusher.pending == 0


def test_backs_off_up_to_a_minute(setup: Setup) -> None:
    setup.store.error = StoreError("away")
    setup.use()
    attempts = []
    for _ in range(400):
        before = len(setup.store.batches)
        setup.clock.advance(1.0)
        if len(setup.store.batches) > before:
            attempts.append(setup.clock.seconds())
    waits = [later - earlier for earlier, later in pairwise(attempts)]
    assert waits == [5, 10, 20, 40, 60, 60, 60, 60, 60]


def test_back_off_begins_anew_after_a_success(setup: Setup) -> None:
    setup.store.error = StoreError("away")
    setup.use()
    setup.intervals(20)
    setup.store.error = None
    setup.intervals(20)
    setup.store.error = StoreError("away again")
    setup.use()
    setup.intervals(1)
    before = len(setup.store.batches)
    setup.intervals(1)
    assert len(setup.store.batches) == before + 1


def test_failing_since_and_lag(setup: Setup) -> None:
    setup.use()
    setup.intervals(1)
    assert setup.flusher.failing_since is None
    assert setup.flusher.lag == 0
    setup.store.error = StoreError("away")
    setup.use()
    setup.intervals(2)
    assert setup.flusher.failing_since == 1010
    assert setup.flusher.lag == 10
    setup.store.error = None
    setup.intervals(4)
    assert setup.flusher.failing_since is None
    assert setup.flusher.lag == 0


def test_hanging_store_shows_in_the_lag(setup: Setup) -> None:
    setup.store.hanging = True
    setup.use()
    setup.intervals(6)
    assert setup.flusher.lag == 30


def test_logs_changes_of_state_only(setup: Setup, events: list[LogEvent]) -> None:
    setup.store.error = StoreError("away")
    setup.use()
    setup.intervals(50)
    assert levels(events) == ["error"]
    setup.store.error = None
    setup.intervals(50)
    assert levels(events) == ["error", "info"]


def test_error_that_nobody_thought_of_does_not_end_the_loop(
    setup: Setup, events: list[LogEvent]
) -> None:
    setup.store.error = ZeroDivisionError()
    setup.use()
    setup.intervals(1)
    assert events[0]["log_level"] is LogLevel.critical
    assert events[0]["log_failure"].check(ZeroDivisionError)
    setup.store.error = None
    setup.intervals(4)
    assert setup.store.sequences == [1, 1]
    assert setup.flusher.pending == 0


def test_stop_flushes_once_more(setup: Setup) -> None:
    setup.use()
    assert setup.stop() == [0]
    assert setup.store.sequences == [1]
    assert setup.clock.getDelayedCalls() == []


def test_stop_without_start(record: UsageRecord) -> None:
    counters, clock, store = Counters(), Clock(), FakeStore()
    counters.add(record)
    lost: list[int] = []
    Flusher(store, counters, clock).stop().addCallback(lost.append)
    assert lost == [0]
    assert store.sequences == [1]


def test_stop_waits_for_the_flush_under_way_and_then_flushes(setup: Setup) -> None:
    setup.store.hanging = True
    setup.use("/a")
    setup.intervals(1)
    setup.use("/b")
    lost = setup.stop()
    setup.store.hanging = False
    assert setup.store.sequences == [1]
    setup.store.answers[0].callback(None)
    assert setup.store.sequences == [1, 2]
    assert lost == [0]
    assert setup.clock.getDelayedCalls() == []


def test_stop_tries_a_store_that_was_away(setup: Setup) -> None:
    setup.store.error = StoreError("away")
    setup.use()
    setup.intervals(20)
    setup.store.error = None
    assert setup.stop() == [0]


def test_stop_tells_what_is_lost(setup: Setup, events: list[LogEvent]) -> None:
    setup.store.error = StoreError("away")
    setup.use("/a")
    setup.intervals(1)
    setup.use("/b", "/c")
    assert setup.stop() == [3]
    assert levels(events) == ["error", "critical"]
    assert events[-1]["lost"] == 3


def test_stop_does_not_wait_for_ever(setup: Setup) -> None:
    setup.store.hanging = True
    setup.use("/a", "/b")
    lost = setup.stop(timeout=7.0)
    setup.clock.advance(6.9)
    assert lost == []
    setup.clock.advance(0.2)
    assert lost == [2]
    setup.store.answers[0].callback(None)
    assert lost == [2]
    assert setup.clock.getDelayedCalls() == []


def test_every_process_is_a_node_of_its_own(record: UsageRecord) -> None:
    nodes: set[str] = set()
    for _ in range(2):
        counters, store = Counters(), FakeStore()
        counters.add(record)
        Flusher(store, counters, Clock()).stop()
        nodes.update(batch.node for batch in store.batches)
    assert len(nodes) == 2
    assert all(nodes)
