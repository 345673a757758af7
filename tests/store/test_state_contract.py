"""What operators have made, in every store alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from gatekeeper.errors import AlreadyThereError, NotThereError
from gatekeeper.store.interface import IStore, RecordQuery, UsageQuery
from gatekeeper.store.state import (
    Add,
    AuditEntry,
    Change,
    Remove,
    Replace,
    Revocation,
    Snapshot,
    Stored,
    StoredKey,
    StoredService,
    StoredUser,
)
from gatekeeper.usage.records import PREPAID, QUOTA, Account
from tests.store.support import HOUR, ONE, RECORD, NewStore, batch, in_reactor

CREATED = 1_700_000_000.25
LATER = 4_000_000_000.5
REMOVED_AT = 1_714_557_600.9  # 2024-05-01T10:00:00Z, and a little

ACME = StoredService("acme", "v1", '{"to": "http://127.0.0.1:1"}', CREATED)
ALICE = StoredUser("acme", "alice", "$argon2id$…", CREATED)
BOB = StoredUser("acme", "bob ☃", "$argon2id$…", CREATED + 1, True, LATER, ("a", 'b"c'))
KEY = StoredKey("k1", "acme", "alice", "ab" * 32, CREATED, "laptop", True, LATER, ("x",))
REVOKED = Revocation("cd" * 32, LATER, CREATED)
EVERYTHING: Sequence[Stored] = (ACME, ALICE, BOB, KEY, REVOKED)


def entry(action: str = "test", at: float = CREATED) -> AuditEntry:
    return AuditEntry(at, "token", "127.0.0.1", action, "acme", '{"a": 1}')


def change(store: IStore, *changes: Change, at: float = CREATED) -> Deferred[int]:
    done: Deferred[int] = store.change(changes, entry(at=at))
    return done


async def with_everything(new_store: NewStore) -> IStore:
    store = new_store()
    await store.open()
    await change(store, *map(Add, EVERYTHING))
    return store


@in_reactor
async def test_new_store_holds_nothing(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    assert await store.snapshot() == Snapshot(0)
    assert await store.audit(10) == []
    await store.close()


@in_reactor
async def test_what_was_added_comes_back_from_another_one(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    other = new_store()
    assert await other.state_version() == 1
    assert await other.snapshot() == Snapshot(1, (ACME,), (ALICE, BOB), (KEY,), (REVOKED,))
    for each in store, other:
        await each.close()


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (ACME, "there is a service `acme` already"),
        (ALICE, "there is a user `alice` already"),
        (KEY, "there is a key `k1` already"),
        (REVOKED, f"there is a revocation `{REVOKED.digest}` already"),
    ],
)
@in_reactor
async def test_nothing_is_added_twice(new_store: NewStore, thing: Stored, message: str) -> None:
    store = await with_everything(new_store)
    before = await store.snapshot()
    new = StoredUser("acme", "new", "", CREATED)
    with pytest.raises(AlreadyThereError) as caught:
        await change(store, Add(new), Add(thing._replace(created=1.0)))
    assert str(caught.value) == message
    assert await store.snapshot() == before, "all of the changes, or none"
    assert len(await store.audit(10)) == 1
    await store.close()


@pytest.mark.parametrize("kind", [Replace, Remove])
@in_reactor
async def test_what_is_not_there_cannot_change(
    new_store: NewStore, kind: type[Replace | Remove]
) -> None:
    store = await with_everything(new_store)
    before = await store.snapshot()
    for thing, message in (
        (ACME._replace(name="no"), "there is no service `no`"),
        (ALICE._replace(name="no"), "there is no user `no`"),
        (ALICE._replace(service="no"), "there is no user `alice`"),
        (KEY._replace(id="no"), "there is no key `no`"),
        (REVOKED._replace(digest="no"), "there is no revocation `no`"),
    ):
        with pytest.raises(NotThereError) as caught:
            await change(store, Remove(ALICE), kind(thing))
        assert str(caught.value) == message
    assert await store.snapshot() == before
    await store.close()


@in_reactor
async def test_replacing(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    after = Snapshot(
        2,
        (ACME._replace(dialect="golem", definition="{}"),),
        (ALICE._replace(disabled=True, expires=1.5, groups=("g",), password="p"), BOB),
        (KEY._replace(disabled=False, expires=None, label="", groups=(), digest="ef" * 32),),
        (REVOKED._replace(until=LATER + 1),),
    )
    things: list[Stored] = [*after.services, after.users[0], *after.keys, *after.revocations]
    assert await change(store, *(Replace(thing) for thing in things)) == 2
    assert await store.snapshot() == after
    await store.close()


@in_reactor
async def test_the_keys_of_a_user_go_with_it(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    others = (
        KEY._replace(id="everywhere", service=""),
        KEY._replace(id="of bob", user="bob ☃"),
        KEY._replace(id="of another service", service="other"),
    )
    await change(store, *(Add(each) for each in others))
    await change(store, Remove(ALICE))
    after = await store.snapshot()
    assert after.users == (BOB,)
    assert sorted(after.keys) == sorted(others)
    await store.close()


@in_reactor
async def test_users_and_keys_of_a_service_go_with_it(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    others = (KEY._replace(id="other", service="other"), ALICE._replace(service="other"))
    await change(store, *(Add(each) for each in others))
    await change(store, Remove(ACME))
    after = await store.snapshot()
    assert (after.services, after.users, after.keys) == ((), (others[1],), (others[0],))
    await store.close()


@in_reactor
async def test_removed_and_added_in_one_change(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    await change(store, Remove(ALICE), Add(ALICE._replace(password="new")))
    assert [each.password for each in (await store.snapshot()).users if each.name == "alice"] == [
        "new"
    ]
    await store.close()


@pytest.mark.parametrize("removed", [ALICE, ACME])
@in_reactor
async def test_a_new_user_of_a_name_begins_at_0(new_store: NewStore, removed: Stored) -> None:
    store = await with_everything(new_store)
    counters = {
        ("acme", "alice", "/a", "", HOUR): ONE,
        ("acme", "alice", "/b", "m", HOUR): ONE,
        ("acme", "carol", "/a", "", HOUR): ONE,
        ("other", "alice", "/a", "", HOUR): ONE,
    }
    record = RECORD._replace(service="acme", user="alice")
    others = (record._replace(service="other"), record._replace(user="carol"))
    await store.write_batch(batch(counters, 1, records=(record, *others)))
    await change(store, Remove(removed), at=REMOVED_AT)
    assert await store.usage(UsageQuery(service="acme", user="alice")) == []
    assert await store.records(RecordQuery(service="acme", user="alice")) == []
    name = "alice~2024-05-01T10:00:00Z"
    rows = await store.usage(UsageQuery(service="acme", user=name))
    assert [(row.path, row.requests) for row in rows] == [("/a", 1), ("/b", 1)]
    assert await store.records(RecordQuery(user=name)) == [record._replace(user=name)]
    assert len(await store.usage(UsageQuery(user="carol"))) == 1
    assert len(await store.usage(UsageQuery(service="other", user="alice"))) == 1
    assert len(await store.records(RecordQuery())) == 3
    await store.close()


@in_reactor
async def test_what_comes_in_after_the_removal_is_not_the_new_users(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    await change(store, Remove(ALICE), at=REMOVED_AT)
    late = RECORD._replace(service="acme", user="alice")
    counters = {("acme", "alice", "/a", "", HOUR): ONE, ("acme", "carol", "/a", "", HOUR): ONE}
    await store.write_batch(batch(counters, 1, records=(late,)))
    await change(store, Add(ALICE), at=REMOVED_AT + 60)
    assert await store.usage(UsageQuery(service="acme", user="alice")) == []
    rows = await store.usage(UsageQuery(by=("user",)))
    assert [row.user for row in rows] == ["alice~2024-05-01T10:01:00Z", "carol"]
    (record,) = await store.records(RecordQuery())
    assert record.user == rows[0].user
    await store.close()


@in_reactor
async def test_two_removals_within_a_second_add_up(new_store: NewStore) -> None:
    store = await with_everything(new_store)
    counters = {("acme", "alice", "/a", "", HOUR): ONE}
    for sequence in 1, 2:
        await store.write_batch(batch(counters, sequence))
        await change(store, Remove(ALICE), at=REMOVED_AT)
        await change(store, Add(ALICE))
    (row,) = await store.usage(UsageQuery(by=("user",)))
    assert (row.user, row.requests) == ("alice~2024-05-01T10:00:00Z", 2)
    await store.close()


@pytest.mark.parametrize("removed", [ALICE, ACME])
@in_reactor
async def test_a_new_user_of_a_name_has_quotas_of_its_own(
    new_store: NewStore, removed: Stored
) -> None:
    store = await with_everything(new_store)
    gone = [f"acme/{kind}/day/2024-05-0{n}" for kind in ("keyless", "user") for n in (1, 2)]
    others = ["acme/key/day/2024-05-01", "acme0/user/day/2024-05-01", "acm/user/day/2024-05-01"]
    quotas = [Account(QUOTA, name, "alice") for name in [*gone, *others]]
    quotas.append(quotas[0]._replace(holder="carol"))
    prepaid = Account(PREPAID, gone[0], "alice")
    for sequence in 1, 2:
        spent = {account: number for number, account in enumerate([*quotas, prepaid], 1)}
        await store.write_batch(batch({}, sequence)._replace(spent=spent))
        await change(store, Remove(removed), at=REMOVED_AT)
        if sequence == 1:
            restored = (ALICE,) if removed is ALICE else (ACME, ALICE)
            await change(store, *(Add(each) for each in restored))
    name = "alice~2024-05-01T10:00:00Z"
    found = {account: kept.spent for account, kept in await store.list_accounts(QUOTA)}
    kept_where = {
        account: account._replace(holder=name) if account.name in gone and n < 8 else account
        for n, account in enumerate(quotas, 1)
    }
    assert found == {kept_where[each]: 2 * n for n, each in enumerate(quotas, 1)}
    assert [each.spent for each in await store.read_accounts([prepaid])] == [2 * 9], "it stays"
    await store.close()


@in_reactor
async def test_usage_that_is_written_while_a_user_is_removed_is_not_lost(
    new_store: NewStore,
) -> None:
    stores = [new_store(), new_store()]
    for store in stores:
        await store.open()
    await change(stores[0], Add(ALICE))
    counters = {("acme", "alice", f"/{number}", "", HOUR): ONE for number in range(200)}
    spent = {Account(QUOTA, f"acme/user/day/{number}", "alice"): 1 for number in range(200)}
    for sequence in range(1, 11):
        written = batch(dict(reversed(counters.items())), sequence)
        writing: list[Deferred[Any]] = [
            stores[1].write_batch(written._replace(spent=dict(reversed(spent.items())))),
            change(stores[0], Remove(ALICE), Add(ALICE), at=REMOVED_AT + sequence),
        ]
        await gatherResults(writing)
    (row,) = await stores[0].usage(UsageQuery(by=()))
    assert row.requests == 2000
    accounts = await stores[0].list_accounts(QUOTA, limit=10_000)
    assert sum(kept.spent for _, kept in accounts) == 2000
    for store in stores:
        await store.close()


@in_reactor
async def test_versions_go_up_by_one_whoever_changes(new_store: NewStore) -> None:
    stores = [new_store(), new_store()]
    for store in stores:
        await store.open()
    versions = await gatherResults(
        [change(stores[number % 2], Add(ALICE._replace(name=f"u{number}"))) for number in range(20)]
    )
    assert sorted(versions) == list(range(1, 21))
    assert len((await stores[0].snapshot()).users) == 20
    for store in stores:
        await store.close()


@in_reactor
async def test_revocations_that_are_over_are_forgotten(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    now = time.time()
    over, holds = Revocation("aa", now - 1, CREATED), Revocation("bb", now + 1000, CREATED)
    await change(store, Add(over), Add(holds), at=now - 10)
    assert (await store.snapshot()).revocations == (holds,)
    await change(store, Add(ALICE), at=now)
    with pytest.raises(NotThereError):
        await change(store, Remove(over), at=now)
    await store.close()


@in_reactor
async def test_the_log_is_read_from_its_end(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    entries = [entry(f"action ☃ {number}", CREATED + number) for number in range(5)]
    for number, each in enumerate(entries):
        await store.change([Add(ALICE._replace(name=f"u{number}"))], each)
    first = await store.audit(2)
    assert [each for _, each in first] == [entries[4], entries[3]]
    rest = await store.audit(10, before=first[-1][0])
    assert [each for _, each in rest] == entries[2::-1]
    await store.close()
