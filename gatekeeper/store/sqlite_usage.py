"""Usage in SQLite: a batch goes in, answers come out. All of this runs in the file's thread."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from gatekeeper.errors import BatchRejected
from gatekeeper.store import sqlite_spending
from gatekeeper.store.dialects import SQLITE
from gatekeeper.store.fitting import LARGEST, fit
from gatekeeper.store.interface import RecordQuery, UsageQuery
from gatekeeper.store.records_sql import RECORD_COLUMNS, records_select
from gatekeeper.store.sqlite_file import transaction
from gatekeeper.store.usage_sql import COLUMNS, EXTENT, KEY_COLUMNS, Extent, usage_select
from gatekeeper.usage.records import Batch, Counted


def _insert(table: str, columns: tuple[str, ...]) -> str:
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608


def _added(name: str) -> str:
    """A sum that stops at the largest number rather than to overflow."""
    if name == "duration":
        return "duration = duration + excluded.duration"
    return f"{name} = min({name}, {LARGEST} - excluded.{name}) + excluded.{name}"


#: Adds rows of counters to those that are there.
UPSERT: Final = (
    f"{_insert('usage', COLUMNS)} ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET "
    + ", ".join(map(_added, Counted._fields))
)

_RECORD: Final = _insert("usage_record", RECORD_COLUMNS)


def write(connection: sqlite3.Connection, batch: Batch) -> None:
    """See :meth:`IUsage.write_batch`."""
    fitted = fit(batch)
    try:
        with transaction(connection):
            new = connection.execute(
                "INSERT INTO batch (node, worker, sequence, written) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (*fitted.key, int(time.time())),
            ).rowcount
            if new:
                connection.executemany(UPSERT, zip(*fitted.counters, strict=True))
                connection.executemany(_RECORD, zip(*fitted.records, strict=True))
                sqlite_spending.write(connection, fitted)
    except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError) as error:
        raise BatchRejected(f"the store cannot take this batch: {error}") from error


def look(connection: sqlite3.Connection) -> None:
    """Find out whether the file can be read."""
    connection.execute("SELECT 1 FROM usage LIMIT 1").fetchall()


def ask_usage(connection: sqlite3.Connection, query: UsageQuery) -> sqlite3.Cursor:
    """Return a cursor of usage."""
    extent = Extent._make(connection.execute(EXTENT).fetchone())
    return connection.execute(*usage_select(query, extent, SQLITE))


def ask_records(connection: sqlite3.Connection, query: RecordQuery) -> sqlite3.Cursor:
    """Return a cursor of single records."""
    return connection.execute(*records_select(query, SQLITE))
