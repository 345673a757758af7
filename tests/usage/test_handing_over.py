"""Journals whose segments another process moves into the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.segment_file import Segment
from tests.usage.journals import journal_files, make_journal

result_of = SynchronousTestCase().successResultOf


class Team:
    """A supervisor's journal and a worker's, which share the directory."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.taken: list[Segment] = []
        self.supervisor = make_journal(directory, node="s", **options)
        self.worker = self.hire("w")

    def hire(self, node: str) -> Journal:
        lock = self.supervisor.lock
        return make_journal(
            self.directory, node=node, worker=1, lock=os.dup(lock), hand_over=self.taken.append
        )

    def hand_over(self) -> None:
        """What the worker has handed over arrives."""
        for each in self.taken:
            result_of(self.supervisor.receive(each.path.name, each.since, each.records, each.size))
        self.taken.clear()


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "journal")


def test_a_segment_goes_over_and_is_done(team: Team, record: UsageRecord) -> None:
    team.worker.append([record, record])
    assert (team.worker.own_records, team.supervisor.records) == (2, 0)
    team.worker.rotate()
    team.hand_over()
    assert team.worker.records == team.supervisor.records == 2
    assert (team.worker.own_records, team.worker.own_bytes) == (0, 0)
    assert team.supervisor.own_records == 2
    (segment,) = team.supervisor.closed
    assert result_of(team.supervisor.read(segment)).found.records == 2
    team.supervisor.remove(segment)
    team.worker.done(segment.key.sequence)
    team.worker.done(segment.key.sequence)
    assert (team.worker.records, team.worker.bytes) == (0, 0)
    assert not team.worker.closed
    assert journal_files(team.directory) == []


def test_nothing_is_adopted_while_the_worker_lives_nor_twice(
    team: Team, record: UsageRecord
) -> None:
    team.worker.append([record])
    team.worker.rotate()
    team.hand_over()
    team.worker.append([record])
    result_of(team.supervisor.adopt())
    assert team.supervisor.records == 1
    team.worker.close()  # which hands the rest over; but that is on its way
    result_of(team.supervisor.adopt())
    assert team.supervisor.records == 2
    team.hand_over()
    assert team.supervisor.records == 2
    assert len(team.supervisor.closed) == 2


def test_what_was_flushed_already_does_not_come_back(team: Team, record: UsageRecord) -> None:
    team.worker.append([record])
    team.worker.close()
    result_of(team.supervisor.adopt())
    (segment,) = team.supervisor.closed
    team.supervisor.remove(segment)
    team.hand_over()
    assert team.supervisor.records == 0
    assert not team.supervisor.closed


def test_handing_over_waits_for_an_adoption(tmp_path: Path, record: UsageRecord) -> None:
    """Else what is found there, and done meanwhile, would come back."""
    running: list[Any] = []

    def in_thread(function: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        running.append((function, waiting))
        return waiting

    team = Team(tmp_path / "journal", in_thread=in_thread)
    team.worker.append([record])
    adopting = team.supervisor.adopt()
    team.worker.close()
    (each,) = team.taken
    receiving = team.supervisor.receive(each.path.name, each.since, each.records, each.size)
    ((function, waiting),) = running
    assert not receiving.called
    waiting.callback(function())
    result_of(adopting)
    result_of(receiving)
    assert team.supervisor.records == 1
    assert len(team.supervisor.closed) == 1


def test_a_worker_takes_nothing_over(team: Team, record: UsageRecord) -> None:
    team.worker.append([record])
    team.worker.close()
    other = team.hire("x")
    assert (other.records, len(other.closed)) == (0, 0)


def test_too_much_in_all(team: Team) -> None:
    team.worker.shut(True)
    assert team.worker.full
    team.worker.shut(False)
    assert not team.worker.full


def test_a_name_that_is_none(team: Team) -> None:
    with pytest.raises(ValueError, match="x"):
        team.supervisor.receive("x", 0.0, 1, 1)
