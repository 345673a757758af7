from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.store.fitting import LARGEST, LATEST, LATEST_HOUR, LONGEST, fit
from gatekeeper.usage.records import Batch, Counted, CounterKey
from tests.store.support import HOUR, ONE, RECORD, batch

anything = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=5).flatmap(
    lambda text: st.sampled_from([1, 2, 800]).map(lambda times: text * times)
)


def test_what_fits_stays_as_it_is() -> None:
    given = batch({("acme", "alice", "/a", "tiny", HOUR): ONE}, records=(RECORD, RECORD))
    fitted = fit(given)
    assert fitted.key == ("a", 0, 1)
    assert list(zip(*fitted.counters, strict=True)) == [
        (*key, *counted) for key, counted in given.counters.items()
    ]
    assert (
        list(zip(*fitted.records, strict=True))
        == [(*RECORD[:-1], '[["prepaid", "main", "alice", 3]]')] * 2
    )


def test_nothing() -> None:
    fitted = fit(Batch("a", 0, 1, {}))
    assert fitted.counters == [()] * 15
    assert fitted.records == [()] * 18


@given(st.lists(st.tuples(anything, anything, anything, anything), min_size=1, unique=True))
def test_texts(keys: list[tuple[str, str, str, str]]) -> None:
    counters: dict[CounterKey, Counted] = {(*key, HOUR): ONE for key in keys}
    columns = fit(batch(counters)).counters
    rows = list(zip(*columns[:4], strict=True))
    assert len(set(rows)) == len(rows), "no two have the same key"
    assert sum(columns[5]) == len(keys), "and none is lost"
    for column, longest in zip(columns, ("service", "user", "path", "model"), strict=False):
        for text in column:
            assert len(text.encode("utf-8")) <= LONGEST[longest]
            assert "\0" not in text


@given(
    st.lists(
        st.tuples(st.integers(), st.integers(), st.floats(), st.integers(), st.floats()),
        min_size=1,
    )
)
def test_numbers(rows: list[tuple[int, int, float, int, float]]) -> None:
    counters: dict[CounterKey, Counted] = {
        ("acme", str(number), "/", "", hour): Counted(requests, 0, 0, 0, duration)
        for number, (requests, _, duration, hour, _) in enumerate(rows)
    }
    records = tuple(RECORD._replace(status=status, start=start) for _, status, _, _, start in rows)
    fitted = fit(batch(counters, records=records))
    assert all(0 <= hour <= LATEST_HOUR for hour in fitted.counters[4])
    assert all(0 <= requests <= LARGEST for requests in fitted.counters[5])
    assert all(0.0 <= duration <= 1e12 for duration in fitted.counters[9])
    assert all(0.0 <= start <= LATEST for start in fitted.records[1])
    assert all(0 <= status < 2**31 for status in fitted.records[8])


def test_long_texts_that_begin_alike_stay_apart() -> None:
    long = "/" + "x" * 5000
    counters: dict[CounterKey, Counted] = {
        ("acme", "alice", long + end, "", HOUR): ONE for end in "ab"
    }
    one, two = fit(batch(counters)).counters[2]
    assert one != two
    assert one[:1000] == two[:1000] == long[:1000]
