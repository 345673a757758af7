from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.config.model import Usage
from gatekeeper.errors import ConfigurationError, JournalError
from gatekeeper.usage.metering import Metering
from gatekeeper.usage.records import UsageRecord
from tests.usage.journals import levels, logged


def metering(directory: Path, **settings: object) -> Metering:
    return Metering(
        Usage.model_validate(settings),
        directory,
        None,  # type: ignore[arg-type]
        Clock(),
        lambda call: None,
    )


def test_journal_is_as_the_settings_say(tmp_path: Path, record: UsageRecord) -> None:
    made = metering(tmp_path, journal_size=1, fsync="always")
    assert (tmp_path / "journal").is_dir()
    assert made.journal.fsync == "always"
    assert made.problem() is None
    made.journal.append([record])
    assert made.meter.full
    assert made.problem() == "too much usage waits for the store: requests are refused"


def test_another_daemon(tmp_path: Path) -> None:
    first = metering(tmp_path)
    with pytest.raises(ConfigurationError, match="state_dir: another gatekeeper uses it"):
        metering(tmp_path)
    first.journal.close()


def test_problems_for_readiness(
    tmp_path: Path, record: UsageRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made = metering(tmp_path)
    made.flusher.failing_since = 0.0
    made.flusher._clock.advance(42)  # type: ignore[attr-defined]
    assert made.problem() == "the store has taken no usage for 42 s; it is kept"
    made.journal._write = full
    with pytest.raises(JournalError):
        made.journal.append([record])
    assert made.problem() == ("usage cannot be written down: requests are refused; see the log")


def test_a_flush_takes_what_this_turn_of_the_loop_has_brought(
    tmp_path: Path, record: UsageRecord
) -> None:
    made = metering(tmp_path)
    made.meter.record(record, None)
    made.flush()
    assert [segment.records for segment in made.journal.closed] == [1]


class Response:
    """One that waits for its record."""

    released = False

    def release(self, number: int) -> None:
        self.released = True

    def withhold(self) -> None:
        pytest.fail("its record is in the journal")


@pytest.mark.parametrize("in_time", [True, False])
def test_a_disk_has_some_seconds_for_the_last_responses(
    tmp_path: Path, record: UsageRecord, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    made = metering(tmp_path, fsync="always")
    disk: Deferred[None] = Deferred()
    monkeypatch.setattr(made.journal, "sync", lambda: disk)
    response = Response()
    made.meter.record(record, response)
    settled = Deferred.fromCoroutine(made.drain())
    clock = cast("Clock", made.flusher._clock)
    with logged("metering") as events:
        clock.advance(4.9)
        assert not settled.called
        if in_time:
            disk.callback(None)
        clock.advance(0.2)
    assert settled.called
    assert response.released is in_time
    assert levels(events) == ["error"] * (not in_time)
    if not in_time:
        disk.callback(None)  # too late, and no harm
