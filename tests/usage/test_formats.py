from __future__ import annotations

import csv
import io
import json

from rich.console import Console

from gatekeeper.store.interface import UsageQuery, UsageRow
from gatekeeper.usage.formats import CsvFormat, JsonFormat, TableFormat
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.report import View, records_view, usage_view

NOON = 1714564800
ROWS = [
    UsageRow("acme", "alice", "/a", "", NOON, 1200, 0, 5, 6, 0.1234567, 0, 1, 0, 0, 7),
    UsageRow("acme", "\x1b[31mbob", "/b,[bold]", "", NOON + 3600, 1, 2, 3, 4, 1.0, 0, 0, 0, 8, 0),
]
VIEW = usage_view(UsageQuery(by=("service", "user", "path", "hour")))


def test_json() -> None:
    out = io.StringIO()
    shown = JsonFormat(VIEW, out)
    for row in ROWS:
        shown.take([row])
    shown.end()
    assert json.loads(out.getvalue()) == [VIEW.flat(row) for row in ROWS]
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 2


def test_json_that_was_broken_off_is_not_taken_for_a_whole() -> None:
    out = io.StringIO()
    JsonFormat(VIEW, out).take(ROWS)
    assert not out.getvalue().endswith("]\n")


def test_nothing() -> None:
    out = io.StringIO()
    JsonFormat(VIEW, out).end()
    assert json.loads(out.getvalue()) == []
    out = io.StringIO()
    CsvFormat(VIEW, out).end()
    assert list(csv.reader(out.getvalue().splitlines())) == [list(VIEW.columns)]
    assert "Nothing." in table([])


def test_before_the_first_row_nothing_is_written() -> None:
    out = io.StringIO()
    JsonFormat(VIEW, out).take([])
    CsvFormat(VIEW, out)
    assert out.getvalue() == ""


def test_csv() -> None:
    out = io.StringIO()
    shown = CsvFormat(VIEW, out)
    for row in ROWS:
        shown.take([row])
    shown.end()
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    assert list(first) == list(VIEW.columns)
    assert first["requests"] == "1200"
    assert second["path"] == "/b,[bold]"
    assert second["hour"] == "2024-05-01T13:00:00Z"


def table(rows: list[UsageRow] | list[UsageRecord], view: View = VIEW, limit: int = 10) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    shown = TableFormat(view, console, limit)
    shown.take(rows)
    shown.end()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table() -> None:
    text = table(ROWS)
    assert "1,200" in text
    assert "/b,[bold]" in text, "markup in a path is text"
    assert "\x1b" not in text, "an escape sequence in a name does not reach the terminal"
    assert r"\x1b[31mbob" in text
    assert "1,201" in text, "the sums"


def test_table_has_only_the_columns_asked_for() -> None:
    header = table(ROWS, usage_view(UsageQuery(by=("user",)))).splitlines()[1]
    assert "user" in header
    assert "path" not in header
    assert "hour" not in header


def test_table_says_when_there_is_more() -> None:
    text = table(ROWS, limit=1)
    assert "The first 1 rows" in text
    assert "bob" not in text
    text = table(ROWS * 2, limit=3)
    assert "these" in text, "the sums are not those of all"
    assert "2,401" in text
    assert "The first" not in table(ROWS, limit=2)


def test_table_of_records(record: UsageRecord) -> None:
    text = table([record._replace(start=float(NOON), path="/\x1b[31m")], records_view(None))
    assert "2024-05-01T12:00:00Z" in text
    assert r"/\x1b[31m" in text
    assert "alice" in text
