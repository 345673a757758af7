"""What is settled goes after a while, and nothing that is owed or still needed."""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import count
from typing import Any

import pytest

from gatekeeper.credits.ledger import ChargeState, Mark, SettlementEvent
from gatekeeper.store import pruning
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.interface import IStore, Retention, Upkept
from gatekeeper.store.ledger import ChargeQuery, ISettling, Kept, SettlementQuery
from gatekeeper.store.pruning import Place, Pruned, prune
from gatekeeper.usage.records import PREPAID, Account
from tests.store.ledgers import (
    ALICE,
    BOB,
    CAROL,
    ENTRY,
    NOW,
    PREPAID_ALICE,
    QUOTA_ALICE,
    batch_of,
    claim,
    meter,
    mine,
    only_group,
    owes,
    own,
    sign,
)
from tests.store.support import NewStore, in_reactor

E = SettlementEvent
DAY = 86400.0
KEEP = Retention(None, None, None, 10 * DAY)

_nonces = count(1)


async def burn(
    store: IStore, settling: ISettling, when: float, burns: list[int] | None = None, **credits: int
) -> int:
    """Meter, claim all that is pending, and burn it; the settlement that has ended ``when``."""
    await meter(store, **credits)
    settlement = await claim(settling)
    name = await sign(settling, settlement, next(_nonces), burns)
    await mine(settling, settlement.id, name)
    await settling.mark(settlement.id, Mark(E.CONFIRM, name), when)
    return settlement.id


async def settlements(store: IStore) -> list[int]:
    return [each.id for each in await store.settlements(SettlementQuery(limit=1000))][::-1]


async def charges(store: IStore, **query: Any) -> list[tuple[str, int]]:
    rows = await store.charges(ChargeQuery(**query))
    return [(row.account.holder, row.credits) for row in rows][::-1]


async def rows(store: Any) -> dict[str, int]:
    """How many rows there are in which table."""

    def counted() -> Steps[dict[str, int]]:
        found = {}
        for name in ("charge", "settlement", "settlement_entry", "burn_transaction"):
            ((found[name],),) = yield f"SELECT count(*) FROM {name}", ()
        return found

    found: dict[str, int] = await store._do("report", counted())
    return found


async def events(store: IStore) -> set[tuple[str, str]]:
    """What the log has entries of."""
    return {(event.kind, event.subject) for _, event in await store.ledger_events(10_000)}


async def maintain(store: IStore, now: float) -> Upkept:
    """Do it; the quotas and batches that go with it are the business of others."""
    done = await store.maintain(now, KEEP)
    return Upkept(charges=done.charges, settlements=done.settlements, grants=done.grants)


