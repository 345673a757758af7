"""A ledger in memory and a chain of our own, for a burner that runs on a clock of the test's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from hashlib import sha256
from typing import Any, Final, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from gatekeeper.credits import abi
from gatekeeper.credits.burn_terms import Schedule, Seam, Terms, ignore
from gatekeeper.credits.burner import Burner
from gatekeeper.credits.chain import Chain, GasPrices, Sending, Sight
from gatekeeper.credits.fees import FeeBounds, Fees
from gatekeeper.credits.grouping import Charge, Entry, Group
from gatekeeper.credits.ledger import (
    CARRIED,
    ChargeEvent,
    ChargeState,
    Mark,
    Policy,
    Receipt,
    Sent,
    Settlement,
    SettlementEvent,
    SettlementState,
    after_charge,
    after_settlement,
)
from gatekeeper.credits.pricing import Token
from gatekeeper.credits.rpc import RevertedError
from gatekeeper.credits.signing import Signed, Signer, Transaction
from gatekeeper.store.ledger import (
    ILedger,
    Owed,
    SettlementQuery,
    StoredSettlement,
    StoredTransaction,
)

ACCOUNT: Final = "0x" + "b0" * 20
CONTRACT: Final = "0x" + "c0" * 20
TOKEN: Final = Token(CONTRACT, 7)
ALICE, BOB, CAROL, DAVE = (f"0x{number:040x}" for number in range(0xA11CE, 0xA11CE + 4))
CHAIN_ID: Final = 5

GWEI: Final = 10**9
BOUNDS: Final = FeeBounds(max_fee=100 * GWEI, max_priority=10 * GWEI)
POLICY: Final = Policy(BOUNDS, confirmations=2, resend=15, stuck=120, retries=3)
TERMS: Final = Terms(CHAIN_ID, POLICY, Fraction(5, 4), max_gas=1_000_000)
SCHEDULE: Final = Schedule(interval=0, batch=20, poll=5)


# --- the ledger -----------------------------------------------------------------------------------


@dataclass
class Owing:
    """A charge as it is kept."""

    charge: Charge
    state: ChargeState = ChargeState.PENDING
    reason: str = ""
    looked: float = 0.0


@dataclass
class Ledger:
    """Charges and settlements. ``failure`` is what every call fails with, if it is set."""

    charges: dict[int, Owing] = field(default_factory=dict)
    kept: dict[int, StoredSettlement] = field(default_factory=dict)
    owner: Settling | None = None
    failure: Exception | None = None
    asked: int = 0

    def owe(self, holder: str, credits: int, token: Token = TOKEN, since: float = 0.0) -> int:
        number = len(self.charges) + 1
        self.charges[number] = Owing(Charge(number, token, holder, credits, since))
        return number

    def total(self, state: ChargeState) -> int:
        return sum(each.charge.credits for each in self.charges.values() if each.state is state)

    @property
    def states(self) -> list[SettlementState]:
        return [each.settlement.state for each in self.kept.values()]

    def answer(self, value: Any = None) -> Deferred[Any]:
        self.asked += 1
        return succeed(value) if self.failure is None else fail(self.failure)

    def own_burning(self, account: str) -> Deferred[Settling | None]:
        if self.failure is None and self.owner is None:
            self.owner = Settling(account, self)
            return self.answer(self.owner)
        return self.answer(None)

    def owed(self) -> Deferred[list[Owed]]:
        found = []
        for state in ChargeState:
            some = [each.charge for each in self.charges.values() if each.state is state]
            if some and state is not ChargeState.BURNED:
                credits = sum(each.credits for each in some)
                found.append(Owed(state, credits, len(some), min(each.since for each in some)))
        return self.answer(found)

    def settlements(self, query: SettlementQuery) -> Deferred[list[StoredSettlement]]:
        some = [each for each in self.kept.values() if each.settlement.state in query.states]
        return self.answer(some)


@dataclass(eq=False)
class Settling:
    """See :class:`gatekeeper.store.ledger.ISettling`."""

    account: str
    ledger: Ledger

    def _charges(self, state: ChargeState) -> list[Charge]:
        some = [each for each in self.ledger.charges.values() if each.state is state]
        return [each.charge for each in sorted(some, key=lambda each: each.looked)]

    def _move(self, ids: Iterable[int], event: ChargeEvent, reason: str = "") -> None:
        for number in ids:
            owing = self.ledger.charges[number]
            owing.state, owing.reason = after_charge(owing.state, event), reason

    def pending(self, limit: int) -> Deferred[list[Charge]]:
        return self.ledger.answer(self._charges(ChargeState.PENDING)[:limit])

    def uncollected(self, limit: int) -> Deferred[list[Charge]]:
        return self.ledger.answer(self._charges(ChargeState.UNCOLLECTED)[:limit])

    def retry(self, ids: Sequence[int], now: float) -> Deferred[None]:
        self._move(ids, ChargeEvent.RETRY)
        return self.ledger.answer()

    def touch(self, ids: Sequence[int], now: float) -> Deferred[None]:
        for number in ids:
            self.ledger.charges[number].looked = now
        return self.ledger.answer()

    def claim(self, group: Group, now: float) -> Deferred[int]:
        for entry in group.entries:
            self._move(entry.charges, ChargeEvent.CLAIM)
        return self.ledger.answer(self._keep(group.contract, group.entries, now))

    def _keep(self, contract: str, entries: Sequence[Entry], now: float) -> int:
        number = len(self.ledger.kept) + 1
        self.ledger.kept[number] = StoredSettlement(
            number,
            contract,
            self.account,
            Settlement(SettlementState.CLAIMED),
            tuple(entries),
            (),
            "",
            now,
            now,
        )
        return number

    def under_way(self) -> Deferred[list[StoredSettlement]]:
        ended = (SettlementState.CONFIRMED, SettlementState.ERROR)
        return self.ledger.answer(
            [
                each
                for each in self.ledger.kept.values()
                if each.account == self.account and each.settlement.state not in ended
            ]
        )

    def split(self, settlement: int, entries: Sequence[Entry], now: float) -> Deferred[int]:
        old = self.ledger.kept[settlement]
        after_settlement(old.settlement.state, SettlementEvent.SPLIT)
        gone = {(each.holder, each.token_id) for each in entries}
        left = tuple(each for each in old.entries if (each.holder, each.token_id) not in gone)
        assert left
        assert len(left) + len(gone) == len(old.entries)
        self.ledger.kept[settlement] = old._replace(entries=left)
        return self.ledger.answer(self._keep(old.contract, entries, now))

    def sign(
        self,
        settlement: int,
        mark: Mark,
        entries: Sequence[Entry] | None,
        transaction: StoredTransaction,
        now: float,
    ) -> Deferred[None]:
        old = self.ledger.kept[settlement]
        assert (entries is None) == (mark.event is SettlementEvent.REPLACE)
        assert mark.hash == transaction.hash
        fees = Fees(transaction.max_fee, transaction.priority)
        self.ledger.kept[settlement] = old._replace(
            entries=old.entries if entries is None else tuple(entries),
            transactions=(*old.transactions, transaction),
            settlement=replace(
                old.settlement,
                state=after_settlement(old.settlement.state, mark.event),
                nonce=transaction.nonce,
                transactions=(
                    *old.settlement.transactions,
                    Sent(transaction.hash, fees, transaction.since),
                ),
            ),
        )
        return self.ledger.answer()

    def sent(self, settlement: int, name: str, now: float) -> Deferred[None]:
        old = self.ledger.kept[settlement]
        self._change(
            settlement,
            SettlementEvent.SEND,
            transactions=tuple(
                each._replace(sent_at=now) if each.hash == name else each
                for each in old.settlement.transactions
            ),
        )
        return self.ledger.answer()

    def mark(
        self,
        settlement: int,
        mark: Mark,
        now: float,
        *,
        reason: str = "",
        receipt: Receipt | None = None,
    ) -> Deferred[None]:
        event, old = mark.event, self.ledger.kept[settlement]
        assert (event is SettlementEvent.MINE) == (receipt is not None)
        changes: dict[str, Any] = {}
        if event is SettlementEvent.REORGANIZE:
            *earlier, last = old.settlement.transactions
            again = last._replace(since=now, sent_at=None)
            changes["transactions"] = (*earlier, again)
        elif event in (SettlementEvent.REVERT, SettlementEvent.DISPLACE):
            changes = {"transactions": (), "nonce": None}
            if event is SettlementEvent.REVERT:
                changes["attempts"] = old.settlement.attempts + 1
        self._change(settlement, event, **changes)
        new = self.ledger.kept[settlement]
        self.ledger.kept[settlement] = new._replace(reason=reason)
        if (carried := CARRIED.get(new.settlement.state)) is not None:
            for entry in new.entries:
                self._move(entry.charges, carried, reason)
                short = entry.credits if event is SettlementEvent.NOTHING else entry.short
                if carried is ChargeEvent.BURN and short:
                    token = Token(new.contract, entry.token_id)
                    number = self.ledger.owe(entry.holder, short, token, now)
                    self.ledger.charges[number].state = ChargeState.UNCOLLECTED
        return self.ledger.answer()

    def _change(self, settlement: int, event: SettlementEvent, **changes: Any) -> None:
        old = self.ledger.kept[settlement]
        state = after_settlement(old.settlement.state, event)
        self.ledger.kept[settlement] = old._replace(
            settlement=replace(old.settlement, state=state, **changes)
        )

    def close(self) -> Deferred[None]:
        if self.ledger.owner is self:
            self.ledger.owner = None
        return self.ledger.answer()


# --- the chain ------------------------------------------------------------------------------------


def sign(fields: dict[str, Any]) -> Any:
    """In place of a signature: the transaction itself."""
    raw = repr(sorted((name, repr(value)) for name, value in fields.items())).encode()

    class Made:
        raw_transaction = raw
        hash = sha256(raw).digest()

    return Made


class RecordingSigner(Signer):
    """Signs, and remembers what."""

    def __init__(self) -> None:
        super().__init__(ACCOUNT, sign)
        self.signed: dict[str, Transaction] = {}

    def sign(self, transaction: Transaction) -> Signed:
        signed = super().sign(transaction)
        self.signed[signed.hash] = transaction
        return signed


@dataclass
class Node:
    """A chain with one contract; what it is asked can be made to fail, by the method's name."""

    signer: RecordingSigner
    balances_of: dict[str, int]
    number: int = CHAIN_ID
    base_fee: int = 10 * GWEI
    automine: bool = True
    blocks: list[list[str]] = field(default_factory=lambda: [[] for _ in range(10)])
    waiting: dict[int, str] = field(default_factory=dict)
    strangers: dict[str, int] = field(default_factory=dict)
    succeeded: dict[str, bool] = field(default_factory=dict)
    refuses: dict[str, str] = field(default_factory=dict)
    gas_for_each: int = 100_000
    failures: dict[str, Exception] = field(default_factory=dict)
    says: Sending = Sending.TAKEN
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def _ask(self, method: str) -> None:
        self.asked.append(method)
        failure = self.failures.get(method) or self.failures.get("all")
        if failure is not None:
            raise failure

    def _nonce(self, name: str) -> int:
        return self.strangers[name] if name in self.strangers else self.signer.signed[name].nonce

    def _spent(self, block: int) -> int:
        return sum(len(each) for each in self.blocks[: block + 1])

    @property
    def head_now(self) -> int:
        return len(self.blocks) - 1

    def burns(self, data: bytes) -> list[tuple[str, int]]:
        """Holders and amounts of a call."""
        words = [data[at : at + 32] for at in range(4, len(data), 32)]
        if data[:4] == abi.BURN:
            return [("0x" + words[0][12:].hex(), int.from_bytes(words[2], "big"))]
        count = int.from_bytes(words[3], "big")
        holders = words[4 : 4 + count]
        amounts = words[-count:]
        return [
            ("0x" + holder[12:].hex(), int.from_bytes(amount, "big"))
            for holder, amount in zip(holders, amounts, strict=True)
        ]

    def _run(self, data: bytes) -> None:
        for holder, amount in self.burns(data):
            assert amount > 0
            if holder in self.refuses:
                raise RevertedError(self.refuses[holder])
            if self.balances_of.get(holder, 0) < amount:
                raise RevertedError("ERC1155: burn amount exceeds balance")

    def mine(self, blocks: int = 1) -> None:
        """Make blocks; the first has what waits."""
        for _ in range(blocks):
            block: list[str] = []
            while name := self.waiting.pop(self._spent(self.head_now) + len(block), None):
                block.append(name)
                if name in self.strangers:
                    continue
                call = self.signer.signed[name]
                try:
                    self._run(call.data)
                except RevertedError:
                    self.succeeded[name] = False
                    continue
                self.succeeded[name] = True
                for holder, amount in self.burns(call.data):
                    self.balances_of[holder] -= amount
            self.blocks.append(block)

    def reorganize(self, depth: int, again: bool) -> None:
        """The newest blocks are replaced by as many empty ones and one more."""
        gone = [name for block in self.blocks[-depth:] for name in block]
        del self.blocks[-depth:]
        for name in gone:
            if self.succeeded.pop(name, False):
                for holder, amount in self.burns(self.signer.signed[name].data):
                    self.balances_of[holder] += amount
            if again:
                self.waiting.setdefault(self._nonce(name), name)
        self.blocks += [[] for _ in range(depth + 1)]

    def use_nonce(self, name: str) -> None:
        """Another wallet uses the account's next nonce."""
        nonce = self._spent(self.head_now)
        self.strangers[name] = nonce
        self.waiting[nonce] = name
        self.mine()

    # --- what the burner asks

    def close(self) -> None:
        pass

    async def chain_id(self) -> int:
        self._ask("chain_id")
        return self.number

    async def balances(self, contract: str, holders: Sequence[tuple[str, int]]) -> list[int]:
        self._ask("balances")
        return [self.balances_of.get(holder, 0) for holder, _ in holders]

    async def dry_run(self, sender: str, contract: str, data: bytes) -> None:
        self._ask("dry_run")
        self._run(data)

    async def estimate_gas(self, sender: str, contract: str, data: bytes) -> int:
        self._ask("estimate_gas")
        return self.gas_for_each * len(self.burns(data))

    async def gas_prices(self) -> GasPrices:
        self._ask("gas_prices")
        return GasPrices(self.base_fee, GWEI)

    async def funds(self, account: str) -> int:
        self._ask("funds")
        return 10**18

    async def look(self, account: str, hashes: Collection[str], confirmations: int) -> Sight:
        self._ask("look")
        found = {
            name: Receipt(number, self.succeeded[name], 50_000, self.base_fee)
            for number, block in enumerate(self.blocks)
            for name in block
            if name in hashes
        }
        head = self.head_now
        return Sight(head, self._spent(head), self._spent(max(head - confirmations, 0)), found)

    async def send(self, raw: bytes, name: str) -> Sending:
        self.sent.append(name)
        self._ask("send")
        if self.says is not Sending.TAKEN:
            return self.says
        nonce = self._nonce(name)
        if nonce < self._spent(self.head_now):
            return Sending.SPENT
        rival = self.signer.signed.get(self.waiting.get(nonce, ""))
        if rival is not None and rival.fees > self.signer.signed[name].fees:
            return Sending.UNDERPRICED
        self.waiting[nonce] = name
        self._ask("answer")
        if self.automine:
            self.mine()
        return Sending.TAKEN

    async def find_spender(self, account: str, nonce: int, block: int) -> str | None:
        self._ask("find_spender")
        names = [name for each in self.blocks[: block + 1] for name in each]
        return next((name for name in names if self._nonce(name) == nonce), None)


