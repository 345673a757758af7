"""A burner that is killed anywhere, on a chain that does anything: nothing twice, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gatekeeper.credits.fees import FeeBounds, Fees, choose
from gatekeeper.credits.grouping import Entry, fit
from gatekeeper.credits.ledger import (
    Facts,
    Look,
    Mark,
    Policy,
    Receipt,
    Send,
    Sent,
    Settlement,
    SettlementEvent,
    SettlementState,
    Sign,
    after_settlement,
    choose_nonce,
    next_step,
    when_refused,
)

CONFIRMATIONS: Final = 3
BOUNDS: Final = FeeBounds(max_fee=1000, max_priority=1000)
POLICY: Final = Policy(BOUNDS, CONFIRMATIONS, resend=5, stuck=10, retries=2)


class Tx(NamedTuple):
    """A transaction; of a stranger with the same account, where it burns nothing."""

    name: str
    nonce: int
    fees: Fees
    burn: int = 0


@dataclass
class World:
    """A chain: blocks, each with at most one transaction, and those that wait for one."""

    balance: int  # the payer's, before any block
    blocks: list[tuple[Tx | None, bool]] = field(default_factory=list)
    waiting: dict[str, Tx] = field(default_factory=dict)
    base_fee: int = 10
    shows_receipts: bool = True

    @property
    def head(self) -> int:
        return len(self.blocks)

    @property
    def burned(self) -> int:
        return sum(tx.burn for tx, succeeded in self.blocks if tx and succeeded)

    def nonce_at(self, block: int) -> int:
        return sum(tx is not None for tx, _ in self.blocks[: max(block, 0)])

    def receipt(self, name: str) -> Receipt | None:
        if not self.shows_receipts:
            return None
        for number, (tx, succeeded) in enumerate(self.blocks, 1):
            if tx is not None and tx.name == name:
                return Receipt(number, succeeded)
        return None

    def spender(self, nonce: int, block: int) -> str | None:
        return next((t.name for t, _ in self.blocks[:block] if t and t.nonce == nonce), None)

    def send(self, tx: Tx) -> bool:
        """Whether the node takes it."""
        if tx.nonce < self.nonce_at(self.head):
            return False
        rivals = [each for each in self.waiting.values() if each.nonce == tx.nonce]
        if any(rival.name != tx.name and rival.fees >= tx.fees for rival in rivals):
            return False
        for rival in rivals:
            del self.waiting[rival.name]
        self.waiting[tx.name] = tx
        return True

    def mine(self) -> None:
        nonce = self.nonce_at(self.head)
        for tx in list(self.waiting.values()):
            if tx.nonce == nonce and tx.fees.max_fee >= self.base_fee:
                del self.waiting[tx.name]
                self.blocks.append((tx, self.burned + tx.burn <= self.balance))
                return
        self.blocks.append((None, True))

    def reorganize(self, depth: int, again: bool) -> None:
        """The newest blocks are replaced by as many empty ones and one more."""
        depth = min(depth, self.head)
        gone = [tx for tx, _ in self.blocks[self.head - depth :] if tx is not None]
        self.blocks[self.head - depth :] = [(None, True)] * (depth + 1)
        for tx in gone if again else ():
            self.send(tx)


@dataclass
class Stored:
    """What survives a crash: one settlement of one entry, and its transactions' bytes."""

    entry: Entry
    settlement: Settlement = field(default_factory=lambda: Settlement(SettlementState.CLAIMED))
    signed: dict[str, Tx] = field(default_factory=dict)


def burner(world: World, stored: Stored, clock: Callable[[], float]) -> Iterator[None]:
    """Take one step; at each ``yield`` the process may be killed, or something else happen."""
    settlement = stored.settlement
    names = [each.hash for each in settlement.transactions]
    receipts = {name: found for name in names if (found := world.receipt(name))}
    facts = Facts(
        world.head,
        world.nonce_at(world.head),
        world.nonce_at(world.head - CONFIRMATIONS),
        clock(),
        receipts,
        wanted=choose(world.base_fee, 1, BOUNDS),
    )
    yield
    step = next_step(settlement, facts, POLICY)
    if isinstance(step, Look):
        spender = world.spender(step.nonce, step.block)
        yield
        step = next_step(settlement, replace(facts, spender=spender), POLICY)
    match step:
        case Sign(event, nonce, fees):
            yield from sign(world, stored, event, nonce, fees, clock)
        case Send(name):
            yield from send(world, stored, name, clock)
        case Mark(event, name):
            mark(stored, event, name, clock)