@in_reactor
async def test_what_was_burned_long_ago_goes(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await burn(store, settling, NOW, alice=1, bob=10)
    second = await burn(store, settling, NOW + DAY, alice=2)
    third = await burn(store, settling, NOW + 2 * DAY, alice=3, bob=30)
    assert await maintain(store, NOW + 10 * DAY) == Upkept(), "not a moment before"
    assert await maintain(store, NOW + 10 * DAY + 1) == Upkept(charges=2, settlements=1)
    assert await charges(store) == [(ALICE, 2), (ALICE, 3), (BOB, 30)]
    assert await settlements(store) == [second, third]
    assert await rows(store) == {
        "charge": 3, "settlement": 2, "settlement_entry": 3, "burn_transaction": 2,
    }  # fmt: skip
    left = {str(row.id) for row in await store.charges(ChargeQuery())}
    assert await events(store) == {
        *(("charge", number) for number in left),
        *(("settlement", str(number)) for number in (second, third)),
    }
    # What is left is whole.
    *_, oldest = await store.settlements(SettlementQuery())
    assert [(entry.credits, len(entry.charges)) for entry in oldest.entries] == [(2, 1)]
    assert [each.outcome for each in oldest.transactions] == ["succeeded"]
    assert await maintain(store, NOW + 10 * DAY + 1) == Upkept()
    await store.close()


@in_reactor
async def test_the_newest_that_was_burned_of_each_account_stays(new_store: NewStore) -> None:
    """It tells whether a balance was read before it was burned, and what a payer ever had."""
    store = new_store()
    settling = await own(store)
    accounts = [owes(ALICE), owes(BOB), owes(ALICE, token=8)]
    both = await burn(store, settling, NOW, alice=1, bob=10)
    await store.write_batch(batch_of({accounts[2]: 5}))
    last = await burn(store, settling, NOW, alice=2)
    seen = await store.see(accounts)
    assert all(each.burned for each in seen)
    assert await maintain(store, NOW + 1000 * DAY) == Upkept(charges=1)
    assert await store.see(accounts) == seen
    assert await charges(store, holder=BOB) == [(BOB, 10)]
    # The settlement is there as long as a charge of it is, and so is the log of both.
    assert await settlements(store) == [both, last]
    assert {("settlement", str(both)), ("charge", str(seen[1].burned))} < await events(store)
    await burn(store, settling, NOW + 2000 * DAY, bob=20)
    assert await maintain(store, NOW + 1000 * DAY) == Upkept(charges=1, settlements=1)
    assert both not in await settlements(store)
    now_seen = await store.see(accounts)
    assert now_seen[1].burned > seen[1].burned
    assert [now_seen[0], now_seen[2]] == [seen[0], seen[2]]
    await store.close()


@in_reactor
async def test_what_is_owed_stays(new_store: NewStore) -> None:
    """However old it is, and the log of it."""
    store = new_store()
    settling = await own(store)
    await burn(store, settling, NOW, alice=1)
    origin = await burn(store, settling, NOW, [1, 7], alice=1, bob=10)  # Bob has not enough.
    await meter(store, carol=4)
    given_up = await claim(settling)
    await settling.mark(given_up.id, Mark(E.GIVE_UP), NOW, reason="no")
    await meter(store, carol=5)
    under_way = await claim(settling)
    name = await sign(settling, under_way, next(_nonces))
    await mine(settling, under_way.id, name)
    await meter(store, alice=6, carol=7)
    uncollected = await store.charges(ChargeQuery(states=(ChargeState.UNCOLLECTED,)))
    before = await store.owed(), await events(store), await store.read_accounts([owes(ALICE)])
    seen = await store.see([owes(ALICE), owes(BOB), owes(CAROL)])

    assert await maintain(store, 1e11) == Upkept(charges=1, settlements=1)
    states = [row.state.value for row in await store.charges(ChargeQuery())][::-1]
    assert states == ["burned", "burned", "uncollected", "error", "claimed", "pending", "pending"]
    assert [row.origin for row in uncollected] == [origin]
    assert await settlements(store) == [origin, given_up.id, under_way.id]
    gone = before[1] - await events(store)
    assert {kind for kind, _ in gone} == {"charge", "settlement"}
    assert len(gone) == 2
    assert (await store.owed(), await store.read_accounts([owes(ALICE)])) == (before[0], before[2])
    assert await store.see([owes(ALICE), owes(BOB), owes(CAROL)]) == seen
    # And goes on as if nothing had been.
    await settling.mark(under_way.id, Mark(E.CONFIRM, name), NOW)
    assert await store.retry_charges(None, ENTRY, NOW) == 2
    assert len((await only_group(settling)).entries) == 3
    await store.close()


@in_reactor
async def test_settlement_that_was_given_up(new_store: NewStore) -> None:
    """It stays until its charges, which were tried again, are gone."""
    store = new_store()
    settling = await own(store)
    await meter(store, alice=4)
    given_up = await claim(settling)
    await settling.mark(given_up.id, Mark(E.GIVE_UP), NOW, reason="no")
    assert await maintain(store, 1e11) == Upkept(), "its charge is in error"
    await store.retry_charges(None, ENTRY, NOW)
    assert await maintain(store, 1e11) == Upkept(), "it is pending"
    await burn(store, settling, NOW)
    assert await maintain(store, 1e11) == Upkept(), "it is the newest"
    last = await burn(store, settling, NOW, alice=1)
    assert await maintain(store, 1e11) == Upkept(charges=1, settlements=2)
    assert await settlements(store) == [last]
    await store.close()


@in_reactor
async def test_grants_and_their_ids(new_store: NewStore) -> None:
    store = new_store()
    await store.grant(PREPAID_ALICE, 5, ENTRY._replace(time=NOW), "old")
    await store.grant(PREPAID_ALICE, 7, ENTRY._replace(time=NOW))
    await store.grant(PREPAID_ALICE, 9, ENTRY._replace(time=NOW + 1), "new")
    await store.write_batch(batch_of({PREPAID_ALICE: 3}))
    assert await maintain(store, NOW + 10 * DAY + 1) == Upkept(grants=2)
    ((_, left),) = await store.ledger_events(10)
    assert (left.time, left.before, left.after) == (NOW + 1, "12", "21")
    assert await store.read_accounts([PREPAID_ALICE]) == [Kept(21, 3)]
    assert len(await store.audit(10)) == 3
    again = ENTRY._replace(time=NOW + 20 * DAY)
    assert (await store.grant(PREPAID_ALICE, 9, again, "new")).repeated
    assert not (await store.grant(PREPAID_ALICE, 1, again, "old")).repeated
    await store.close()


@in_reactor
async def test_nothing_goes_that_is_to_be_kept_for_ever(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    for _ in range(2):
        await burn(store, settling, NOW, alice=1)
    await store.grant(PREPAID_ALICE, 5, ENTRY)
    done = await store.maintain(1e11, Retention(None, None, None))
    assert (done.charges, done.settlements, done.grants) == (0, 0, 0)
    assert len(await charges(store)) == 2
    await store.close()


@in_reactor
async def test_in_small_steps(new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush may come between any two; those that stay do not keep it from getting on."""
    for name, most in (("SETTLEMENTS", 2), ("CHARGES", 3), ("GRANTS", 4)):
        monkeypatch.setattr(pruning, name, most)
    store: Any = new_store()
    settling = await own(store)
    for token in range(20, 27):  # one charge of each of these stays
        await store.write_batch(batch_of({owes(ALICE, token): 1}))
        await burn(store, settling, NOW + token)
    holders = [f"0x{number:040x}" for number in range(8)]
    for turn in range(4):
        await store.write_batch(batch_of({owes(holder): 1 for holder in holders}))
        await burn(store, settling, NOW + 100 + turn)
    for number in range(10):
        await store.grant(Account(PREPAID, "main", str(number)), 1, ENTRY, str(number))

    took: list[Any] = []

    async def do(steps: Steps[Any]) -> Any:
        took.append(await store._do("change", steps))
        await store.write_batch(batch_of({QUOTA_ALICE: 1}))
        return took[-1]

    assert await prune(do, store._dialect, int(NOW) + 1000) == Pruned(24, 3, 10)
    steps = [each for each in took if isinstance(each, tuple)]
    assert sum(some for _, some, _ in steps) == 24
    assert all(some <= 3 and others <= 2 for _, some, others in steps)
    assert [each for each in took if isinstance(each, int)] == [4, 4, 2, 0]
    places = [place for place, _, _ in steps]
    assert places[-1] is None
    assert all(isinstance(place, Place) for place in places[:-1])
    assert places[:-1] == sorted(places[:-1])
    assert await charges(store, source=owes(ALICE).source, holder=ALICE) == [(ALICE, 1)] * 7
    assert len(await settlements(store)) == 8
    (kept,) = await store.read_accounts([QUOTA_ALICE])
    assert kept.spent == len(took)
    await store.close()


@in_reactor
async def test_several_at_once(new_store: NewStore) -> None:
    """Each row goes once, while usage comes in and is burned."""
    stores = [new_store() for _ in range(2)]
    settling = await own(stores[0])
    for turn in range(15):
        await burn(stores[0], settling, NOW + turn, alice=1, bob=1)
    doing: list[Awaitable[Upkept]] = [store.maintain(1e11, KEEP) for store in stores]
    await burn(stores[0], settling, NOW, alice=1)
    done = [await each for each in doing]
    done.append(await stores[0].maintain(1e11, KEEP))
    assert sum(each.charges for each in done) == 29
    assert sum(each.settlements for each in done) == 14
    assert await charges(stores[1]) == [(BOB, 1), (ALICE, 1)]
    for store in stores:
        await store.close()
