"""Hours, days and months: of the calendar, without gaps, whatever the time zone of the machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.credits.periods import Length, period_of

LENGTHS: tuple[Length, ...] = ("hour", "day", "month")
DAY = 86400


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("length", "time", "name", "seconds"),
    [
        ("hour", "2024-05-01T14:59:59.999999", "2024-05-01T14", 3600),
        ("hour", "2024-05-01T15:00:00", "2024-05-01T15", 3600),
        ("hour", "2024-12-31T23:30:00", "2024-12-31T23", 3600),
        ("hour", "2024-03-31T01:30:00", "2024-03-31T01", 3600),  # summer time begins, in Europe
        ("hour", "2024-10-27T01:30:00", "2024-10-27T01", 3600),  # and ends
        ("day", "2024-05-01T00:00:00", "2024-05-01", DAY),
        ("day", "2024-03-31T12:00:00", "2024-03-31", DAY),
        ("day", "2024-10-27T23:59:59.999999", "2024-10-27", DAY),
        ("day", "2024-02-29T12:00:00", "2024-02-29", DAY),
        ("day", "2016-12-31T23:59:59.5", "2016-12-31", DAY),  # and a leap second
        ("month", "2024-02-29T23:59:59.999999", "2024-02", 29 * DAY),
        ("month", "2023-02-28T23:59:59", "2023-02", 28 * DAY),
        ("month", "2000-02-01T00:00:00", "2000-02", 29 * DAY),
        ("month", "2100-02-28T00:00:00", "2100-02", 28 * DAY),
        ("month", "2024-01-31T00:00:00", "2024-01", 31 * DAY),
        ("month", "2024-04-30T23:00:00", "2024-04", 30 * DAY),
        ("month", "2024-12-31T23:59:59", "2024-12", 31 * DAY),
        ("month", "1970-01-01T00:00:00", "1970-01", 31 * DAY),
    ],
)
def test_periods(length: Length, time: str, name: str, seconds: int) -> None:
    period = period_of(length, at(time))
    assert (period.name, period.end - period.start) == (name, seconds)
    assert period.start == at(name if length != "month" else f"{name}-01")


@given(length=st.sampled_from(LENGTHS), time=st.floats(0, 4e9))
def test_every_time_is_in_one(length: Length, time: float) -> None:
    period = period_of(length, time)
    assert period.start <= time < period.end
    assert period == period_of(length, period.start) == period_of(length, period.end - 1e-3)
    following = period_of(length, period.end)
    assert following.start == period.end
    assert following.name > period.name


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"])
def test_the_time_zone_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [period_of(length, 1_711_846_800.5) for length in LENGTHS]
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert [period_of(length, 1_711_846_800.5) for length in LENGTHS] == expected
        assert expected[1].name == "2024-03-31"
    finally:
        monkeypatch.undo()
        time.tzset()
