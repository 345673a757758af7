"""What every store answers when it is asked for usage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from gatekeeper.store.interface import IStore, Retention, UsageQuery, UsageRow
from gatekeeper.usage.records import Counted, CounterKey
from tests.store.support import DAY, HOUR, NewStore, batch, in_reactor

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
KOLKATA = ZoneInfo("Asia/Kolkata")


def counted(requests: int) -> Counted:
    return Counted(requests, 0, 0, 0, 0.0)


COUNTERS: dict[CounterKey, Counted] = {
    ("acme", "alice", "/a", "", DAY): counted(1),
    ("acme", "alice", "/b", "tiny", DAY + 3600): counted(2),
    ("acme", "Bob", "/a", "tiny", DAY + 23 * 3600): counted(4),
    ("other", "alice", "/a", "huge", DAY + 24 * 3600): counted(8),
}


def summary(rows: Sequence[UsageRow]) -> list[tuple[object, ...]]:
    return [(*row[:5], row.requests) for row in rows]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (UsageQuery(by=()), [("", "", "", "", None, 15)]),
        (
            UsageQuery(by=("service",)),
            [("acme", "", "", "", None, 7), ("other", "", "", "", None, 8)],
        ),
        # Bytewise order, in every store.
        (UsageQuery(by=("user",)), [("", "Bob", "", "", None, 4), ("", "alice", "", "", None, 11)]),
        (UsageQuery(by=("path",)), [("", "", "/a", "", None, 13), ("", "", "/b", "", None, 2)]),
        (
            UsageQuery(by=("model",)),
            [
                ("", "", "", "", None, 1),
                ("", "", "", "huge", None, 8),
                ("", "", "", "tiny", None, 6),
            ],
        ),
        (UsageQuery(by=("day",)), [("", "", "", "", DAY, 7), ("", "", "", "", DAY + 86400, 8)]),
        (
            UsageQuery(user="alice", by=("hour",)),
            [
                ("", "", "", "", DAY, 1),
                ("", "", "", "", DAY + 3600, 2),
                ("", "", "", "", DAY + 86400, 8),
            ],
        ),
        (
            UsageQuery(by=("user", "day")),
            [
                ("", "Bob", "", "", DAY, 4),
                ("", "alice", "", "", DAY, 3),
                ("", "alice", "", "", DAY + 86400, 8),
            ],
        ),
        (
            UsageQuery(by=("model", "user")),
            [
                ("", "alice", "", "", None, 1),
                ("", "alice", "", "huge", None, 8),
                ("", "Bob", "", "tiny", None, 4),
                ("", "alice", "", "tiny", None, 2),
            ],
        ),
        (UsageQuery(service="acme", by=()), [("", "", "", "", None, 7)]),
        (UsageQuery(service="nobody", by=()), []),
        (UsageQuery(path="/a", by=()), [("", "", "", "", None, 13)]),
        (UsageQuery(model="tiny", by=()), [("", "", "", "", None, 6)]),
        (UsageQuery(model="", by=()), [("", "", "", "", None, 1)]),
        # since is included, until is not.
        (UsageQuery(since=DAY + 3600, by=()), [("", "", "", "", None, 14)]),
        (UsageQuery(until=DAY + 3600, by=()), [("", "", "", "", None, 1)]),
        (UsageQuery(since=DAY + 3600, until=DAY + 86400, by=()), [("", "", "", "", None, 6)]),
        (UsageQuery(user="alice", since=DAY + 86400), [("other", "alice", "/a", "", None, 8)]),
        (UsageQuery(by=("day",), limit=1), [("", "", "", "", DAY, 7)]),
        (UsageQuery(by=(), limit=9), [("", "", "", "", None, 15)]),
    ],
)
@in_reactor
async def test_usage_queries(
    new_store: NewStore, query: UsageQuery, expected: list[tuple[object, ...]]
) -> None:
    store = new_store()
    await store.write_batch(batch(COUNTERS))
    assert summary(await store.usage(query)) == expected
    await store.close()


@in_reactor
async def test_every_sum_is_read_back(new_store: NewStore) -> None:
    store = new_store()
    key = ("acme", "alice", "/", "tiny", HOUR)
    await store.write_batch(batch({key: Counted(15, 2, 3, 4, 0.5, 1, 2, 3, 4, 5)}, 1))
    await store.write_batch(batch({key: Counted(5, 1, 1, 1, 0.5, 1, 1, 1, 1, 1)}, 2))
    by = ("service", "user", "path", "model", "hour")
    (row,) = await store.usage(UsageQuery(by=by))
    assert row == UsageRow(*key, 20, 3, 4, 5, 1.0, 2, 3, 4, 5, 6)
    (row,) = await store.usage(UsageQuery(by=("model",)))
    assert row == UsageRow("", "", "", "tiny", None, 20, 3, 4, 5, 1.0, 2, 3, 4, 5, 6)
    assert [type(value) for value in row[5:]] == [*[int] * 4, float, *[int] * 5]
    await store.close()


@in_reactor
async def test_usage_cannot_be_grouped_by_anything_else(new_store: NewStore) -> None:
    store = new_store()
    with pytest.raises(ValueError, match="grouped by hour; DROP TABLE usage"):
        await store.usage(UsageQuery(by=("hour; DROP TABLE usage",)))
    with pytest.raises(ValueError, match="grouped by status"):
        await store.stream_usage(UsageQuery(by=("status",)), lambda rows: None)
    await store.close()


# --- much of it -------------------------------------------------------------------------------


@in_reactor
async def test_stream(new_store: NewStore) -> None:
    store = new_store()
    counters: dict[CounterKey, Counted] = {
        ("acme", "alice", f"/{number:04}", "", HOUR): counted(number) for number in range(2500)
    }
    await store.write_batch(batch(counters))
    pages: list[Sequence[UsageRow]] = []
    await store.stream_usage(UsageQuery(), pages.append)
    assert [len(page) for page in pages] == [1000, 1000, 500]
    rows = [row for page in pages for row in page]
    assert rows == await store.usage(UsageQuery())
    assert [row.requests for row in rows] == list(range(2500))
    pages.clear()
    await store.stream_usage(UsageQuery(limit=1200), pages.append)
    assert [len(page) for page in pages] == [1000, 200]
    pages.clear()
    await store.stream_usage(UsageQuery(user="nobody"), pages.append)
    assert pages == []
    await store.close()


@in_reactor
async def test_stream_that_nobody_wants_any_more(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(COUNTERS))

    def take(rows: Sequence[UsageRow]) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await store.stream_usage(UsageQuery(), take)
    assert len(await store.usage(UsageQuery())) == 4, "the store is as good as before"
    await store.write_batch(batch(COUNTERS, 2))
    await store.close()


@in_reactor
async def test_a_stream_does_not_hold_up_a_flush(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(COUNTERS))
    writes = []
    await store.stream_usage(
        UsageQuery(), lambda rows: writes.append(store.write_batch(batch(COUNTERS, 2)))
    )
    for write in writes:
        await write
    (row,) = await store.usage(UsageQuery(by=()))
    assert row.requests == 30
    await store.close()


# --- days of other places ---------------------------------------------------------------------


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


async def by_day(store: IStore, zone: tzinfo | None, **narrowed: int | None) -> dict[str, int]:
    """Requests by day."""
    rows = await store.usage(UsageQuery(by=("day",), zone=zone, **narrowed))  # type: ignore[arg-type]
    assert all(row.hour is not None and row.hour % 86400 == 0 for row in rows)
    found = {datetime.fromtimestamp(row.hour or 0, UTC).strftime("%m-%d"): row for row in rows}
    assert len(found) == len(rows), "a day comes once"
    return {day: row.requests for day, row in found.items()}


def hourly(begin: str, end: str) -> dict[CounterKey, Counted]:
    """One request in every hour."""
    hours = range(at(begin), at(end), 3600)
    return {("acme", "alice", "/", "", hour): counted(1) for hour in hours}


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        # 2024-03-31 had 23 hours in Berlin, 2024-10-27 25.
        (None, {"03-30": 24, "03-31": 24, "04-01": 24, "10-26": 24, "10-27": 24, "10-28": 24}),
        (
            BERLIN,
            {
                "03-30": 23,
                "03-31": 23,
                "04-01": 24,
                "04-02": 2,
                "10-26": 22,
                "10-27": 25,
                "10-28": 24,
                "10-29": 1,
            },
        ),
        # Not yet, or no more, summer time in Europe only.
        (
            NEW_YORK,
            {
                "03-29": 4,
                "03-30": 24,
                "03-31": 24,
                "04-01": 20,
                "10-25": 4,
                "10-26": 24,
                "10-27": 24,
                "10-28": 20,
            },
        ),
        # Midnight is at 18:30 UTC: the hour from 18:00 begins on the day before.
        (
            KOLKATA,
            {
                "03-30": 19,
                "03-31": 24,
                "04-01": 24,
                "04-02": 5,
                "10-26": 19,
                "10-27": 24,
                "10-28": 24,
                "10-29": 5,
            },
        ),
    ],
)
@in_reactor
async def test_days_of_a_zone(
    new_store: NewStore, zone: tzinfo | None, expected: dict[str, int]
) -> None:
    store = new_store()
    spring = hourly("2024-03-30T00:00Z", "2024-04-02T00:00Z")
    autumn = hourly("2024-10-26T00:00Z", "2024-10-29T00:00Z")
    await store.write_batch(batch({**spring, **autumn}))
    assert await by_day(store, zone) == expected
    assert sum(expected.values()) == 144
    await store.close()


@in_reactor
async def test_a_day_of_a_zone_from_midnight_to_midnight(new_store: NewStore) -> None:
    store = new_store()
    await store.write_batch(batch(hourly("2024-10-26T00:00Z", "2024-10-29T00:00Z")))
    since, until = at("2024-10-27T00:00+02:00"), at("2024-10-28T00:00+01:00")
    assert await by_day(store, BERLIN, since=since, until=until) == {"10-27": 25}
    await store.close()


@in_reactor
async def test_days_of_a_zone_where_there_is_nothing(new_store: NewStore) -> None:
    store = new_store()
    assert await by_day(store, BERLIN) == {}
    await store.close()


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, KOLKATA])
@in_reactor
async def test_what_was_rolled_up_is_the_same_day_everywhere(
    new_store: NewStore, zone: tzinfo
) -> None:
    store = new_store()
    await store.write_batch(batch(hourly("2024-05-01T00:00Z", "2024-05-05T00:00Z")))
    hours_of_the_last_two = await by_day(store, zone, since=at("2024-05-03T00:00Z"))
    keep = Retention(records=None, hours=0.0, days=None)
    await store.maintain(at("2024-05-03T12:00Z"), keep)
    expected = {"05-01": 24, "05-02": 24}
    for day, requests in hours_of_the_last_two.items():
        expected[day] = expected.get(day, 0) + requests
    assert await by_day(store, zone) == expected
    # The days lie between their midnights there, as a whole.
    midnights = (datetime(2024, 5, day, tzinfo=zone).timestamp() for day in (1, 2))
    since, until = (int(midnight) // 3600 * 3600 for midnight in midnights)
    assert await by_day(store, zone, since=since, until=until) == {"05-01": 24}
    await store.close()
