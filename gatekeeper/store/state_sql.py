"""What operators have made, in SQL: the statements of a change, whatever runs them.

The functions here are generators. They yield statements, are sent the rows that each one gave, and
return what came of it. Whoever runs them does so in one transaction, and takes it back where they
raise; SQLite and PostgreSQL differ in nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from gatekeeper.errors import AlreadyThereError, NotThereError
from gatekeeper.store.dialects import Dialect, Rows, Statement
from gatekeeper.store.state import (
    Add,
    AuditEntry,
    Change,
    Remove,
    Replace,
    Revocation,
    Snapshot,
    Stored,
    StoredKey,
    StoredService,
    StoredUser,
    kind_of,
    name_of,
    removed_name,
)

#: The statements that give all usage and quotas of a user another name; the old name goes with it,
#: too. Their parameters are the new name, the service, and the old name.
RenameUsage: TypeAlias = Sequence[Callable[[str, str, str], Statement]]


class _Table(NamedTuple):
    """A table; the first ``keys`` columns are what a thing is found by."""

    name: str
    columns: tuple[str, ...]
    keys: int
    row: Callable[[Any], tuple[Any, ...]]
    thing: Callable[[Sequence[Any]], Stored]


def _user_row(user: StoredUser) -> tuple[Any, ...]:
    return (*user[:4], int(user.disabled), user.expires, json.dumps(user.groups))


@lru_cache
def _groups(text: str) -> tuple[str, ...]:
    """Of very many users nearly all have the same."""
    return tuple(json.loads(text))


def _user(row: Sequence[Any]) -> StoredUser:
    service, name, password, created, disabled, expires, groups = row
    return StoredUser(service, name, password, created, bool(disabled), expires, _groups(groups))


def _key_row(key: StoredKey) -> tuple[Any, ...]:
    return (*key[:6], int(key.disabled), key.expires, json.dumps(key.groups))


def _key(row: Sequence[Any]) -> StoredKey:
    key_id, service, user, digest, created, label, disabled, expires, groups = row
    return StoredKey(
        key_id, service, user, digest, created, label, bool(disabled), expires, _groups(groups)
    )


_LATER: Final = ("disabled", "expires", "user_groups")
_SERVICES: Final = _Table("service", StoredService._fields, 1, tuple, StoredService._make)
_USERS: Final = _Table(
    "service_user", ("service", "user_name", "password", "created", *_LATER), 2, _user_row, _user
)
_KEYS: Final = _Table(
    "api_key",
    ("id", "service", "user_name", "digest", "created", "label", *_LATER),
    1,
    _key_row,
    _key,
)
_REVOCATIONS: Final = _Table("revocation", Revocation._fields, 1, tuple, Revocation._make)
_TABLES: Final[dict[type[Any], _Table]] = {
    StoredService: _SERVICES,
    StoredUser: _USERS,
    StoredKey: _KEYS,
    Revocation: _REVOCATIONS,
}

VERSION: Final = "SELECT version FROM state"


def change(
    changes: Sequence[Change], entry: AuditEntry, dialect: Dialect, rename_usage: RenameUsage
) -> Generator[Statement, Rows, int]:
    """Do all of the changes, note them down, and return the new version.

    :raises AlreadyThereError: see :meth:`IState.change`.
    :raises NotThereError: see there.
    """
    statements = _Statements(dialect)
    # The first of all: changes of others wait here until this one is through.
    ((version,),) = yield "UPDATE state SET version = version + 1 RETURNING version", ()
    for each in changes:
        table = _TABLES[type(each.thing)]
        row = table.row(each.thing)
        if isinstance(each, Add):
            if not (yield statements.insert(table, row)):
                raise AlreadyThereError(kind_of(each.thing), name_of(each.thing))
            if isinstance(each.thing, StoredUser):
                # What came in since a user of that name was removed, from whatever node.
                yield from _rename(each.thing.service, each.thing.name, entry.time, rename_usage)
            continue
        if isinstance(each, Replace):
            done = yield statements.update(table, row)
        else:
            done = yield statements.delete(table.name, table.columns[: table.keys], row)
        if not done:
            raise NotThereError(kind_of(each.thing), name_of(each.thing))
        if isinstance(each, Remove):
            yield from _remove_what_belongs(each.thing, entry.time, statements, rename_usage)
    yield statements.forget_revocations(entry.time)
    yield insert_entry(entry, dialect)
    return int(version)


def _remove_what_belongs(
    thing: Stored, time: float, statements: _Statements, rename_usage: RenameUsage
) -> Generator[Statement, Rows, None]:
    if isinstance(thing, StoredUser):
        users = [(thing.name,)]
        yield statements.delete("api_key", ("service", "user_name"), thing)
    elif isinstance(thing, StoredService):
        users = yield statements.delete("service_user", ("service",), thing, "user_name")
        yield statements.delete("api_key", ("service",), thing)
    else:
        return
    service = thing.service if isinstance(thing, StoredUser) else thing.name
    for (user,) in users:
        yield from _rename(service, user, time, rename_usage)


def _rename(
    service: str, user: str, time: float, rename_usage: RenameUsage
) -> Generator[Statement, Rows, None]:
    for statement in rename_usage:
        yield statement(removed_name(user, time), service, user)


def snapshot(now: float, dialect: Dialect) -> Generator[Statement, Rows, Snapshot]:
    """Read everything; revocations that are over at ``now`` are left out."""
    ((version,),) = yield VERSION, ()
    found: dict[str, Rows] = {}
    for table in _TABLES.values():
        columns = ", ".join(table.columns)
        over = f" WHERE until > {dialect.placeholder}" if table is _REVOCATIONS else ""
        found[table.name] = yield (
            f"SELECT {columns} FROM {table.name}{over} ORDER BY created, 1",  # noqa: S608
            (now,) if over else (),
        )
    return Snapshot(
        int(version),
        tuple(StoredService._make(row) for row in found["service"]),
        tuple(map(_user, found["service_user"])),
        tuple(map(_key, found["api_key"])),
        tuple(Revocation._make(row) for row in found["revocation"]),
    )


def audit(
    limit: int, before: int | None, dialect: Dialect
) -> Generator[Statement, Rows, list[tuple[int, AuditEntry]]]:
    """Read the log, the newest first."""
    place = dialect.placeholder
    older = "" if before is None else f" WHERE number < {place}"
    rows = yield (
        f"SELECT number, {', '.join(AuditEntry._fields)} FROM audit{older} "  # noqa: S608
        f"ORDER BY number DESC LIMIT {place}",
        (limit,) if before is None else (before, limit),
    )
    return [(int(row[0]), AuditEntry._make(row[1:])) for row in rows]


def insert_entry(entry: AuditEntry, dialect: Dialect) -> Statement:
    """One line of the log."""
    places = ", ".join([dialect.placeholder] * len(entry))
    names = ", ".join(AuditEntry._fields)
    return f"INSERT INTO audit ({names}) VALUES ({places})", entry  # noqa: S608


class _Statements:
    """Statements in a dialect. Nothing from outside gets into a text: names are ours."""

    def __init__(self, dialect: Dialect) -> None:
        self._place = dialect.placeholder

    def insert(self, table: _Table, row: Sequence[Any]) -> Statement:
        """One row where there is none: a row comes back where it went in."""
        places = ", ".join([self._place] * len(row))
        return (
            f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places}) "  # noqa: S608
            "ON CONFLICT DO NOTHING RETURNING 1",
            row,
        )

    def update(self, table: _Table, row: Sequence[Any]) -> Statement:
        """One row: a row comes back where there was one."""
        values = ", ".join(f"{name} = {self._place}" for name in table.columns[table.keys :])
        found = self._where(table.columns[: table.keys])
        return (
            f"UPDATE {table.name} SET {values}{found} RETURNING 1",  # noqa: S608
            (*row[table.keys :], *row[: table.keys]),
        )

    def delete(
        self, table: str, by: Sequence[str], values: Sequence[Any], returning: str = "1"
    ) -> Statement:
        """All rows in which the columns ``by`` have the first of ``values``, which come back."""
        return (
            f"DELETE FROM {table}{self._where(by)} RETURNING {returning}",  # noqa: S608
            values[: len(by)],
        )

    def forget_revocations(self, now: float) -> Statement:
        """Those that are over."""
        return f"DELETE FROM revocation WHERE until <= {self._place}", (now,)  # noqa: S608

    def _where(self, columns: Sequence[str]) -> str:
        return " WHERE " + " AND ".join(f"{name} = {self._place}" for name in columns)
