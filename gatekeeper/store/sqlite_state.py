"""What operators have made, in SQLite. All of this runs in the file's thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, Final

from gatekeeper.store import state_sql
from gatekeeper.store.dialects import SQLITE
from gatekeeper.store.lease_sql import quota_values, quotas_of
from gatekeeper.store.sqlite_file import run, transaction
from gatekeeper.store.sqlite_spending import ADD_UP_SPENT
from gatekeeper.store.sqlite_usage import UPSERT
from gatekeeper.store.state import AuditEntry, Change, Snapshot
from gatekeeper.store.state_sql import RenameUsage
from gatekeeper.store.usage_sql import COLUMNS, KEY_COLUMNS

_ADD_UP: Final = UPSERT[UPSERT.index("ON CONFLICT") :]
_REST: Final = ", ".join(COLUMNS[2:])
assert KEY_COLUMNS[:2] == ("service", "user_name")

_COPY: Final = f"""
INSERT INTO usage (service, user_name, {_REST})
SELECT service, ?, {_REST} FROM usage WHERE service = ? AND user_name = ? {_ADD_UP}
"""  # noqa: S608

_QUOTAS: Final = quotas_of(SQLITE)
_COPY_QUOTAS: Final = f"""
INSERT INTO account (source, name, holder, granted, spent, updated)
SELECT source, name, ?, granted, spent, updated FROM account WHERE {_QUOTAS} {ADD_UP_SPENT}
"""  # noqa: S608
_DELETE_QUOTAS: Final = f"DELETE FROM account WHERE {_QUOTAS}"  # noqa: S608

RENAME_USAGE: Final[RenameUsage] = (
    lambda new, service, old: (_COPY, (new, service, old)),
    lambda _, service, old: (
        "DELETE FROM usage WHERE service = ? AND user_name = ?", (service, old),
    ),
    lambda new, service, old: (
        "UPDATE usage_record SET user_name = ? WHERE service = ? AND user_name = ?",
        (new, service, old),
    ),
    lambda new, service, old: (_COPY_QUOTAS, (new, *quota_values(service, old))),
    lambda _, service, old: (_DELETE_QUOTAS, quota_values(service, old)),
)  # fmt: skip


def version(connection: sqlite3.Connection) -> int:
    """See :meth:`IState.state_version`."""
    row: Any = connection.execute(state_sql.VERSION).fetchone()
    return int(row[0])


def snapshot(connection: sqlite3.Connection) -> Snapshot:
    """See :meth:`IState.snapshot`."""
    connection.execute("BEGIN")  # What is read until the end is of one moment.
    try:
        return run(connection, state_sql.snapshot(time.time(), SQLITE))
    finally:
        connection.execute("ROLLBACK")


def change(connection: sqlite3.Connection, changes: Sequence[Change], entry: AuditEntry) -> int:
    """See :meth:`IState.change`."""
    with transaction(connection):
        return run(connection, state_sql.change(changes, entry, SQLITE, RENAME_USAGE))


def audit(
    connection: sqlite3.Connection, limit: int, before: int | None
) -> list[tuple[int, AuditEntry]]:
    """See :meth:`IState.audit`."""
    return run(connection, state_sql.audit(limit, before, SQLITE))
