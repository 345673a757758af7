"""What every store keeps of single requests."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gatekeeper.store.interface import RecordQuery, UsageQuery
from gatekeeper.usage.records import Spent, UsageRecord
from tests.store.support import DAY, HOUR, ONE, RECORD, NewStore, batch, in_reactor

COUNTERS = {("acme", "alice", "/a", "tiny", HOUR): ONE}


@in_reactor
async def test_every_field_comes_back(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(COUNTERS, records=(RECORD,)))
    (record,) = await store.records(RecordQuery())
    assert record == RECORD
    assert [type(value) for value in record] == [type(value) for value in RECORD]
    await store.close()


@in_reactor
async def test_repeated_batch_keeps_its_records_once(new_store: NewStore) -> None:
    store = new_store()
    for _ in range(3):
        await store.write_batch(batch(COUNTERS, records=(RECORD, RECORD)))
    assert await store.records(RecordQuery()) == [RECORD, RECORD]
    (row,) = await store.usage(UsageQuery())
    assert row.requests == 1
    await store.close()


@in_reactor
async def test_records_of_two_nodes_at_once(new_store: NewStore) -> None:
    """Both need the same days."""
    stores = [new_store(), new_store()]
    for number in range(3):
        writes = [
            store.write_batch(
                batch(
                    COUNTERS,
                    number,
                    node,
                    tuple(RECORD._replace(start=DAY + day * 86400.0) for day in range(number + 3)),
                )
            )
            for store, node in zip(stores, "ab", strict=True)
        ]
        for write in writes:
            await write
    assert len(await stores[0].records(RecordQuery())) == 2 * (3 + 4 + 5)
    for store in stores:
        await store.close()


RECORDS = (
    RECORD._replace(id="1", start=DAY + 0.5),
    RECORD._replace(id="2", start=DAY + 86400.0, user="bob", model="huge"),
    RECORD._replace(id="3", start=DAY - 0.001, service="other"),
    RECORD._replace(id="4", start=DAY + 86400.0, path="/b"),
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # The newest first; among those of one instant, the higher id.
        (RecordQuery(), "4213"),
        (RecordQuery(limit=2), "42"),
        (RecordQuery(limit=None), "4213"),
        (RecordQuery(service="other"), "3"),
        (RecordQuery(user="alice"), "413"),
        (RecordQuery(path="/b"), "4"),
        (RecordQuery(model="huge"), "2"),
        # since is included, until is not.
        (RecordQuery(since=DAY + 0.5), "421"),
        (RecordQuery(until=DAY + 0.5), "3"),
        (RecordQuery(user="alice", since=DAY, until=DAY + 86400), "1"),
        (RecordQuery(user="nobody"), ""),
    ],
)
@in_reactor
async def test_record_queries(new_store: NewStore, query: RecordQuery, expected: str) -> None:
    store = new_store()
    await store.write_batch(batch(COUNTERS, records=RECORDS))
    assert "".join(record.id for record in await store.records(query)) == expected
    await store.close()


@in_reactor
async def test_records_are_streamed(new_store: NewStore) -> None:
    store = new_store()
    records = tuple(RECORD._replace(start=HOUR + number / 8) for number in range(2500))
    await store.write_batch(batch(COUNTERS, records=records))
    pages: list[Sequence[UsageRecord]] = []
    await store.stream_records(RecordQuery(limit=None), pages.append)
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert [record for page in pages for record in page] == list(records[::-1])
    await store.close()


@in_reactor
async def test_records_that_no_store_takes_are_made_to_fit(new_store: NewStore) -> None:
    store = new_store()
    strange = [
        RECORD._replace(id="1" * 5000, user="nul\0", key_id="\udc80", method="M" * 70000),
        RECORD._replace(id="2", path='/"\\{},' + "x" * 70000, reason="é" * 100, model="m" * 5000),
        RECORD._replace(id="3", start=float("nan"), duration=float("inf")),
        RECORD._replace(id="4", start=-1.0, duration=-1.0, units=-1),
        RECORD._replace(id="5", start=1e18, units=2**70, bytes_in=2**63, status=2**40),
        RECORD._replace(id="6", did="\udc80" * 500, owner="x" * 500, spent=()),
        RECORD._replace(
            id="7", spent=(Spent("nul\0", "\"\\{}'", "é☃" * 999, 2**70), Spent("a", "b", "c", -1))
        ),
    ]
    for number, record in enumerate(strange):
        await store.write_batch(batch(COUNTERS, number, records=(RECORD, record)))
    records = await store.records(RecordQuery())
    assert len(records) == 2 * len(strange)
    found = {record.id[0]: record for record in records}
    assert found["1"].user == "nul\ufffd"
    assert found["2"].path.startswith('/"\\{},xxx')
    assert (found["3"].start, found["3"].duration) == (0.0, 1e12)
    assert found["4"][1:3] == (0.0, 0.0)
    assert found["4"].units == 0
    assert (found["5"].units, found["5"].bytes_in) == (2**63 - 1, 2**63 - 1)
    assert (found["6"].owner[:5], found["6"].spent) == ("xxxxx", ())
    strange_one, other = found["7"].spent
    assert (strange_one[:2], strange_one.amount) == (("nul\ufffd", "\"\\{}'"), 2**63 - 1)
    assert strange_one.holder.startswith("é☃é☃")
    assert other == Spent("a", "b", "c", 0)
    await store.close()
