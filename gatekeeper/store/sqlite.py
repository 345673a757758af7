"""The embedded store: one SQLite file, used from one thread of its own."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from gatekeeper.errors import StoreError
from gatekeeper.store.interface import IStore, UsageQuery, UsageRow
from gatekeeper.store.schema import upgrades
from gatekeeper.store.sql import KEEP_BATCHES, stored_rows, usage_rows, usage_sql
from gatekeeper.usage.records import Batch

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that we wait for another process (the command line) to finish with the file.
BUSY_TIMEOUT: Final = 5.0

_UPSERT: Final = """
INSERT INTO usage (service, user_name, path, hour,
                   requests, bytes_in, bytes_out, units, duration)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (service, user_name, path, hour) DO UPDATE SET
    requests = requests + excluded.requests,
    bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    units = units + excluded.units,
    duration = duration + excluded.duration
"""


@implementer(IStore)
class SqliteStore:
    """Usage in the SQLite file ``path``, which is made (mode 0600) unless ``create`` is false.

    Every call waits its turn in one thread. The file is in WAL mode, so that a report neither waits
    for a flush nor holds one up, and synchronous: a batch that is confirmed survives a power cut.
    """

    def __init__(self, path: Path, reactor: IReactorFromThreads, *, create: bool = True) -> None:
        self._path = path
        self._reactor = reactor
        self._create = create
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Deferred[None]:
        """See :meth:`IStore.open`."""
        return self._in_thread(self._open)

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""
        closed = self._in_thread(self._close)
        self._executor.shutdown(wait=False)
        return closed

    def ping(self) -> Deferred[None]:
        """See :meth:`IStore.ping`."""
        return self._in_thread(self._ping)

    def write_batch(self, batch: Batch) -> Deferred[None]:
        """See :meth:`IStore.write_batch`."""
        return self._in_thread(self._write_batch, batch)

    def usage(self, query: UsageQuery) -> Deferred[list[UsageRow]]:
        """See :meth:`IStore.usage`."""
        return self._in_thread(self._usage, query)

    # What follows runs in the thread.

    def _open(self) -> None:
        self._ready()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ping(self) -> None:
        self._ready().execute("SELECT 1 FROM usage LIMIT 1").fetchall()

    def _write_batch(self, batch: Batch) -> None:
        connection = self._ready()
        now = int(time.time())
        with _transaction(connection):
            connection.execute("DELETE FROM batch WHERE written < ?", (now - KEEP_BATCHES,))
            new = connection.execute(
                "INSERT INTO batch (node, worker, sequence, written) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (batch.node, batch.worker, batch.sequence, now),
            ).rowcount
            if new:
                connection.executemany(_UPSERT, stored_rows(batch))

    def _usage(self, query: UsageQuery) -> list[UsageRow]:
        sql, parameters = usage_sql(query, "?")
        return usage_rows(self._ready().execute(sql, parameters).fetchall())

    def _ready(self) -> sqlite3.Connection:
        """Return the connection, opened if need be, with the schema up to date."""
        if self._connection is None:
            self._make_or_find_file()
            # "rw": SQLite itself would make the file with the umask's permissions.
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
            try:
                _use_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")
                _upgrade(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make_or_find_file(self) -> None:
        if self._create:
            # Only where there is none: to close a file takes away this process's locks on it.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        os.stat(self._path)  # Its errors, and those of access(), say more than SQLite's.
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _in_thread(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call ``function`` in the thread; what SQLite raises becomes a StoreError."""
        result: Deferred[T] = Deferred()

        def call() -> T:
            try:
                return function(*args, **kwargs)
            except (sqlite3.Error, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise StoreError(f"store.url: {self._path}: {reason}") from error

        def done(future: Future[T]) -> None:
            error = future.exception()
            self._reactor.callFromThread(
                result.callback if error is None else result.errback,
                future.result() if error is None else error,
            )

        self._executor.submit(call).add_done_callback(done)
        return result


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait (BUSY_TIMEOUT) where two connections do this at once: it sees a deadlock.
    give_up_at = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE takes the lock for writing at once: whoever is second waits (BUSY_TIMEOUT), instead
    # of failing half-way.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # Some errors, a full disk for one, have ended it already.
            connection.execute("ROLLBACK")
        raise


def _upgrade(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        row: Any = connection.execute("SELECT max(version) FROM schema_version").fetchone()
        for number, sql in upgrades("sqlite", row[0] or 0):
            for statement in _statements(sql):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))


def _statements(sql: str) -> Iterator[str]:
    """Cut a script: executescript() would commit the transaction that it is run in."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
