"""Entries that were changed elsewhere. The rest is tested through `MemoryTokenCache`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_entries import REVOKED, Entries, TokenCacheError


class Place:
    """Entries with a clock and a file, and what they tell."""

    def __init__(self, directory: Path, size: int = 100, characters: int = 1000) -> None:
        self.clock = Clock()
        self.file = directory / "revoked.jsonl"
        self.told: list[str] = []
        self.size, self.characters = size, characters
        self.entries = self.make()
        self.entries.subscribe(self.told.append)

    def make(self) -> Entries:
        return Entries(
            300,
            self.size,
            self.characters,
            self.clock.seconds,
            file=RevocationFile(self.file),
            wall=self.clock.seconds,
        )

    def after_a_restart(self) -> dict[str, float]:
        entries = self.make()
        entries.load()
        return entries.revoked()

    def break_the_disk(self) -> None:
        self.file.unlink(missing_ok=True)
        self.file.mkdir()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_changes_are_learnt_in_order(place: Place) -> None:
    place.entries.put("a", "token")
    place.entries.put("b", "token")
    place.entries.learn([("a", 10), ("b", None), ("c", 20), ("a", None), ("d", 5), ("d", 7)])
    assert place.entries.items() == {"c": REVOKED, "d": REVOKED}
    assert place.told == ["a", "c", "d", "d"]
    assert place.after_a_restart() == {"c": 20, "d": 7}
    place.clock.advance(8)
    assert place.entries.items() == {"c": REVOKED}
    assert place.entries.revoked() == {"c": 12}


def test_nothing_learnt_touches_no_file(place: Place) -> None:
    place.entries.put("a", "token")
    place.entries.learn([("a", None), ("b", None)])
    place.entries.learn([])
    assert place.entries.items() == {}
    assert not place.file.exists()


def test_what_is_adopted_is_all_that_there_is(place: Place) -> None:
    place.entries.put("a", "token")
    place.entries.put("b", REVOKED)
    place.entries.put("c", REVOKED)
    place.told.clear()
    place.entries.adopt({"c": 10, "d": 20})
    assert place.entries.items() == {"c": REVOKED, "d": REVOKED}
    assert place.told == ["d"], "only what is new"
    assert place.after_a_restart() == {"c": 10, "d": 20}


def test_one_that_has_ended_is_new_again(place: Place) -> None:
    place.entries.learn([("a", 10)])
    place.clock.advance(11)
    place.entries.adopt({"a": 10})
    assert place.told == ["a", "a"]


@pytest.mark.parametrize("how", ["learn", "adopt"])
def test_it_counts_though_it_cannot_be_written_down(place: Place, how: str) -> None:
    place.break_the_disk()
    take_over: Callable[[], None] = {
        "learn": lambda: place.entries.learn([("a", 10)]),
        "adopt": lambda: place.entries.adopt({"a": 10}),
    }[how]
    with pytest.raises(TokenCacheError, match="state_dir"):
        take_over()
    assert place.entries.get("a") == REVOKED
    assert place.told == ["a"]
    place.file.rmdir()
    place.entries.save()
    assert place.after_a_restart() == {"a": 10}


def test_revocations_make_tokens_go(tmp_path: Path) -> None:
    place = Place(tmp_path, characters=30)
    place.entries.put("a", "x" * 10)
    place.entries.put("b", "x" * 10)
    place.entries.learn([("y" * 10, 10)])
    assert place.entries.items() == {"b": "x" * 10, "y" * 10: REVOKED}
