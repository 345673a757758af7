"""The benchmark runs, and its document has the agreed shape. Nothing here looks at a figure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("unmeasured")

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def missing_programs() -> str:
    return " and ".join(
        name
        for name in ("nginx", "wrk")
        if not (shutil.which(name) or shutil.which(name, path="/usr/sbin"))
    )


@pytest.mark.skipif(
    bool(missing_programs()) and not os.environ.get("CI"),
    reason=f"{missing_programs()} not installed",
)
def test_a_row_is_measured_and_written_as_json(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = run("--quick", "--only", "metering", "--json", str(file))
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))

    assert sorted(document) == ["figures", "goals", "machine", "not_measured", "options"]
    assert document["options"] == {"seconds": 5, "quick": True, "rows": ["metering"]}
    assert {"date", "python", "twisted", "nginx", "wrk"} <= set(document["machine"])
    assert document["not_measured"] == []
    assert [(figure["row"], figure["contender"]) for figure in document["figures"]] == [
        ("metering", "off"),
        ("metering", "on"),
    ]
    for figure in document["figures"]:
        assert figure["unit"] == "µs/request"
        assert all(value > 0 for value in figure["values"])
        assert figure["per_second"] > 0
    [goal] = document["goals"]
    assert goal["row"] == "metering"
    assert goal["value"] > 0
    assert (goal["first"], goal["then"]) == (1.15, 1.05)
    assert type(goal["first_reached"]) is bool
    assert "metering on ÷ off" in done.stdout


@pytest.fixture
def one_core() -> Iterator[None]:
    """Whatever is started has one core to run on."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("one_core")
def test_what_cannot_be_measured_is_named_and_no_failure() -> None:
    done = run("--quick", "--only", "workers")
    assert done.returncode == 0, done.stderr
    assert "\nNot measured:\n" in done.stdout
    assert "\n  workers, the row: two workers need two cores\n" in done.stdout


def test_an_unknown_row_is_a_wrong_command_line() -> None:
    done = run("--only", "get,nonsense")
    assert done.returncode == 2
    assert "no such row: nonsense" in done.stderr
