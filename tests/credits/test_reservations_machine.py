"""Whatever happens, in whatever order: never is more admitted than there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from gatekeeper.credits.reservations import (
    FullError,
    Reading,
    Reservation,
    Reservations,
    Shortage,
)

TTL = 5.0
PAYERS = ("alice", "bob")


@dataclass
class Truth:
    """What really is: on the chain, in the store, in this process."""

    chain: int = 0
    stored: int = 0  # metered, in the store, and not known there as burned
    burned_unnoticed: int = 0  # of ``stored``: it is off the balance already
    local: int = 0  # metered here, not in the store
    reservations: list[Reservation] = field(default_factory=list)

    @property
    def left(self) -> int:
        unburned = self.stored - self.burned_unnoticed + self.local
        return self.chain - unburned - sum(each.credits for each in self.reservations)


@dataclass
class Asked:
    payer: str
    reading: Reading
    balance: int | None = None
    owed: int | None = None


class Machine(RuleBasedStateMachine):
    asked = Bundle("asked")

    @initialize(size=st.integers(1, 2), chain=st.integers(0, 20))
    def begin(self, size: int, chain: int) -> None:
        self.now = 0.0
        self.size = size
        self.reservations: Reservations[str] = Reservations(TTL, size)
        self.truth = {payer: Truth(chain) for payer in PAYERS}

    # --- reading: begun, asked of the store, then of the chain, and told; all in between others

    @rule(target=asked, payer=st.sampled_from(PAYERS))
    def look(self, payer: str) -> Any:
        try:
            return Asked(payer, self.reservations.look(payer, self.now))
        except FullError:
            self.there_is_no_room()
            return multiple()

    @rule(asked=asked)
    def ask_the_store(self, asked: Asked) -> None:
        if asked.owed is None:
            asked.owed = self.truth[asked.payer].stored

    @rule(asked=asked)
    def ask_the_chain(self, asked: Asked) -> None:
        if asked.owed is not None and asked.balance is None:
            asked.balance = self.truth[asked.payer].chain

    @rule(asked=consumes(asked))
    def tell(self, asked: Asked) -> None:
        if asked.balance is None or asked.owed is None:
            self.reservations.abandon(asked.reading)
        else:
            self.reservations.read(asked.reading, asked.balance, asked.owed)

    @rule(payer=st.sampled_from(PAYERS))
    def read_at_once(self, payer: str) -> None:
        truth = self.truth[payer]
        try:
            reading = self.reservations.look(payer, self.now)
        except FullError:
            self.there_is_no_room()
        else:
            self.reservations.read(reading, truth.chain, truth.stored)

    def there_is_no_room(self) -> None:
        assert len(self.reservations) == self.size

    # --- requests

    @rule(payer=st.sampled_from(PAYERS), credits=st.integers(0, 5), extra=st.integers(0, 3))
    def reserve(self, payer: str, credits: int, extra: int) -> None:
        truth = self.truth[payer]
        left = truth.left
        got = self.reservations.reserve(payer, credits + extra, credits, self.now)
        if isinstance(got, Reservation):
            assert credits + extra <= left, "more was admitted than there is"
            truth.reservations.append(got)
        elif isinstance(got, Shortage):
            assert 0 <= got.available < got.required == credits + extra

    @precondition(lambda self: any(truth.reservations for truth in self.truth.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        payer = data.draw(st.sampled_from([p for p in PAYERS if self.truth[p].reservations]))
        truth = self.truth[payer]
        reservation = truth.reservations.pop(data.draw(st.integers(0, len(truth.reservations) - 1)))
        cost = data.draw(st.integers(0, reservation.credits))
        self.reservations.settle(reservation, cost)
        truth.local += cost

    # --- the world

    @rule(payer=st.sampled_from(PAYERS))
    def flush(self, payer: str) -> None:
        truth = self.truth[payer]
        moved, truth.local = truth.local, 0
        truth.stored += moved
        if moved:
            self.reservations.flushed(payer, moved)

    @rule(payer=st.sampled_from(PAYERS))
    def burn(self, payer: str) -> None:
        truth = self.truth[payer]
        amount = min(truth.stored - truth.burned_unnoticed, truth.chain)
        truth.chain -= amount
        truth.burned_unnoticed += amount

    @rule(payer=st.sampled_from(PAYERS))
    def notice_the_burn(self, payer: str) -> None:
        truth = self.truth[payer]
        truth.stored -= truth.burned_unnoticed
        truth.burned_unnoticed = 0

    @rule(payer=st.sampled_from(PAYERS), amount=st.integers(1, 10))
    def mint(self, payer: str, amount: int) -> None:
        self.truth[payer].chain += amount

    @rule(seconds=st.floats(0.5, 6.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # --- always

    @invariant()
    def nobody_spends_more_than_there_is(self) -> None:
        for truth in self.truth.values():
            assert truth.left >= 0

    @invariant()
    def what_is_thought_to_be_there_is_there(self) -> None:
        for payer, truth in self.truth.items():
            available = self.reservations.available(payer)
            assert available is None or available <= truth.left

    def teardown(self) -> None:
        """When all has come to rest, what is known is what is."""
        for payer, truth in self.truth.items():
            while truth.reservations:
                self.reservations.release(truth.reservations.pop())
            self.flush(payer)
            self.notice_the_burn(payer)
        self.now += 1.0
        for payer, truth in self.truth.items():
            self.read_at_once(payer)
            available = self.reservations.available(payer)
            if available is None:
                self.there_is_no_room()
            else:
                assert available == truth.left


TestReservations = Machine.TestCase
TestReservations.settings = settings(max_examples=200, stateful_step_count=50)
