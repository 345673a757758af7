"""Leases, in every store: parts of accounts that a process has for itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults

from gatekeeper.credits.ledger import Mark, SettlementEvent
from gatekeeper.store.fitting import LARGEST
from gatekeeper.store.interface import IStore
from gatekeeper.store.leases import ChainBalance, Leased, Seen, Wish, owner_of, share
from gatekeeper.usage.records import PREPAID, Account
from tests.store.ledgers import (
    ALICE,
    BOB,
    ENTRY,
    NOW,
    PREPAID_ALICE,
    QUOTA_ALICE,
    batch_of,
    claim,
    meter,
    mine,
    owes,
    own,
    sign,
)
from tests.store.support import NewStore, in_reactor

HERE, THERE = owner_of("here", 0), owner_of("there", 0)
NEVER = float("inf")


async def wish(store: IStore, owner: str, account: Account = PREPAID_ALICE, **what: Any) -> Leased:
    (leased,) = await store.lease(owner, [Wish(account, **what)])
    return leased


async def granted(new_store: NewStore, credits: int) -> IStore:
    store = new_store()
    await store.grant(PREPAID_ALICE, credits, ENTRY)
    return store


# --- how much ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "had", "in_all", "taken", "change", "free"),
    [
        ({}, 5, 10, 3, 0, 2),
        ({"give": 4}, 5, 10, 3, -4, 6),
        ({"give": 9}, 5, 10, 3, -5, 7),
        ({"demand": 2}, 5, 10, 3, 2, 0),
        ({"demand": 3}, 5, 10, 3, 2, 0),
        ({"demand": 3, "least": 2}, 5, 10, 3, 2, 0),
        ({"demand": 3, "least": 3}, 5, 10, 3, 0, 2),
        ({"demand": 3, "block": 100}, 0, 100, 0, 25, 75),
        ({"demand": 3, "block": 10}, 0, 100, 0, 13, 87),
        ({"demand": 60, "block": 10}, 0, 100, 0, 60, 40),
        ({"block": 10}, 0, 100, 0, 0, 100),
        ({"demand": 3}, 5, 10, 9, 0, -4),
        ({"give": 3}, 5, 10, 9, -3, -1),
        ({"demand": 2**70}, 1, 2**80, 0, LARGEST // 4 - 1, 2**80 - LARGEST // 4),
    ],
)
def test_share(
    what: dict[str, Any], had: int, in_all: int, taken: int, change: int, free: int
) -> None:
    assert share(Wish(PREPAID_ALICE, **what), had, in_all, taken) == (change, free)


_numbers = st.integers(0, 50)


@given(_numbers, _numbers, _numbers, _numbers, _numbers, _numbers, _numbers)
def test_what_is_shared(
    give: int, least: int, demand: int, block: int, had: int, in_all: int, taken: int
) -> None:
    """Nothing is leased that is not there, and nothing is made or lost."""
    give = 0 if demand else give
    change, free = share(Wish(PREPAID_ALICE, give, least, demand, block), had, in_all, taken)
    assert free + had + change + taken == in_all
    assert had + change >= 0
    if change > 0:
        assert free >= 0
        assert least <= change <= demand + block
    elif change < 0:
        assert -change <= give


# --- leases -----------------------------------------------------------------------------------


@in_reactor
async def test_what_one_has_leased_another_one_cannot(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    assert await wish(store, HERE, demand=4) == Leased(4, 4, 6)
    assert await wish(store, THERE, demand=4) == Leased(4, 4, 2)
    assert await wish(store, HERE, demand=4, least=3) == Leased(4, 0, 2)
    assert await wish(store, HERE, demand=4) == Leased(6, 2, 0)
    assert await wish(store, THERE, give=3) == Leased(1, 0, 3)
    assert await wish(store, THERE, give=3) == Leased(0, 0, 4)
    assert await wish(store, THERE, give=3) == Leased(0, 0, 4)
    assert await wish(store, "there-1", demand=9) == Leased(4, 4, 0), "a worker is another owner"
    await store.close()


@in_reactor
async def test_several_accounts_at_once(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    assert await store.lease(HERE, []) == []
    wishes = [
        Wish(QUOTA_ALICE, demand=3, allowance=7),
        Wish(Account(PREPAID, "main", "nobody"), demand=1),
        Wish(PREPAID_ALICE, demand=11, least=1),
        Wish(QUOTA_ALICE._replace(holder="é☃\0"), demand=3, allowance=2),
    ]
    leased = [Leased(3, 3, 4), Leased(0, 0, 0), Leased(10, 10, 0), Leased(2, 2, 0)]
    assert await store.lease(HERE, wishes) == leased
    assert await store.lease(HERE, [Wish(each.account, allowance=7) for each in wishes]) == [
        Leased(3, 0, 4), Leased(0, 0, 7), Leased(10, 0, 7), Leased(2, 0, 5),
    ]  # fmt: skip
    await store.close()


@in_reactor
async def test_what_is_spent_goes_off_the_lease_of_who_spent_it(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    for owner in HERE, THERE:
        await wish(store, owner, demand=4)
    for _ in range(2):  # It counts once.
        await store.write_batch(batch_of({PREPAID_ALICE: 3}, 1, "here"))
    assert await wish(store, HERE) == Leased(1, 0, 2)
    assert await wish(store, THERE) == Leased(4, 0, 2), "nothing gets free by that"
    await store.write_batch(batch_of({PREPAID_ALICE: 3}, 1, "elsewhere"))
    assert await wish(store, THERE) == Leased(4, 0, -1)
    await store.write_batch(batch_of({PREPAID_ALICE: 3}, 2, "here"))
    assert await wish(store, HERE) == Leased(0, 0, -3), "more than it had"
    assert await wish(store, HERE, demand=1) == Leased(0, 0, -3)
    assert await wish(store, THERE, give=4) == Leased(0, 0, 1)
    await store.close()


@in_reactor
async def test_what_is_spent_of_several_accounts(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    balance = ChainBalance(20, Seen())
    wishes = [
        Wish(PREPAID_ALICE, demand=9),
        Wish(QUOTA_ALICE, demand=9, allowance=10),
        Wish(owes(ALICE), demand=9, balance=balance),
        Wish(owes(BOB), demand=9, balance=balance),
    ]
    await store.lease(HERE, wishes)
    spent = {PREPAID_ALICE: 1, QUOTA_ALICE: 2, owes(ALICE): 3, owes(BOB): 0}
    await store.write_batch(batch_of(spent, node="here"))
    leased = await store.lease(HERE, [Wish(each.account) for each in wishes])
    assert [each.credits for each in leased] == [8, 7, 6, 9]
    await store.close()


@in_reactor
async def test_a_grant_that_is_taken_back(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    await wish(store, HERE, demand=8)
    await store.grant(PREPAID_ALICE, -5, ENTRY)
    assert await wish(store, HERE) == Leased(8, 0, -3)
    assert await wish(store, HERE, give=8) == Leased(0, 0, 5)
    await store.close()


# --- on a chain -------------------------------------------------------------------------------


@in_reactor
async def test_a_balance_is_needed_to_get_more(new_store: NewStore) -> None:
    store = new_store()
    assert await wish(store, HERE, owes(ALICE), demand=4) == Leased(0, 0, None)
    balance = ChainBalance(2**200, Seen())
    assert await wish(store, HERE, owes(ALICE), demand=4, balance=balance) == Leased(
        4, 4, 2**200 - 4
    )
    assert await wish(store, HERE, owes(ALICE), give=3) == Leased(1, 0, None)
    await store.close()


@in_reactor
async def test_what_is_owed_and_leased_is_not_free(new_store: NewStore) -> None:
    store = new_store()
    await meter(store, alice=3)
    (seen,) = await store.see([owes(ALICE)])
    balance = ChainBalance(10, seen)
    assert await wish(store, HERE, owes(ALICE), demand=5, balance=balance) == Leased(5, 5, 2)
    await store.write_batch(batch_of({owes(ALICE): 5}, node="here"))
    # More is owed now. Nothing was burned, so the balance is still what it was.
    assert await wish(store, THERE, owes(ALICE), demand=5, balance=balance) == Leased(2, 2, 0)
    await store.close()


@in_reactor
async def test_what_is_burned_after_a_balance_was_asked_for_is_noticed(
    new_store: NewStore,
) -> None:
    """It is off what is owed, and may be not off the balance that was read."""
    store = new_store()
    settling = await own(store)

    async def free(credits: int, seen: Seen) -> int | None:
        return (await wish(store, HERE, owes(ALICE), balance=ChainBalance(credits, seen))).free

    (nothing,) = await store.see([owes(ALICE)])
    await meter(store, alice=7)
    (metered,) = await store.see([owes(ALICE)])
    assert [await free(10, each) for each in (nothing, metered)] == [3, 3]
    settlement = await claim(settling)
    name = await sign(settling, settlement, 3)
    await meter(store, alice=1)
    assert [await free(10, each) for each in (nothing, metered)] == [2, 2]

    await mine(settling, settlement.id, name)
    (mined,) = await store.see([owes(ALICE)])
    assert [await free(3, each) for each in (nothing, metered, mined)] == [None, None, 2]
    await settling.mark(settlement.id, Mark(SettlementEvent.REORGANIZE, name), NOW)
    assert [await free(10, each) for each in (nothing, metered, mined)] == [2, 2, None]
    await mine(settling, settlement.id, name)

    await settling.mark(settlement.id, Mark(SettlementEvent.CONFIRM, name), NOW)
    (confirmed,) = await store.see([owes(ALICE)])
    seen = nothing, metered, mined, confirmed
    assert [await free(3, each) for each in seen] == [None, None, None, 2]
    assert await store.see([owes(BOB), owes(ALICE)]) == [Seen(), confirmed]
    await store.close()


# --- how they end -----------------------------------------------------------------------------


@in_reactor
async def test_owners_that_have_ended(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    for owner in HERE, THERE, "here-1":
        await wish(store, owner, demand=2)
        await wish(store, owner, QUOTA_ALICE, demand=1, allowance=5)
    assert await store.release([], NEVER) == 0
    assert await store.release([HERE, "nobody-0"], NEVER) == 2
    assert await wish(store, HERE) == Leased(0, 0, 6)
    assert await store.release([THERE, "here-1"], NEVER) == 4
    assert await wish(store, HERE, QUOTA_ALICE, allowance=5) == Leased(0, 0, 5)
    await store.close()


@in_reactor
async def test_who_ends_gives_back_what_it_has_just_asked_for(new_store: NewStore) -> None:
    """Nobody would know of a lease that comes after its owner's end."""
    store = await granted(new_store, 10)
    await wish(store, HERE)
    await store.release([], NEVER)  # all connections are there
    asked = store.lease(HERE, [Wish(PREPAID_ALICE, demand=2)])
    assert await store.release([HERE], NEVER) == 1
    assert await asked == [Leased(2, 2, 8)]
    assert await wish(store, HERE) == Leased(0, 0, 10)
    await store.close()


