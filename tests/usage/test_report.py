from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from gatekeeper.store.interface import UsageRow
from gatekeeper.usage.report import parse_time, print_table, write_csv, write_json

NOW = 1714567890.5  # 2024-05-01T12:51:30.5Z
NOON = 1714564800

ROWS = [
    UsageRow("acme", "alice", "/a", NOON, 1200, 0, 5, 6, 0.1234567),
    UsageRow("acme", "\x1b[31mbob", "/b,[bold]", NOON + 3600, 1, 2, 3, 4, 1.0),
]
BY = ("service", "user", "path", "hour")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01", NOON - 12 * 3600),
        ("2024-05-01T12:00", NOON),
        ("2024-05-01 12:59:59", NOON),
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T14:00+02:00", NOON),
        ("2024-05-01T17:45+05:45", NOON),
        ("0h", NOON),
        ("24h", NOON - 86400),
        ("51m", NOON),
        ("52m", NOON - 3600),
        ("7d", NOON - 7 * 86400),
        ("2w", NOON - 14 * 86400),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "24", "24x", "-1h", "9999999999d", "2024-13-01", "٣h", "1h\n"]
)
def test_wrong_times(text: str) -> None:
    with pytest.raises(ValueError, match="neither a date or time"):
        parse_time(text, NOW)


def test_json() -> None:
    out = io.StringIO()
    write_json(ROWS, BY, out)
    first, second = json.loads(out.getvalue())
    assert first == {
        "service": "acme",
        "user": "alice",
        "path": "/a",
        "hour": "2024-05-01T12:00:00Z",
        "requests": 1200,
        "bytes_in": 0,
        "bytes_out": 5,
        "units": 6,
        "duration": 0.123457,
    }
    assert second["user"] == "\x1b[31mbob"
    assert "\x1b" not in out.getvalue()


def test_json_by_day_and_without_time() -> None:
    day = ROWS[0]._replace(hour=NOON - 12 * 3600)
    for by, expected in ((("day",), {"day": "2024-05-01"}), (("user",), {})):
        out = io.StringIO()
        write_json([day], by, out)
        (found,) = json.loads(out.getvalue())
        assert {key: found[key] for key in found.keys() & {"hour", "day"}} == expected


def test_json_of_nothing() -> None:
    out = io.StringIO()
    write_json([], BY, out)
    assert json.loads(out.getvalue()) == []


def test_csv() -> None:
    out = io.StringIO()
    write_csv(ROWS, BY, out)
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    assert list(first) == [
        *("service", "user", "path", "hour", "requests", "bytes_in", "bytes_out"),
        *("units", "duration"),
    ]
    assert second["path"] == "/b,[bold]"
    assert second["hour"] == "2024-05-01T13:00:00Z"


def table(rows: list[UsageRow], by: tuple[str, ...]) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    print_table(rows, by, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table() -> None:
    text = table(ROWS, BY)
    assert "1,200" in text
    assert "/b,[bold]" in text, "markup in a path is text"
    assert "\x1b" not in text, "an escape sequence in a name does not reach the terminal"
    assert r"\x1b[31mbob" in text
    assert "1,201" in text, "the sums"


def test_table_has_only_the_columns_asked_for() -> None:
    header = table(ROWS, ("user",)).splitlines()[1]
    assert "user" in header
    assert "path" not in header
    assert "hour" not in header


def test_table_of_nothing() -> None:
    assert "No usage." in table([], BY)
