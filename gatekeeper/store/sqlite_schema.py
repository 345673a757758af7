"""The schema of an SQLite file: looking which version it is, making it, upgrading it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from gatekeeper.store import schema
from gatekeeper.store.sqlite_file import transaction


def found_version(connection: sqlite3.Connection) -> int:
    """Return the version of the schema, 0 where there is none."""
    tables = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'"
    if connection.execute(tables).fetchone() is None:
        return 0
    row: Any = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return row[0] or 0


def make_or_check(connection: sqlite3.Connection) -> None:
    """Give an empty file the whole schema; refuse one that is older or newer than this program.

    :raises ConfigurationError: it is.
    """
    if found_version(connection) == 0:
        with transaction(connection):
            if found_version(connection) == 0:  # Still: nobody else has been quicker.
                for number, sql in schema.upgrades("sqlite", 0):
                    _apply(connection, number, sql)
    schema.check("sqlite", found_version(connection))


def upgrade(connection: sqlite3.Connection, path: Path, tell: Callable[[str], object]) -> None:
    """Bring the schema up to date, one transaction for each version, after a backup.

    The backup is ``path`` with ``.vN.backup`` behind it, readable by its owner only.

    :raises ConfigurationError: the file is newer than this program.
    """
    safe = False
    while True:
        # The version is looked at with the lock held: whoever comes second finds the step done.
        with transaction(connection):
            version = found_version(connection)
            steps = schema.upgrades("sqlite", version)
            if not steps:
                return
            if version and not safe:
                backup = path.with_name(f"{path.name}.v{version}.backup")
                tell(f"backup: {backup}")
                _back_up(path, backup)
            safe = True
            number, sql = steps[0]
            tell(f"schema version {version} becomes {number} ...")
            _apply(connection, number, sql)
        tell(f"schema version is {number}")


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    for statement in _statements(sql):
        connection.execute(statement)
    connection.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))


def _statements(sql: str) -> Iterator[str]:
    """Cut a script: executescript() would commit the transaction that it is run in."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _back_up(path: Path, backup: Path) -> None:
    """Copy the file as it was committed last. The copy appears as a whole, or not at all."""
    unfinished = backup.with_name(backup.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        # A connection of its own, for ours has begun to write; it sees the file as before that.
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(unfinished)) as target,
        ):
            source.backup(target)
        handle = os.open(unfinished, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        os.replace(unfinished, backup)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
