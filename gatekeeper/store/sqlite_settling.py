"""Who burns, where the store is an SQLite file: the process that has locked a file beside it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred

from gatekeeper.errors import StoreError
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import SQLITE
from gatekeeper.store.ledger_calls import SettlingCalls
from gatekeeper.store.sqlite_file import SqliteFile, run, transaction

T = TypeVar("T")


class OwnerLock:
    """A lock on a file of its own, ``STORE.burner-ACCOUNT``; it ends with the process."""

    def __init__(self, store: Path, account: str) -> None:
        self._path = store.with_name(f"{store.name}.burner-{quote(account, safe='')}")
        self._handle: int | None = None

    def take(self) -> bool:
        """Take it; false: another one has it, in this process or in another one.

        :raises OSError: the file cannot be made.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Not lockf(): that would let a process have it twice, and lose it by closing either.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        if not self.is_held():  # Somebody has removed it in between.
            self.release()
        return self._handle is not None

    def is_held(self) -> bool:
        """Whether it is ours, and nobody has put another file into the place of what we locked."""
        if self._handle is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let it go. The file stays: somebody may be about to lock it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


class SqliteSettling(SettlingCalls):
    """Writes through ``file`` as long as ``lock`` is held."""

    def __init__(self, file: SqliteFile, account: str, lock: OwnerLock) -> None:
        super().__init__(SQLITE, account)
        self._file = file
        self._lock = lock

    def _do(self, steps: Steps[T]) -> Deferred[T]:
        def do(connection: sqlite3.Connection) -> T:
            with transaction(connection):
                if not self._lock.is_held():
                    raise StoreError(f"store.url: another process may burn from {self.account} now")
                return run(connection, steps)

        return self._file.run(do)

    def close(self) -> Deferred[None]:
        """See :meth:`ISettling.close`."""
        return self._file.run(lambda _: self._lock.release())
