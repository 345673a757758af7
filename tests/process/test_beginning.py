"""What daemon and worker do alike when they begin, over a clock that a test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.core import Core
from gatekeeper.process.beginning import Rounds, read_state
from gatekeeper.state import State
from gatekeeper.store.state import Snapshot


class Store:
    """Answers when a test says."""

    def __init__(self) -> None:
        self.version: Deferred[int] = Deferred()

    def state_version(self) -> Deferred[int]:
        return self.version

    def snapshot(self) -> Deferred[Snapshot]:
        return self.version.addCallback(Snapshot)

    def watch_state(self, changed: object) -> None:
        """It cannot be watched."""


class Reading:
    """A core whose state is read now; ``over``: whether it is waited for no more."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Store()
        self.state = State(self.store, self.clock)  # type: ignore[arg-type]
        core = cast(Core, SimpleNamespace(state=self.state))
        self._done = Deferred.fromCoroutine(read_state(core, self.clock))

    @property
    def over(self) -> bool:
        if self._done.called:
            assert self._done.result is None
        return self._done.called


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_state_is_waited_for(reading: Reading) -> None:
    reading.clock.advance(1.9)
    assert not reading.over
    reading.store.version.callback(3)
    assert reading.over
    assert reading.state.view.version == 3


def test_state_is_not_waited_for_for_ever(reading: Reading) -> None:
    reading.clock.advance(2.0)
    assert reading.over
    assert not reading.state.loaded


def test_state_that_comes_late_is_taken_all_the_same(reading: Reading) -> None:
    reading.clock.advance(2.0)
    reading.store.version.callback(3)
    assert reading.state.loaded
    assert reading.state._polling.running  # whoever waited for it before is no error


class Counting:
    """As much of a core as rounds see."""

    def __init__(self) -> None:
        self.plane = SimpleNamespace(sweep=SimpleNamespace(interval=0.25))
        self.swept = 0
        self.checked = 0

    def sweep(self) -> None:
        self.swept += 1

    def check_files(self) -> None:
        self.checked += 1


def test_rounds() -> None:
    clock, core = Clock(), Counting()
    beats: list[float] = []
    rounds = Rounds(clock)
    rounds.start(cast(Core, core))
    rounds.add(lambda: beats.append(clock.seconds()), 0.5)
    assert (core.swept, core.checked, beats) == (0, 0, [])
    clock.pump([0.25] * 4)
    assert (core.swept, core.checked, beats) == (4, 1, [0.5, 1.0])
    rounds.stop()
    clock.pump([0.25] * 4)
    assert (core.swept, core.checked, beats) == (4, 1, [0.5, 1.0])
    assert clock.getDelayedCalls() == []


def test_rounds_of_a_process_that_ends_before_it_has_begun() -> None:
    Rounds(Clock()).stop()


def test_rounds_of_which_one_has_ended_by_itself() -> None:
    clock, core = Clock(), Counting()
    rounds = Rounds(clock)
    rounds.start(cast(Core, core))
    rounds._loops[0].stop()
    rounds.stop()
    assert clock.getDelayedCalls() == []
