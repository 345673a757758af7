"""The embedded store: one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from gatekeeper.store import sqlite_state, sqlite_upkeep, sqlite_usage
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import SQLITE
from gatekeeper.store.interface import (
    IStore,
    RecordQuery,
    Retention,
    SchemaVersion,
    Upkept,
    UsageQuery,
    UsageRow,
)
from gatekeeper.store.lease_calls import LeaseCalls
from gatekeeper.store.ledger import ISettling
from gatekeeper.store.ledger_calls import Purpose
from gatekeeper.store.pruning import Pruned, prune
from gatekeeper.store.records_sql import usage_records
from gatekeeper.store.schema import newest
from gatekeeper.store.sqlite_file import SqliteFile, run, transaction
from gatekeeper.store.sqlite_schema import found_version, make_or_check, upgrade
from gatekeeper.store.sqlite_settling import OwnerLock, SqliteSettling
from gatekeeper.store.state import AuditEntry, Change, Snapshot
from gatekeeper.store.upkeep import cuts
from gatekeeper.store.usage_sql import usage_rows
from gatekeeper.usage.records import Batch, UsageRecord

T = TypeVar("T")

#: Rows that a stream takes at a time.
PAGE: Final = 1000

#: Seconds that an upgrade waits for another one to finish.
UPGRADE_TIMEOUT: Final = 600.0


@implementer(IStore)
class SqliteStore(LeaseCalls):
    """Usage and state in the SQLite file ``path``.

    It is made (mode 0600) unless ``create`` is false.

    One connection writes, another one reads, a third one is for requests that wait for what is left
    of an account; each is in a thread of its own: a long report holds up neither those nor the
    flush.
    """

    def __init__(self, path: Path, reactor: IReactorFromThreads, *, create: bool = True) -> None:
        super().__init__(SQLITE)
        self._path = path
        self._reactor = reactor
        self._writing, self._reading, self._accounts = (
            SqliteFile(path, reactor, make_or_check, create=create) for _ in range(3)
        )
        self._owned: set[OwnerLock] = set()

    def open(self) -> Deferred[None]:
        """See :meth:`IStore.open`."""
        return self._writing.run(_nothing)

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""

        async def close() -> None:
            await self._writing.close()
            await self._reading.close()
            await self._accounts.close()
            for lock in self._owned:
                lock.release()

        return Deferred.fromCoroutine(close())

    def ping(self) -> Deferred[None]:
        """See :meth:`IStore.ping`."""
        return self._reading.run(sqlite_usage.look)

    # --- schema ---------------------------------------------------------------------------

    def version(self) -> Deferred[SchemaVersion]:
        """See :meth:`ISchema.version`."""
        return self._apart(
            lambda connection: SchemaVersion(found_version(connection), newest("sqlite"))
        )

    def upgrade(self, tell: Callable[[str], object]) -> Deferred[None]:
        """See :meth:`ISchema.upgrade`."""
        told = partial(self._reactor.callFromThread, tell)
        return self._apart(lambda connection: upgrade(connection, self._path, told))

    def _apart(self, function: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """Run ``function`` on a file whose version nobody has looked at."""

        async def run() -> T:
            file = SqliteFile(
                self._path, self._reactor, _nothing, create=False, busy_timeout=UPGRADE_TIMEOUT
            )
            try:
                return await file.run(function)
            finally:
                await file.close()

        return Deferred.fromCoroutine(run())

    # --- usage ----------------------------------------------------------------------------

    def write_batch(self, batch: Batch) -> Deferred[None]:
        """See :meth:`IUsage.write_batch`."""
        return self._writing.run(lambda connection: sqlite_usage.write(connection, batch))

    def usage(self, query: UsageQuery) -> Deferred[list[UsageRow]]:
        """See :meth:`IUsage.usage`."""
        return self._reading.run(
            lambda connection: usage_rows(sqlite_usage.ask_usage(connection, query).fetchall())
        )

    def stream_usage(
        self, query: UsageQuery, take: Callable[[Sequence[UsageRow]], object]
    ) -> Deferred[None]:
        """See :meth:`IUsage.stream_usage`."""
        return self._stream(
            lambda connection: sqlite_usage.ask_usage(connection, query),
            lambda rows: take(usage_rows(rows)),
        )

    def records(self, query: RecordQuery) -> Deferred[list[UsageRecord]]:
        """See :meth:`IUsage.records`."""
        return self._reading.run(
            lambda connection: usage_records(sqlite_usage.ask_records(connection, query).fetchall())
        )

    def stream_records(
        self, query: RecordQuery, take: Callable[[Sequence[UsageRecord]], object]
    ) -> Deferred[None]:
        """See :meth:`IUsage.stream_records`."""
        return self._stream(
            lambda connection: sqlite_usage.ask_records(connection, query),
            lambda rows: take(usage_records(rows)),
        )

    def _stream(
        self,
        ask: Callable[[sqlite3.Connection], sqlite3.Cursor],
        take: Callable[[list[Any]], object],
    ) -> Deferred[None]:
        async def stream() -> None:
            cursor = await self._reading.run(ask)
            try:
                while rows := await self._reading.run(lambda _: cursor.fetchmany(PAGE)):
                    take(rows)
            finally:
                await self._reading.run(lambda _: cursor.close())

        return Deferred.fromCoroutine(stream())

    # --- what operators have made ---------------------------------------------------------

    def state_version(self) -> Deferred[int]:
        """See :meth:`IState.state_version`."""
        return self._reading.run(sqlite_state.version)

    def snapshot(self) -> Deferred[Snapshot]:
        """See :meth:`IState.snapshot`."""
        return self._reading.run(sqlite_state.snapshot)

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        """See :meth:`IState.change`."""
        return self._writing.run(lambda connection: sqlite_state.change(connection, changes, entry))

    def watch_state(self, changed: Callable[[int | None], object]) -> None:
        """See :meth:`IState.watch_state`: it cannot."""

    def audit(
        self, limit: int, before: int | None = None
    ) -> Deferred[list[tuple[int, AuditEntry]]]:
        """See :meth:`IState.audit`."""
        return self._reading.run(lambda connection: sqlite_state.audit(connection, limit, before))

    # --- the ledger -----------------------------------------------------------------------

    def _do(self, purpose: Purpose, steps: Steps[T]) -> Deferred[T]:
        """See :class:`LedgerCalls`."""

        def do(connection: sqlite3.Connection) -> T:
            with transaction(connection, writing=purpose in ("lease", "change")):
                return run(connection, steps)

        files = {
            "request": self._accounts,
            "report": self._reading,
            "lease": self._accounts,
            "change": self._writing,
        }
        return files[purpose].run(do)

    def own_burning(self, account: str) -> Deferred[ISettling | None]:
        """See :meth:`ILedger.own_burning`."""
        lock = OwnerLock(self._path, account.lower())

        def own(_: sqlite3.Connection) -> ISettling | None:
            if not lock.take():
                return None
            self._owned = {lock, *(each for each in self._owned if each.is_held())}
            return SqliteSettling(self._writing, account.lower(), lock)

        return self._writing.run(own)

    # --- upkeep ---------------------------------------------------------------------------

    def maintain(self, now: float, keep: Retention) -> Deferred[Upkept]:
        """See :meth:`IUpkeep.maintain`."""

        async def maintain() -> Upkept:
            cut = cuts(now, keep)
            return Upkept(
                rolled_up=await self._all(sqlite_upkeep.roll_up, cut.hours),
                rows=await self._all(sqlite_upkeep.delete_rows, cut.days),
                record_days=await self._delete_records(cut.records),
                batches=await self._all(sqlite_upkeep.delete_batches, cut.batches),
                quotas=await self._all(sqlite_upkeep.delete_quotas, cut.quotas),
                audit=await self._all(sqlite_upkeep.delete_audit, cut.audit),
                **(await self._prune(cut.ledger))._asdict(),
            )

        return Deferred.fromCoroutine(maintain())

    async def _prune(self, before: int | None) -> Pruned:
        if before is None:
            return Pruned()
        return await prune(lambda steps: self._do("change", steps), SQLITE, before)

    async def _delete_records(self, before: int | None) -> int:
        if before is None:
            return 0
        days = await self._writing.run(partial(sqlite_upkeep.record_days, before=before))
        await self._all(sqlite_upkeep.delete_records, before)
        return days

    async def _all(self, step: Callable[[sqlite3.Connection, int], int], before: int | None) -> int:
        """Do ``step`` until there is nothing left to do; a flush may come between any two."""
        done = 0
        if before is not None:
            while count := await self._writing.run(lambda connection: step(connection, before)):
                done += count
        return done


def _nothing(_: sqlite3.Connection) -> None:
    """Only open the file."""
