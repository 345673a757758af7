from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.store.sqlite_file import connect
from gatekeeper.store.sqlite_schema import make_or_check
from gatekeeper.store.sqlite_usage import write
from gatekeeper.usage.records import Batch, Counted, CounterKey, UsageRecord
from tests.commands import invoke, run, write_config

NOON = 1714564800  # 2024-05-01T12:00:00Z
COUNTERS: dict[CounterKey, Counted] = {
    ("acme", "alice", "/a", "tiny", NOON): Counted(1, 2, 3, 4, 0.5, 0, 0, 0, 1, 0),
    ("acme", "alice", "/b", "", NOON + 3600): Counted(10, 20, 30, 40, 5.0),
    ("other", "bob", "/a", "", NOON + 10 * 3600): Counted(100, 0, 0, 0, 0.0),
}
RECORDS = tuple(
    UsageRecord(
        f"id{number}", NOON + number + 0.5, 0.25, "acme", user, "k", "GET", "/a", 200, 200, 1, 2, 3,
        "ok", "tiny",
    )
    for number, user in enumerate(("alice", "bob", "alice"))
)  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    return state


@pytest.fixture
def config(tmp_path: Path, state: Path) -> Path:
    (tmp_path / "keys.properties").touch(0o600)
    return write_config(tmp_path, state)


def fill(state: Path, counters: dict[CounterKey, Counted]) -> None:
    """Write some usage as the daemon writes it."""
    with closing(connect(state / "gatekeeper.sqlite", create=True, timeout=1)) as connection:
        make_or_check(connection)
        write(connection, Batch("n", 0, 1, counters, RECORDS))


@pytest.fixture
def usage(state: Path) -> None:
    fill(state, COUNTERS)


def rows_of(config: Path, *options: str) -> list[dict[str, Any]]:
    result = run("usage", "--config", config, *options)
    assert (result.returncode, result.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


@pytest.mark.usefixtures("usage")
def test_json_when_piped(config: Path) -> None:
    rows = rows_of(config)
    assert [(row["service"], row["user"], row["path"], row["requests"]) for row in rows] == [
        ("acme", "alice", "/a", 1),
        ("acme", "alice", "/b", 10),
        ("other", "bob", "/a", 100),
    ]
    assert rows[0].keys() >= {"bytes_in", "bytes_out", "units"}


@pytest.mark.usefixtures("usage")
def test_filtered_and_grouped(config: Path) -> None:
    (row,) = rows_of(
        config,
        *("--service", "acme", "--user", "alice", "--path", "/a", "--model", "tiny"),
        *("--since", "2024-05-01T12:30", "--until", "2024-05-02"),
        *("--by", "hour", "--by", "user", "--by", "model"),
    )
    assert row == {
        "service": "",
        "user": "alice",
        "path": "",
        "model": "tiny",
        "hour": "2024-05-01T12:00:00Z",
        "requests": 1,
        "bytes_in": 2,
        "bytes_out": 3,
        "units": 4,
        "duration": 0.5,
        "status_1xx": 0,
        "status_2xx": 0,
        "status_3xx": 0,
        "status_4xx": 1,
        "status_5xx": 0,
    }


@pytest.mark.usefixtures("usage")
def test_csv_and_table(config: Path) -> None:
    by_day = ("usage", "--config", config, "--by", "day")
    rows = list(csv.DictReader(io.StringIO(run(*by_day, "--format", "csv").stdout)))
    assert [(row["day"], row["requests"]) for row in rows] == [("2024-05-01", "111")]
    table = run(*by_day, "--by", "user", "--format", "table", "--limit", "1").stdout
    assert "2024-05-01" in table
    assert "alice" in table
    assert "bob" not in table
    assert "The first 1 rows" in table


@pytest.mark.usefixtures("usage")
def test_days_and_times_of_a_zone(config: Path) -> None:
    # 22:00 in Greenwich is midnight in Berlin.
    days = rows_of(config, "--by", "day", "--timezone", "Europe/Berlin")
    assert [(row["day"], row["requests"]) for row in days] == [
        ("2024-05-01", 11),
        ("2024-05-02", 100),
    ]
    (hour,) = rows_of(
        config, "--by", "hour", "--timezone", "Europe/Berlin", "--since", "2024-05-02"
    )
    assert (hour["hour"], hour["requests"]) == ("2024-05-02T00:00:00+02:00", 100)


@pytest.mark.usefixtures("usage")
def test_limit(config: Path) -> None:
    assert len(rows_of(config, "--limit", "2")) == 2


def test_much(config: Path, state: Path) -> None:
    one = Counted(1, 2, 3, 4, 0.5)
    fill(state, {("acme", "alice", f"/{number:04}", "", NOON): one for number in range(2500)})
    assert [row["path"] for row in rows_of(config)] == [f"/{number:04}" for number in range(2500)]


def test_reader_that_has_seen_enough(config: Path, state: Path) -> None:
    one = Counted(1, 2, 3, 4, 0.5)
    fill(state, {("acme", "alice", f"/{number:04}", "", NOON): one for number in range(2500)})
    with subprocess.Popen(
        [sys.executable, "-m", "gatekeeper", "usage", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1


# --- single records ---------------------------------------------------------------------------


@pytest.mark.usefixtures("usage")
def test_records(config: Path) -> None:
    rows = rows_of(config, "--records")
    assert [row["id"] for row in rows] == ["id2", "id1", "id0"]
    assert rows[0]["start"] == "2024-05-01T12:00:02.500000Z"
    assert rows[0].keys() == set(UsageRecord._fields)
    since = ("--since", "2024-05-01T12:00:01Z", "--until", "2024-05-01T12:00:02Z")
    assert [row["id"] for row in rows_of(config, "--records", *since)] == ["id1"]
    alice = ("--user", "alice", "--model", "tiny", "--path", "/a", "--limit", "1")
    assert [row["id"] for row in rows_of(config, "--records", *alice)] == ["id2"]
    table = run("usage", "--config", config, "--records", "--format", "table").stdout
    assert "2024-05-01T12:00:02.5" in table


# --- what goes wrong --------------------------------------------------------------------------


def test_store_that_is_not_there(config: Path, state: Path) -> None:
    result = run("usage", "--config", config)
    assert (result.returncode, result.stdout) == (2, "")
    assert "The usage cannot be read: store.url: " in result.stderr
    assert "No such file" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(state.iterdir()) == [], "nothing is made by looking"


def test_server_that_is_away(tmp_path: Path, config: Path, state: Path) -> None:
    write_config(tmp_path, state, '[store]\nurl = "postgresql://u:hidden@127.0.0.1:1/d"\n')
    result = run("usage", "--config", config)
    assert (result.returncode, result.stdout) == (2, "")
    assert "127.0.0.1:1/d" in result.stderr
    assert "refused" in result.stderr
    assert "hidden" not in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_configuration(tmp_path: Path, config: Path, state: Path) -> None:
    write_config(tmp_path, state, "unknown = 1\n")
    result = invoke("usage", "--config", config)
    assert result.exit_code == 1
    assert "services[0].unknown" in result.stderr


@pytest.mark.parametrize(
    "option",
    [
        ("--since", "soon"),
        ("--until", "9x"),
        ("--by", "colour"),
        ("--timezone", "Europe/Nowhere"),
        ("--limit", "0"),
        ("--by", "user", "--records"),
    ],
)
def test_wrong_options(config: Path, option: tuple[str, ...]) -> None:
    result = invoke("usage", "--config", config, *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr
