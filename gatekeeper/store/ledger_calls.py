"""The ledger of every store: its calls, each as statements that a store runs in its way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.credits.grouping import Charge, Entry, Group
from gatekeeper.credits.ledger import ChargeState, Mark, Receipt
from gatekeeper.store import ledger_sql
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import Dialect
from gatekeeper.store.ledger import (
    ChargeQuery,
    ChargeRow,
    Granted,
    ILedger,
    ISettling,
    Kept,
    LedgerEvent,
    Owed,
    SettlementQuery,
    StoredSettlement,
    StoredTransaction,
)
from gatekeeper.store.settling_sql import SettlingSql
from gatekeeper.store.state import AuditEntry
from gatekeeper.usage.records import Account

T = TypeVar("T")

#: What a call is: about a request that waits for it, or for a report; or a change, that is for such
#: a request (a lease) or is not.
Purpose = Literal["request", "report", "lease", "change"]


@implementer(ILedger)
class LedgerCalls(ABC):
    """Part of a store; ``dialect`` is that of its SQL."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    @abstractmethod
    def _do(self, purpose: Purpose, steps: Steps[T]) -> Deferred[T]:
        """Run the statements in one transaction, which is taken back where they raise."""

    @abstractmethod
    def own_burning(self, account: str) -> Deferred[ISettling | None]:
        """See :meth:`ILedger.own_burning`."""

    def read_accounts(self, accounts: Sequence[Account]) -> Deferred[list[Kept]]:
        """See :meth:`ILedger.read_accounts`."""
        return self._do("request", ledger_sql.read_accounts(self._dialect, accounts))

    def grant(
        self, account: Account, credits: int, entry: AuditEntry, grant_id: str | None = None
    ) -> Deferred[Granted]:
        """See :meth:`ILedger.grant`."""
        steps = ledger_sql.grant(self._dialect, account, credits, entry, grant_id)
        return self._do("change", steps)

    def list_accounts(
        self,
        source: str,
        name: str | None = None,
        holder: str | None = None,
        limit: int = 1000,
        after: tuple[str, str] | None = None,
    ) -> Deferred[list[tuple[Account, Kept]]]:
        """See :meth:`ILedger.list_accounts`."""
        return self._do(
            "report", ledger_sql.list_accounts(self._dialect, source, name, holder, limit, after)
        )

    def charges(self, query: ChargeQuery) -> Deferred[list[ChargeRow]]:
        """See :meth:`ILedger.charges`."""
        return self._do("report", ledger_sql.charges(self._dialect, query))

    def owed(self) -> Deferred[list[Owed]]:
        """See :meth:`ILedger.owed`."""
        return self._do("report", ledger_sql.owed(self._dialect))

    def settlements(self, query: SettlementQuery) -> Deferred[list[StoredSettlement]]:
        """See :meth:`ILedger.settlements`."""
        return self._do("report", ledger_sql.settlements(self._dialect, query))

    def ledger_events(
        self, limit: int, before: int | None = None, subject: tuple[str, str] | None = None
    ) -> Deferred[list[tuple[int, LedgerEvent]]]:
        """See :meth:`ILedger.ledger_events`."""
        return self._do("report", ledger_sql.events(self._dialect, limit, before, subject))

    def retry_charges(
        self, ids: Sequence[int] | None, entry: AuditEntry, now: float
    ) -> Deferred[int]:
        """See :meth:`ILedger.retry_charges`."""
        return self._do("change", ledger_sql.retry(self._dialect, ids, entry, now))


@implementer(ISettling)
class SettlingCalls(ABC):
    """What burns from ``account``; ``dialect`` is that of the store's SQL."""

    def __init__(self, dialect: Dialect, account: str) -> None:
        self.account = account
        self._sql = SettlingSql(dialect, account)

    @abstractmethod
    def _do(self, steps: Steps[T]) -> Deferred[T]:
        """Run the statements in one transaction, as the owner or not at all."""

    @abstractmethod
    def close(self) -> Deferred[None]:
        """See :meth:`ISettling.close`."""

    def pending(self, limit: int) -> Deferred[list[Charge]]:
        """See :meth:`ISettling.pending`."""
        return self._do(self._sql.waiting(ChargeState.PENDING, limit))

    def uncollected(self, limit: int) -> Deferred[list[Charge]]:
        """See :meth:`ISettling.uncollected`."""
        return self._do(self._sql.waiting(ChargeState.UNCOLLECTED, limit))

    def retry(self, ids: Sequence[int], now: float) -> Deferred[None]:
        """See :meth:`ISettling.retry`."""
        return self._do(self._sql.retry(ids, now))

    def touch(self, ids: Sequence[int], now: float) -> Deferred[None]:
        """See :meth:`ISettling.touch`."""
        return self._do(self._sql.touch(ids, now))

    def claim(self, group: Group, now: float) -> Deferred[int | None]:
        """See :meth:`ISettling.claim`."""
        return self._do(self._sql.claim(group, now))

    def under_way(self) -> Deferred[list[StoredSettlement]]:
        """See :meth:`ISettling.under_way`."""
        return self._do(self._sql.under_way())

    def split(self, settlement: int, entries: Sequence[Entry], now: float) -> Deferred[int]:
        """See :meth:`ISettling.split`."""
        return self._do(self._sql.split(settlement, entries, now))

    def sign(
        self,
        settlement: int,
        mark: Mark,
        entries: Sequence[Entry] | None,
        transaction: StoredTransaction,
        now: float,
    ) -> Deferred[None]:
        """See :meth:`ISettling.sign`."""
        return self._do(self._sql.sign(settlement, mark, entries, transaction, now))

    def sent(self, settlement: int, name: str, now: float) -> Deferred[None]:
        """See :meth:`ISettling.sent`."""
        return self._do(self._sql.sent(settlement, name, now))

    def mark(
        self,
        settlement: int,
        mark: Mark,
        now: float,
        *,
        reason: str = "",
        receipt: Receipt | None = None,
    ) -> Deferred[None]:
        """See :meth:`ISettling.mark`."""
        return self._do(self._sql.mark(settlement, mark, now, reason, receipt))