def sign(
    world: World,
    stored: Stored,
    event: SettlementEvent,
    nonce: int | None,
    fees: Fees | None,
    clock: Callable[[], float],
) -> Iterator[None]:
    assert fees is not None
    settlement, entry = stored.settlement, stored.entry
    if event is SettlementEvent.SIGN:
        (entry,) = fit([entry], [world.balance - world.burned])
        yield
        if not entry.burn:
            stored.entry = entry
            mark(stored, SettlementEvent.NOTHING, "", clock)
            return
        settled = world.nonce_at(world.head - CONFIRMATIONS)
        nonce = choose_nonce(world.nonce_at(world.head), settled, ())
        yield
        if nonce is None:
            return
    assert nonce is not None
    tx = Tx(f"{nonce}/{fees.max_fee}/{fees.priority}/{entry.burn}", nonce, fees, entry.burn)
    yield  # signed, and nowhere but here
    stored.entry = entry
    stored.signed[tx.name] = tx
    sent = Sent(tx.name, fees, clock())
    stored.settlement = replace(
        settlement,
        state=after_settlement(settlement.state, event),
        nonce=nonce,
        transactions=(*settlement.transactions, sent),
    )
    yield  # stored, and not sent
    yield from send(world, stored, tx.name, clock)


def send(world: World, stored: Stored, name: str, clock: Callable[[], float]) -> Iterator[None]:
    taken = world.send(stored.signed[name])
    yield  # sent, and not written down; or the answer was lost
    if taken:
        mark(stored, SettlementEvent.SEND, name, clock)


def mark(stored: Stored, event: SettlementEvent, name: str, clock: Callable[[], float]) -> None:
    old = stored.settlement
    transactions, nonce, attempts = old.transactions, old.nonce, old.attempts
    if event is SettlementEvent.SEND:
        transactions = tuple(
            each._replace(sent_at=clock()) if each.hash == name else each for each in transactions
        )
    elif event is SettlementEvent.REORGANIZE:
        transactions = (*transactions[:-1], transactions[-1]._replace(since=clock(), sent_at=None))
    elif event in (SettlementEvent.REVERT, SettlementEvent.DISPLACE):
        transactions, nonce = (), None
        attempts += event is SettlementEvent.REVERT
    state = after_settlement(old.state, event)
    stored.settlement = Settlement(state, nonce, transactions, attempts)


def run(
    world: World, stored: Stored, clock: Callable[[], float] = lambda: 0.0, steps: int = 1
) -> None:
    """Take whole steps."""
    for _ in range(steps):
        for _ in burner(world, stored, clock):
            pass


