"""What every store knows of accounts: prepaid credits, quotas, what is owed on a chain."""

from __future__ import annotations

import json

import pytest

from gatekeeper.credits.ledger import Mark, SettlementEvent
from gatekeeper.errors import BatchRejected
from gatekeeper.store.fitting import LARGEST
from gatekeeper.store.interface import RecordQuery, Retention, Upkept, UsageQuery
from gatekeeper.store.ledger import ChargeQuery, GrantDiffersError, Granted, Kept
from gatekeeper.usage.records import PREPAID, QUOTA, Account
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
    unburned,
)
from tests.store.support import HOUR, ONE, RECORD, NewStore, in_reactor


@in_reactor
async def test_nobody_has_drawn_from_it(new_store: NewStore) -> None:
    store = new_store()
    assert await store.read_accounts([]) == []
    assert await store.read_accounts([PREPAID_ALICE, owes(ALICE)]) == [Kept(), Kept()]
    await store.close()


@in_reactor
async def test_what_is_spent_comes_in_with_usage(new_store: NewStore) -> None:
    store = new_store()
    spent = {PREPAID_ALICE: 3, QUOTA_ALICE: 4, owes(ALICE): 5, owes(BOB): 0}
    counters = {("acme", "alice", "/", "", HOUR): ONE}
    for _ in range(2):  # It counts once.
        await store.write_batch(batch_of(spent, 1)._replace(counters=counters, records=(RECORD,)))
    await store.write_batch(batch_of(spent, 2))
    asked = [owes(ALICE), PREPAID_ALICE, owes(BOB), QUOTA_ALICE, PREPAID_ALICE]
    assert [kept.spent for kept in await store.read_accounts(asked)] == [10, 6, 0, 8, 6]
    assert len(await store.records(RecordQuery())) == 1
    assert [row.requests for row in await store.usage(UsageQuery())] == [1]
    await store.close()


@in_reactor
async def test_accounts_are_told_apart(new_store: NewStore) -> None:
    store = new_store()
    accounts = [
        Account(source, name, holder)
        for source in (PREPAID, QUOTA, "0x1")
        for name in ("1", "2")
        for holder in ("a", "A", "é☃", '"\\{},', "")
    ]
    await store.write_batch(batch_of({each: n for n, each in enumerate(accounts)}))
    assert [kept.spent for kept in await store.read_accounts(accounts)] == [*range(len(accounts))]
    await store.close()


@in_reactor
async def test_what_no_store_takes_is_made_to_fit(new_store: NewStore) -> None:
    store = new_store()
    strange = [
        Account(PREPAID, "nul\0", "\udc80"),
        Account(PREPAID, "main", "x" * 5000),
        Account(PREPAID, "main", "x" * 4999 + "y"),
        Account("0x" + "1" * 5000, "7", "\0"),
    ]
    for _ in range(2):
        await store.write_batch(batch_of(dict.fromkeys(strange, 2**70)))
        kept = await store.read_accounts(strange)
        assert [each.spent for each in kept] == [LARGEST] * 4, "as much as there is room for"
    assert len({account for account, _ in await store.list_accounts(PREPAID)}) == 3
    await store.close()


@pytest.mark.parametrize("amount", [-1, 1.5, "1", None])
@in_reactor
async def test_amount_that_is_none(new_store: NewStore, amount: object) -> None:
    store = new_store()
    counters = {("acme", "alice", "/", "", HOUR): ONE}
    bad = {owes(ALICE): 5, PREPAID_ALICE: amount}
    with pytest.raises(BatchRejected):
        await store.write_batch(batch_of(bad)._replace(counters=counters))  # type: ignore[arg-type]
    assert await store.read_accounts([owes(ALICE)]) == [Kept()]
    assert await store.usage(UsageQuery()) == []
    await store.close()


# --- prepaid ----------------------------------------------------------------------------------


@in_reactor
async def test_grants(new_store: NewStore) -> None:
    store = new_store()
    assert await store.grant(PREPAID_ALICE, 100, ENTRY) == Granted(Kept(100, 0))
    await store.write_batch(batch_of({PREPAID_ALICE: 30}))
    assert await store.grant(PREPAID_ALICE, -90, ENTRY) == Granted(Kept(10, 30))
    assert await store.read_accounts([PREPAID_ALICE]) == [Kept(10, 30)]
    # Both logs have it.
    entries = [entry for _, entry in await store.audit(10)]
    assert entries == [ENTRY, ENTRY]
    (_, newest), (_, oldest) = await store.ledger_events(10, subject=("prepaid", "main/alice"))
    assert newest[:6] == (1.5, "prepaid", "main/alice", "grant", "100", "10")
    assert oldest.before == "0"
    assert json.loads(newest.detail) == {
        "pool": "main", "holder": "alice", "credits": -90, "actor": "token", "source": "127.0.0.1",
    }  # fmt: skip
    await store.close()


