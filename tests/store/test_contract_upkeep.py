"""What every store does with what has become old."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList

from gatekeeper.store import postgres_upkeep, sqlite_upkeep
from gatekeeper.store.interface import IStore, RecordQuery, Retention, Upkept, UsageQuery, UsageRow
from gatekeeper.store.state import Add, AuditEntry, StoredUser
from gatekeeper.usage.records import Counted, CounterKey
from tests.store.support import DAY, ONE, RECORD, NewStore, batch, in_reactor

EVERYTHING = Retention(None, None, None)
NOW = DAY + 10 * 86400 + 12 * 3600.0


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here takes several steps."""
    for module in (sqlite_upkeep, postgres_upkeep):
        for name, value in vars(module).items():
            if isinstance(value, str) and f"LIMIT {module.STEP}" in value:
                monkeypatch.setattr(module, name, value.replace(f"LIMIT {module.STEP}", "LIMIT 7"))


def usage_of_days(days: int) -> dict[CounterKey, Counted]:
    """Some hours of some users on each of the days."""
    chance = random.Random(1)
    return {
        ("acme", f"u{user}", "/", chance.choice(["", "m"]), DAY + day * 86400 + hour * 3600):
        Counted(chance.randrange(9), 1, 2, 3, 0.25, 1, 2, 3, 4, 5)
        for day in range(days)
        for user in range(3)
        for hour in chance.sample(range(24), 5)
    }  # fmt: skip


async def report(store: IStore, *by: str) -> list[UsageRow]:
    return await store.usage(UsageQuery(by=by))


async def reports(store: IStore) -> list[list[UsageRow]]:
    """Everything that rolling up must not change."""
    return [
        await report(store),
        await report(store, "day"),
        await report(store, "service", "user", "path", "model", "day"),
    ]


@in_reactor
async def test_nothing_to_do(new_store: NewStore) -> None:
    store = new_store()
    assert await store.maintain(NOW, Retention(1.0, 1.0, 1.0)) == Upkept()
    await store.write_batch(batch(usage_of_days(9), records=(RECORD,)))
    before = await report(store, "hour")
    assert await store.maintain(NOW, EVERYTHING) == Upkept()
    assert await report(store, "hour") == before
    assert len(await store.records(RecordQuery())) == 1
    await store.close()


@in_reactor
async def test_old_hours_become_days(new_store: NewStore) -> None:
    store = new_store()
    counters = usage_of_days(9)
    await store.write_batch(batch(counters))
    before = await reports(store)
    # Five days and a half before NOW is noon of the fifth day: four of them are over by then.
    done = await store.maintain(NOW, Retention(None, 5.5 * 86400, None))
    cut = DAY + 5 * 86400
    assert done == Upkept(rolled_up=sum(hour < cut and hour % 86400 != 0 for *_, hour in counters))
    assert await reports(store) == before
    hours = [row.hour or 0 for row in await report(store, "hour")]
    assert [hour for hour in hours if hour < cut] == [DAY + day * 86400 for day in range(5)]
    assert {hour for hour in hours if hour >= cut} == {hour for *_, hour in counters if hour >= cut}
    await store.close()


@in_reactor
async def test_rolling_up_again_changes_nothing(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(usage_of_days(9)))
    before = await reports(store)
    for now in (NOW - 3 * 86400, NOW - 2 * 86400, NOW, NOW):
        await store.maintain(now, Retention(None, 86400.0, None))
        assert await reports(store) == before
    assert await store.maintain(NOW, Retention(None, 86400.0, None)) == Upkept()
    # What has become days stays so, whatever else is configured then.
    assert await store.maintain(NOW, Retention(None, 900 * 86400.0, None)) == Upkept()
    assert await reports(store) == before
    await store.close()


@in_reactor
async def test_batch_that_comes_after_its_hour_was_rolled_up(new_store: NewStore) -> None:
    store = new_store()
    early, late = batch(usage_of_days(9), 1), batch(usage_of_days(9), 2)
    keep = Retention(None, 0.0, None)
    await store.write_batch(early)
    await store.maintain(NOW, keep)
    await store.write_batch(late)
    await store.write_batch(late)
    after = await reports(store)
    assert after[0][0].requests == 2 * sum(each.requests for each in early.counters.values())
    assert (await store.maintain(NOW, keep)).rolled_up > 0
    assert await reports(store) == after
    assert len(await report(store, "hour")) == 9
    await store.close()


