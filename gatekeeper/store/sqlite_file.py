"""One SQLite file, used through one connection in a thread of its own."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads

from gatekeeper.errors import StoreError
from gatekeeper.store.dialects import Rows, Statement

T = TypeVar("T")

#: Seconds that we wait for another process (the command line) to finish with the file.
BUSY_TIMEOUT: Final = 5.0


class SqliteFile:
    """The file ``path``, which is made (mode 0600) unless ``create`` is false.

    ``prepare`` is run on the connection before anything else. What is asked for waits its turn in
    the thread. ``busy_timeout`` is in seconds, :data:`BUSY_TIMEOUT` if left out.
    """

    def __init__(
        self,
        path: Path,
        reactor: IReactorFromThreads,
        prepare: Callable[[sqlite3.Connection], None],
        *,
        create: bool = True,
        busy_timeout: float | None = None,
    ) -> None:
        self.path = path
        self._reactor = reactor
        self._prepare = prepare
        self._create = create
        self._busy_timeout = busy_timeout
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def run(self, function: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Call ``function`` in the thread; what SQLite raises becomes a StoreError."""
        return self._in_thread(lambda: function(self._ready()))

    def close(self) -> Deferred[None]:
        """Close the file, after what is under way. Nothing may follow."""
        if self._closed:
            return succeed(None)
        closing = self._in_thread(self._close)
        self._closed = True
        self._executor.shutdown(wait=False)
        return closing

    def _in_thread(self, function: Callable[[], T]) -> Deferred[T]:
        result: Deferred[T] = Deferred()

        def call() -> T:
            try:
                return function()
            except (sqlite3.Error, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise StoreError(f"store.url: {self.path}: {reason}") from error

        def done(future: Future[T]) -> None:
            error = future.exception()
            self._reactor.callFromThread(
                result.callback if error is None else result.errback,
                future.result() if error is None else error,
            )

        if self._closed:
            result.errback(StoreError("the store is closed"))
        else:
            self._executor.submit(call).add_done_callback(done)
        return result

    # What follows runs in the thread.

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            timeout = BUSY_TIMEOUT if self._busy_timeout is None else self._busy_timeout
            connection = connect(self.path, create=self._create, timeout=timeout)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(path: Path, *, create: bool, timeout: float) -> sqlite3.Connection:
    """Open a file as we use it, without looking what is in it.

    It is in WAL mode, so that a report neither waits for a flush nor holds one up, and synchronous:
    what is committed survives a power cut. Transactions begin where we say so.

    :raises OSError: the file cannot be used.
    :raises sqlite3.Error: SQLite cannot use it.
    """
    if create:
        # Only where there is none: to close a file takes away this process's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    os.stat(path)  # Its errors, and those of access(), say more than SQLite's.
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    # "rw": SQLite itself would make the file with the umask's permissions.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    try:
        _use_wal(connection, timeout)
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, *, writing: bool = True) -> Iterator[None]:
    """Do what is inside as a whole or, where it raises, not at all. All it reads is of one moment.

    Unless ``writing``, it only reads, and waits for nobody.
    """
    # IMMEDIATE takes the lock for writing at once: whoever is second waits (BUSY_TIMEOUT), instead
    # of failing half-way.
    connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # Some errors, a full disk for one, have ended it already.
            connection.execute("ROLLBACK")
        raise


def run(connection: sqlite3.Connection, statements: Generator[Statement, Rows, T]) -> T:
    """Run the statements that a generator yields, send it the rows, and return what it does."""
    try:
        statement = next(statements)
        while True:
            statement = statements.send(connection.execute(*statement).fetchall())
    except StopIteration as end:
        result: T = end.value
        return result


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    # SQLite does not wait (its timeout) where two connections do this at once: it sees a deadlock.
    give_up_at = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return
