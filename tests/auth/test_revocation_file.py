"""Who was shut out stays so when the process ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from gatekeeper.auth import revocation_file
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_cache import REVOKED, MemoryTokenCache, TokenCacheError
from tests.auth.support import outcome
from tests.auth.token_cache_contract import Nodes, TokenCacheContract

NOW = 1_700_000_000.0


class Place:
    """A directory, and the time; processes come and go."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.file = directory / "revoked-tokens.jsonl"

    def cache(self) -> MemoryTokenCache:
        started = self.clock.seconds()  # each process's own clock begins somewhere else
        cache = MemoryTokenCache(
            300,
            monotonic=lambda: self.clock.seconds() - started,
            file=RevocationFile(self.file),
            wall=lambda: NOW + self.clock.seconds(),
        )
        assert outcome(cache.start()) == [None]
        return cache

    def value(self, key: str) -> str | None:
        """What a process that starts now knows of a key."""
        (value,) = outcome(self.cache().get(key))
        assert value is None or isinstance(value, str)
        return value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestWithAFile(TokenCacheContract):
    @pytest.fixture
    def nodes(self, place: Place) -> Nodes:
        cache = place.cache()
        return Nodes(cache, cache, place.clock.advance)


def test_a_revocation_outlives_the_process_and_no_token_does(place: Place) -> None:
    cache = place.cache()
    outcome(cache.add("a", "token"))
    outcome(cache.revoke("b"))
    place.clock.advance(299)
    assert place.value("a") is None
    assert place.value("b") == REVOKED
    assert place.file.stat().st_mode & 0o777 == 0o600


def test_it_ends_when_it_would_have_ended(place: Place) -> None:
    outcome(place.cache().revoke("a", 10))
    place.clock.advance(9)
    cache = place.cache()
    place.clock.advance(2)
    assert outcome(cache.get("a")) == [None]
    assert place.value("a") is None


@pytest.mark.parametrize("taken_back", ["replace", "delete", "clear"])
def test_one_that_was_taken_back(place: Place, taken_back: str) -> None:
    cache = place.cache()
    outcome(cache.revoke("a"))
    outcome(
        {
            "replace": lambda: cache.replace("a", "token"),
            "delete": lambda: cache.delete("a"),
            "clear": cache.clear,
        }[taken_back]()
    )
    assert place.value("a") is None


def test_a_torn_end_costs_nothing_else(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    outcome(place.cache().revoke("a"))
    with place.file.open("ab") as file:
        file.write(b'["torn", 17000')
    outcome(place.cache().revoke("b"))
    assert (place.value("a"), place.value("b")) == (REVOKED, REVOKED)


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[1, 2]", b'["a"]', b'["a", true]', b'["a", 1e999, 1]']
)
def test_other_lines_are_passed_over(place: Place, line: bytes) -> None:
    place.file.write_bytes(line + b"\n" + json.dumps(["b", NOW + 5]).encode() + b"\n")
    assert place.value("b") == REVOKED
    assert len(place.file.read_bytes().splitlines()) == 1


def test_what_cannot_be_written_down_does_not_count(place: Place) -> None:
    cache = place.cache()
    outcome(cache.revoke("kept"))
    place.file.unlink()
    place.file.mkdir()
    for failing in (
        cache.revoke("a"),
        cache.delete("kept"),
        cache.replace("kept", "x"),
        cache.clear(),
    ):
        (failure,) = outcome(failing)
        assert isinstance(failure.value, TokenCacheError)
        assert str(place.file) in str(failure.value)
    assert outcome(cache.get("a")) == [None]
    assert outcome(cache.get("kept")) == [REVOKED]


def test_a_file_that_cannot_be_read_stops_the_start(place: Place) -> None:
    place.file.mkdir()
    cache = MemoryTokenCache(file=RevocationFile(place.file))
    (failure,) = outcome(cache.start())
    assert failure.check(TokenCacheError)


def test_the_file_does_not_grow_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_file, "_SUPERFLUOUS", 10)
    cache = place.cache()
    for _ in range(50):
        outcome(cache.revoke("a"))
    outcome(cache.revoke("b"))
    assert len([line for line in place.file.read_bytes().splitlines() if line]) < 20
    assert (place.value("a"), place.value("b")) == (REVOKED, REVOKED)


def test_tokens_are_not_in_it(place: Place) -> None:
    outcome(place.cache().add("a", "a-secret-token"))
    assert not os.path.exists(place.file)
