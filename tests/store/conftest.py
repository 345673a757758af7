"""The stores that the tests run against: SQLite, and a real PostgreSQL of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper.config.model import Store
from gatekeeper.store.interface import IStore
from gatekeeper.store.opening import make_store
from tests.servers import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL. Whoever stops or pauses it starts it again."""
    yield from running_postgres()


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], IStore]:
    """Makes stores that share one database, which is empty at first."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'usage.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").create_database()
    return lambda: make_store(Store(url=url, statement_timeout=10))
