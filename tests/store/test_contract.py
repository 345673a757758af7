"""What every store does alike."""

from __future__ import annotations

import pytest
from twisted.internet.defer import DeferredList
from zope.interface.verify import verifyObject

from gatekeeper.errors import BatchRejected
from gatekeeper.store.interface import IStore, UsageQuery, UsageRow
from gatekeeper.usage.records import Batch, Counted, CounterKey
from tests.store.support import HOUR, ONE, RECORD, NewStore, batch, in_reactor


def test_provides_the_interface(new_store: NewStore) -> None:
    assert verifyObject(IStore, new_store())


@in_reactor
async def test_counters_add_up_over_batches(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    key = ("acme", "alice", "/v0", "", HOUR)
    await store.write_batch(batch({key: Counted(2, 5, 7, 3, 0.25)}, 1))
    await store.write_batch(batch({key: Counted(1, 1, 1, 1, 0.5)}, 2))
    rows = await store.usage(UsageQuery(by=("service", "user", "path", "hour")))
    assert rows == [UsageRow("acme", "alice", "/v0", "", HOUR, 3, 6, 8, 4, 0.75)]
    await store.close()


@in_reactor
async def test_repeated_batch_counts_once(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    first = batch({("acme", "alice", "/", "", HOUR): ONE})
    for _ in range(3):
        await store.write_batch(first)
    (row,) = await store.usage(UsageQuery())
    assert row.requests == 1
    await store.close()


@in_reactor
async def test_repeated_batch_counts_once_from_two_stores_at_once(new_store: NewStore) -> None:
    stores = [new_store(), new_store()]
    first = batch({("acme", "alice", f"/{number}", "", HOUR): ONE for number in range(500)})
    results = await DeferredList([store.write_batch(first) for store in stores])
    assert [succeeded for succeeded, _ in results] == [True, True]
    (row,) = await stores[0].usage(UsageQuery(by=()))
    assert row.requests == 500
    for store in stores:
        await store.close()


@in_reactor
async def test_node_worker_and_sequence_name_a_batch(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    counters = {("acme", "alice", "/", "", HOUR): ONE}
    for name in (("a", 0, 1), ("b", 0, 1), ("a", 1, 1), ("a", 0, 2)):
        await store.write_batch(Batch(*name, counters))
    (row,) = await store.usage(UsageQuery())
    assert row.requests == 4
    await store.close()


@in_reactor
async def test_two_nodes_write_the_same_rows_at_once(new_store: NewStore) -> None:
    stores = [new_store(), new_store()]
    keys: list[CounterKey] = [("acme", "alice", f"/{number}", "", HOUR) for number in range(300)]
    writes = [
        store.write_batch(batch(dict.fromkeys(order, ONE), sequence, node))
        for store, node, order in zip(stores, "ab", (keys, keys[::-1]), strict=True)
        for sequence in range(5)
    ]
    results = await DeferredList(writes, consumeErrors=True)
    assert all(succeeded for succeeded, _ in results), results
    (row,) = await stores[0].usage(UsageQuery(by=("service",)))
    assert row.requests == 3000
    for store in stores:
        await store.close()


@in_reactor
async def test_usage_survives_closing(new_store: NewStore) -> None:
    store = new_store()
    await store.open()
    await store.write_batch(batch({("acme", "alice", "/", "", HOUR): ONE}))
    await store.close()
    again = new_store()
    await again.open()
    await again.ping()
    assert len(await again.usage(UsageQuery())) == 1
    await again.close()


@in_reactor
async def test_stores_that_open_at_once_do_not_race_for_the_schema(new_store: NewStore) -> None:
    stores = [new_store() for _ in range(4)]
    results = await DeferredList([store.open() for store in stores], consumeErrors=True)
    assert all(succeeded for succeeded, _ in results), results
    for store in stores:
        await store.close()


@in_reactor
async def test_writes_without_having_been_opened(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch({("acme", "alice", "/", "", HOUR): ONE}))
    assert len(await store.usage(UsageQuery())) == 1
    await store.close()


@in_reactor
async def test_closing_a_store_that_was_not_opened(new_store: NewStore) -> None:
    closed = new_store().close()
    await closed
    assert closed.called


@in_reactor
async def test_empty_batch(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch({}))
    assert await store.usage(UsageQuery(by=())) == []
    await store.close()


@pytest.mark.parametrize(
    "text",
    [
        "quote ' \" back\\slash {comma,brace} %s ?",
        "NULL",
        "",
        "zürich ☃ 𝄞",
        "line\nbreak\ttab\x1b",
    ],
)
@in_reactor
async def test_texts_come_back_as_they_are(new_store: NewStore, text: str) -> None:
    store = new_store()
    await store.write_batch(batch({(text, text, text, "", HOUR): ONE}))
    (row,) = await store.usage(UsageQuery(service=text, user=text))
    assert row[:3] == (text, text, text)
    await store.close()


@in_reactor
async def test_texts_that_no_store_takes_do_not_stop_a_batch(new_store: NewStore) -> None:
    store = new_store()
    long = "/" + "".join(chr(0x4E00 + number % 20000) for number in range(0, 300_000, 7))
    keys: list[CounterKey] = [
        ("acme", "nul\0", "/", "", HOUR),
        ("acme", "surrogate\udc80", "/", "", HOUR),
        ("acme" * 1000, long, long, long, HOUR),
        ("acme" * 1000, long + "a", long, long, HOUR),
    ]
    await store.write_batch(batch(dict.fromkeys(keys, ONE)))
    rows = await store.usage(UsageQuery())
    assert sum(row.requests for row in rows) == 4
    assert len({row.user for row in rows}) == 4
    await store.close()


@in_reactor
async def test_texts_that_become_the_same_add_up(new_store: NewStore) -> None:
    store = new_store()
    keys: list[CounterKey] = [("acme", text, "/", "", HOUR) for text in ("a\0", "a\ufffd", "b")]
    await store.write_batch(batch(dict.fromkeys(keys, ONE)))
    rows = await store.usage(UsageQuery(by=("user",)))
    assert [(row.user, row.requests, row.duration) for row in rows] == [
        ("a\ufffd", 2, 1.0),
        ("b", 1, 0.5),
    ]
    await store.close()


LARGEST = 2**63 - 1


@in_reactor
async def test_no_number_is_too_big(new_store: NewStore) -> None:
    """Neither a batch nor a report fails for ever: sums stop at the largest number."""
    store = new_store()
    counters: dict[CounterKey, Counted] = {
        ("a", "u", "/1", "", HOUR): Counted(1, 2**70, LARGEST, LARGEST - 1, float("inf")),
        ("a", "u", "/2", "", HOUR): Counted(1, LARGEST, 0, 1, float("nan")),
        ("a", "u", "/3", "", 10**18): Counted(-1, 0, 0, -1, -1.0),
    }
    for sequence in range(3):
        await store.write_batch(batch(counters, sequence))
    one, two, _ = await store.usage(UsageQuery(by=("path",)))
    assert one[5:9] == (3, LARGEST, LARGEST, LARGEST)
    assert two[5:10] == (3, LARGEST, 0, 3, 0.0)
    (row,) = await store.usage(UsageQuery(by=()))
    assert row[5:8] == (6, LARGEST, LARGEST)
    assert row.duration == 3e12
    assert len(await store.usage(UsageQuery(by=("hour",)))) == 2
    await store.close()


@pytest.mark.parametrize(
    "bad",
    [
        Batch("a", -1, 1, {}),
        Batch("a", 2**31, 1, {}),
        Batch("a", 0, 2**63, {}),
        batch({("acme", None, "/", "", HOUR): ONE}),  # type: ignore[dict-item]
        batch({("acme", "u", "/", "", HOUR): ONE._replace(units="many")}),  # type: ignore[arg-type]
        batch({("acme", "u", "/"): ONE}),  # type: ignore[dict-item]
        batch({}, records=(RECORD._replace(path=None),)),  # type: ignore[arg-type]
        batch({}, records=("record",)),  # type: ignore[arg-type]
    ],
)
@in_reactor
async def test_batch_that_nothing_can_be_made_of(new_store: NewStore, bad: Batch) -> None:
    store = new_store()
    with pytest.raises(BatchRejected):
        await store.write_batch(bad)
    await store.write_batch(batch({("acme", "alice", "/", "", HOUR): ONE}))
    (row,) = await store.usage(UsageQuery())
    assert row.requests == 1
    await store.close()


@in_reactor
async def test_sums_are_not_cut_to_32_bits(new_store: NewStore) -> None:
    store = new_store()
    big = Counted(2**40, 2**50, 2**50, 2**40, 1e9)
    await store.write_batch(
        batch({("a", "u", "/1", "", HOUR): big, ("a", "u", "/2", "", HOUR): big})
    )
    (row,) = await store.usage(UsageQuery(by=()))
    assert row == UsageRow("", "", "", "", None, 2**41, 2**51, 2**51, 2**41, 2e9)
    assert type(row.requests) is int
    await store.close()
