"""The row of wrong passwords: how it counts, and that it runs. Nothing here looks at a figure."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.flood import Tally, percentile
from tests.benchmarks.test_smoke import missing_programs, run

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.51, 6.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_percentile(share: float, expected: float) -> None:
    assert percentile([float(number) for number in range(10, 0, -1)], share) == expected
    assert percentile([7.0], share) == 7.0


def test_who_is_refused_has_not_been_served_and_does_not_count_as_quick() -> None:
    tally = Tally()
    assert tally.served == 0
    for status, wait in ((200, 0.5), (503, 0.001), (0, 10.0), (200, 0.7)):
        tally.add(status, wait)
    assert tally.served == 50
    assert tally.waits == [0.5, 0.7]
    assert tally.statuses == {200: 2, 503: 1, 0: 1}


@pytest.mark.skipif(
    "nginx" in missing_programs() and not os.environ.get("CI"), reason="nginx is not installed"
)
def test_right_users_are_measured_beside_wrong_passwords(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = run("--quick", "--only", "flood", "--json", str(file))
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["not_measured"] == []
    figures = {figure["contender"]: figure for figure in document["figures"]}
    for state in ("quiet", "flood"):
        assert figures[f"{state}: cached, slowest"]["unit"] == "ms"
        assert figures[f"{state}: cached, p99"]["value"] > 0
        assert 0 < figures[f"{state}: new, served"]["value"] <= 100
    assert figures["flood: wrong, got 401"]["value"] > 0
    assert not any(name.startswith("quiet: wrong") for name in figures)
    stall, served = document["goals"]
    assert (stall["first"], served["first"]) == (50.0, 100.0)
    assert stall["value"] == figures["flood: cached, slowest"]["value"]
    assert served["value"] == figures["flood: new, served"]["value"]
