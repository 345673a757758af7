from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import globalLogPublisher

from tests.anvil import Anvil, running_anvil
from tests.auth.support import Logged
from tests.servers import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def anvil_node() -> Iterator[Anvil]:
    yield from running_anvil()


@pytest.fixture
def node(anvil_node: Anvil) -> Iterator[Anvil]:
    """A chain that is, after each test, as it was before."""
    snapshot = anvil_node.call("evm_snapshot")
    yield anvil_node
    anvil_node.call("anvil_setAutomine", True)
    anvil_node.call("anvil_dropAllTransactions")
    anvil_node.call("evm_revert", snapshot)


@pytest.fixture
def logged() -> Iterator[Logged]:
    events = Logged()
    globalLogPublisher.addObserver(events)
    yield events
    globalLogPublisher.removeObserver(events)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    yield from running_postgres()
