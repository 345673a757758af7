"""Anything in any order: what was metered is burned, or it is owed; nothing twice, nothing lost."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper.config.model import Store
from gatekeeper.credits.grouping import group
from gatekeeper.credits.ledger import (
    SETTLEMENTS,
    IllegalTransitionError,
    Mark,
    Receipt,
    SettlementEvent,
    SettlementState,
    after_settlement,
)
from gatekeeper.store.interface import IStore
from gatekeeper.store.ledger import (
    ChargeQuery,
    ISettling,
    SettlementQuery,
    StoredSettlement,
)
from gatekeeper.store.opening import make_store
from gatekeeper.usage.records import Account
from tests.servers import PostgresServer
from tests.store.ledgers import ENTRY, NOW, batch_of, own, transaction
from tests.store.support import in_reactor

E = SettlementEvent
S = SettlementState
HOLDERS = [f"0x{number:040x}" for number in range(3)]


@dataclass
class World:
    """A store, its burner, and what must come out; ``contract`` is of this run alone."""

    store: IStore
    settling: ISettling
    contract: str
    metered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOLDERS, 0))
    burned: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOLDERS, 0))
    nonce: int = 0

    def account(self, holder: str) -> Account:
        return Account(self.contract, "7", holder)

    async def settlement(self, which: int, *states: SettlementState) -> StoredSettlement | None:
        """One of those that there are, rather often one that is in one of these states."""
        every = await self.store.settlements(SettlementQuery(limit=10_000))
        ours = [each for each in every if each.contract == self.contract]
        legal = [each for each in ours if each.settlement.state in states]
        found = legal if legal and which else ours
        return found[which % len(found)] if found else None

    async def check(self, settlements: list[StoredSettlement]) -> None:
        """Metered = burned + unburned, by the sums and by the single rows."""
        seen = dict.fromkeys(HOLDERS, 0)
        for each in settlements:
            if each.settlement.state is S.MINED and any(
                signed.outcome == "succeeded" for signed in each.transactions
            ):
                for entry in each.entries:
                    seen[entry.holder] += entry.burn
        kept = await self.store.read_accounts([self.account(holder) for holder in HOLDERS])
        for holder, (_, unburned) in zip(HOLDERS, kept, strict=True):
            assert self.metered[holder] == self.burned[holder] + seen[holder] + unburned
        for each in settlements:
            rows = await self.store.charges(ChargeQuery(settlement=each.id))
            assert {row.id for row in rows} == {n for e in each.entries for n in e.charges}
            for entry in each.entries:
                sums = [row.credits for row in rows if row.account.holder == entry.holder]
                # What was given up may be in another settlement by now.
                assert sum(sums) == entry.credits or each.settlement.state is S.ERROR
                assert 0 <= entry.burn <= entry.credits
        live = [
            each.settlement.nonce
            for each in settlements
            if each.settlement.state in (S.SIGNED, S.SENT, S.MINED)
        ]
        assert None not in live
        assert len(set(live)) == len(live)


async def flush(world: World, which: int, number: int) -> None:
    holder = HOLDERS[which % 3]
    await world.store.write_batch(
        batch_of({world.account(holder): number, world.account(HOLDERS[0]): 1})
        if holder != HOLDERS[0]
        else batch_of({world.account(holder): number + 1})
    )
    world.metered[holder] += number
    world.metered[HOLDERS[0]] += 1


async def claim(world: World, which: int, number: int) -> None:
    pending = [
        e for e in await world.settling.pending(10_000) if e.token.contract == world.contract
    ]
    some = [charge for at, charge in enumerate(pending) if number >> at & 1 == 0]
    for each in group(some, 2):
        assert await world.settling.claim(each, NOW) is not None


async def split(world: World, which: int, number: int) -> None:
    settlement = await world.settlement(which, S.CLAIMED)
    if settlement is not None:
        some = [entry for at, entry in enumerate(settlement.entries) if number >> at & 1]
        legal = settlement.settlement.state is S.CLAIMED and 0 < len(some) < len(settlement.entries)
        await attempt(legal, world.settling.split(settlement.id, some, NOW))


async def sign(world: World, which: int, number: int) -> None:
    settlement = await world.settlement(which, S.CLAIMED)
    if settlement is None:
        return
    world.nonce += 1
    signed = transaction(world.nonce, world.contract)
    entries = [entry._replace(burn=min(entry.credits, number)) for entry in settlement.entries]
    call = world.settling.sign(settlement.id, Mark(E.SIGN, signed.hash), entries, signed, NOW)
    await attempt(settlement.settlement.state is S.CLAIMED, call)


async def replace(world: World, which: int, number: int) -> None:
    settlement = await world.settlement(which, S.SIGNED, S.SENT)
    if settlement is None:
        return
    nonce = settlement.settlement.nonce or 0
    signed = transaction(nonce, f"{world.contract} {len(settlement.transactions)}")
    call = world.settling.sign(settlement.id, Mark(E.REPLACE, signed.hash), None, signed, NOW)
    await attempt(settlement.settlement.state in (S.SIGNED, S.SENT), call)


async def send(world: World, which: int, number: int) -> None:
    settlement = await world.settlement(which, S.SIGNED, S.SENT)
    if settlement is not None:
        present = settlement.settlement.transactions
        name = present[number % len(present)].hash if present else "0x"
        legal = settlement.settlement.state in (S.SIGNED, S.SENT)
        await attempt(legal, world.settling.sent(settlement.id, name, NOW))


def marks(event: SettlementEvent) -> Callable[[World, int, int], Awaitable[None]]:
    async def mark(world: World, which: int, number: int) -> None:
        settlement = await world.settlement(which, *(s for s, e in SETTLEMENTS if e is event))
        if settlement is None:
            return
        state = settlement.settlement.state
        present = settlement.settlement.transactions
        name = present[number % len(present)].hash if present else "0x"
        receipt = Receipt(number, number % 3 > 0, number) if event is E.MINE else None
        call = world.settling.mark(settlement.id, Mark(event, name), NOW, receipt=receipt)
        try:
            after_settlement(state, event)
        except IllegalTransitionError:
            await attempt(False, call)
            return
        await attempt(True, call)
        if event is E.CONFIRM:
            for entry in settlement.entries:
                world.burned[entry.holder] += entry.burn

    return mark


async def retry(world: World, which: int, number: int) -> None:
    charges = await world.settling.uncollected(10_000)
    await world.settling.retry([each.id for each in charges[: number % 3]], NOW)


async def operator(world: World, which: int, number: int) -> None:
    rows = await world.store.charges(ChargeQuery(source=world.contract, limit=10_000))
    await world.store.retry_charges([row.id for row in rows[:number]], ENTRY, NOW)


async def attempt(legal: bool, call: Awaitable[Any]) -> None:
    try:
        await call
    except IllegalTransitionError:
        assert not legal
    else:
        assert legal


STEPS: list[Callable[[World, int, int], Awaitable[None]]] = [
    flush, flush, claim, claim, split, sign, sign, replace, send, retry, operator,
    *(marks(E.MINE),) * 2,
    *map(marks, (E.CONFIRM, E.NOTHING, E.REORGANIZE, E.REVERT, E.DISPLACE, E.GIVE_UP)),
]  # fmt: skip


Steps = list[tuple[Callable[[World, int, int], Awaitable[None]], int, int]]

anything = given(
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 5), st.integers(0, 20)),
        min_size=40,
        max_size=60,
    )
)


def often(examples: int) -> settings:
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, suppress_health_check=health)


async def run(url: str, steps: Steps) -> None:
    store = make_store(Store(url=url))
    contract = f"0x{secrets.token_hex(20)}"
    settling = await own(store, f"0x{secrets.token_hex(20)}")
    world = World(store, settling, contract)
    for step, which, number in steps:
        await step(world, which, number)
        every = await store.settlements(SettlementQuery(limit=10_000))
        await world.check([each for each in every if each.contract == contract])
    await store.close()


# Two tests: pytest-twisted cannot run one of Hypothesis with several parameters.


@often(25)
@anything
@in_reactor
async def test_every_credit_is_burned_or_owed_in_sqlite(tmp_path: Path, steps: Steps) -> None:
    await run(f"sqlite:///{tmp_path / 'usage.sqlite'}", steps)


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create_database()


@often(6)
@anything
@in_reactor
async def test_every_credit_is_burned_or_owed_in_postgres(url: str, steps: Steps) -> None:
    await run(url, steps)
