"""The stores that the tests run against: SQLite, and a real PostgreSQL of our own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper.config.model import Store
from gatekeeper.store.interface import IStore
from gatekeeper.store.opening import make_store
from tests.servers import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL. Whoever stops or pauses it starts it again."""
    programs = PostgresServer.find_programs()
    if programs is None:
        if "CI" in os.environ:
            pytest.fail("PostgreSQL's programs are missing")
        pytest.skip("PostgreSQL's programs (initdb, postgres) are missing")
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], IStore]:
    """Makes stores that share one database, which is empty at first."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'usage.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").create_database()
    return lambda: make_store(Store(url=url, statement_timeout=10))
