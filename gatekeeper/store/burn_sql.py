"""The transactions of settlements in SQL: as they were signed, and what became of them."""

from __future__ import annotations

from typing import Final

from gatekeeper.credits.ledger import (
    IllegalTransitionError,
    Mark,
    Receipt,
    SettlementEvent,
    SettlementState,
)
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import Dialect
from gatekeeper.store.fitting import LARGEST
from gatekeeper.store.ledger import StoredTransaction

SUCCEEDED: Final = "succeeded"
REVERTED: Final = "reverted"
DISPLACED: Final = "displaced"

_E: Final = SettlementEvent

#: What becomes of a transaction that is in a block, where its settlement ends or goes back. By
#: then a reorganization may have put another one into a block than the one that was seen there.
_OUTCOMES: Final = {_E.CONFIRM: SUCCEEDED, _E.REVERT: REVERTED, _E.GIVE_UP: REVERTED}


class BurnTransactions:
    """Statements about the transactions of one settlement."""

    def __init__(self, dialect: Dialect) -> None:
        place = dialect.placeholder
        names = "settlement, hash, raw, nonce, gas, max_fee, priority, since, outcome"
        self._insert = f"INSERT INTO burn_transaction ({names}) VALUES ({', '.join([place] * 9)})"  # noqa: S608
        self._known = (
            "SELECT sent_at FROM burn_transaction "  # noqa: S608
            f"WHERE settlement = {place} AND nonce = {place} AND hash = {place}"
        )
        theirs = f"WHERE settlement = {place} AND nonce = {place}"
        update = "UPDATE burn_transaction SET"
        self._sent = f"{update} sent_at = {place} {theirs} AND hash = {place}"
        self._receipt = (
            f"{update} block = {place}, gas_used = {place}, gas_price = {place} "
            f"{theirs} AND hash = {place}"
        )
        self._outcome = f"{update} outcome = {place} {theirs} AND hash = {place}"
        self._displace = f"{update} outcome = '{DISPLACED}' {theirs} AND hash <> {place}"
        self._out_of_block = (
            f"{update} block = NULL, gas_used = NULL, gas_price = NULL, outcome = '' {theirs}"
        )
        self._wait_anew = f"{update} since = {place}, sent_at = NULL {theirs} AND hash = {place}"

    def insert(self, settlement: int, transaction: StoredTransaction) -> Steps[None]:
        """Store one that was not sent yet.

        :raises IllegalTransitionError: it is there already.
        """
        name, raw, nonce, gas, max_fee, priority, since, *_ = transaction
        if (yield self._known, (settlement, nonce, name)):
            raise IllegalTransitionError(f"settlement {settlement} has the transaction {name}")
        fees = str(max_fee), str(priority)
        yield self._insert, (settlement, name, raw, nonce, gas, *fees, since, "")

    def sent(self, settlement: int, nonce: int | None, name: str, now: float) -> Steps[bool]:
        """A node took one of those under the settlement's nonce; whether one has had it before.

        :raises IllegalTransitionError: there is none of this name.
        """
        sent_at = yield from self._check(settlement, nonce, name)
        yield self._sent, (now, settlement, nonce, name)
        return sent_at is not None

    def mark(
        self,
        settlement: int,
        nonce: int | None,
        mark: Mark,
        state: SettlementState,
        now: float,
        receipt: Receipt | None,
    ) -> Steps[None]:
        """Do to them what goes with this mark of a settlement that was in ``state``.

        :raises IllegalTransitionError: it is about one that is not there, or lacks its receipt, or
            the receipt says otherwise.
        """
        if mark.event is _E.DISPLACE:
            yield self._displace, (settlement, nonce, "")
            return
        if mark.event is not _E.MINE and state is not SettlementState.MINED:
            return  # Nothing was sent, or nobody knows whether.
        yield from self._check(settlement, nonce, mark.hash)
        these = settlement, nonce
        if mark.event is _E.REORGANIZE:
            yield self._out_of_block, these
            yield self._wait_anew, (now, *these, mark.hash)
            return
        if mark.event is _E.MINE and receipt is None:
            raise IllegalTransitionError("what is in a block has a receipt")
        found = None if receipt is None else SUCCEEDED if receipt.succeeded else REVERTED
        outcome = _OUTCOMES.get(mark.event, found)
        if found not in (None, outcome):
            raise IllegalTransitionError(f"{mark.event.value!r} of what has {found}")
        if receipt is not None:
            gas_used = min(receipt.gas_used, LARGEST)
            values = min(receipt.block, LARGEST), gas_used, str(receipt.gas_price)
            yield self._receipt, (*values, *these, mark.hash)
        yield self._outcome, (outcome, *these, mark.hash)
        if mark.event is not _E.MINE:
            yield self._displace, (*these, mark.hash)

    def _check(self, settlement: int, nonce: int | None, name: str) -> Steps[float | None]:
        """See that it is there, and tell when it was sent last."""
        rows = yield self._known, (settlement, nonce, name)
        if rows:
            return rows[0][0]  # type: ignore[no-any-return]
        raise IllegalTransitionError(f"settlement {settlement} has no transaction {name} now")
