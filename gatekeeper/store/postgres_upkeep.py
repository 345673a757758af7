"""Upkeep in PostgreSQL, in many small transactions, by one node at a time."""

from __future__ import annotations

from typing import Final

from gatekeeper.store.days import DAY
from gatekeeper.store.dialects import POSTGRES
from gatekeeper.store.fitting import LARGEST
from gatekeeper.store.interface import Upkept
from gatekeeper.store.postgres_link import Connection
from gatekeeper.store.postgres_records import drop_partitions
from gatekeeper.store.postgres_usage import ADD_UP
from gatekeeper.store.pruning import Pruned, prune
from gatekeeper.store.upkeep import Cuts
from gatekeeper.store.usage_sql import COLUMNS
from gatekeeper.usage.records import Counted

#: Rows in one transaction: so long others may have to wait for one of them.
STEP: Final = 5000

#: The advisory lock that the node has that is at it.
_LOCK: Final = 0x6761746B6567

_SUMS: Final = ", ".join(
    "sum(duration)" if name == "duration" else f"least(sum({name}), {LARGEST})::bigint"
    for name in Counted._fields
)

# SKIP LOCKED: rows that are being written now are for the next time.
_ROLL_UP: Final = f"""
WITH moved AS (
    DELETE FROM usage WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM usage WHERE hour < %s AND hour %% {DAY} <> 0
        ORDER BY hour LIMIT {STEP} FOR UPDATE SKIP LOCKED
    )) RETURNING {", ".join(COLUMNS)}
), added AS (
    INSERT INTO usage AS u ({", ".join(COLUMNS)})
    SELECT service, user_name, path, model, hour / {DAY} * {DAY}, {_SUMS}
    FROM moved GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 {ADD_UP}
)
SELECT count(*) FROM moved
"""  # noqa: S608

_DELETE_ROWS: Final = f"""
WITH gone AS (
    DELETE FROM usage WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM usage WHERE hour < %s LIMIT {STEP} FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) FROM gone
"""  # noqa: S608

# Not those that are their worker's last.
_DELETE_BATCHES: Final = f"""
WITH gone AS (
    DELETE FROM batch WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM batch AS old WHERE written < %s AND EXISTS (
            SELECT FROM batch
            WHERE node = old.node AND worker = old.worker AND sequence > old.sequence
        ) LIMIT {STEP} FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) FROM gone
"""  # noqa: S608
_DELETE_QUOTAS: Final = f"""
WITH gone AS (
    DELETE FROM account WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM account WHERE source = 'quota' AND updated < %s
        LIMIT {STEP} FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) FROM gone
"""  # noqa: S608

# Numbers go with the time, which has no index: the first ones are the oldest.
_DELETE_AUDIT: Final = f"""
WITH gone AS (
    DELETE FROM audit WHERE time < %s AND number = ANY (ARRAY(
        SELECT number FROM audit ORDER BY number LIMIT {STEP}
    )) RETURNING 1
)
SELECT count(*) FROM gone
"""  # noqa: S608


async def maintain(connection: Connection, cut: Cuts) -> Upkept:
    """See :meth:`IUpkeep.maintain`. The lock goes with the connection."""
    ((locked,),) = await connection.query("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
    if not locked:
        return Upkept()
    if cut.hours is not None:
        await connection.query(
            "UPDATE rolled_up SET before = %s WHERE before < %s", (cut.hours, cut.hours)
        )
    return Upkept(
        rolled_up=await _all(connection, _ROLL_UP, cut.hours),
        rows=await _all(connection, _DELETE_ROWS, cut.days),
        batches=await _all(connection, _DELETE_BATCHES, cut.batches),
        quotas=await _all(connection, _DELETE_QUOTAS, cut.quotas),
        audit=await _all(connection, _DELETE_AUDIT, cut.audit),
        **(await _prune(connection, cut.ledger))._asdict(),
        # The last: it fails where somebody reads for long.
        record_days=(0 if cut.records is None else await drop_partitions(connection, cut.records)),
    )


async def _prune(connection: Connection, before: int | None) -> Pruned:
    if before is None:
        return Pruned()
    return await prune(connection.transact, POSTGRES, before)


async def _all(connection: Connection, sql: str, before: int | None) -> int:
    """Run a statement until it finds nothing left to do, and return how much that was."""
    done = 0
    while before is not None:
        ((count,),) = await connection.query(sql, (before,))
        if not count:
            break
        done += count
    return done
