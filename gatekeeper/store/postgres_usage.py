"""Usage in PostgreSQL: a batch goes in with one statement, answers come out page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, get_type_hints

import psycopg2.errors

from gatekeeper.errors import BatchRejected
from gatekeeper.store.dialects import POSTGRES, Parameter
from gatekeeper.store.fitting import LARGEST, Column, Fitted, fit
from gatekeeper.store.interface import UsageQuery
from gatekeeper.store.leases import owner_of
from gatekeeper.store.postgres_link import Connection
from gatekeeper.store.postgres_records import Partitions
from gatekeeper.store.postgres_spending import SPENDING
from gatekeeper.store.records_sql import RECORD_COLUMNS, RECORD_TYPES
from gatekeeper.store.usage_sql import COLUMNS, EXTENT, KEY_COLUMNS, Extent, usage_select
from gatekeeper.usage.records import Batch, Counted, UsageRecord

#: Rows that a stream takes at a time.
PAGE: Final = 1000

#: SQLSTATE classes that are about what was to be written: data, and its size.
_REJECTED: Final = ("22", "54")

_ARRAYS: Final[dict[type, str]] = {
    str: "%s::text[]",
    int: "%s::bigint[]",
    float: "%s::double precision[]",
}


def _rows(columns: Sequence[str], types: Sequence[type]) -> str:
    """Rows out of arrays, one array for each column, where the batch is a new one."""
    arrays = ", ".join(_ARRAYS[each] for each in types)
    names = ", ".join(columns)
    return (
        f"({names}) SELECT {names} FROM unnest({arrays}) AS c ({names}) "  # noqa: S608
        "WHERE EXISTS (SELECT FROM new)"
    )


def _added(name: str) -> str:
    """A sum that stops at the largest number rather than to overflow; "u" is what is there."""
    if name == "duration":
        return "duration = u.duration + excluded.duration"
    return f"{name} = least(u.{name}, {LARGEST} - excluded.{name}) + excluded.{name}"


#: Behind an INSERT of counters into "usage AS u": adds them to those that are there.
ADD_UP: Final = f"ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET " + ", ".join(
    map(_added, Counted._fields)
)

# One statement is one transaction and one round trip: the key goes in, and only where it was new do
# the records, what was spent, and the counters. The order of the rows keeps two nodes from waiting
# for each other.
_WRITE: Final = """
WITH new AS (
    INSERT INTO batch (node, worker, sequence, written)
    VALUES (%s, %s, %s, extract(epoch FROM now())::bigint)
    ON CONFLICT DO NOTHING RETURNING 1
){more}
INSERT INTO usage AS u {counters} ORDER BY 1, 2, 3, 4, 5 {add_up}
"""
_COUNTERS: Final = _rows(COLUMNS, [*(str,) * 4, int, *get_type_hints(Counted).values()])
_RECORDS: Final = _rows(RECORD_COLUMNS, RECORD_TYPES)
_KEEP: Final = f", kept AS (INSERT INTO usage_record {_RECORDS})"

#: By whether there are records, and whether anything was spent.
_WRITES: Final = {
    (recorded, spent): _WRITE.format(
        more=_KEEP * recorded + SPENDING * spent, counters=_COUNTERS, add_up=ADD_UP
    )
    for recorded in (False, True)
    for spent in (False, True)
}

#: Where "start" is among a record's columns.
_START: Final = UsageRecord._fields.index("start")


class BatchWriter:
    """Writes batches, each in a transaction, and makes the partitions for their records."""

    def __init__(self) -> None:
        self._partitions = Partitions()

    async def write(self, connection: Connection, batch: Batch) -> None:
        """See :meth:`IUsage.write_batch`."""
        fitted = fit(batch)
        try:
            try:
                await self._write(connection, fitted)
            except psycopg2.errors.CheckViolation:
                # A partition that was there is not any more: another node's upkeep dropped it.
                self._partitions.forget()
                await self._write(connection, fitted)
        except psycopg2.Error as error:
            self._partitions.forget()
            if (error.pgcode or "").startswith(_REJECTED):
                reason = error.diag.message_primary
                raise BatchRejected(f"the store cannot take this batch: {reason}") from error
            raise

    async def _write(self, connection: Connection, fitted: Fitted) -> None:
        if starts := fitted.records[_START]:
            await self._partitions.make(connection, starts)
        await connection.query(*_statement(fitted))


def _statement(fitted: Fitted) -> tuple[str, list[Parameter]]:
    records = fitted.records if fitted.records[0] else []
    spent = [*fitted.charged, *fitted.drawn] if any([*fitted.charged, *fitted.drawn]) else []
    values = [*map(_array, [*records, *spent])]
    if spent:
        values.append(owner_of(*fitted.key[:2]))
    values += map(_array, fitted.counters)
    return _WRITES[bool(records), bool(spent)], [*fitted.key, *values]


def _array(column: Column) -> str:
    """Return a column as PostgreSQL writes arrays.

    One text is five times cheaper than the ``ARRAY[…]`` that psycopg2 makes of a list, for us and
    for the server, which has to parse that as an expression. All of this is done a column at a
    time, in a few calls.
    """
    if not column:
        return "{}"
    if not isinstance(column[0], str):
        return f"{{{str(list(column))[1:-1]}}}"
    text = '","'.join(column)
    if "\\" in text or text.count('"') != 2 * len(column) - 2:
        text = '","'.join(each.replace("\\", "\\\\").replace('"', '\\"') for each in column)
    return f'{{"{text}"}}'


async def look(connection: Connection) -> None:
    """Find out whether the database can be read."""
    await connection.query("SELECT 1 FROM usage LIMIT 1")


async def select_usage(connection: Connection, query: UsageQuery) -> tuple[str, list[Parameter]]:
    """Return the SELECT for usage, and its parameters."""
    (extent,) = await connection.query(EXTENT)
    return usage_select(query, Extent._make(extent), POSTGRES)


async def stream(
    connection: Connection,
    sql: str,
    parameters: Sequence[Parameter],
    take: Callable[[list[Any]], object],
) -> None:
    """Give the rows of a SELECT to ``take``, page by page, as the server finds them."""
    await connection.query("BEGIN")
    await connection.query(f"DECLARE answer NO SCROLL CURSOR FOR {sql}", parameters)
    while rows := await connection.query(f"FETCH {PAGE} FROM answer"):
        take(rows)
    await connection.query("COMMIT")