@pytest.mark.parametrize(
    ("account", "credits"),
    [(PREPAID_ALICE, -11), (PREPAID_ALICE, LARGEST), (QUOTA_ALICE, 1), (owes(ALICE), 1)],
)
@in_reactor
async def test_grants_that_are_refused(new_store: NewStore, account: Account, credits: int) -> None:
    store = new_store()
    await store.grant(PREPAID_ALICE, 10, ENTRY)
    with pytest.raises(ValueError, match=r"prepaid|granted"):
        await store.grant(account, credits, ENTRY)
    with pytest.raises(ValueError, match="taken back"):
        await store.grant(PREPAID_ALICE._replace(holder="bob"), -1, ENTRY)
    assert await store.list_accounts(PREPAID) == [(PREPAID_ALICE, Kept(10, 0))]
    assert len(await store.audit(10)) == len(await store.ledger_events(10)) == 1
    await store.close()


@in_reactor
async def test_grants_at_once(new_store: NewStore) -> None:
    stores = [new_store(), new_store()]
    await stores[0].open()
    calls = [store.grant(PREPAID_ALICE, 1, ENTRY) for store in stores for _ in range(10)]
    calls += [store.write_batch(batch_of({PREPAID_ALICE: 1})) for store in stores]  # type: ignore[misc]
    for call in calls:
        await call
    assert await stores[0].read_accounts([PREPAID_ALICE]) == [Kept(20, 2)]
    for store in stores:
        await store.close()


@pytest.mark.parametrize("credits", [5, -5])
@in_reactor
async def test_grant_with_an_id_is_made_once(new_store: NewStore, credits: int) -> None:
    """Also where it could not be made any more."""
    store = new_store()
    await store.grant(PREPAID_ALICE, LARGEST - 7 if credits > 0 else 7, ENTRY)
    kept = Kept(LARGEST - 2 if credits > 0 else 2, 0)
    assert await store.grant(PREPAID_ALICE, credits, ENTRY, "Inv.-_9") == Granted(kept)
    logs = await store.audit(10), await store.ledger_events(10)
    later = ENTRY._replace(time=9.0, actor="socket", detail="{}")
    for _ in range(2):
        again = await store.grant(PREPAID_ALICE, credits, later, "Inv.-_9")
        assert again == Granted(kept, repeated=True)
    assert (await store.audit(10), await store.ledger_events(10)) == logs
    assert json.loads(logs[1][0][1].detail)["id"] == "Inv.-_9"
    assert "id" not in json.loads(logs[1][1][1].detail)
    # What there is by then is told.
    await store.write_batch(batch_of({PREPAID_ALICE: 3}))
    spent = kept._replace(spent=3)
    again = await store.grant(PREPAID_ALICE, credits, ENTRY, "Inv.-_9")
    assert again == Granted(spent, repeated=True)
    await store.close()


@pytest.mark.parametrize(
    ("account", "credits"),
    [
        (PREPAID_ALICE, 6),
        (PREPAID_ALICE, -5),
        (PREPAID_ALICE._replace(name="maps"), 5),
        (PREPAID_ALICE._replace(holder="bob"), 5),
        # The log calls both the same.
        (Account(PREPAID, "main/a", "b"), 5),
    ],
)
@in_reactor
async def test_another_grant_under_an_id(
    new_store: NewStore, account: Account, credits: int
) -> None:
    store = new_store()
    first = Account(PREPAID, "main", "a/b") if account.holder == "b" else PREPAID_ALICE
    await store.grant(first, 5, ENTRY, "one")
    before = await store.list_accounts(PREPAID), await store.audit(10)
    with pytest.raises(GrantDiffersError, match="`one` was made before, and with other") as caught:
        await store.grant(account, credits, ENTRY, "one")
    assert (caught.value.pool, caught.value.holder, caught.value.credits) == (
        "main",
        first.holder,
        5,
    )
    assert (await store.list_accounts(PREPAID), await store.audit(10)) == before
    for name in ("ONE", "one.", None, None):  # these are others
        assert not (await store.grant(account, 1, ENTRY, name)).repeated
    await store.close()


@in_reactor
async def test_grant_that_was_refused_may_be_made_later(new_store: NewStore) -> None:
    store = new_store()
    with pytest.raises(ValueError, match="taken back"):
        await store.grant(PREPAID_ALICE, -5, ENTRY, "one")
    await store.grant(PREPAID_ALICE, 5, ENTRY, "two")
    assert await store.grant(PREPAID_ALICE, -5, ENTRY, "one") == Granted(Kept())
    await store.close()


@in_reactor
async def test_same_grant_at_once(new_store: NewStore) -> None:
    """Of an account that is not there before."""
    stores = [new_store() for _ in range(3)]
    await stores[0].open()
    calls = [
        store.grant(PREPAID_ALICE, credits, ENTRY, str(credits))
        for credits in (1, 10, 100)
        for store in stores
        for _ in range(3)
    ]
    made = [(await call).repeated for call in calls]
    assert [made[at : at + 9].count(False) for at in (0, 9, 18)] == [1, 1, 1]
    assert await stores[0].read_accounts([PREPAID_ALICE]) == [Kept(111, 0)]
    assert len(await stores[0].ledger_events(10)) == len(await stores[0].audit(10)) == 3
    for store in stores:
        await store.close()