# --- together -------------------------------------------------------------------------------------


class House:
    """A burner on its ledger, its chain and its clock."""

    def __init__(
        self,
        *,
        terms: Terms = TERMS,
        schedule: Schedule = SCHEDULE,
        ledger: Ledger | None = None,
        node: Node | None = None,
        clock: Clock | None = None,
        reached: Any = ignore,
        **balances: int,
    ) -> None:
        people = {"alice": ALICE, "bob": BOB, "carol": CAROL, "dave": DAVE}
        signer = node.signer if node else RecordingSigner()
        self.ledger = ledger or Ledger()
        self.node = node or Node(signer, {people[who]: has for who, has in balances.items()})
        self.signer = signer
        self.clock = clock or Clock()
        self.seams: list[Seam] = []

        def note(seam: Seam) -> None:
            self.seams.append(seam)
            reached(seam)

        self.burner = Burner(
            cast(ILedger, self.ledger),
            cast(Chain, self.node),
            signer,
            terms,
            schedule,
            self.clock,
            now=lambda: 1_000_000 + self.clock.seconds(),
            reached=note,
        )
        self.report = self.burner.report

    def go(self, passes: int = 1, blocks: int = 0) -> None:
        """Let so many passes happen, five seconds apart, with so many new blocks before each."""
        for _ in range(passes):
            self.clock.advance(5)
            self.node.mine(blocks)
            done: list[object] = []
            Deferred.fromCoroutine(self.burner.run_once()).addBoth(done.append)
            assert done == [None]

    @property
    def only(self) -> StoredSettlement:
        """The one settlement that there is."""
        (stored,) = self.ledger.kept.values()
        return stored

    def state(self) -> SettlementState:
        """Where it is."""
        return self.only.settlement.state
