from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gatekeeper.errors import JournalError
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.upkeep import Upkeep
from tests.usage.journals import levels, logged, make_journal

INTERVAL = 3.0


class Disk:
    """Counts what is forced; fails with ``fault``."""

    def __init__(self) -> None:
        self.forced = 0
        self.fault: Exception | None = None

    def force(self, fd: int) -> None:
        self.forced += 1
        self._check()

    def write(self, fd: int, data: bytes) -> int:
        self._check()
        return os.write(fd, data)

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


class Setup:
    def __init__(self, directory: Path, fsync: str) -> None:
        self.disk = Disk()
        self.journal: Journal = make_journal(
            directory, fsync=fsync, force=self.disk.force, write=self.disk.write
        )
        self.clock = Clock()
        self.upkeep = Upkeep(self.journal, self.clock, INTERVAL)
        self.upkeep.start()

    def stop(self) -> None:
        done = Deferred.fromCoroutine(self.upkeep.stop())
        SynchronousTestCase().successResultOf(done)


@pytest.fixture
def setup(tmp_path: Path, request: pytest.FixtureRequest) -> Setup:
    return Setup(tmp_path, getattr(request, "param", "interval"))


def with_fsync(*modes: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("setup", modes, indirect=True)


def test_forced_at_every_interval(setup: Setup, record: UsageRecord) -> None:
    setup.journal.append([record])
    setup.clock.advance(INTERVAL - 0.1)
    assert setup.disk.forced == 0
    setup.clock.advance(0.1)
    assert setup.disk.forced == 2  # the file, and the directory for its name
    setup.clock.pump([INTERVAL] * 3)
    assert setup.disk.forced == 2
    setup.journal.append([record])
    setup.clock.advance(INTERVAL)
    assert setup.disk.forced == 3


@with_fsync("none", "always")
def test_not_forced(setup: Setup, record: UsageRecord) -> None:
    """With ``always`` the meter asks for it."""
    setup.journal.append([record])
    setup.clock.pump([INTERVAL] * 3)
    assert setup.disk.forced == 0


@with_fsync("none", "interval", "always")
def test_failing_journal_is_tried_again_each_second(setup: Setup, record: UsageRecord) -> None:
    setup.disk.fault = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(JournalError):
        setup.journal.append([record])
    setup.clock.pump([1.0] * 10)
    assert setup.journal.full
    setup.disk.fault = None
    setup.clock.advance(1.0)
    assert not setup.journal.full
    setup.journal.append([record])


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), ZeroDivisionError()])
def test_nothing_ends_it(setup: Setup, record: UsageRecord, fault: Exception) -> None:
    setup.journal.append([record])
    setup.disk.fault = fault
    with logged("upkeep", "journal") as events:
        setup.clock.advance(INTERVAL)
        assert levels(events) == ["critical"]
        assert setup.journal.failing == isinstance(fault, OSError)
    setup.disk.fault = None
    setup.clock.pump([1.0] * 5)
    assert not setup.journal.failing
    setup.journal.append([record])
    forced = setup.disk.forced
    setup.clock.advance(INTERVAL)
    assert setup.disk.forced > forced


@with_fsync("interval", "always")
def test_what_stays_is_forced_at_the_stop(setup: Setup, record: UsageRecord) -> None:
    setup.journal.append([record])
    setup.stop()
    assert setup.disk.forced == 2
    assert setup.clock.getDelayedCalls() == []


@with_fsync("none")
def test_stop_without_forcing(setup: Setup, record: UsageRecord) -> None:
    setup.journal.append([record])
    setup.stop()
    assert setup.disk.forced == 0
    assert setup.clock.getDelayedCalls() == []


def test_stop_of_a_journal_that_cannot_be_forced(setup: Setup, record: UsageRecord) -> None:
    setup.journal.append([record])
    setup.disk.fault = OSError(errno.EIO, "Input/output error")
    setup.stop()
    assert setup.journal.failing