@in_reactor
async def test_list_of_accounts(new_store: NewStore) -> None:
    store = new_store()
    for name, holder in (("b", "alice"), ("a", "bob"), ("a", "alice")):
        await store.grant(Account(PREPAID, name, holder), 1, ENTRY)
    await store.write_batch(batch_of({QUOTA_ALICE: 1, owes(ALICE): 1}))

    async def found(*query: object) -> list[tuple[str, str]]:
        listed = await store.list_accounts(PREPAID, *query)  # type: ignore[arg-type]
        return [(account.name, account.holder) for account, _ in listed]

    assert await found() == [("a", "alice"), ("a", "bob"), ("b", "alice")]
    assert await found("a") == [("a", "alice"), ("a", "bob")]
    assert await found(None, "alice") == [("a", "alice"), ("b", "alice")]
    assert await found(None, None, 1) == [("a", "alice")]
    assert await found(None, None, 9, ("a", "alice")) == [("a", "bob"), ("b", "alice")]
    assert await found(None, "alice", 9, ("a", "alice")) == [("b", "alice")]
    assert await found(None, None, 1, ("a", "z")) == [("b", "alice")]
    assert await store.list_accounts(QUOTA) == [(QUOTA_ALICE, Kept(0, 1))]
    await store.close()


@in_reactor
async def test_old_quotas_go(new_store: NewStore) -> None:
    store = new_store()
    await store.grant(PREPAID_ALICE, 1, ENTRY._replace(time=0.0))
    quotas = {QUOTA_ALICE._replace(holder=str(n)): 1 for n in range(20)}
    await store.write_batch(batch_of({**quotas, owes(ALICE): 1}))
    keep = Retention(None, None, None)
    written = (await store.charges(ChargeQuery()))[0].created
    assert await store.maintain(written + 70 * 86400 - 60, keep) == Upkept()
    assert await store.maintain(written + 70 * 86400 + 60, keep) == Upkept(quotas=20)
    assert await store.list_accounts(QUOTA) == []
    assert await store.read_accounts([PREPAID_ALICE, owes(ALICE)]) == [Kept(1, 0), Kept(0, 1)]
    await store.close()


# --- on a chain -------------------------------------------------------------------------------


@in_reactor
async def test_burned_from_when_it_is_in_a_block(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7, bob=5)
    settlement = await claim(settling)
    await meter(store, alice=1)
    name = await sign(settling, settlement, 3, burns=[7, 2])
    assert await unburned(store, ALICE, BOB) == [8, 5]
    await mine(settling, settlement.id, name)
    assert await unburned(store, ALICE, BOB) == [1, 3], "Bob has not enough"
    await settling.mark(settlement.id, Mark(SettlementEvent.REORGANIZE, name), NOW)
    assert await unburned(store, ALICE, BOB) == [8, 5]
    await mine(settling, settlement.id, name)
    await settling.mark(settlement.id, Mark(SettlementEvent.CONFIRM, name), NOW)
    assert await unburned(store, ALICE, BOB) == [1, 3]
    await store.close()


@in_reactor
async def test_reverted_is_not_burned(new_store: NewStore) -> None:
    store = new_store()
    settling = await own(store)
    await meter(store, alice=7)
    settlement = await claim(settling)
    name = await sign(settling, settlement, 3)
    await mine(settling, settlement.id, name, succeeded=False)
    assert await unburned(store, ALICE) == [7]
    await settling.mark(settlement.id, Mark(SettlementEvent.REVERT, name), NOW, reason="why")
    assert await unburned(store, ALICE) == [7]
    await settling.mark(settlement.id, Mark(SettlementEvent.GIVE_UP), NOW, reason="why")
    assert await unburned(store, ALICE) == [7], "it is owed, whatever becomes of it"
    await store.close()


@in_reactor
async def test_sums_past_64_bits(new_store: NewStore) -> None:
    """Of several charges; and what one settlement has no room for waits for the next."""
    store = new_store()
    settling = await own(store)
    await meter(store, alice=LARGEST)
    settlement = await claim(settling)
    await settling.mark(settlement.id, Mark(SettlementEvent.GIVE_UP), NOW)
    await meter(store, alice=LARGEST - 1)
    assert await unburned(store, ALICE) == [2 * LARGEST - 1]
    assert await store.retry_charges(None, ENTRY, NOW) == 1
    assert [each.credits for each in await store.owed()] == [2 * LARGEST - 1]
    settlement = await claim(settling)
    assert [entry.credits for entry in settlement.entries] == [LARGEST]
    assert [charge.credits for charge in await settling.pending(10)] == [LARGEST - 1]
    await store.close()
