from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.counters import HOUR, MAX_PATH_LENGTH, Counters
from gatekeeper.usage.records import OTHER_PATHS, Counted, UsageRecord

EVERYTHING = 1_000_000


def paths_of(counters: Counters) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, _, path, _), counted in counters.take(EVERYTHING).items():
        totals[path] += counted.requests
    return dict(totals)


def test_records_of_one_key_add_up(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record)
    counters.add_all([record, record._replace(bytes_in=7, bytes_out=0, units=0, duration=2.0)])
    taken = counters.take(EVERYTHING)
    assert taken == {("acme", "alice", "/a", 3600): Counted(3, 9, 40, 6, 3.0)}
    assert [type(value) for value in next(iter(taken.values()))] == [int, int, int, int, float]


@pytest.mark.parametrize(
    "other", [{"service": "b"}, {"user": "bob"}, {"path": "/b"}, {"start": 4000.0 + HOUR}]
)
def test_keys_are_kept_apart(record: UsageRecord, other: dict[str, object]) -> None:
    counters = Counters()
    counters.add(record)
    counters.add(record._replace(**other))  # type: ignore[arg-type]
    assert [counted.requests for counted in counters.take(EVERYTHING).values()] == [1, 1]


def test_what_was_taken_is_gone(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record)
    counters.take(EVERYTHING)
    assert len(counters) == 0
    assert counters.take(EVERYTHING) == {}
    counters.add(record)
    assert [counted.requests for counted in counters.take(EVERYTHING).values()] == [1]


def test_take_takes_no_more_than_the_limit(record: UsageRecord) -> None:
    counters = Counters()
    counters.add_all(record._replace(path=f"/{number}") for number in range(10))
    first, second = counters.take(7), counters.take(7)
    assert (len(first), len(second), len(counters)) == (7, 3, 0)
    assert len({*first, *second}) == 10


@pytest.mark.parametrize(
    ("start", "duration", "hour"),
    [
        (7199.5, 0.25, 3600),
        (7199.5, 0.5, 7200),
        (7200.0, 0.0, 7200),
        # A tunnel counts where it ends.
        (100.0, 3 * HOUR, 3 * HOUR),
    ],
)
def test_hour_is_that_of_the_end(
    record: UsageRecord, start: float, duration: float, hour: int
) -> None:
    counters = Counters()
    counters.add(record._replace(start=start, duration=duration))
    assert [key[3] for key in counters.take(1)] == [hour]


def test_records_a_little_late_count_in_the_hour_that_has_begun(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record._replace(start=7200.0))
    counters.add(record._replace(start=7198.0))
    assert [key[3] for key in counters.take(2)] == [7200]


def test_clock_that_is_set_back(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record._replace(start=1e9))
    counters.add(record)
    assert {key[3] for key in counters.take(2)} == {int(1e9) // HOUR * HOUR, 3600}


def test_further_paths_of_a_user_count_as_other(record: UsageRecord) -> None:
    counters = Counters(max_paths=2)
    for path in ("/a", "/b", "/c", "/d", "/a", "/b"):
        counters.add(record._replace(path=path))
    assert paths_of(counters) == {"/a": 2, "/b": 2, OTHER_PATHS: 2}


def test_bound_on_paths_holds_over_flushes(record: UsageRecord) -> None:
    counters = Counters(max_paths=2)
    rows: set[object] = set()
    for flush in range(20):
        counters.add_all(record._replace(path=f"/{flush}/{number}") for number in range(3))
        counters.add(record._replace(path="/0/0"))
        taken = counters.take(EVERYTHING)
        assert ("acme", "alice", "/0/0", 3600) in taken, "a path that has a row keeps it"
        rows.update(taken)
    assert len(rows) == 3


def test_every_service_user_and_hour_has_paths_of_its_own(record: UsageRecord) -> None:
    counters = Counters(max_paths=1)
    for other in ({}, {"user": "bob"}, {"service": "b"}, {"start": 8000.0}):
        counters.add(record._replace(**other))
    assert paths_of(counters) == {"/a": 4}


def test_many_users_do_not_multiply_the_bound(record: UsageRecord) -> None:
    counters = Counters(max_paths=100, max_keys=50)
    for number in range(1000):
        counters.add(record._replace(user=f"u{number % 10}", path=f"/{number}"))
    rows = counters.take(EVERYTHING)
    assert len(rows) == 50 + 10  # and the row of the other paths for each user
    assert sum(counted.requests for counted in rows.values()) == 1000
    assert sum(map(len, counters._paths.values())) == 50


def test_long_paths_are_not_kept(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record._replace(path="/" + "a" * (MAX_PATH_LENGTH - 1)))
    counters.add(record._replace(path="/" + "a" * MAX_PATH_LENGTH))
    assert sorted(len(path) for path in paths_of(counters)) == [1, MAX_PATH_LENGTH]


def test_paths_are_forgotten_with_the_hour(record: UsageRecord) -> None:
    counters = Counters(max_keys=10)
    for hour in range(100):
        counters.add_all(
            record._replace(start=4000.0 + hour * HOUR, path=f"/{number}") for number in range(10)
        )
    assert sum(map(len, counters._paths.values())) == counters._tracked == 10


def test_full(record: UsageRecord) -> None:
    counters = Counters(max_keys=2)
    counters.add(record)
    assert not counters.full
    counters.add(record._replace(user="bob"))
    assert counters.full
    counters.take(1)
    assert not counters.full


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from("xyz"),
            st.text(max_size=2),
            st.integers(0, 3 * HOUR),
            st.booleans(),
        )
    ),
    st.integers(1, 5),
    st.integers(1, 20),
)
def test_no_request_is_lost_or_counted_for_another(
    steps: list[tuple[str, str, str, int, bool]], max_paths: int, max_keys: int
) -> None:
    counters = Counters(max_paths, max_keys)
    expected: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()

    def take(limit: int) -> None:
        for (service, user, _, _), counted in counters.take(limit).items():
            found[service, user] += counted.requests

    for service, user, path, start, flush in steps:
        counters.add(
            UsageRecord("", start, 0.0, service, user, "", "", path, 200, 200, 0, 0, 1, "ok")
        )
        expected[service, user] += 1
        if flush:
            take(3)
    take(EVERYTHING)
    assert found == expected
