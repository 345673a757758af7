"""The store in PostgreSQL, over txpostgres."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.errors import AlreadyThereError, StoreError
from gatekeeper.store import postgres_schema, postgres_state, postgres_upkeep
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import POSTGRES
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
from gatekeeper.store.postgres_link import Connection, PostgresLink, uncancelled
from gatekeeper.store.postgres_settling import PostgresSettling
from gatekeeper.store.postgres_url import parse_postgres_url
from gatekeeper.store.postgres_usage import BatchWriter, look, select_usage, stream
from gatekeeper.store.postgres_watch import PostgresWatch
from gatekeeper.store.records_sql import records_select, usage_records
from gatekeeper.store.schema import newest
from gatekeeper.store.state import AuditEntry, Change, IStateWatch, Snapshot
from gatekeeper.store.upkeep import cuts
from gatekeeper.store.usage_sql import usage_rows
from gatekeeper.usage.records import Batch, UsageRecord

T = TypeVar("T")


@implementer(IStore)
class PostgresStore(LeaseCalls):
    """Usage and state in the PostgreSQL database at ``url``; ``statement_timeout`` in seconds.

    One connection writes, another one reads, a third one is for the state and a fourth one for what
    is left of accounts, each made at its first use: a long report holds up neither the flush nor
    who is let in. Upkeep has one of its own while it is at it, so has who burns, and so has who
    watches the state. Every
    statement but those of an upgrade fails in bounded time, also when the server hangs; the next
    one connects anew.
    ``reactor`` is the reactor.
    """

    def __init__(self, url: str, statement_timeout: float, reactor: Any) -> None:
        super().__init__(POSTGRES)
        self._target = parse_postgres_url(url)
        self._reactor = reactor
        self._statement_timeout = statement_timeout
        self._writing, self._reading, self._state, self._accounts = (
            PostgresLink(self._target, reactor, statement_timeout, postgres_schema.make_or_check)
            for _ in range(4)
        )
        self._apart: set[PostgresLink] = set()
        self._watches: list[PostgresWatch] = []
        self._closed = False
        self._writer = BatchWriter()

    def open(self) -> Deferred[None]:
        """See :meth:`IStore.open`."""
        return uncancelled(self._writing.run(look))

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""

        async def close() -> None:
            self._closed = True
            for link in list(self._apart):
                link.hang_up()  # What it has done is done, and the rest can wait.
            for watch in self._watches:
                watch.stop()
            await self._writing.close()
            await self._reading.close()
            await self._state.close()
            await self._accounts.close()

        return uncancelled(close())

    def ping(self) -> Deferred[None]:
        """See :meth:`IStore.ping`."""
        return uncancelled(self._reading.run(look))

    # --- schema ---------------------------------------------------------------------------

    def version(self) -> Deferred[SchemaVersion]:
        """See :meth:`ISchema.version`."""

        async def version(connection: Connection) -> SchemaVersion:
            found = await postgres_schema.found_version(connection)
            return SchemaVersion(found, newest("postgres"))

        return uncancelled(self._run_apart(version, _nothing, self._statement_timeout))

    def upgrade(self, tell: Callable[[str], object]) -> Deferred[None]:
        """See :meth:`ISchema.upgrade`."""
        return uncancelled(
            self._run_apart(lambda connection: postgres_schema.upgrade(connection, tell), _nothing)
        )

    # --- usage ----------------------------------------------------------------------------

    def write_batch(self, batch: Batch) -> Deferred[None]:
        """See :meth:`IUsage.write_batch`."""
        return uncancelled(
            self._writing.run(lambda connection: self._writer.write(connection, batch))
        )

    def usage(self, query: UsageQuery) -> Deferred[list[UsageRow]]:
        """See :meth:`IUsage.usage`."""

        async def read(connection: Connection) -> list[UsageRow]:
            return usage_rows(await connection.query(*await select_usage(connection, query)))

        return uncancelled(self._reading.run(read))

    def stream_usage(
        self, query: UsageQuery, take: Callable[[Sequence[UsageRow]], object]
    ) -> Deferred[None]:
        """See :meth:`IUsage.stream_usage`."""

        async def read(connection: Connection) -> None:
            select = await select_usage(connection, query)
            await stream(connection, *select, lambda rows: take(usage_rows(rows)))

        return uncancelled(self._reading.run(read))

    def records(self, query: RecordQuery) -> Deferred[list[UsageRecord]]:
        """See :meth:`IUsage.records`."""

        async def read(connection: Connection) -> list[UsageRecord]:
            return usage_records(await connection.query(*records_select(query, POSTGRES)))

        return uncancelled(self._reading.run(read))

    def stream_records(
        self, query: RecordQuery, take: Callable[[Sequence[UsageRecord]], object]
    ) -> Deferred[None]:
        """See :meth:`IUsage.stream_records`."""

        async def read(connection: Connection) -> None:
            select = records_select(query, POSTGRES)
            await stream(connection, *select, lambda rows: take(usage_records(rows)))

        return uncancelled(self._reading.run(read))

    # --- what operators have made ---------------------------------------------------------

    def state_version(self) -> Deferred[int]:
        """See :meth:`IState.state_version`."""
        return uncancelled(self._state.run(postgres_state.version))

    def snapshot(self) -> Deferred[Snapshot]:
        """See :meth:`IState.snapshot`."""
        return uncancelled(self._state.run(postgres_state.snapshot))

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        """See :meth:`IState.change`."""

        async def change() -> int:
            done = await self._state.run(
                lambda connection: postgres_state.change(connection, changes, entry)
            )
            if isinstance(done, int):
                return done
            raise done

        return uncancelled(change())

    def watch_state(self, changed: Callable[[int | None], object]) -> IStateWatch:
        """See :meth:`IState.watch_state`."""
        watch = PostgresWatch(self._target, self._reactor, changed)
        self._watches.append(watch)
        return watch

    def audit(
        self, limit: int, before: int | None = None
    ) -> Deferred[list[tuple[int, AuditEntry]]]:
        """See :meth:`IState.audit`."""
        return uncancelled(
            self._state.run(lambda connection: postgres_state.audit(connection, limit, before))
        )

    # --- the ledger -----------------------------------------------------------------------

    def _do(self, purpose: Purpose, steps: Steps[T]) -> Deferred[T]:
        """See :class:`LedgerCalls`."""

        async def change(link: PostgresLink) -> T:
            done = await link.run(
                lambda connection: connection.transact(steps, ValueError, AlreadyThereError)
            )
            if isinstance(done, Exception):
                raise done
            return done

        if purpose == "change":
            return uncancelled(change(self._state))
        if purpose == "lease":
            return uncancelled(change(self._accounts))
        if purpose == "request":  # One statement: no transaction, no further round trips.
            return uncancelled(self._accounts.run(lambda connection: connection.run(steps)))
        return uncancelled(self._reading.run(lambda connection: connection.look(steps)))

    def own_burning(self, account: str) -> Deferred[ISettling | None]:
        """See :meth:`ILedger.own_burning`."""

        async def own() -> ISettling | None:
            if self._closed:
                raise StoreError("the store is closed")
            settling = PostgresSettling(
                self._target,
                self._reactor,
                self._statement_timeout,
                account.lower(),
                self._apart.discard,
            )
            self._apart.add(settling.link)
            return settling if await settling.take() else None

        return uncancelled(own())

    # --- upkeep ---------------------------------------------------------------------------

    def maintain(self, now: float, keep: Retention) -> Deferred[Upkept]:
        """See :meth:`IUpkeep.maintain`."""
        cut = cuts(now, keep)
        return uncancelled(
            self._run_apart(
                lambda connection: postgres_upkeep.maintain(connection, cut),
                postgres_schema.make_or_check,
                self._statement_timeout,
            )
        )

    async def _run_apart(
        self,
        work: Callable[[Connection], Awaitable[T]],
        prepare: Callable[[Connection], Awaitable[None]],
        statement_timeout: float | None = None,
    ) -> T:
        """Do ``work`` on a connection of its own, which is closed then."""
        if self._closed:
            raise StoreError("the store is closed")
        link = PostgresLink(self._target, self._reactor, statement_timeout, prepare)
        self._apart.add(link)
        try:
            return await link.run(work)
        finally:
            self._apart.discard(link)
            link.hang_up()


async def _nothing(_: Connection) -> None:
    """Take the database as it is."""
