"""The embedded store: one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from gatekeeper.store import schema, sqlite_upkeep, sqlite_usage
from gatekeeper.store.dialects import SQLITE
from gatekeeper.store.interface import (
    IStore,
    RecordQuery,
    Retention,
    SchemaVersion,
    Upkept,
    UsageQuery,
    UsageRow,
)
from gatekeeper.store.records_sql import records_select, usage_records
from gatekeeper.store.sqlite_file import SqliteFile
from gatekeeper.store.sqlite_schema import found_version, make_or_check, upgrade
from gatekeeper.store.upkeep import cuts
from gatekeeper.store.usage_sql import usage_rows
from gatekeeper.usage.records import Batch, UsageRecord

#: Rows that a stream takes at a time.
PAGE: Final = 1000

#: Seconds that an upgrade waits for another one to finish.
UPGRADE_TIMEOUT: Final = 600.0

#: Makes a SELECT and its parameters for a query; may look into the file for that.
Select = Callable[[sqlite3.Connection], tuple[str, list[Any]]]


@implementer(IStore)
class SqliteStore:
    """Usage in the SQLite file ``path``, which is made (mode 0600) unless ``create`` is false.

    One connection writes, another one reads, each in a thread of its own: a long report does not
    hold up the flush.
    """

    def __init__(self, path: Path, reactor: IReactorFromThreads, *, create: bool = True) -> None:
        self._path = path
        self._reactor = reactor
        self._writing = SqliteFile(path, reactor, make_or_check, create=create)
        self._reading = SqliteFile(path, reactor, make_or_check, create=create)
        self._streaming = DeferredLock()

    def open(self) -> Deferred[None]:
        """See :meth:`IStore.open`."""
        return self._writing.run(lambda _: None)

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""

        async def close() -> None:
            await self._writing.close()
            await self._reading.close()

        return Deferred.fromCoroutine(close())

    def ping(self) -> Deferred[None]:
        """See :meth:`IStore.ping`."""

        def look(connection: sqlite3.Connection) -> None:
            connection.execute("SELECT 1 FROM usage LIMIT 1").fetchall()

        return self._reading.run(look)

    def version(self) -> Deferred[SchemaVersion]:
        """See :meth:`ISchema.version`."""
        return self._apart(
            lambda connection: SchemaVersion(found_version(connection), schema.newest("sqlite"))
        )

    def upgrade(self, tell: Callable[[str], object]) -> Deferred[None]:
        """See :meth:`ISchema.upgrade`."""
        told = partial(self._reactor.callFromThread, tell)
        return self._apart(lambda connection: upgrade(connection, self._path, told))
