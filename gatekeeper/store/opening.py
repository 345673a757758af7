"""From ``[store]`` to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gatekeeper.config.model import Store
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.store.interface import IStore

_SQLITE: Final = "sqlite:///"


def make_store(settings: Store, reactor: Any = None, *, create: bool = True) -> IStore:
    """Make the store that ``settings.url`` names; it is not opened yet.

    ``reactor`` is the global one if left out. Unless ``create``, an SQLite file that is not there
    is not made.

    :raises ConfigurationError: the URL is not one of PostgreSQL's, or what that needs is missing.
    """
    if reactor is None:
        from twisted.internet import reactor  # Not earlier: the daemon chooses which one.
    if settings.url.startswith(_SQLITE):
        from gatekeeper.store.sqlite import SqliteStore

        return SqliteStore(Path(settings.url.removeprefix(_SQLITE)), reactor, create=create)
    try:
        from gatekeeper.store.postgres import PostgresStore
    except ImportError as error:
        if error.name not in ("psycopg2", "txpostgres"):
            raise
        message = "PostgreSQL needs more packages: pip install gatekeeper[postgres]"
        raise ConfigurationError([Problem("store.url", message)]) from None
    return PostgresStore(settings.url, settings.statement_timeout, reactor)