@in_reactor
async def test_who_was_not_heard_of_for_long(new_store: NewStore) -> None:
    store = await granted(new_store, 10)
    await wish(store, HERE, demand=2)
    assert await store.release([], 60.0) == 0
    assert await store.release([], -60.0) == 1, "all are older than a minute from now"
    assert await wish(store, HERE, give=1) == Leased(0, 0, 10)
    assert await wish(store, HERE, demand=3) == Leased(3, 3, 7), "it begins anew"
    await store.write_batch(batch_of({PREPAID_ALICE: 3}, node="here"))
    assert await wish(store, HERE) == Leased(0, 0, 7)
    await store.close()


# --- at once ----------------------------------------------------------------------------------


@in_reactor
async def test_many_who_want_all_at_once(new_store: NewStore) -> None:
    """Two processes, of which each asks for a part, spends it, and asks for more."""
    stores = [new_store(), new_store()]
    await stores[0].grant(PREPAID_ALICE, 100, ENTRY)
    await stores[1].open()
    accounts = [PREPAID_ALICE, QUOTA_ALICE]

    async def spend(store: IStore, node: str) -> dict[Account, int]:
        spent = dict.fromkeys(accounts, 0)
        for sequence in range(1, 16):
            wishes = [Wish(each, demand=7, least=1, allowance=50) for each in reversed(accounts)]
            leased = await store.lease(owner_of(node, 0), wishes)
            batch = {
                wish.account: min(each.credits, 5)
                for wish, each in zip(wishes, leased, strict=True)
            }
            await store.write_batch(batch_of(batch, sequence, node))
            for account, amount in batch.items():
                spent[account] += amount
        return spent

    nodes = ["a", "b", "c", "d"]
    found = await gatherResults(
        [
            Deferred.fromCoroutine(spend(stores[number % 2], node))
            for number, node in enumerate(nodes)
        ]
    )
    kept = await stores[0].read_accounts(accounts)
    sums = [sum(each[account] for each in found) for account in accounts]
    assert [each.spent for each in kept] == sums
    left = [
        sum([(await wish(stores[0], owner_of(node, 0), each)).credits for node in nodes])
        for each in accounts
    ]
    assert [one + two for one, two in zip(sums, left, strict=True)] == [150, 50], (
        "a grant of 100, and what there is beside; nothing is lost, and nothing is spent twice"
    )
    for store in stores:
        await store.close()
