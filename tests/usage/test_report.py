from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from gatekeeper.store.interface import UsageQuery, UsageRow
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.report import full_hour, parse_time, parse_zone, records_view, usage_view

NOW = 1714567890.5  # 2024-05-01T12:51:30.5Z
NOON = 1714564800
BERLIN = ZoneInfo("Europe/Berlin")

ROW = UsageRow("acme", "alice", "/a", "tiny", NOON, 1200, 0, 5, 6, 0.1234567, 0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01", NOON - 12 * 3600),
        ("2024-05-01T12:00", NOON),
        ("2024-05-01 12:59:59.5", NOON + 3599.5),
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T14:00+02:00", NOON),
        ("2024-05-01T17:45+05:45", NOON),
        ("0h", NOW),
        ("24h", NOW - 86400),
        ("51m", NOW - 51 * 60),
        ("7d", NOW - 7 * 86400),
        ("2w", NOW - 14 * 86400),
    ],
)
def test_times(text: str, expected: float) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T14:00", NOON),
        ("2024-05-01T12:00Z", NOON),  # an offset of its own
        ("2024-05-01", NOON - 14 * 3600),
        ("2024-01-01", 1704063600),  # winter: one hour ahead
        ("24h", NOW - 86400),
    ],
)
def test_times_of_a_zone(text: str, expected: float) -> None:
    assert parse_time(text, NOW, BERLIN) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "24", "24x", "-1h", "9999999999d", "2024-13-01", "٣h", "1h\n"]
)
def test_wrong_times(text: str) -> None:
    with pytest.raises(ValueError, match="neither a date or time"):
        parse_time(text, NOW)


def test_full_hour() -> None:
    assert full_hour(NOW) == full_hour(NOON + 3599.9) == full_hour(NOON) == NOON


def test_zones() -> None:
    assert parse_zone("Europe/Berlin") == BERLIN
    assert parse_zone("UTC").utcoffset(None) == UTC.utcoffset(None)


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Nowhere", "/etc/passwd", "../../etc/passwd", "a\0b", "CET-1"]
)
def test_wrong_zones(name: str) -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        parse_zone(name)


def test_usage() -> None:
    by = ("service", "user", "path", "model", "hour")
    view = usage_view(UsageQuery(by=by))
    assert view.flat(ROW) == {
        "service": "acme",
        "user": "alice",
        "path": "/a",
        "model": "tiny",
        "hour": "2024-05-01T12:00:00Z",
        "requests": 1200,
        "bytes_in": 0,
        "bytes_out": 5,
        "units": 6,
        "duration": 0.123457,
        "status_1xx": 0,
        "status_2xx": 1,
        "status_3xx": 2,
        "status_4xx": 3,
        "status_5xx": 4,
    }
    assert list(view.flat(ROW)) == list(view.columns)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (("day",), {"day": "2024-05-01"}),
        (("user",), {}),
        (("model",), {"model": "tiny"}),
        (("hour", "day"), {"hour": "2024-05-01T12:00:00Z"}),
    ],
)
def test_columns_that_are_there_if_asked_for(by: tuple[str, ...], expected: dict[str, str]) -> None:
    found = usage_view(UsageQuery(by=by)).flat(ROW)
    assert {name: found[name] for name in found.keys() & {"hour", "day", "model"}} == expected
    assert found.keys() >= {"service", "user", "path", "requests"}


def test_hours_of_a_zone() -> None:
    view = usage_view(UsageQuery(by=("hour",), zone=BERLIN))
    assert view.flat(ROW)["hour"] == "2024-05-01T14:00:00+02:00"
    view = usage_view(UsageQuery(by=("hour",), zone=ZoneInfo("UTC")))
    assert view.flat(ROW)["hour"] == "2024-05-01T12:00:00+00:00"


def test_days_of_a_zone() -> None:
    """They come from the store as dates already."""
    day = ROW._replace(hour=NOON - 12 * 3600)
    for zone in (None, BERLIN, ZoneInfo("America/New_York")):
        view = usage_view(UsageQuery(by=("day",), zone=zone))
        assert view.flat(day)["day"] == "2024-05-01"


def test_tables_show_what_was_asked_for_and_no_more() -> None:
    view = usage_view(UsageQuery(by=("user", "day")))
    assert view.table[:3] == ("day", "user", "requests")
    assert set(view.sums) <= set(view.columns)


def test_records(record: UsageRecord) -> None:
    view = records_view(None)
    found = view.flat(record._replace(start=NOW, model="tiny"))
    assert tuple(found) == view.columns == UsageRecord._fields
    assert found["start"] == "2024-05-01T12:51:30.500000Z"
    assert found["model"] == "tiny"
    assert records_view(BERLIN).flat(record._replace(start=float(NOON)))["start"] == (
        "2024-05-01T14:00:00+02:00"
    )
