from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.store.days import HOUR, Shift, shifts

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Casablanca",  # back for Ramadan
    "Pacific/Apia",  # left out a day
    "Pacific/Kiritimati",
]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_zone_that_never_changes(zone: tzinfo) -> None:
    ahead = int(datetime.now(zone).utcoffset().total_seconds())  # type: ignore[union-attr]
    assert shifts(zone, 0, 100 * HOUR) == [Shift(101 * HOUR, ahead)]


def test_a_year_in_berlin() -> None:
    first, last = at("2024-01-01T00:00Z"), at("2024-12-31T23:00Z")
    assert shifts(ZoneInfo("Europe/Berlin"), first, last) == [
        Shift(at("2024-03-31T01:00Z"), 3600),
        Shift(at("2024-10-27T01:00Z"), 7200),
        Shift(last + HOUR, 3600),
    ]


@pytest.mark.parametrize("hours", [0, 1, 2, 23, 24, 25])
def test_span_that_begins_before_a_change(hours: int) -> None:
    change = at("2024-03-31T01:00Z")
    last = change + hours * HOUR
    assert shifts(ZoneInfo("Europe/Berlin"), change - HOUR, last) == [
        Shift(change, 3600),
        Shift(last + HOUR, 7200),
    ]


@given(
    st.sampled_from(ZONES),
    st.integers(at("1975-01-01T00:00Z") // HOUR, at("2037-01-01T00:00Z") // HOUR),
    st.integers(0, 2 * 366 * 24),
    st.data(),
)
def test_every_hour_has_the_shift_of_its_zone(
    name: str, first: int, length: int, data: st.DataObject
) -> None:
    zone = ZoneInfo(name)
    found = shifts(zone, first * HOUR, (first + length) * HOUR)
    assert [shift.until for shift in found] == sorted({shift.until for shift in found})
    assert found[-1].until == (first + length + 1) * HOUR
    hour = data.draw(st.integers(first, first + length)) * HOUR
    seconds = next(shift.seconds for shift in found if hour < shift.until)
    expected = datetime.fromtimestamp(hour, zone).utcoffset()
    assert timedelta(seconds=seconds) == expected
