"""Several processes over one store: whatever happens, in whatever order, nothing is overspent.

Each process has its own reservations, and a journal that outlives it. What it asks of the store is
under way for a while, and so are the answers, and the batches of usage. The store is a real one
(its statements, in SQLite); its clock is the machine's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from gatekeeper.credits.grouping import group
from gatekeeper.credits.ledger import ChargeState, Mark, Receipt, SettlementEvent
from gatekeeper.credits.reservations import Reading, Reservation, Reservations, Shortage
from gatekeeper.store import lease_sql, ledger_sql, sqlite_usage
from gatekeeper.store.dialects import SQLITE
from gatekeeper.store.leases import ChainBalance, Leased, Seen, Wish, owner_of
from gatekeeper.store.settling_sql import SettlingSql
from gatekeeper.store.sqlite_file import run, transaction
from gatekeeper.store.sqlite_schema import make_or_check
from gatekeeper.usage.records import PREPAID, QUOTA, Account, Batch
from tests.store.ledgers import ALICE, BURNER, CONTRACT, ENTRY
from tests.store.ledgers import transaction as make_transaction

T = TypeVar("T")

TTL = 5.0
LEASE_TTL = 20.0
LASTS = 0.8 * LEASE_TTL

KINDS = (
    Account(PREPAID, "main", "alice"),
    Account(QUOTA, "acme/user/day/2024-05-01", "alice"),
    Account(CONTRACT, "7", ALICE),
)


@dataclass
class Asked:
    """A question, from when it is asked until the answer is there.

    ``returns``: nobody draws on the account, and what it has is given back.
    """

    returns: bool = False
    seen: Seen | None = None
    balance: ChainBalance | None = None
    reading: Reading | None = None
    wish: Wish | None = None
    answer: Leased | None = None


@dataclass
class Process:
    """A process, its memory, and its journal."""

    name: str
    reservations: Reservations[Account]
    asked: Asked | None = None
    running: list[Reservation] = field(default_factory=list)
    journal: int = 0
    batch: Batch | None = None  # closed, and maybe written
    written: bool = False
    sequence: int = 0

    @property
    def owner(self) -> str:
        return owner_of(self.name, 0)


class World:
    """The store, the chain, and all processes; ``account`` is the one that they draw on."""

    def __init__(self, account: Account, credits: int) -> None:
        self.store = sqlite3.connect(":memory:", isolation_level=None)
        make_or_check(self.store)
        self.account = account
        self.now = 1000.0
        self.names = (f"n{number}" for number in count())
        self.alive: list[Process] = []
        self.dead: list[Process] = []
        self.there = self.spent = self.chain = self.allowance = 0
        self.burn: tuple[int, str, int] | None = None  # settlement, transaction, credits
        self.burn_state = ""
        self.nonces = count()
        self.settling = SettlingSql(SQLITE, BURNER)
        self.get_more(credits)
        self.start()
        self.start()

    def do(self, steps: Generator[Any, Any, T]) -> T:
        with transaction(self.store):
            return run(self.store, steps)

    def store_leases(self, process: Process, wish: Wish) -> Leased:
        dialect = SQLITE._replace(now=str(self.now))
        (leased,) = self.do(lease_sql.lease(dialect, process.owner, [wish]))
        return leased

    def store_frees(self, process: Process) -> None:
        self.do(lease_sql.release(SQLITE, [process.owner], float("inf")))

    def one(self, which: int) -> Process:
        """A process that is alive: one is started if there is none."""
        if not self.alive:
            self.start()
        return self.alive[which % len(self.alive)]

    # --- processes come and go

    def come_or_go(self, what: str, which: int) -> None:
        """A process starts, is killed, is inherited from, or stops."""
        if what == "start" or not self.alive:
            if len(self.alive) < 3:
                self.start()
        elif what == "inherit":
            if self.dead:
                self.inherit()
        elif what == "kill":
            self.kill(self.one(which), arrives=which > 0)
        else:
            self.stop(which)

    def start(self) -> None:
        self.alive.append(Process(next(self.names), Reservations(TTL, lasts=LASTS)))

    def kill(self, process: Process, arrives: bool) -> None:
        """What it has asked for may still arrive; its requests break, and its journal stays."""
        self.alive.remove(process)
        self.dead.append(process)
        asked = process.asked
        if arrives and asked is not None and asked.wish is not None and asked.answer is None:
            self.store_leases(process, asked.wish)
        process.running.clear()

    def inherit(self) -> None:
        """Another one writes what a dead process has left, and frees what it had leased."""
        process = self.dead.pop()
        self.flush(process)
        self.store_frees(process)

    def stop(self, which: int) -> None:
        """A clean end: everything is answered, ended and written, and given back."""
        process = self.one(which)
        while process.asked is not None:
            self.go_on_asking(which)
        while process.running:
            self.settle(process, process.running.pop(), 99)
        self.flush(process)
        self.store_frees(process)
        self.alive.remove(process)

    # --- requests

    def request(self, which: int, credits: int, extra: int, number: int, waits: bool) -> None:
        """Some requests at once; ``waits``: nothing happens until they are through."""
        process = self.one(which)
        for _ in range(number):
            found = self.reserve(process, credits, extra)
            if found is None and process.asked is None:
                process.asked = Asked()
            for _ in range(10):
                if waits and found is None:
                    self.go_on_asking(which)
                    found = self.reserve(process, credits, extra)
                    process.asked = process.asked or Asked()

    def reserve(
        self, process: Process, credits: int, extra: int = 0
    ) -> Reservation | Shortage | None:
        found = process.reservations.reserve(
            self.account, credits + extra, credits, self.now, self.allowance
        )
        if isinstance(found, Reservation):
            process.running.append(found)
        elif isinstance(found, Shortage):
            assert 0 <= found.available < found.required == credits + extra
        return found

    def end(self, which: int, at: int, share: int) -> None:
        process = self.one(which)
        if process.running:
            self.settle(process, process.running.pop(at % len(process.running)), share)

    def settle(self, process: Process, reservation: Reservation, share: int) -> None:
        cost = min(share, reservation.credits)
        process.reservations.settle(reservation, cost)
        process.journal += cost
        self.spent += cost

    # --- leases: what is to be done is decided, done, and told

    def go_on_asking(self, which: int, fails: bool = False) -> None:
        process = self.one(which)
        asked = process.asked
        if asked is None:
            return
        is_on_chain = self.account.is_on_chain and not asked.returns
        if fails:
            process.asked = None
            if asked.reading is not None:
                process.reservations.abandon(asked.reading)
                process.reservations.go_on(self.account, self.now)
        elif is_on_chain and asked.seen is None:
            (asked.seen,) = self.do(lease_sql.see(SQLITE, [self.account]))
        elif is_on_chain and asked.balance is None:
            assert asked.seen is not None
            asked.balance = ChainBalance(self.chain, asked.seen)
        elif asked.wish is None:
            asked.reading = process.reservations.look(self.account, self.now)
            asked.wish = Wish(self.account, *asked.reading.want, asked.balance)
        elif asked.answer is None:
            asked.answer = self.store_leases(process, asked.wish)
        else:
            process.asked = None
            assert asked.reading is not None
            if asked.returns:
                process.reservations.returned(asked.reading, asked.answer.credits)
            else:
                process.reservations.read(asked.reading, *asked.answer, self.now)

    def ask_and_burn(self, which: int, credits: int, before: int, after: int) -> None:
        """Ask, with so much burning before a balance is read, and after that."""
        process = self.one(which)
        if self.reserve(process, credits) is not None or process.asked is not None:
            return
        process.asked = Asked()
        while process.asked is not None:
            if process.asked.seen is not None and process.asked.balance is None:
                for _ in range(before):
                    self.go_on_burning()
            if process.asked.balance is not None and process.asked.wish is None:
                for _ in range(after):
                    self.go_on_burning()
            self.go_on_asking(which)

    def give_back(self, which: int) -> None:
        process = self.one(which)
        if process.asked is not None:
            return
        for account, reading in process.reservations.idle(self.now, 10):
            process.asked = Asked(True, reading=reading, wish=Wish(account, reading.want.give))

    # --- usage goes into the store: closed, written, and known to be

    def go_on_flushing(self, which: int, steps: int, again: bool) -> None:
        """``again``: it is not known whether a batch was written."""
        process = self.one(which)
        if again and process.batch is not None:
            self.write(process)
        for _ in range(steps):
            if process.batch is None:
                self.close_batch(process)
            elif not process.written:
                self.write(process)
            else:
                self.written(process)

    def close_batch(self, process: Process) -> None:
        if process.journal:
            process.sequence += 1
            spent = {self.account: process.journal}
            process.batch = Batch(process.name, 0, process.sequence, {}, (), spent)
            process.journal = 0

    def write(self, process: Process) -> None:
        assert process.batch is not None
        sqlite_usage.write(self.store, process.batch)
        process.written = True

    def written(self, process: Process) -> None:
        assert process.batch is not None
        if process in self.alive:
            process.reservations.flushed(self.account, process.batch.spent[self.account])
        process.batch, process.written = None, False

    def flush(self, process: Process) -> None:
        """All of it."""
        for _ in range(2):
            if process.batch is not None:
                self.write(process)
                self.written(process)
            self.close_batch(process)

    # --- the world

    def grant(self, more: int, which: int) -> None:
        """An operator does; and one process is told so."""
        self.get_more(more)
        if self.alive:
            self.one(which).reservations.expire(self.account)

    def get_more(self, more: int) -> None:
        if self.account.source == PREPAID:
            self.do(ledger_sql.grant(SQLITE, self.account, more, ENTRY))
        elif self.account.is_on_chain:
            self.chain += more
        else:
            self.allowance += more
        self.there += more

    def go_on_burning(self) -> None:
        """Claimed, signed and sent; in a block; noticed to be there; confirmed."""
        if self.burn is None:
            self.begin_to_burn()
            return
        settlement, name, credits = self.burn
        if self.burn_state == "sent":
            self.chain -= credits
            assert self.chain >= 0
            self.burn_state = "in a block"
        elif self.burn_state == "in a block":
            mark, receipt = Mark(SettlementEvent.MINE, name), Receipt(100, True, 1, 1)
            self.do(self.settling.mark(settlement, mark, self.now, "", receipt))
            self.burn_state = "mined"
        else:
            mark = Mark(SettlementEvent.CONFIRM, name)
            self.do(self.settling.mark(settlement, mark, self.now, "", None))
            self.burn = None

    def begin_to_burn(self) -> None:
        pending = run(self.store, self.settling.waiting(ChargeState.PENDING, 10))
        if not pending:
            return
        settlement = self.do(self.settling.claim(group(pending, 10)[0], self.now))
        assert settlement is not None
        (found,) = run(self.store, self.settling.under_way())
        signed = make_transaction(next(self.nonces))
        mark = Mark(SettlementEvent.SIGN, signed.hash)
        self.do(self.settling.sign(settlement, mark, found.entries, signed, self.now))
        self.do(self.settling.sent(settlement, signed.hash, self.now))
        self.burn = settlement, signed.hash, sum(entry.credits for entry in found.entries)
        self.burn_state = "sent"

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.free_what_is_old()

    def free_what_is_old(self) -> None:
        """Nobody is harmed as long as the store knows of all that was spent.

        What a process has spent that was not heard of for so long is charged later, and may then be
        more than there is.
        """
        if not any(
            process.journal or process.batch or process.running
            for process in [*self.alive, *self.dead]
        ):
            dialect = SQLITE._replace(now=str(self.now))
            self.do(lease_sql.release(dialect, [], LEASE_TTL))

    # --- always

    def check(self) -> None:
        """Nothing is overspent, and nobody thinks that there is more than there is."""
        self.nothing_is_overspent()
        self.nobody_thinks_that_there_is_more_than_there_is()

    def nothing_is_overspent(self) -> None:
        held = sum(each.credits for process in self.alive for each in process.running)
        assert self.spent + held <= self.there

    def nobody_thinks_that_there_is_more_than_there_is(self) -> None:
        held = spendable = 0
        for process in self.alive:
            held += sum(each.credits for each in process.running)
            known = process.reservations._accounts.get(self.account)
            if known is not None and self.now < known.until:
                spendable += max(0, known.available)
        assert spendable <= self.there - self.spent - held

    def close(self) -> None:
        """When all have ended and are inherited, everything is free again; and can be used."""
        for process in [*self.alive, *self.dead]:
            self.flush(process)
            self.store_frees(process)
        assert self.store.execute("SELECT * FROM lease").fetchall() == []
        while self.burn is not None:  # what is in a block, and not noticed, counts twice
            self.go_on_burning()
        self.alive = []
        self.start()
        (last,) = self.alive
        left = self.there - self.spent
        for credits, expected in ((left + 1, Shortage), (left, Reservation)):
            found = self.reserve(last, credits)
            if found is None:
                last.asked = Asked()
                while last.asked is not None:
                    self.go_on_asking(0)
                found = self.reserve(last, credits)
            assert isinstance(found, expected), (found, left)
        self.store.close()
