"""Who may flush whose segments, where several processes share a directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.owners import Owners
from gatekeeper.usage.records import UsageRecord
from tests.daemon import wait_until
from tests.usage.journals import journal_files, levels, logged, make_journal, records_in

ROOT = Path(__file__).parents[2]


def heir_of(journal: Journal, directory: Path, **options: object) -> Journal:
    """A process that has inherited the directory's lock."""
    return make_journal(directory, lock=os.dup(journal.lock), **options)


class TestOwners:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        one, two = Owners(tmp_path), Owners(tmp_path)
        assert one.claim(("a", 0))
        assert one.claim(("a", 0))
        assert not two.claim(("a", 0))
        assert two.claim(("a", 1))
        assert two.claim(("b", 0))
        assert ("a", 0) in one
        assert ("a", 0) not in two
        one.close()
        assert two.claim(("a", 0))
        two.close()
        two.close()

    def test_a_claim_lives_on_in_a_child_and_ends_with_it(self, tmp_path: Path) -> None:
        """A daemon goes into the background after it has opened everything."""
        program = (
            "import os, sys; from pathlib import Path\n"
            "from gatekeeper.usage.owners import Owners\n"
            "owners = Owners(Path(sys.argv[1])); assert owners.claim(('a', 0))\n"
            "if os.fork(): os._exit(0)\n"
            "print('claimed', flush=True); sys.stdin.read()"
        )
        owners = Owners(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"claimed\n"
            assert process.wait() == 0
            assert not owners.claim(("a", 0))
            process.stdin.close()
            assert process.stdout.read() == b""
        wait_until(lambda: owners.claim(("a", 0)), "it has ended")
        owners.close()

    def test_no_file_grows(self, tmp_path: Path) -> None:
        owners = Owners(tmp_path)
        for number in range(100):
            assert owners.claim(("a", number))
        assert (tmp_path / "owners").stat().st_size == 0
        owners.close()


class TestTwoProcesses:
    def test_each_flushes_what_it_has_written(self, tmp_path: Path, record: UsageRecord) -> None:
        old = make_journal(tmp_path, node="old")
        old.append([record])
        old.rotate()
        new = heir_of(old, tmp_path, node="new")
        assert not new.closed
        new.append([record, record])
        new.rotate()
        assert [segment.key.node for segment in old.closed] == ["old"]
        assert [segment.key.node for segment in new.closed] == ["new"]
        new.adopt()
        old.adopt()
        assert [len(journal.closed) for journal in (old, new)] == [1, 1]
        old.close()
        new.close()

    def test_who_stays_takes_over_what_is_left(self, tmp_path: Path, record: UsageRecord) -> None:
        old = make_journal(tmp_path, node="old", now=lambda: 10.0)
        new = heir_of(old, tmp_path, node="new")
        new.append([record])
        new.rotate()
        for _ in range(3):
            old.append([record])
            old.rotate()
        old.append([record, record])  # this one is not even closed
        before = new.bytes
        _kill(old)
        with logged("journal") as events:
            new.adopt()
        assert [event["records"] for event in events] == [5]
        assert levels(events) == ["info"]
        assert [segment.records for segment in new.closed if segment.key.node == "old"] == [
            1, 1, 1, 2,
        ]  # fmt: skip
        assert new.records == 6
        assert new.bytes == before + sum(
            segment.size for segment in new.closed if segment.key.node == "old"
        )
        with logged("journal") as events:
            new.adopt()
        assert events == []
        for segment in list(new.closed):
            assert len(records_in(segment.path)) == segment.records
            new.remove(segment)
        assert journal_files(tmp_path) == []
        new.close()

    def test_only_one_of_several_heirs(self, tmp_path: Path, record: UsageRecord) -> None:
        old = make_journal(tmp_path, node="old")
        heirs = [heir_of(old, tmp_path, node=f"heir{number}") for number in range(3)]
        old.append([record])
        _kill(old)
        for heir in heirs:
            heir.adopt()
        assert sorted(len(heir.closed) for heir in heirs) == [0, 0, 1]
        # It dies as well, and the next one takes it over.
        first = next(heir for heir in heirs if heir.closed)
        _kill(first)
        rest = [heir for heir in heirs if heir is not first]
        for heir in rest:
            heir.adopt()
        assert sorted(len(heir.closed) for heir in rest) == [0, 1]
        for heir in rest:
            heir.close()

    def test_workers_of_one_node(self, tmp_path: Path, record: UsageRecord) -> None:
        one = make_journal(tmp_path, worker=1)
        two = heir_of(one, tmp_path, worker=2)
        for journal in (one, two):
            journal.append([record])
            journal.rotate()
        assert journal_files(tmp_path) == ["n-1-00000001.journal", "n-2-00000001.journal"]
        with pytest.raises(ConfigurationError, match="n is another process"):
            heir_of(one, tmp_path, worker=1)
        one.close()
        two.close()

    def test_nothing_is_taken_over_after_the_end(self, tmp_path: Path, record: UsageRecord) -> None:
        old = make_journal(tmp_path, node="old")
        new = heir_of(old, tmp_path, node="new")
        old.append([record])
        new.close()
        _kill(old)
        new.adopt()
        assert not new.closed

    def test_it_cannot_be_found_out(
        self, tmp_path: Path, record: UsageRecord, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = make_journal(tmp_path)

        def broken(path: Path) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "iterdir", broken)
        with logged("journal") as events:
            journal.adopt()
        assert levels(events) == ["warn"]
        monkeypatch.undo()
        journal.adopt()
        journal.close()


class TestTheDirectorysLock:
    def test_it_is_there_as_long_as_one_of_them_is(self, tmp_path: Path) -> None:
        old = make_journal(tmp_path, node="old")
        new = heir_of(old, tmp_path, node="new")
        assert not os.get_inheritable(new.lock)
        old.close()
        with pytest.raises(ConfigurationError, match="another gatekeeper uses it"):
            make_journal(tmp_path, node="stranger")
        new.close()
        make_journal(tmp_path).close()

    def test_of_another_directory(self, tmp_path: Path) -> None:
        """``state_dir`` has changed: the process that follows uses another one."""
        old = make_journal(tmp_path / "one")
        new = heir_of(old, tmp_path / "two")
        opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
        assert opened.count(f"{tmp_path}/one/lock") == 1  # what was inherited is closed
        for directory in ("one", "two"):
            with pytest.raises(ConfigurationError, match="another gatekeeper uses it"):
                make_journal(tmp_path / directory)
        old.close()
        new.close()

    def test_that_of_somebody_else_does_not_help(self, tmp_path: Path) -> None:
        (tmp_path / "two").mkdir()
        old = make_journal(tmp_path / "one")
        other = make_journal(tmp_path / "two")
        with pytest.raises(ConfigurationError, match="another gatekeeper uses it"):
            make_journal(tmp_path / "two", lock=os.dup(old.lock))
        old.close()
        other.close()


def _kill(journal: Journal) -> None:
    """As the end of its process does it: nothing is written, descriptors are closed."""
    journal._owners.close()
    os.close(journal.lock)
    journal.lock = -1
    if journal._file is not None:
        journal._file.close()
