"""Who has leased, as files: found when the process has ended, and its usage is in the store."""

from __future__ import annotations

from pathlib import Path

from gatekeeper.usage.journal import Journal
from gatekeeper.usage.lease_files import LeaseFiles
from gatekeeper.usage.owners import Owners
from gatekeeper.usage.records import UsageRecord
from tests.usage.journals import make_journal


def share(first: Journal, directory: Path, node: str) -> Journal:
    """A journal of another process in the same directory."""
    import os

    return make_journal(directory, node=node, lock=os.dup(first.lock))


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.lease"))


def test_who_is_alive_is_not_found(tmp_path: Path) -> None:
    here = make_journal(tmp_path, node="here")
    there = share(here, tmp_path, "there")
    for journal in here, there:
        journal.leases.make()
        journal.leases.make()
    assert files(tmp_path) == ["here-0.lease", "there-0.lease"]
    assert list(here.leases.ended()) == list(there.leases.ended()) == []
    there.close()
    assert list(here.leases.ended()) == [("there", 0)]
    here.leases.remove(("there", 0))
    here.leases.remove(("there", 0))
    assert list(here.leases.ended()) == []
    here.leases.remove()
    assert files(tmp_path) == []
    here.close()


def test_who_has_left_usage_is_not_found_before_that_is_in_the_store(
    tmp_path: Path, record: UsageRecord
) -> None:
    here = make_journal(tmp_path, node="here")
    there = share(here, tmp_path, "there")
    there.leases.make()
    there.append([record])
    there.close()
    assert list(here.leases.ended()) == []
    here.adopt()
    (segment,) = here.closed
    assert list(here.leases.ended()) == []
    here.remove(segment)
    assert list(here.leases.ended()) == [("there", 0)]
    here.close()


def test_what_was_set_aside_will_never_be_in_the_store(tmp_path: Path, record: UsageRecord) -> None:
    first = make_journal(tmp_path, node="first")
    first.leases.make()
    first.append([record])
    first.close()
    second = make_journal(tmp_path, node="second")
    second.set_aside(second.closed[0], "rejected")
    assert list(second.leases.ended()) == [("first", 0)]
    second.close()


def test_one_worker_is_not_another(tmp_path: Path, record: UsageRecord) -> None:
    here = make_journal(tmp_path, node="here")
    here.append([record])
    for worker in 1, 2:
        LeaseFiles(tmp_path, ("here", worker), Owners(tmp_path)).make()
    assert list(here.leases.ended()) == [("here", 1), ("here", 2)]
    here.close()


def test_only_one_finds_it_at_a_time(tmp_path: Path) -> None:
    here = make_journal(tmp_path, node="here")
    there = share(here, tmp_path, "there")
    (tmp_path / "gone-0.lease").touch()
    finding = here.leases.ended()
    assert next(finding) == ("gone", 0)
    assert list(there.leases.ended()) == []
    assert list(finding) == []
    assert list(there.leases.ended()) == [("gone", 0)]
    for journal in here, there:
        journal.close()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    here = make_journal(tmp_path, node="here")
    for name in ("-0.lease", "a.lease", "a-b-0.lease", "a-0.lease.bak", "ä-0.lease"):
        (tmp_path / name).touch()
    assert list(here.leases.ended()) == []
    here.close()
