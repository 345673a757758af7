"""What the API asks of a store about credits, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed

from gatekeeper.credits.ledger import ChargeState
from gatekeeper.store.ledger import (
    ChargeQuery,
    ChargeRow,
    GrantDiffersError,
    Granted,
    Kept,
    LedgerEvent,
    Owed,
    SettlementQuery,
    StoredSettlement,
)
from gatekeeper.store.state import AuditEntry
from gatekeeper.usage.records import PREPAID, Account

T = TypeVar("T")

LARGEST = 2**63 - 1


class MemoryLedger:
    """``kept`` are accounts; ``charged``, ``settled`` and ``log`` have the oldest first."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.kept: dict[Account, Kept] = {}
        self.grants: dict[str, tuple[Account, int]] = {}
        self.charged: list[ChargeRow] = []
        self.settled: list[StoredSettlement] = []
        self.log: list[LedgerEvent] = []
        self.retried: list[Sequence[int] | None] = []

    def read_accounts(self, accounts: Sequence[Account]) -> Deferred[list[Kept]]:
        return self._answer(lambda: [self.kept.get(each, Kept()) for each in accounts])

    def grant(
        self, account: Account, credits: int, entry: AuditEntry, grant_id: str | None = None
    ) -> Deferred[Granted]:
        def grant() -> Granted:
            granted, spent = self.kept.get(account, Kept())
            if grant_id is not None and grant_id in self.grants:
                before, number = self.grants[grant_id]
                if (before, number) != (account, credits):
                    raise GrantDiffersError(grant_id, before.name, before.holder, number)
                return Granted(Kept(granted, spent), repeated=True)
            if not 0 <= granted + credits <= LARGEST:
                raise ValueError(f"{granted + credits} credits cannot be granted in all")
            self.kept[account] = Kept(granted + credits, spent)
            self.entries.append(entry)
            if grant_id is not None:
                self.grants[grant_id] = account, credits
            return Granted(self.kept[account])

        return self._answer(grant)

    def list_accounts(
        self,
        source: str,
        name: str | None = None,
        holder: str | None = None,
        limit: int = 1000,
        after: tuple[str, str] | None = None,
    ) -> Deferred[list[tuple[Account, Kept]]]:
        found = [
            each
            for each in sorted(self.kept.items())
            if each[0].source == source == PREPAID
            and name in (None, each[0].name)
            and holder in (None, each[0].holder)
            and (after is None or each[0][1:] > after)
        ]
        return self._answer(lambda: found[:limit])

    def charges(self, query: ChargeQuery) -> Deferred[list[ChargeRow]]:
        found = [
            each
            for each in reversed(self.charged)
            if (not query.states or each.state in query.states)
            and query.source in (None, each.account.source)
            and query.name in (None, each.account.name)
            and query.holder in (None, each.account.holder)
            and query.settlement in (None, each.settlement)
            and (query.before is None or each.id < query.before)
        ]
        return self._answer(lambda: found[: query.limit])

    def owed(self) -> Deferred[list[Owed]]:
        def owed() -> list[Owed]:
            found = []
            for state in ChargeState:
                some = [each for each in self.charged if each.state is state]
                if some and state is not ChargeState.BURNED:
                    total, since = sum(each.credits for each in some), some[0].created
                    found.append(Owed(state, total, len(some), since))
            return found

        return self._answer(owed)

    def settlements(self, query: SettlementQuery) -> Deferred[list[StoredSettlement]]:
        found = [
            each
            for each in reversed(self.settled)
            if (not query.states or each.settlement.state in query.states)
            and (query.before is None or each.id < query.before)
        ]
        return self._answer(lambda: found[: query.limit])

    def ledger_events(
        self, limit: int, before: int | None = None, subject: tuple[str, str] | None = None
    ) -> Deferred[list[tuple[int, LedgerEvent]]]:
        found = [
            (number, event)
            for number, event in reversed([*enumerate(self.log, 1)])
            if (before is None or number < before)
            and subject in (None, (event.kind, event.subject))
        ]
        return self._answer(lambda: found[:limit])

    def retry_charges(
        self, ids: Sequence[int] | None, entry: AuditEntry, now: float
    ) -> Deferred[int]:
        def retry() -> int:
            self.retried.append(ids)
            self.entries.append(entry)
            return sum(
                each.state in (ChargeState.UNCOLLECTED, ChargeState.ERROR)
                and (ids is None or each.id in ids)
                for each in self.charged
            )

        return self._answer(retry)

    def _answer(self, work: Callable[[], T]) -> Deferred[T]:
        return succeed(None).addCallback(lambda _: work())
