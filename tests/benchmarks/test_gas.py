"""Gas is the same on every machine: these figures may be looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gas import growth, total
from tests.contracts import compiled

pytestmark = pytest.mark.usefixtures("unmeasured")

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("burns", [1, 10, 11, 1000])
def test_what_was_not_measured_goes_on_as_it_was(burns: int) -> None:
    used = [90_000 + 10_000 * number for number in range(10)]
    assert growth(used) == 10_000
    assert total(used, burns) == sum(90_000 + 10_000 * number for number in range(burns))


def test_a_settlement_costs_next_to_nothing_beside_a_burn_a_request(tmp_path: Path) -> None:
    compiled()  # npm is there, or the test is skipped
    file = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", "gas", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    used = {figure["contender"]: figure["value"] for figure in document["figures"]}
    assert used["a burn a request: number 10"] > used["a burn a request: the 1st"]
    assert used["gatekeeper, 1 holder"] < 0.11
    assert used["gatekeeper, 20 holders"] < 20 * 0.11
    assert [goal["then_reached"] for goal in document["goals"]] == [True, True, None]
    [computed] = document["not_measured"]
    assert computed["what"] == "a burn a request, after a holder's first 10"
