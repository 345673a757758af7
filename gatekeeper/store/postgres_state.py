"""What operators have made, in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Final

from gatekeeper.errors import AlreadyThereError, GatekeeperError, NotThereError
from gatekeeper.store import state_sql
from gatekeeper.store.dialects import POSTGRES, Rows, Statement
from gatekeeper.store.lease_sql import quota_values, quotas_of
from gatekeeper.store.postgres_link import Connection
from gatekeeper.store.postgres_spending import ADD_UP_SPENT
from gatekeeper.store.postgres_usage import ADD_UP
from gatekeeper.store.postgres_watch import CHANNEL
from gatekeeper.store.state import AuditEntry, Change, Snapshot
from gatekeeper.store.state_sql import RenameUsage
from gatekeeper.store.usage_sql import COLUMNS

_ALL: Final = ", ".join(COLUMNS)
_REST: Final = ", ".join(COLUMNS[2:])

# In the order in which a flush takes the rows: then neither waits for the other for ever.
_LOCK: Final = """
SELECT count(*) FROM (
    SELECT FROM usage WHERE service = %s AND user_name = %s ORDER BY path, model, hour FOR UPDATE
) AS locked
"""

# One statement: what a flush adds meanwhile is either moved or left.
_MOVE: Final = f"""
WITH moved AS (DELETE FROM usage WHERE service = %s AND user_name = %s RETURNING {_ALL})
INSERT INTO usage AS u ({_ALL}) SELECT service, %s, {_REST} FROM moved ORDER BY 3, 4, 5 {ADD_UP}
"""  # noqa: S608

# And the same with quotas, of which one user never has many.
_QUOTAS: Final = quotas_of(POSTGRES)
_LOCK_QUOTAS: Final = f"""
SELECT count(*) FROM (SELECT FROM account WHERE {_QUOTAS} ORDER BY name FOR UPDATE) AS locked
"""  # noqa: S608
_MOVE_QUOTAS: Final = f"""
WITH moved AS (DELETE FROM account WHERE {_QUOTAS} RETURNING source, name, granted, spent, updated)
INSERT INTO account AS a (source, name, holder, granted, spent, updated)
SELECT source, name, %s, granted, spent, updated FROM moved ORDER BY name {ADD_UP_SPENT}
"""  # noqa: S608

RENAME_USAGE: Final[RenameUsage] = (
    lambda _, service, old: (_LOCK, (service, old)),
    lambda new, service, old: (_MOVE, (service, old, new)),
    lambda new, service, old: (
        "UPDATE usage_record SET user_name = %s WHERE service = %s AND user_name = %s",
        (new, service, old),
    ),
    lambda _, service, old: (_LOCK_QUOTAS, quota_values(service, old)),
    lambda new, service, old: (_MOVE_QUOTAS, (*quota_values(service, old), new)),
)  # fmt: skip


async def version(connection: Connection) -> int:
    """See :meth:`IState.state_version`."""
    ((found,),) = await connection.query(state_sql.VERSION)
    return int(found)


async def snapshot(connection: Connection) -> Snapshot:
    """See :meth:`IState.snapshot`."""
    return await connection.look(state_sql.snapshot(time.time(), POSTGRES))


async def change(
    connection: Connection, changes: Sequence[Change], entry: AuditEntry
) -> int | GatekeeperError:
    """See :meth:`IState.change`. The errors are returned: the connection is as good as before."""
    return await connection.transact(
        _told(state_sql.change(changes, entry, POSTGRES, RENAME_USAGE)),
        AlreadyThereError,
        NotThereError,
    )


def _told(change: Generator[Statement, Rows, int]) -> Generator[Statement, Rows, int]:
    """A change of which everybody hears when it is committed, and not if it is not."""
    version = yield from change
    yield "SELECT pg_notify(%s, %s)", (CHANNEL, str(version))
    return version


async def audit(
    connection: Connection, limit: int, before: int | None
) -> list[tuple[int, AuditEntry]]:
    """See :meth:`IState.audit`."""
    return await connection.run(state_sql.audit(limit, before, POSTGRES))
