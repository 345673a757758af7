"""The schema of a PostgreSQL database: looking which version it is, making it, upgrading it.

There is no ROLLBACK anywhere: after a failure the connection is dropped, which is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.store import schema
from gatekeeper.store.postgres_link import Connection

#: The advisory lock that whoever changes the schema takes; any number that is ours.
UPGRADE_LOCK: Final = 0x6761746B6565

# Not to_regclass(): that may remember that there was no such table, when it waited for the lock.
_TABLE: Final = """
SELECT 1 FROM pg_class WHERE relname = 'schema_version' AND pg_table_is_visible(oid)
"""


async def found_version(connection: Connection) -> int:
    """Return the version of the schema, 0 where there is none."""
    if not await connection.query(_TABLE):
        return 0
    ((version,),) = await connection.query("SELECT coalesce(max(version), 0) FROM schema_version")
    return int(version)


async def make_or_check(connection: Connection) -> None:
    """Give an empty database the whole schema; refuse one that this program cannot use.

    :raises ConfigurationError: it is older, or newer, or not in UTF-8.
    """
    ((encoding,),) = await connection.query("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            [Problem("store.url", f"the database's encoding is {encoding}; make one with UTF8")]
        )
    if await found_version(connection) == 0:
        await _begin(connection)
        if await found_version(connection) == 0:  # Still: nobody else has been quicker.
            for number, sql in schema.upgrades("postgres", 0):
                await _apply(connection, number, sql)
        await connection.query("COMMIT")
    schema.check("postgres", await found_version(connection))


async def upgrade(connection: Connection, tell: Callable[[str], object]) -> None:
    """Bring the schema up to date, one transaction for each version.

    :raises ConfigurationError: the database is newer than this program.
    """
    while True:
        await _begin(connection)
        version = await found_version(connection)
        steps = schema.upgrades("postgres", version)
        if steps:
            number, sql = steps[0]
            tell(f"schema version {version} becomes {number} ...")
            await _apply(connection, number, sql)
        await connection.query("COMMIT")
        if not steps:
            return
        tell(f"schema version is {number}")


async def _begin(connection: Connection) -> None:
    """Begin a transaction, as the only one that looks at the version in order to change it."""
    await connection.query("BEGIN")
    await connection.query("SELECT pg_advisory_xact_lock(%s)", (UPGRADE_LOCK,))


async def _apply(connection: Connection, number: int, sql: str) -> None:
    await connection.query("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
    await connection.query(sql)
    await connection.query("INSERT INTO schema_version (version) VALUES (%s)", (number,))
