"""The life of a process that leases: what it frees at its beginning, and gives back at its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.credits.accounts import Accounts, AwayError
from gatekeeper.credits.leasing import LOOK, Leasing
from gatekeeper.store.leases import Leased, Wish
from gatekeeper.usage.journal import Journal
from gatekeeper.usage.records import Account, Spent
from tests.auth.support import Logged, outcome
from tests.credits.sellers import ALICE, Turns, now
from tests.usage.journals import make_journal

TTL = 200.0
BALANCE_TTL = 10.0


class Process:
    """A process with a journal; ``released`` is what it has asked to be freed."""

    def __init__(self, directory: Path, node: str = "here", lock: int = -1) -> None:
        self.journal: Journal = make_journal(directory, node=node, lock=lock)
        self.clock = Clock()
        self.turns = Turns()
        self.released: list[tuple[Sequence[str], float]] = []
        self.given: list[Wish] = []
        self.away = False
        self.waiting: Deferred[None] | None = None
        self.accounts = Accounts(self, BALANCE_TTL, self.clock.seconds, self.turns.call_soon)
        self.leasing = Leasing(self.accounts, self, self.clock, TTL)

    async def on_chain(self, accounts: Sequence[Account]) -> Sequence[None]:
        return [None] * len(accounts)

    async def lease(self, owner: str, wishes: Sequence[Wish]) -> Sequence[Leased]:
        self.given += [wish for wish in wishes if wish.give]
        return [Leased(wish.demand, wish.demand, 0) for wish in wishes]

    async def release(self, owners: Sequence[str], older: float) -> None:
        if self.waiting is not None:
            await self.waiting
        if self.away:
            raise AwayError("the store is away")
        self.released.append((list(owners), older))

    def reserves(self) -> bool:
        """Whether a request can be let through."""
        if self.accounts.reserve(ALICE, 1, 1) is None:
            read = outcome(self.accounts.read(ALICE))
            self.turns.run()
            if read != [None]:
                return False
        return self.accounts.reserve(ALICE, 1, 1) is not None

    def close(self, left: int = 0) -> None:
        now(Deferred.fromCoroutine(self.leasing.close(left)))
        self.journal.close()


def leases(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.lease"))


def test_it_begins_and_ends(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert not process.reserves()
    process.leasing.open(process.journal)
    assert process.released == [([], TTL)]
    assert process.reserves()
    assert leases(tmp_path) == ["here-0.lease"]
    process.close()
    assert process.released[1:] == [(["here-0"], float("inf"))]
    assert leases(tmp_path) == []
    assert not process.reserves()
    assert process.clock.getDelayedCalls() == []


def test_what_a_killed_process_has_leased_is_free_before_anybody_is_let_through(
    tmp_path: Path,
) -> None:
    killed = Process(tmp_path, "killed")
    killed.leasing.open(killed.journal)
    killed.journal.close()
    process = Process(tmp_path)
    process.waiting = Deferred()
    process.leasing.open(process.journal)
    assert not process.reserves()
    process.waiting.callback(None)
    assert process.released == [([], TTL), (["killed-0"], TTL)]
    assert process.reserves()
    assert leases(tmp_path) == ["here-0.lease"]
    process.close()


def test_who_runs_beside_it_is_found_when_it_has_ended(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.leasing.open(process.journal)
    other = Process(tmp_path, "other", os.dup(process.journal.lock))
    other.leasing.open(other.journal)
    process.clock.advance(LOOK)
    assert process.released == [([], TTL)]
    other.journal.close()
    process.clock.advance(LOOK)
    assert process.released[1:] == [([], TTL), (["other-0"], TTL)]
    assert leases(tmp_path) == ["here-0.lease"]
    process.close()


def test_what_is_old_is_looked_for_now_and_then(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.leasing.open(process.journal)
    process.clock.pump([1.0] * 50)
    assert process.released == [([], TTL)] * (1 + 50 // 10)
    process.close()


def test_what_nobody_draws_on_is_given_back(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.leasing.open(process.journal)
    reservation = None
    if process.accounts.reserve(ALICE, 2, 2) is None:
        process.accounts.read(ALICE)
        process.turns.run()
        reservation = process.accounts.reserve(ALICE, 2, 2)
    assert reservation is not None
    process.accounts.release(reservation)  # type: ignore[arg-type]
    process.clock.pump([LOOK] * 3)
    assert process.given == [Wish(ALICE, 2)]
    process.close()


def test_usage_that_is_not_in_the_store_keeps_the_leases(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.leasing.open(process.journal)
    process.close(left=3)
    assert process.released == [([], TTL)]
    assert leases(tmp_path) == ["here-0.lease"]


def test_the_store_is_away(tmp_path: Path, logged: Logged) -> None:
    process = Process(tmp_path)
    process.away = True
    process.leasing.open(process.journal)
    process.clock.advance(LOOK)
    process.away = False
    process.clock.advance(LOOK)
    assert process.released == [([], TTL)]
    process.away = True
    process.close()
    assert leases(tmp_path) == ["here-0.lease"], "for the next one"
    assert logged == [], "whoever failed has said so"


def test_it_ends_before_it_has_begun(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.close()
    assert process.released == []
    process = Process(tmp_path)
    waiting: Deferred[None] = Deferred()
    process.waiting = waiting
    process.leasing.open(process.journal)
    closed = outcome(Deferred.fromCoroutine(process.leasing.close(0)))
    assert closed == []
    process.waiting = None
    waiting.callback(None)
    assert closed == [None]
    assert process.released[-1] == (["here-0"], float("inf"))
    assert process.clock.getDelayedCalls() == []
    process.journal.close()


def test_the_directory_cannot_be_used(
    tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)

    def broken(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    for name in ("make", "ended", "remove"):
        monkeypatch.setattr(process.journal.leases, name, broken)
    process.leasing.open(process.journal)
    assert process.reserves()
    process.clock.advance(LOOK)
    process.close()
    assert len(logged) == 4
    assert all("No space left" in str(event["error"]) for event in logged)


def test_a_fault_does_not_end_it(tmp_path: Path, logged: Logged) -> None:
    process = Process(tmp_path)
    process.leasing.open(process.journal)
    process.accounts.give_back = broken = _Broken()  # type: ignore[method-assign]
    process.clock.pump([LOOK] * 2)
    assert broken.calls == 2
    assert "ZeroDivisionError" in logged.text
    process.close()


class _Broken:
    calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        raise ZeroDivisionError


def test_what_metering_tells_is_passed_on(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.leasing.open(process.journal)
    process.accounts.spend(ALICE, 5)
    process.leasing.flushed({ALICE: 2})
    process.leasing.lost([Spent(*ALICE, 3)])
    with pytest.raises(ValueError, match="more was flushed"):
        process.leasing.flushed({ALICE: 1})
    process.close()
