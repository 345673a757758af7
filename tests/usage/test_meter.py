from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gatekeeper.errors import JournalError
from gatekeeper.usage.meter import TURNS, Meter
from gatekeeper.usage.records import Spent, UsageRecord
from gatekeeper.usage.undelivered import GROUP, Undelivered
from tests.usage.journals import levels, logged


class Notes(Undelivered):
    """Each group has numbers of its own; knows which are open."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.settled: list[int] = []
        self.next = 1000

    def begin(self, sequence: int, offset: int, held: Sequence[object]) -> int:
        first, self.next = self.next, self.next + len(held)
        self.open[first] = len(held)
        return first

    def end(self, first: int) -> None:
        del self.open[first]

    def settle(self, number: int) -> None:
        assert any(first <= number < first + count for first, count in self.open.items())
        self.settled.append(number)


class FakeJournal:
    """Writes down what happens, in order; fails with ``error``."""

    full = False

    def __init__(self, fsync: str = "interval") -> None:
        self.fsync = fsync
        self.error: Exception | None = None
        self.withdraws = True
        self.events: list[str] = []
        self.syncs: list[Deferred[None]] = []
        self.undelivered = Notes()

    def append(self, records: Sequence[UsageRecord], held: Sequence[object]) -> int:
        self.events.append("append " + " ".join(record.id for record in records))
        assert len(held) == len(records)
        if self.error is not None:
            raise self.error
        return self.undelivered.begin(1, 0, held)

    def sync(self) -> Deferred[None]:
        self.events.append("sync")
        self.syncs.append(Deferred())
        return self.syncs[-1]

    def withdraw(self) -> bool:
        self.events.append("withdraw")
        assert self.undelivered.open, "else they count"
        return self.withdraws


class Response:
    def __init__(self, name: str, setup: Setup, error: Exception | None = None) -> None:
        self.name = name
        self.setup = setup
        self.error = error

    def release(self, number: int) -> None:
        self.setup.meter.settle(number)
        self._note("release")

    def withhold(self) -> None:
        self._note("withhold")

    def _note(self, what: str) -> None:
        self.setup.events.append(f"{what} {self.name}")
        if self.error is not None:
            raise self.error


class Setup:
    def __init__(self, record: UsageRecord, fsync: str = "interval") -> None:
        self._record = record
        self.journal = FakeJournal(fsync)
        self.events = self.journal.events
        self.scheduled: list[Callable[[], None]] = []
        self.lost: list[Spent] = []
        self.meter = Meter(self.journal, self.scheduled.append, self.lost.extend)

    def record(self, *ids: str) -> None:
        """Exchanges that end without a response to hold."""
        for each in ids:
            self.meter.record(self._record._replace(id=each), None)

    def end(self, *ids: str, error: Exception | None = None) -> None:
        """Exchanges that end with a response."""
        for each in ids:
            self.meter.record(self._record._replace(id=each), Response(each, self, error))

    def turn(self) -> list[str]:
        """Ends of turns of the loop, until something happens: what that is."""
        while self.scheduled and not self.events:
            self.run_scheduled()
        return self.happened()

    def run_scheduled(self) -> None:
        scheduled, self.scheduled[:] = self.scheduled[:], []
        for call in scheduled:
            call()

    @property
    def waiting(self) -> list[Deferred[None]]:
        """Syncs that have not come to their end."""
        return [sync for sync in self.journal.syncs if not sync.called]

    def happened(self) -> list[str]:
        events, self.events[:] = self.events[:], []
        return events


@pytest.fixture
def setup(record: UsageRecord) -> Setup:
    return Setup(record)


@pytest.fixture
def always(record: UsageRecord) -> Setup:
    return Setup(record, "always")


def test_one_append_for_each_turn_and_then_the_releases(setup: Setup) -> None:
    setup.end("a")
    setup.record("b")
    setup.end("c")
    assert setup.happened() == []
    assert len(setup.scheduled) == 1
    assert setup.turn() == ["append a b c", "release a", "release c"]
    setup.end("d")
    assert setup.turn() == ["append d", "release d"]
    assert setup.turn() == []
    assert setup.meter.idle().called


def test_turns_that_bring_more_are_written_down_together(setup: Setup) -> None:
    for each in "abc":
        setup.end(each)
        setup.run_scheduled()
        assert setup.happened() == []
    setup.run_scheduled()
    assert setup.happened() == ["append a b c", "release a", "release b", "release c"]
    assert setup.scheduled == []


def test_but_not_for_ever(setup: Setup) -> None:
    for each in range(TURNS):
        setup.end(str(each))
        assert setup.happened() == []
        setup.run_scheduled()
    assert setup.happened()[0] == "append 0 1 2 3"


def test_nor_more_than_one_group(setup: Setup) -> None:
    setup.end(*map(str, range(GROUP)))
    setup.run_scheduled()
    assert len(setup.happened()) == 1 + GROUP


def test_what_was_written_down_in_between(setup: Setup) -> None:
    """What comes after that is written down, too, and not before its turn is over."""
    setup.end("a")
    setup.meter.drain()
    setup.end("b")
    assert setup.happened() == ["append a", "release a"]
    assert setup.turn() == ["append b", "release b"]
    assert setup.turn() == []


def test_each_response_has_the_number_of_its_record(setup: Setup) -> None:
    setup.end("a")
    setup.record("b")
    setup.end("c")
    setup.turn()
    assert setup.journal.undelivered.settled == [1000, 1002]
    assert setup.journal.undelivered.open == {}


def test_many_are_written_down_in_groups(setup: Setup) -> None:
    """What has been written down first is sent before more is."""
    setup.end(*map(str, range(GROUP + 1)))
    events = setup.turn()
    assert [event.partition(" ")[0] for event in events] == [
        "append", *["release"] * GROUP, "append", "release",
    ]  # fmt: skip
    assert setup.journal.undelivered.open == {}


def test_draining_by_hand_before_the_turn_ends(setup: Setup) -> None:
    setup.end("a")
    setup.meter.drain()
    assert setup.happened() == ["append a", "release a"]
    assert setup.turn() == []


def test_full_when_the_journal_is(setup: Setup) -> None:
    assert not setup.meter.full
    setup.journal.full = True
    assert setup.meter.full


def test_what_cannot_be_appended_is_withheld(setup: Setup) -> None:
    setup.journal.error = JournalError("no space left")
    setup.end("a", "b")
    with logged("meter") as events:
        assert setup.turn() == ["append a b", "withhold a", "withhold b"]
    assert events == [], "the journal says so, once"
    setup.journal.error = None
    setup.end("c")
    assert setup.turn() == ["append c", "release c"], "nothing is kept"


def test_fault_of_our_own_withholds_too(setup: Setup) -> None:
    setup.journal.error = TypeError("not a text")
    setup.end("a", "b")
    with logged("meter") as events:
        assert setup.turn() == ["append a b", "withhold a", "withhold b"]
    assert levels(events) == ["critical"]
    assert events[0]["log_failure"].check(TypeError)
    assert events[0]["count"] == 2


@pytest.mark.parametrize("error", [None, JournalError("full")])
def test_response_that_raises_does_not_keep_others(
    setup: Setup, error: JournalError | None
) -> None:
    setup.journal.error = error
    setup.end("a")
    setup.end("b", error=ZeroDivisionError())
    setup.end("c")
    what = "release" if error is None else "withhold"
    with logged("meter") as events:
        assert setup.turn()[1:] == [f"{what} {name}" for name in "abc"]
    assert levels(events) == ["critical"]


def test_release_that_ends_the_next_exchange(setup: Setup) -> None:
    """A pipelined request may be answered within the release: that is for the next turn."""

    class Pipelining(Response):
        def release(self, number: int) -> None:
            super().release(number)
            setup.end("next")

    setup.meter.record(setup._record._replace(id="a"), Pipelining("a", setup))
    setup.end("b")
    assert setup.turn() == ["append a b", "release a", "release b"]
    assert setup.turn() == ["append next", "release next"]


class TestAlways:
    """``fsync = "always"``: releases wait for the disk."""

    def test_release_waits_for_a_sync(self, always: Setup) -> None:
        """What comes meanwhile is written down when that is over, all together."""
        always.end("a")
        assert always.turn() == ["append a", "sync"]
        always.end("b")
        assert always.turn() == []
        always.end("c")
        always.record("d")
        assert always.turn() == []
        assert len(always.journal.undelivered.open) == 1
        always.journal.syncs[0].callback(None)
        assert always.happened() == ["release a", "append b c d", "sync"]
        always.journal.syncs[1].callback(None)
        assert always.happened() == ["release b", "release c"]
        assert len(always.journal.syncs) == 2, "nothing more to do"
        assert always.journal.undelivered.open == {}
        always.end("e")
        assert always.turn() == ["append e", "sync"]

    def test_record_without_a_response_is_forced_too(self, always: Setup) -> None:
        always.record("a")
        assert always.turn() == ["append a", "sync"]
        always.record("b")
        assert always.turn() == []
        always.journal.syncs[0].callback(None)
        assert always.happened() == ["append b", "sync"]

    def test_many_groups_at_once(self, always: Setup) -> None:
        ids = [str(number) for number in range(2 * GROUP + 1)]
        always.end(*ids)
        assert [event.count(" ") for event in always.turn()] == [GROUP, GROUP, 1, 0]
        assert len(always.journal.undelivered.open) == 3
        always.journal.syncs[0].callback(None)
        assert always.happened() == [f"release {each}" for each in ids]
        assert always.journal.undelivered.open == {}

    def test_failed_append_is_withheld_at_once(self, always: Setup) -> None:
        always.end("a")
        always.turn()
        always.journal.error = JournalError("full")
        always.end("b")
        assert always.turn() == []
        always.journal.syncs[0].callback(None)
        assert always.happened() == ["release a", "append b", "withhold b"]
        always.journal.error = None
        always.end("c")
        assert always.turn() == ["append c", "sync"]

    @pytest.mark.parametrize("error", [JournalError("broken"), ZeroDivisionError()])
    def test_failed_sync(self, always: Setup, error: Exception) -> None:
        """What has come meanwhile is tried of its own."""
        always.end("a")
        always.turn()
        always.end("b")
        always.turn()
        with logged("meter") as events:
            always.journal.syncs[0].errback(Failure(error))
        assert always.happened() == ["withdraw", "withhold a", "append b", "sync"]
        assert len(events) == isinstance(error, ZeroDivisionError)
        always.journal.syncs[1].callback(None)
        assert always.happened() == ["release b"]
        assert always.journal.undelivered.open == {}

    @pytest.mark.parametrize("withdraws", [True, False])
    def test_what_does_not_count_is_not_spent(self, always: Setup, withdraws: bool) -> None:
        always.journal.withdraws = withdraws
        spent = [Spent("prepaid", "default", name, 1) for name in "ab"]
        first = always._record._replace(id="a", spent=(spent[0],))
        always.meter.record(first, Response("a", always))
        always.meter.record(first._replace(id="b", spent=(spent[1],)), None)
        always.turn()
        always.journal.syncs[0].errback(Failure(JournalError("broken")))
        assert always.happened() == ["withdraw", "withhold a"]
        assert always.lost == spent[:1] * withdraws

    def test_idle(self, always: Setup) -> None:
        assert always.meter.idle().called
        always.end("a")
        first = always.meter.idle()
        assert always.happened() == ["append a", "sync"]
        always.end("b")
        second = always.meter.idle()
        always.journal.syncs[0].callback(None)
        assert not first.called
        assert not second.called
        always.journal.syncs[1].callback(None)
        assert first.called
        assert second.called
        assert always.turn()[-1] == "release b"

    def test_a_last_time(self, always: Setup) -> None:
        """What the disk does not come to is in the journal before the process ends."""
        always.end("a")
        always.turn()
        always.end("b")
        always.meter.write_down()
        assert always.happened() == ["append b", "sync"]

    @given(st.lists(st.one_of(st.integers(0, 3), st.just("sync")), max_size=30))
    def test_whatever_the_rhythm(self, steps: list[int | str]) -> None:
        """Releases come in order, each after a sync that began after its append; one at a time."""
        setup = Setup(UsageRecord("", 0, 0, "", "", "", "", "", 0, 0, 0, 0, 0, ""), "always")
        count = 0
        for step in steps:
            if isinstance(step, int):
                setup.end(*(str(count + index) for index in range(step)))
                count += step
                setup.run_scheduled()
            elif setup.waiting:
                (waiting,) = setup.waiting
                waiting.callback(None)
        while setup.scheduled or setup.waiting:
            setup.run_scheduled()
            for waiting in setup.waiting:
                waiting.callback(None)
        released = [int(name[8:]) for name in setup.events if name.startswith("release")]
        assert released == list(range(count))
        appended = safe = 0
        for event in setup.events:
            kind, _, names = event.partition(" ")
            if kind == "append":
                appended += len(names.split())
            elif kind == "sync":
                safe = appended
            else:
                assert int(names) < safe