class Machine(RuleBasedStateMachine):
    @initialize(balance=st.integers(0, 12), credits=st.integers(1, 10))
    def begin(self, balance: int, credits: int) -> None:
        self.now = 0.0
        self.world = World(balance)
        self.stored = Stored(Entry("0x1", 1, credits, credits))
        self.running: Iterator[None] | None = None
        self.strangers = 0

    def clock(self) -> float:
        return self.now

    @rule(pieces=st.integers(1, 8))
    def work(self, pieces: int) -> None:
        """The burner gets so far."""
        for _ in range(pieces):
            if self.running is None:
                self.running = burner(self.world, self.stored, self.clock)
            if next(self.running, self) is self:
                self.running = None

    @rule(steps=st.integers(1, 4))
    def work_undisturbed(self, steps: int) -> None:
        self.running = None
        run(self.world, self.stored, self.clock, steps)

    @rule(pieces=st.integers(1, 8))
    def be_killed(self, pieces: int) -> None:
        self.running = None
        self.work(pieces)
        self.running = None

    @rule(blocks=st.integers(1, 6))
    def mine(self, blocks: int) -> None:
        for _ in range(blocks):
            self.world.mine()

    # A step under way has seen the old chain: it is over before that is more than a moment ago.

    @rule(depth=st.integers(1, CONFIRMATIONS), again=st.booleans())
    def reorganize(self, depth: int, again: bool) -> None:
        self.running = None
        self.world.reorganize(depth, again)

    @rule()
    def restart_the_node(self) -> None:
        self.world.waiting.clear()

    @rule(shown=st.booleans())
    def hide_receipts(self, shown: bool) -> None:
        """The machine that answers has not indexed the newest blocks."""
        self.world.shows_receipts = shown

    @rule(fee=st.integers(1, 1000), mined=st.booleans())
    def use_the_nonce_elsewhere(self, fee: int, mined: bool) -> None:
        self.strangers += 1
        nonce = self.world.nonce_at(self.world.head)
        self.world.send(Tx(f"stranger {self.strangers}", nonce, Fees(fee, 1)))
        if mined:
            self.world.mine()

    @rule(fee=st.integers(1, 1500))
    def change_the_base_fee(self, fee: int) -> None:
        self.world.base_fee = fee

    @rule(amount=st.integers(1, 6))
    def take_credits_away(self, amount: int) -> None:
        """The payer gives them to somebody else."""
        self.world.balance = max(self.world.balance - amount, self.world.burned)

    @rule(amount=st.integers(1, 6))
    def mint(self, amount: int) -> None:
        self.world.balance += amount

    @rule(seconds=st.floats(1, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_burned_twice(self) -> None:
        ours = [tx for tx, succeeded in self.world.blocks if tx and succeeded and tx.burn]
        assert len(ours) <= 1
        assert self.world.burned <= self.stored.entry.credits

    @invariant()
    def what_is_said_to_be_burned_is(self) -> None:
        self.check_the_end()

    def check_the_end(self) -> None:
        stored, burned = self.stored, self.world.burned
        if stored.settlement.state is SettlementState.CONFIRMED:
            assert burned == stored.entry.burn
            assert burned + stored.entry.short == stored.entry.credits
        if stored.settlement.state is SettlementState.ERROR:
            assert burned == 0

    def teardown(self) -> None:
        """When nothing more gets in its way, it comes to an end, and the sums are right."""
        self.world.base_fee = 10
        self.world.shows_receipts = True
        for _ in range(400):
            if self.stored.settlement.state in (SettlementState.CONFIRMED, SettlementState.ERROR):
                break
            self.work(8)
            self.world.mine()
            self.now += 20
        else:
            raise AssertionError(f"it does not end: {self.stored}")
        self.nothing_is_burned_twice()
        self.check_the_end()
        self.world.reorganize(CONFIRMATIONS, again=True)  # it is final
        self.check_the_end()


TestBurner = Machine.TestCase
TestBurner.settings = settings(max_examples=250, stateful_step_count=40)


def test_without_trouble_all_is_burned_at_once() -> None:
    world, stored = World(10), Stored(Entry("0x1", 1, 7, 7))
    for _ in range(20):
        run(world, stored)
        world.mine()
    assert stored.settlement.state is SettlementState.CONFIRMED
    assert [tx.burn for tx, _ in world.blocks if tx] == [7]


def test_who_has_nothing_is_sent_nothing() -> None:
    world, stored = World(0), Stored(Entry("0x1", 1, 7, 7))
    run(world, stored)
    assert stored.settlement.state is SettlementState.CONFIRMED
    assert stored.entry.short == 7
    assert not world.waiting


def test_a_contract_that_always_refuses_is_given_up() -> None:
    assert when_refused(POLICY.retries, POLICY) is SettlementEvent.GIVE_UP
    world, stored = World(5), Stored(Entry("0x1", 1, 5, 5))
    for _ in range(60):
        run(world, stored)
        world.balance = 0  # it is there when we look, and not when we burn
        world.mine()
        world.balance = 5
    assert stored.settlement.state is SettlementState.ERROR
    assert [tx.burn for tx, _ in world.blocks if tx] == [5, 5, 5]
    assert world.burned == 0


def test_a_receipt_that_is_not_shown_is_no_reason_to_sign_again() -> None:
    world, stored = World(100), Stored(Entry("0x1", 1, 7, 7))
    run(world, stored)
    for _ in range(CONFIRMATIONS + 2):
        world.mine()
    assert world.burned == 7
    world.shows_receipts = False
    run(world, stored, steps=5)
    assert (stored.settlement.state, stored.settlement.nonce) == (SettlementState.SENT, 0)
    assert world.burned == 7
    world.shows_receipts = True
    run(world, stored, steps=5)
    assert stored.settlement.state is SettlementState.CONFIRMED


def test_a_nonce_that_a_stranger_used_is_given_up_for_another() -> None:
    world, stored = World(100), Stored(Entry("0x1", 1, 7, 7))
    run(world, stored)
    world.send(Tx("stranger", 0, Fees(900, 900)))
    world.mine()
    run(world, stored, steps=5)
    assert stored.settlement.nonce == 0
    for _ in range(CONFIRMATIONS):
        world.mine()
    run(world, stored, steps=5)
    assert stored.settlement.nonce == 1
    for _ in range(CONFIRMATIONS + 2):
        world.mine()
    run(world, stored, steps=5)
    assert stored.settlement.state is SettlementState.CONFIRMED
    assert world.burned == 7
