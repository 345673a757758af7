from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage import counters as module
from gatekeeper.usage.counters import HOUR, MAX_MODEL_LENGTH, MAX_MODELS, MAX_PATH_LENGTH, Counters
from gatekeeper.usage.records import OTHER_MODELS, OTHER_PATHS, Counted, UsageRecord


def paths_of(counters: Counters) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, _, path, _, _), counted in counters.take().items():
        totals[path] += counted.requests
    return dict(totals)


def models_of(counters: Counters) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, _, _, model, _), counted in counters.take().items():
        totals[model] += counted.requests
    return dict(totals)


def test_records_of_one_key_add_up(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record)
    counters.add_all([record, record._replace(bytes_in=7, bytes_out=0, units=0, duration=2.0)])
    taken = counters.take()
    assert taken == {("acme", "alice", "/a", "", 3600): Counted(3, 9, 40, 6, 3.0, 0, 3, 0, 0, 0)}
    types = [type(value) for value in next(iter(taken.values()))]
    assert types == [int, int, int, int, float, int, int, int, int, int]


@pytest.mark.parametrize(
    "other",
    [{"service": "b"}, {"user": "bob"}, {"path": "/b"}, {"model": "m"}, {"start": 4000.0 + HOUR}],
)
def test_keys_are_kept_apart(record: UsageRecord, other: dict[str, object]) -> None:
    counters = Counters()
    counters.add(record)
    counters.add(record._replace(**other))  # type: ignore[arg-type]
    assert [counted.requests for counted in counters.take().values()] == [1, 1]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([101, 199], (2, 0, 0, 0, 0)),
        ([200, 206, 304, 404, 499, 500, 599], (0, 2, 1, 2, 2)),
        # Cut before there was one, and what no status is.
        ([0, 99, 600, 999, -1], (0, 0, 0, 0, 0)),
    ],
)
def test_status_classes(
    record: UsageRecord, statuses: list[int], expected: tuple[int, ...]
) -> None:
    counters = Counters()
    counters.add_all([record._replace(status=status) for status in statuses])
    (counted,) = counters.take().values()
    assert counted[5:] == expected
    assert counted.requests == len(statuses)
    assert counted.duration == 0.5 * len(statuses), "no status is taken for something else"


def test_what_was_taken_is_gone(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record)
    assert len(counters.take()) == 1
    assert counters.take() == {}
    counters.add(record)
    assert [counted.requests for counted in counters.take().values()] == [1]


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
    assert [key[4] for key in counters.take()] == [hour]


def test_records_a_little_late_count_in_the_hour_that_has_begun(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record._replace(start=7200.0))
    counters.add(record._replace(start=7198.0))
    assert [key[4] for key in counters.take()] == [7200]