@in_reactor
async def test_stores_that_do_it_at_once_and_a_flush_in_between(new_store: NewStore) -> None:
    stores = [new_store() for _ in range(3)]
    await stores[0].write_batch(batch(usage_of_days(9), 1))
    keep = Retention(None, 0.0, None)
    calls: list[Deferred[Any]] = [
        *(store.maintain(NOW, keep) for store in stores),
        *(stores[0].write_batch(batch(usage_of_days(9), sequence)) for sequence in range(2, 5)),
    ]
    results = await DeferredList(calls, consumeErrors=True)
    assert all(succeeded for succeeded, _ in results), results
    await stores[0].maintain(NOW, keep)
    (row,) = await report(stores[0])
    assert row.requests == 4 * sum(each.requests for each in usage_of_days(9).values())
    assert len(await report(stores[0], "hour")) == 9
    for store in stores:
        await store.close()


@in_reactor
async def test_closing_in_the_middle_counts_nothing_twice(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(usage_of_days(9)))
    before = await reports(store)
    keep = Retention(None, 0.0, None)
    maintaining = store.maintain(NOW, keep).addErrback(lambda failure: None)
    await store.ping()
    await store.close()
    await maintaining
    again = new_store()
    assert await reports(again) == before
    await again.maintain(NOW, keep)
    assert await reports(again) == before
    assert len(await report(again, "hour")) == 9
    await again.close()


@in_reactor
async def test_old_days_are_deleted(new_store: NewStore) -> None:
    store = new_store()
    counters = usage_of_days(9)
    await store.write_batch(batch(counters))
    done = await store.maintain(NOW, Retention(None, 3 * 86400.0, 6 * 86400.0))
    cut = DAY + 4 * 86400
    assert done.rows == len({(*key[:4], key[4] // 86400) for key in counters if key[4] < cut})
    days = [row.hour for row in await report(store, "day")]
    assert days == [DAY + day * 86400 for day in range(4, 9)]
    await store.close()


@in_reactor
async def test_days_may_be_kept_for_less_long_than_hours(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(usage_of_days(9)))
    await store.maintain(NOW, Retention(None, 90 * 86400.0, 6 * 86400.0))
    hours = [row.hour or 0 for row in await report(store, "hour")]
    assert min(hours) >= DAY + 4 * 86400
    assert len(hours) > 5
    await store.close()


@in_reactor
async def test_old_records_are_deleted_by_the_day(new_store: NewStore) -> None:
    store = new_store()
    starts = [DAY + day * 86400 + hour * 3600 + 0.5 for day in range(9) for hour in range(24)]
    records = tuple(RECORD._replace(start=start) for start in starts)
    await store.write_batch(batch({("acme", "alice", "/a", "", DAY): ONE}, records=records))
    keep = Retention(6 * 86400.0, None, None)
    assert await store.maintain(NOW, keep) == Upkept(record_days=4)
    found = await store.records(RecordQuery())
    assert sorted(record.start for record in found) == [
        start for start in starts if start >= DAY + 4 * 86400
    ]
    assert await store.maintain(NOW, keep) == Upkept()
    (row,) = await report(store)
    assert row.requests == 1, "the sums stay"
    # One that comes late is kept once more, until the next time.
    await store.write_batch(batch({}, 2, records=(RECORD._replace(start=starts[0]),)))
    assert len(await store.records(RecordQuery(until=starts[1]))) == 1
    assert await store.maintain(NOW, keep) == Upkept(record_days=1)
    assert await store.records(RecordQuery(until=starts[1])) == []
    await store.close()


@in_reactor
async def test_keys_of_old_batches_are_deleted_but_for_the_last(new_store: NewStore) -> None:
    store = new_store()
    for node, count in (("a", 20), ("b", 1)):
        for sequence in range(1, count + 1):
            await store.write_batch(batch({("s", "u", "/", "", DAY): ONE}, sequence, node))
    now = time.time()
    assert (await store.maintain(now + 29 * 86400, EVERYTHING)).batches == 0
    assert (await store.maintain(now + 31 * 86400, EVERYTHING)).batches == 19
    for node, sequence in (("a", 20), ("b", 1)):
        await store.write_batch(batch({("s", "u", "/", "", DAY): ONE}, sequence, node))
    (row,) = await report(store)
    assert row.requests == 21, "whether the last one was taken may have to be found out years later"
    await store.close()


@in_reactor
async def test_old_entries_of_the_audit_log_are_deleted(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    user = StoredUser("acme", "alice", "$argon2id$…", NOW)
    for number in range(20):
        entry = AuditEntry(NOW - (20 - number) * 86400, "token", "", f"{number}", "acme", "{}")
        await store.change([Add(user._replace(name=f"u{number}"))], entry)
    assert await store.maintain(NOW, EVERYTHING) == Upkept()
    keep = EVERYTHING._replace(audit=4.5 * 86400)
    assert await store.maintain(NOW, keep) == Upkept(audit=16)
    assert await store.maintain(NOW, keep) == Upkept()
    left = await store.audit(100)
    assert [entry.action for _, entry in left] == ["19", "18", "17", "16"]
    await store.close()
