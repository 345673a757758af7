"""The store in PostgreSQL, over txpostgres."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.store.interface import IStore, UsageQuery, UsageRow
from gatekeeper.store.postgres_link import Connection, PostgresLink
from gatekeeper.store.postgres_url import parse_postgres_url
from gatekeeper.store.schema import upgrades
from gatekeeper.store.sql import KEEP_BATCHES, stored_rows, usage_rows, usage_sql
from gatekeeper.usage.records import Batch

T = TypeVar("T")

#: The advisory lock that upgrades of the schema take; any number that is ours.
UPGRADE_LOCK: Final = 0x6761746B6565

# One statement is one transaction and one round trip: the key goes in, and only where it was new do
# the counters. SKIP LOCKED and the order of the rows keep two nodes from waiting for each other.
_WRITE: Final = """
WITH expired AS (
    DELETE FROM batch WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM batch WHERE written < extract(epoch FROM now())::bigint - %s
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    ))
), new AS (
    INSERT INTO batch (node, worker, sequence, written)
    VALUES (%s, %s, %s, extract(epoch FROM now())::bigint)
    ON CONFLICT DO NOTHING RETURNING 1
)
INSERT INTO usage AS u
    (service, user_name, path, hour, requests, bytes_in, bytes_out, units, duration)
SELECT service, user_name, path, hour, sum(requests)::bigint, sum(bytes_in)::bigint,
       sum(bytes_out)::bigint, sum(units)::bigint, sum(duration)
FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::double precision[])
     AS c (service, user_name, path, hour, requests, bytes_in, bytes_out, units, duration)
WHERE EXISTS (SELECT FROM new)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (service, user_name, path, hour) DO UPDATE SET
    requests = u.requests + excluded.requests,
    bytes_in = u.bytes_in + excluded.bytes_in,
    bytes_out = u.bytes_out + excluded.bytes_out,
    units = u.units + excluded.units,
    duration = u.duration + excluded.duration
"""


@implementer(IStore)
class PostgresStore:
    """Usage in the PostgreSQL database at ``url``; ``statement_timeout`` in seconds.

    One connection writes, another one reads, each made at its first use: a long report does not
    hold up the flush. Every call fails in bounded time, also when the server hangs; the next one
    connects anew. ``reactor`` is the reactor.
    """

    def __init__(self, url: str, statement_timeout: float, reactor: Any) -> None:
        target = parse_postgres_url(url)
        self._writing, self._reading = (
            PostgresLink(target, reactor, statement_timeout, _prepare) for _ in range(2)
        )

    def open(self) -> Deferred[None]:
        """See :meth:`IStore.open`."""
        return _deferred(self._writing.run(_look))

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""

        async def close() -> None:
            await self._writing.close()
            await self._reading.close()

        return _deferred(close())

    def ping(self) -> Deferred[None]:
        """See :meth:`IStore.ping`."""
        return _deferred(self._reading.run(_look))

    def write_batch(self, batch: Batch) -> Deferred[None]:
        """See :meth:`IStore.write_batch`."""

        async def write(connection: Connection) -> None:
            columns = zip(*stored_rows(batch), strict=True) if batch.counters else [()] * 9
            key = (KEEP_BATCHES, batch.node, batch.worker, batch.sequence)
            await connection.runOperation(_WRITE, (*key, *map(_array, columns)))

        return _deferred(self._writing.run(write))

    def usage(self, query: UsageQuery) -> Deferred[list[UsageRow]]:
        """See :meth:`IStore.usage`."""

        async def read(connection: Connection) -> list[UsageRow]:
            sql, parameters = usage_sql(query, "%s")
            return usage_rows(await connection.runQuery(sql, parameters))

        return _deferred(self._reading.run(read))


def _deferred(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    # Not the coroutine's own Deferred: cancelling that one would cancel the query, which blocks.
    result: Deferred[T] = Deferred()
    Deferred.fromCoroutine(coroutine).addCallbacks(result.callback, result.errback)
    return result


async def _look(connection: Connection) -> None:
    await connection.runOperation("SELECT 1 FROM usage LIMIT 1")


async def _prepare(connection: Connection) -> None:
    """Bring the schema up to date; two processes that begin at the same time take turns.

    There is no ROLLBACK: after a failure the connection is dropped, which is one.
    """
    cursor = connection.cursor()
    await cursor.execute("SHOW server_encoding")
    (encoding,) = cursor.fetchone()
    if encoding != "UTF8":
        raise ConfigurationError(
            [Problem("store.url", f"the database's encoding is {encoding}; make one with UTF8")]
        )
    await cursor.execute("BEGIN")
    await cursor.execute("SELECT pg_advisory_xact_lock(%s)", (UPGRADE_LOCK,))
    await cursor.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
    await cursor.execute("SELECT coalesce(max(version), 0) FROM schema_version")
    (version,) = cursor.fetchone()
    for number, sql in upgrades("postgres", version):
        await cursor.execute(sql)
        await cursor.execute("INSERT INTO schema_version (version) VALUES (%s)", (number,))
    await cursor.execute("COMMIT")


def _array(values: Iterable[str | int | float]) -> str:
    """Return a column as PostgreSQL writes arrays.

    One text is five times cheaper than the ``ARRAY[…]`` that psycopg2 makes of a list, for us and
    for the server, which has to parse that as an expression.
    """
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: str | int | float) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
