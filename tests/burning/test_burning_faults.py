"""What was metered is burned once, or recorded as uncollected, whatever goes wrong in between.

One round of each fault; ``python -m tests.burning --rounds 20`` runs more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.burning.faults import FAULTS, WITH_SQLITE, Fault, run, uncollected_in
from tests.burning.house import House, Result
from tests.burning.market import COST_OF_ALL
from tests.burning.table import write_table
from tests.servers import PostgresServer, running_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from running_postgres()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house"), postgres) as house:
        yield house
        house.finish()


@pytest.fixture(scope="module")
def small_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("small-house"), None) as house:
        yield house
        house.finish()


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    """What the rounds came to; in the end it is printed."""
    found: list[Result] = []
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print()
        write_table(found)


def check(fault: Fault, house: House, results: list[Result]) -> None:
    try:
        result = run(fault, house)
    except BaseException:
        house.show()
        raise
    results.append(result)
    assert result.metered >= len(house.holders) * sum(COST_OF_ALL.values())
    assert (result.missing, result.twice) == (0, 0)
    assert (result.uncollected, result.error) == (uncollected_in(fault), 0)
    assert result.burned + result.uncollected == result.metered


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_credit_is_burned_once(fault: Fault, house: House, results: list[Result]) -> None:
    check(fault, house, results)


@pytest.mark.parametrize("fault", WITH_SQLITE, ids=lambda fault: fault.__name__)
def test_with_sqlite(fault: Fault, small_house: House, results: list[Result]) -> None:
    check(fault, small_house, results)
