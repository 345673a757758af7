"""What was answered is what was counted, whatever is killed, full or down in between.

One round of each fault; ``python -m tests.faults --rounds 20`` runs more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.faults.house import FAULTS, House, Result, disk_breaks, killed, run
from tests.faults.table import write_table
from tests.servers import PostgresServer, running_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from running_postgres()


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    """What the rounds came to; in the end it is printed."""
    found: list[Result] = []
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print()
        write_table(found)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_answer_is_counted_once(
    fault: Callable[[House], None],
    tmp_path: Path,
    postgres: PostgresServer,
    results: list[Result],
) -> None:
    result = run(fault, tmp_path, postgres)
    results.append(result)
    assert result.answered > 300
    assert (result.missing, result.twice, result.doubtful) == (0, 0, 0)


@pytest.mark.parametrize(
    ("fault", "disk_latency"), [(killed, 0.0), (killed, 0.3), (disk_breaks, 0)]
)
def test_with_an_fsync_before_each_answer(
    fault: Callable[[House], None], disk_latency: float, tmp_path: Path, postgres: PostgresServer
) -> None:
    """What waits for a disk, even for longer than from one flush to the next, does not count."""
    result = run(fault, tmp_path, postgres, "always", disk_latency)
    assert (result.missing, result.twice, result.doubtful) == (0, 0, 0)
