"""How often processes ask the store for leases, and what is left of small accounts: computed.

The classes that daemons have, with a clock of ours, and a store that is a few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.config.model_credits import Credits
from gatekeeper.credits.accounts import Accounts
from gatekeeper.credits.leasing import LOOK
from gatekeeper.credits.reservations import Reservation
from gatekeeper.store.leases import Leased, Wish, share
from gatekeeper.usage.records import PREPAID, Account

ALICE: Final = Account(PREPAID, "default", "alice")
TTL: Final = Credits().balance_ttl


@dataclass
class Bank:
    """The store's part: one account. ``calls`` are transactions."""

    granted: int
    spent: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    calls: int = 0

    async def on_chain(self, accounts: Sequence[Account]) -> list[None]:
        """There is no chain."""
        return [None] * len(accounts)

    async def lease(self, owner: str, wishes: Sequence[Wish]) -> list[Leased]:
        """As the store does it, for one wish."""
        (wish,) = wishes
        self.calls += 1
        had = self.leases.get(owner, 0)
        change, free = share(wish, had, self.granted, self.spent + sum(self.leases.values()) - had)
        self.leases[owner] = had + change
        return [Leased(had + change, max(change, 0), free)]

    async def release(self, owners: Sequence[str], older: float) -> None:
        """Nobody ends here."""


class Process:
    """One that serves requests of alice's, each of which costs 1."""

    def __init__(self, name: str, bank: Bank, clock: Clock, ttl: float = TTL) -> None:
        self._name = name
        self._bank = bank
        self._clock = clock
        self._metered = 0
        self.accounts = Accounts(bank, ttl, clock.seconds, lambda call: clock.callLater(0, call))
        self.accounts.open(name)

    def ask(self) -> bool:
        """One request; whether it is let through."""
        for _ in range(5):
            found = self.accounts.reserve(ALICE, 1, 1)
            if isinstance(found, Reservation):
                self.accounts.settle(found, 1)
                self._metered += 1
                return True
            if found is not None:
                return False
            self.accounts.read(ALICE)
            self._clock.advance(0)
        raise AssertionError("it cannot be told")

    def flush(self) -> None:
        """What was used goes into the store, and off the lease."""
        spent, self._metered = self._metered, 0
        self._bank.spent += spent
        self._bank.leases[self._name] = max(0, self._bank.leases.get(self._name, 0) - spent)
        self.accounts.flushed({ALICE: spent})

    def look(self) -> None:
        """What nobody draws on goes back."""
        Deferred.fromCoroutine(self.accounts.give_back())


def transactions(rate: float, ttl: float = TTL, minutes: int = 11) -> tuple[int, float]:
    """Transactions of one process, for a user who asks so often a second.

    In the first minute, and in each later one. ``ttl`` is ``credits.balance_ttl``.
    """
    clock = Clock()
    bank = Bank(10**9)
    process = Process("p", bank, clock, ttl)
    first = asked = 0
    for second in range(60 * minutes):
        while asked < (second + 1) * rate:
            assert process.ask()
            asked += 1
        clock.advance(1)
        if second % LOOK == LOOK - 1:
            process.flush()
            process.look()
        if second == 59:
            first = bank.calls
    return first, (bank.calls - first) / (minutes - 1)


def spread(credits: int, processes: int) -> tuple[int, int]:
    """One request of a user to each process: how many are let through, at once and a minute later.

    The user has so many credits; a minute later each process is asked again.
    """
    clock = Clock()
    bank = Bank(credits)
    everybody = [Process(f"p{number}", bank, clock) for number in range(processes)]
    at_once = sum(each.ask() for each in everybody)
    for _ in range(12):
        clock.advance(LOOK)
        for each in everybody:
            each.flush()
            each.look()
    later = sum(each.ask() for each in everybody)
    for each in everybody:
        each.flush()
    assert at_once + later == bank.spent <= credits
    return at_once, later