def test_clock_that_is_set_back(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record._replace(start=1e9))
    counters.add(record)
    assert {key[4] for key in counters.take()} == {int(1e9) // HOUR * HOUR, 3600}


# --- bounds -----------------------------------------------------------------------------------


def test_further_paths_of_a_user_count_as_other(record: UsageRecord) -> None:
    counters = Counters(max_paths=2)
    for path in ("/a", "/b", "/c", "/d", "/a", "/b"):
        counters.add(record._replace(path=path))
    assert paths_of(counters) == {"/a": 2, "/b": 2, OTHER_PATHS: 2}


def test_bound_on_paths_holds_over_batches(record: UsageRecord) -> None:
    counters = Counters(max_paths=2)
    rows: set[object] = set()
    for batch in range(20):
        counters.add_all([record._replace(path=f"/{batch}/{number}") for number in range(3)])
        counters.add(record._replace(path="/0/0"))
        taken = counters.take()
        assert ("acme", "alice", "/0/0", "", 3600) in taken, "a path that has a row keeps it"
        rows.update(taken)
    assert len(rows) == 3


def test_every_service_user_and_hour_has_paths_of_its_own(record: UsageRecord) -> None:
    counters = Counters(max_paths=1)
    for other in ({}, {"user": "bob"}, {"service": "b"}, {"start": 8000.0}):
        counters.add(record._replace(**other))
    assert paths_of(counters) == {"/a": 4}


def test_paths_and_models_do_not_multiply(record: UsageRecord) -> None:
    counters = Counters(max_paths=10)
    for number in range(50):
        counters.add_all(
            [record._replace(path=f"/{number}", model=f"m{model}") for model in range(5)]
        )
    rows = counters.take()
    assert len(rows) == 10 + 5  # and a row of the other paths for each model
    assert sum(counted.requests for counted in rows.values()) == 250
    assert {key[3] for key in rows} == {f"m{model}" for model in range(5)}


def test_further_models_of_a_user_count_as_other(record: UsageRecord) -> None:
    counters = Counters()
    models = [f"m{number}" for number in range(MAX_MODELS + 50)]
    rows: set[object] = set()
    for _ in range(2):
        counters.add_all([record._replace(model=model) for model in ["", *models]])
        taken = counters.take()
        rows.update(taken)
        found = {key[3]: counted.requests for key, counted in taken.items()}
        assert found == {"": 1, **dict.fromkeys(models[:MAX_MODELS], 1), OTHER_MODELS: 50}
    assert len(rows) == MAX_MODELS + 2


def test_every_service_user_and_hour_has_models_of_its_own(
    record: UsageRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 1)
    counters = Counters()
    for other in ({}, {"user": "bob"}, {"service": "b"}, {"start": 8000.0}):
        counters.add(record._replace(model="m", **other))
    assert models_of(counters) == {"m": 4}


@pytest.mark.parametrize(
    ("model", "counts_as"),
    [
        ("m" * MAX_MODEL_LENGTH, "m" * MAX_MODEL_LENGTH),
        ("m" * (MAX_MODEL_LENGTH + 1), OTHER_MODELS),
        # Bytes, not characters.
        ("ü" * (MAX_MODEL_LENGTH // 2), "ü" * (MAX_MODEL_LENGTH // 2)),
        ("ü" * (MAX_MODEL_LENGTH // 2 + 1), OTHER_MODELS),
        ("\ud800", "\ud800"),
    ],
)
def test_long_names_of_models_are_not_kept(record: UsageRecord, model: str, counts_as: str) -> None:
    counters = Counters()
    counters.add(record._replace(model=model))
    assert models_of(counters) == {counts_as: 1}


def test_many_users_do_not_multiply_the_bound(record: UsageRecord) -> None:
    counters = Counters(max_paths=100, max_rows=50)
    for number in range(1000):
        counters.add(record._replace(user=f"u{number % 10}", path=f"/{number}"))
    rows = counters.take()
    # What is remembered are users, too. Each has a row of the other paths.
    assert len(rows) == 50 - 10 + 10
    assert sum(counted.requests for counted in rows.values()) == 1000
    assert sum(len(known.rows) for known in counters._known.values()) == 40


def test_more_users_than_can_be_remembered(record: UsageRecord) -> None:
    counters = Counters(max_rows=4)
    for number in range(100):
        counters.add(record._replace(user=f"u{number}", model="m"))
    assert len(counters._known) <= 4
    rows = counters.take()
    assert sum(counted.requests for counted in rows.values()) == 100
    assert {key[2:4] for key in rows} >= {("/a", "m"), (OTHER_PATHS, OTHER_MODELS)}


def test_long_paths_are_not_kept(record: UsageRecord) -> None:
    counters = Counters()
    counters.add(record._replace(path="/" + "a" * (MAX_PATH_LENGTH - 1)))
    counters.add(record._replace(path="/" + "a" * MAX_PATH_LENGTH))
    assert sorted(len(path) for path in paths_of(counters)) == [1, MAX_PATH_LENGTH]


def test_what_is_known_is_forgotten_with_the_hour(record: UsageRecord) -> None:
    counters = Counters(max_rows=30)
    for hour in range(100):
        counters.add_all(
            [
                record._replace(start=4000.0 + hour * HOUR, path=f"/{number}", model=f"m{number}")
                for number in range(10)
            ]
        )
        taken = counters.take()
        assert len(taken) == 10
        assert all(key[2] != OTHER_PATHS for key in taken)
    assert len(counters._known) == 1
    assert counters._remembered == 1 + 10 + 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from("xyz"),
            st.text(max_size=2),
            st.sampled_from(["", "m", "n", "o"]),
            st.integers(0, 3 * HOUR),
            st.booleans(),
        )
    ),
    st.integers(1, 5),
    st.integers(1, 20),
)
def test_no_request_is_lost_or_counted_for_another(
    steps: list[tuple[str, str, str, str, int, bool]], max_paths: int, max_rows: int
) -> None:
    counters = Counters(max_paths, max_rows)
    expected: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()

    def take() -> None:
        for (service, user, _, _, _), counted in counters.take().items():
            assert sum(counted[5:]) == counted.requests
            found[service, user] += counted.requests

    for service, user, path, model, start, flush in steps:
        counters.add(
            UsageRecord("", start, 0.0, service, user, "", "", path, 200, 200, 0, 0, 1, "ok", model)
        )
        expected[service, user] += 1
        assert counters._remembered <= max_rows
        if flush:
            take()
    take()
    assert found == expected
