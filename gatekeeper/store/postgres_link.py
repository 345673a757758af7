"""One connection to PostgreSQL that is made when it is needed and dropped when it fails.

txpostgres sees to the waiting; what it leaves to us is *not* waiting for ever. A server that hangs
(its process is stopped, its disk is gone) says nothing, answers keep-alives all the same, and does
not come to enforce its ``statement_timeout``. Cancelling the query would open another connection to
that server, and block the whole process until it answers. So we only hang up, which needs nobody's
consent. Whether the server had done what was asked is unknown then, as after any failure.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from socket import gaierror
from typing import Any, Final, TypeVar

import psycopg2
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.error import ConnectionClosed, ConnectionDone, ConnectionLost
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from txpostgres import txpostgres  # type: ignore[import-untyped]

from gatekeeper.errors import StoreError
from gatekeeper.store.dialects import Rows, Statement
from gatekeeper.store.postgres_url import PostgresTarget

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

#: Seconds for a connection to be made, TLS and authentication included.
CONNECT_TIMEOUT: Final = 10.0

#: Seconds more than ``statement_timeout`` that the server may take to answer: only a server that is
#: hung, or cut off, does not keep its own limit.
GRACE: Final = 5.0

#: Seconds that a close waits for what is under way.
CLOSE_TIMEOUT: Final = 5.0

#: A peer that is gone is noticed within a minute, also when nothing is being sent.
KEEP_ALIVE: Final = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Connection(txpostgres.Connection):  # type: ignore[misc]
    """txpostgres's connection, with three things put right.

    ``limit`` is how many seconds a statement may take before we hang up; ``None``: any time.
    ``lost`` is called with the reason where the server, not we, ends an idle connection.
    """

    limit: float | None = None
    lost: Callable[[str], object] | None = None

    async def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        """Run a statement and return its rows, none where it has none to return.

        :raises TimeoutError: there is no answer; the connection is closed.
        """
        cursor = self.cursor()
        await self.within(self.limit, cursor.execute(sql, parameters or None))
        return cursor.fetchall() if cursor.description else []

    async def run(self, statements: Generator[Statement, Rows, T]) -> T:
        """Run the statements that a generator yields, send it the rows, and return what it does."""
        try:
            statement = next(statements)
            while True:
                statement = statements.send(await self.query(*statement))
        except StopIteration as end:
            result: T = end.value
            return result

    async def transact(
        self, statements: Generator[Statement, Rows, T], *refusals: type[E]
    ) -> T | E:
        """Run the statements as a whole, or not at all.

        Errors that are ``refusals`` are returned: the connection is as good as before.
        """
        await self.query("BEGIN")
        try:
            done = await self.run(statements)
        except refusals as error:
            await self.query("ROLLBACK")
            return error
        await self.query("COMMIT")
        return done

    async def look(self, statements: Generator[Statement, Rows, T]) -> T:
        """Run statements that only read; what they see is of one moment."""
        await self.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = await self.run(statements)
        await self.query("COMMIT")
        return found

    async def within(self, limit: float | None, work: Awaitable[T]) -> T:
        """Return what ``work`` returns; hang up where it takes longer than ``limit`` seconds."""
        if limit is None:
            return await work
        timer = self.reactor.callLater(limit, self.close)
        try:
            return await work
        except ConnectionClosed:
            if timer.active():
                raise
            raise TimeoutError(f"no answer within {limit:g} s") from None
        finally:
            if timer.active():
                timer.cancel()

    def doRead(self) -> Exception | None:
        """Read. A server that hangs up on an idle connection is not an error to log."""
        try:
            super().doRead()
        except psycopg2.Error as error:
            return error  # The reactor calls connectionLost() with it.
        except ValueError:
            # libpq has lost the connection, which has no socket any more, but not said so yet.
            if self.fileno() >= 0:
                raise
            return ConnectionLost()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """Note that the reactor reads no more."""
        super().connectionLost(reason)
        error = reason.value
        if self.lost is not None and error is not None and not isinstance(error, ConnectionDone):
            self.lost(_reason(error))

    def close(self) -> None:
        """Hang up; what is under way fails with ConnectionDone."""
        # A running cursor is a reader of its own. Left with the reactor, it would be called for
        # whichever connection gets the same file descriptor next.
        for cursor in set(self._cursors):
            self.reactor.removeReader(cursor)
            self.reactor.removeWriter(cursor)
        super().close()


class PostgresLink:
    """Runs work on one connection, one piece at a time.

    ``prepare`` is run on every new connection before anything else. ``statement_timeout`` is in
    seconds; ``None``: no statement is too long. After any failure the connection is dropped, and
    with it a transaction that was open; the next piece of work makes a new one. There is no retry
    here and nothing that goes on in the background: when to try again is up to the caller.
    """

    def __init__(
        self,
        target: PostgresTarget,
        reactor: Any,
        statement_timeout: float | None,
        prepare: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._target = target
        self._reactor = reactor
        self._statement_timeout = statement_timeout
        self._prepare = prepare
        self._lock = DeferredLock()
        self._connection: Connection | None = None
        self._closed = False
        self._hung_up = False

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Connect if need be, do ``work``, and return what it returns.

        :raises StoreError: the server cannot be reached, failed, or does not answer in time.
        """
        await self._lock.acquire()
        try:
            if self._closed:
                raise StoreError("the store is closed")
            return await work(await self._connected())
        except BaseException as error:
            self._drop()
            if isinstance(error, CancelledError):  # By the server: txpostgres calls both so.
                reason = (
                    f"statement cancelled (statement_timeout is {self._statement_timeout or 0:g} s)"
                )
            elif isinstance(error, (psycopg2.Error, ConnectionClosed, TimeoutError, gaierror)):
                reason = _reason(error)
            else:
                raise
            raise StoreError(f"store.url: {self._target}: {reason}") from error
        finally:
            self._lock.release()

    def hang_up(self) -> None:
        """Hang up at once; what is under way fails. Nothing may follow."""
        self._closed = self._hung_up = True
        self._drop()

    async def close(self) -> None:
        """Hang up, after what is under way or :data:`CLOSE_TIMEOUT` seconds. Nothing may follow."""
        self._closed = True
        timer = self._reactor.callLater(CLOSE_TIMEOUT, self.hang_up)
        await self._lock.acquire()
        if timer.active():
            timer.cancel()
        self._drop()
        self._lock.release()

    async def _connected(self) -> Connection:
        if self._connection is not None:
            if not self._connection.closed:
                return self._connection
            self._drop()
        parameters = {**KEEP_ALIVE, "client_encoding": "UTF8", **self._target.parameters}
        parameters.update(await self._address())
        if self._hung_up:  # Meanwhile.
            raise StoreError("the store is closed")
        connection = self._connection = Connection(self._reactor)
        await connection.within(CONNECT_TIMEOUT, connection.connect(**parameters))
        timeout = self._statement_timeout
        connection.limit = None if timeout is None else timeout + GRACE
        await connection.query(f"SET statement_timeout = {int((timeout or 0) * 1000)}")
        await self._prepare(connection)
        return connection

    async def _address(self) -> dict[str, str | int]:
        """Return where to connect to, names resolved: libpq would block the reactor for that."""
        host, port = self._target.host, self._target.port
        if not host or host.startswith("/"):
            return {"port": port, **({"host": host} if host else {})}
        pool = self._reactor.getThreadPool()
        try:
            found = await deferToThreadPool(
                self._reactor, pool, socket.getaddrinfo, host, port, type=socket.SOCK_STREAM
            )
        except OSError as error:  # Not always of the one class: too many open files, for one.
            raise gaierror(error.errno, error.strerror) from error
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        # The name goes with each address, for it is what the server's certificate is checked with.
        return {
            "host": ",".join([host] * len(addresses)),
            "hostaddr": ",".join(addresses),
            "port": port,
        }

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.pollable() is not None:
            connection.close()


def uncancelled(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Begin it; cancelling the Deferred does not cancel a query, for that blocks."""
    result: Deferred[T] = Deferred()
    Deferred.fromCoroutine(coroutine).addCallbacks(result.callback, result.errback)
    return result


def _reason(error: BaseException) -> str:
    """Say what went wrong in one line, without the rows that PostgreSQL likes to add."""
    if isinstance(error, psycopg2.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return " ".join(str(error).split()) or type(error).__name__
