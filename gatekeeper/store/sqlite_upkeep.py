"""Upkeep in SQLite, in steps: each is one small transaction, and tells how much it did."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from gatekeeper.store.days import DAY
from gatekeeper.store.sqlite_file import transaction
from gatekeeper.store.sqlite_usage import UPSERT
from gatekeeper.store.usage_sql import COLUMNS, KEY_COLUMNS

#: Rows in one step: so long the flush waits, and other processes.
STEP: Final = 2000

_KEY: Final = ", ".join(KEY_COLUMNS)
_HOURS: Final = (
    f"SELECT {', '.join(COLUMNS)} FROM usage "  # noqa: S608
    f"WHERE hour < ? AND hour % {DAY} <> 0 ORDER BY hour LIMIT {STEP}"
)
_FORGET: Final = f"DELETE FROM usage WHERE ({_KEY}) = (?, ?, ?, ?, ?)"  # noqa: S608
_DELETE_ROWS: Final = f"""
DELETE FROM usage WHERE ({_KEY}) IN (SELECT {_KEY} FROM usage WHERE hour < ? LIMIT {STEP})
"""  # noqa: S608
_DELETE_RECORDS: Final = f"""
DELETE FROM usage_record
WHERE rowid IN (SELECT rowid FROM usage_record WHERE start < ? LIMIT {STEP})
"""  # noqa: S608
_DELETE_BATCHES: Final = f"""
DELETE FROM batch WHERE (node, worker, sequence) IN (
    SELECT node, worker, sequence FROM batch AS old WHERE written < ? AND EXISTS (
        SELECT 1 FROM batch
        WHERE node = old.node AND worker = old.worker AND sequence > old.sequence
    ) LIMIT {STEP}
)
"""  # noqa: S608
_DELETE_QUOTAS: Final = f"""
DELETE FROM account WHERE (source, name, holder) IN (
    SELECT source, name, holder FROM account WHERE source = 'quota' AND updated < ? LIMIT {STEP}
)
"""  # noqa: S608

# Numbers go with the time, which has no index: the first ones are the oldest.
_DELETE_AUDIT: Final = f"""
DELETE FROM audit WHERE time < ? AND number IN (
    SELECT number FROM audit ORDER BY number LIMIT {STEP}
)
"""  # noqa: S608


def roll_up(connection: sqlite3.Connection, before: int) -> int:
    """Add some hours before ``before`` to their days."""
    with transaction(connection):
        connection.execute("UPDATE rolled_up SET before = max(before, ?)", (before,))
        rows: list[Any] = connection.execute(_HOURS, (before,)).fetchall()
        connection.executemany(_FORGET, (row[:5] for row in rows))
        connection.executemany(UPSERT, ((*row[:4], row[4] // DAY * DAY, *row[5:]) for row in rows))
    return len(rows)


def delete_rows(connection: sqlite3.Connection, before: int) -> int:
    """Delete some usage before ``before``."""
    return _delete(connection, _DELETE_ROWS, before)


def record_days(connection: sqlite3.Connection, before: int) -> int:
    """Count the days before ``before`` that there are single records of."""
    row: Any = connection.execute(
        f"SELECT count(DISTINCT CAST(start AS INTEGER) / {DAY}) "  # noqa: S608
        "FROM usage_record WHERE start < ?",
        (before,),
    ).fetchone()
    return int(row[0])


def delete_records(connection: sqlite3.Connection, before: int) -> int:
    """Delete some single records from before ``before``."""
    return _delete(connection, _DELETE_RECORDS, before)


def delete_batches(connection: sqlite3.Connection, before: int) -> int:
    """Delete some keys of batches that were written before ``before``, but no worker's last."""
    return _delete(connection, _DELETE_BATCHES, before)


def delete_quotas(connection: sqlite3.Connection, before: int) -> int:
    """Delete some quotas that nobody has drawn from since before ``before``."""
    return _delete(connection, _DELETE_QUOTAS, before)


def delete_audit(connection: sqlite3.Connection, before: int) -> int:
    """Delete some entries of the audit log from before ``before``."""
    return _delete(connection, _DELETE_AUDIT, before)


def _delete(connection: sqlite3.Connection, sql: str, before: int) -> int:
    with transaction(connection):
        return connection.execute(sql, (before,)).rowcount
