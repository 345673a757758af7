"""What was revoked holds also before the store has been read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from gatekeeper.errors import ConfigurationError
from gatekeeper.remembered import remember_revocations
from gatekeeper.state import State, View
from gatekeeper.store.state import Add, Remove, Revocation, Snapshot
from tests.auth.support import outcome
from tests.test_state import ENTRY, FakeStore

NOW = 100.0
REVOKED = Revocation("aa", 900.0, 50.0)
OVER = Revocation("bb", 60.0, 50.0)


class Node:
    """Processes one after the other, with one directory and one store."""

    def __init__(self, directory: Path, *revocations: Revocation) -> None:
        self.file = directory / "revoked.jsonl"
        self.store = FakeStore(View.of(Snapshot(1, revocations=revocations)))

    def start(self) -> State:
        state = State(self.store, Clock())  # type: ignore[arg-type]
        remember_revocations(state, self.file, NOW)
        return state


def test_it_is_known_while_the_store_is_away(tmp_path: Path) -> None:
    node = Node(tmp_path, REVOKED, OVER)
    outcome(node.start().load())
    node.store.away = True
    later = node.start()
    assert list(later.revocations) == ["aa"]  # the other one is over
    assert not later.loaded
    assert node.file.stat().st_mode & 0o777 == 0o600


def test_the_store_has_the_last_word(tmp_path: Path) -> None:
    node = Node(tmp_path, REVOKED)
    first = node.start()
    outcome(first.load())
    outcome(first.change([Remove(REVOKED), Add(Revocation("cc", 900.0, NOW))], ENTRY))
    node.store.away = True
    assert list(node.start().revocations) == ["cc"]


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.file.mkdir()
    with pytest.raises(ConfigurationError, match=r"state_dir: .*revoked.jsonl"):
        node.start()


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, REVOKED)
    state = node.start()
    node.file.mkdir()
    outcome(state.load())
    assert list(state.revocations) == ["aa"]
