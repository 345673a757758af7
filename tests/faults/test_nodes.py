"""Two nodes with two workers each: whatever ends or is cut off, the counts are exact, nobody who
was shut out is served, and nothing is overspent.

One round of each fault; ``python -m tests.faults --nodes --rounds 20`` runs more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Final

import pytest

from tests.auth.redis_server import RedisServer, running_redis
from tests.faults.node_faults import FAULTS, run
from tests.faults.nodes import Nodes
from tests.faults.rounds import Result, Round
from tests.faults.table import write_table
from tests.servers import PostgresServer, running_postgres

#: Ten times what is promised: other tests run beside this.
_PROMISED: Final = 1.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from running_postgres()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    yield from running_redis()


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, redis: RedisServer
) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    with Nodes(directory, postgres, redis, len(FAULTS)) as nodes:
        yield nodes


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
def test_nothing_is_lost_overspent_or_served_to_the_wrong_one(
    fault: Callable[[Nodes, Round], None], nodes: Nodes, results: list[Result]
) -> None:
    result = run(fault, nodes, FAULTS.index(fault) + 1, _PROMISED)
    results.append(result)
    assert not result.is_wrong, result
    assert result.answered > 300


def test_nothing_is_left(nodes: Nodes, results: list[Result]) -> None:
    """When both have ended, nothing is leased, and the store has what it had."""
    leases = nodes.finish()
    assert leases == 0
    ((stored,),) = nodes.query("SELECT count(*) FROM usage_record")
    assert stored == sum(result.stored for result in results)
