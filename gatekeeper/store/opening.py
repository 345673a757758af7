"""From ``[store]`` to a store, and to one that is open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.task import deferLater
from twisted.logger import Logger

from gatekeeper.config.model import Store
from gatekeeper.errors import ConfigurationError, Problem, StoreError
from gatekeeper.store.interface import IStore

log = Logger()

_RETRY: Final = 5.0  # seconds
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


async def open_store(store: IStore, reactor: Any, given_up: Callable[[], bool]) -> bool:
    """Open it, tried again until it is there; false: it was ``given_up`` before.

    :raises ConfigurationError: it can be reached, but not used.
    """
    while not given_up():
        try:
            await store.open()
        except StoreError as error:
            log.error("The store cannot be reached; trying again: {error}", error=error)
            await deferLater(reactor, _RETRY)
        else:
            return True
    return False
