"""Settlements in SQL: their rows and those of their entries, one change at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from gatekeeper.credits.grouping import Entry
from gatekeeper.credits.ledger import (
    IllegalTransitionError,
    SettlementEvent,
    SettlementState,
)
from gatekeeper.store import charges_sql
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import Dialect, Statement
from gatekeeper.store.ledger import LedgerEvent
from gatekeeper.store.settlements_sql import UNDER_WAY


class Row(NamedTuple):
    """A settlement's row, locked until the end of the transaction."""

    id: int
    contract: str
    state: SettlementState
    nonce: int | None
    attempts: int
    reason: str


class SettlementRows:
    """The settlements of ``account``."""

    def __init__(self, dialect: Dialect, account: str) -> None:
        self._dialect = dialect
        self._account = account

    def begin(self, contract: str, attempts: int, now: float, detail: dict[str, Any]) -> Steps[int]:
        """A settlement begins, without entries; its id."""
        place = self._dialect.placeholder
        state = SettlementState.CLAIMED.value
        ((number,),) = yield (
            "INSERT INTO settlement "  # noqa: S608
            "(contract, account, state, attempts, reason, created, updated) "
            f"VALUES ({', '.join([place] * 7)}) RETURNING id",
            (contract, self._account, state, attempts, "", now, now),
        )
        detail = {"contract": contract, "account": self._account, **detail}
        yield self._log(number, "claim", "", state, now, detail)
        return int(number)

    def hold(self, settlement: int) -> Steps[Row]:
        """Lock it.

        :raises IllegalTransitionError: there is none, or it is another account's.
        """
        place = self._dialect.placeholder
        rows = yield (
            "SELECT id, contract, state, nonce, attempts, reason FROM settlement "  # noqa: S608
            f"WHERE id = {place} AND account = {place}{self._dialect.lock}",
            (settlement, self._account),
        )
        if not rows:
            raise IllegalTransitionError(f"{self._account} has no settlement {settlement}")
        ((number, contract, state, *rest),) = rows
        return Row(number, contract, SettlementState(state), *rest)

    def advance(
        self,
        row: Row,
        event: SettlementEvent,
        changed: Row,
        now: float,
        detail: dict[str, Any] | None,
    ) -> Steps[None]:
        """Write down what ``changed`` of a row, and that it did, unless there is no detail."""
        place = self._dialect.placeholder
        yield (
            f"UPDATE settlement SET state = {place}, nonce = {place}, attempts = {place}, "  # noqa: S608
            f"reason = {place}, updated = {place} WHERE id = {place}",
            (changed.state.value, *changed[3:], now, row.id),
        )
        if detail is not None:
            before, after = row.state.value, changed.state.value
            yield self._log(row.id, event.value, before, after, now, detail)

    def _log(
        self, number: int, event: str, before: str, after: str, now: float, detail: dict[str, Any]
    ) -> Statement:
        entry = LedgerEvent(
            now, "settlement", str(number), event, before, after, json.dumps(detail)
        )
        return charges_sql.log(self._dialect, [entry])

    def entries(self, settlement: int) -> Steps[dict[tuple[str, str], tuple[int, int]]]:
        """By holder and token id: credits, and how many of them are burned."""
        rows = yield (
            "SELECT holder, token_id, credits, burn FROM settlement_entry "  # noqa: S608
            f"WHERE settlement = {self._dialect.placeholder} ORDER BY holder, token_id",
            (settlement,),
        )
        return {(row[0], row[1]): (row[2], row[3]) for row in rows}

    def set_burns(self, settlement: int, entries: Sequence[Entry]) -> Steps[None]:
        """Write down what is burned of each entry.

        :raises IllegalTransitionError: these are not its entries, or it is more than they have.
        """
        there = yield from self.entries(settlement)
        given = {
            (entry.holder, str(entry.token_id)): (entry.credits, entry.burn) for entry in entries
        }
        if (
            len(entries) != len(there)
            or {payer: credits for payer, (credits, _) in given.items()}
            != {payer: credits for payer, (credits, _) in there.items()}
            or any(not 0 <= burn <= credits for credits, burn in given.values())
        ):
            raise IllegalTransitionError(f"what is signed are not the entries of {settlement}")
        place = self._dialect.placeholder
        for (holder, token_id), (_, burn) in given.items():
            if burn != there[holder, token_id][1]:
                yield (
                    f"UPDATE settlement_entry SET burn = {place} "  # noqa: S608
                    f"WHERE settlement = {place} AND holder = {place} AND token_id = {place}",
                    (burn, settlement, holder, token_id),
                )

    def check_nonce(self, nonce: int) -> Steps[None]:
        """See that nobody has it: of two settlements under one nonce only one is ever burned.

        :raises IllegalTransitionError: a settlement has.
        """
        place = self._dialect.placeholder
        rows = yield (
            f"SELECT id FROM settlement WHERE state IN ({UNDER_WAY}) "  # noqa: S608
            f"AND account = {place} AND nonce = {place}",
            (self._account, nonce),
        )
        if rows:
            raise IllegalTransitionError(f"settlement {rows[0][0]} has the nonce {nonce}")

    def burn_nothing(self, settlement: int) -> Statement:
        """Nothing was burned of any entry."""
        place = self._dialect.placeholder
        return f"UPDATE settlement_entry SET burn = 0 WHERE settlement = {place}", (settlement,)  # noqa: S608
