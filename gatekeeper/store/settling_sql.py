"""The ledger in SQL, in the hands of who burns (see :class:`ISettling`): charges and settlements.

The methods are generators of statements; SQLite and PostgreSQL differ in nothing else.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gatekeeper.credits.grouping import Charge, Entry, Group
from gatekeeper.credits.ledger import (
    CARRIED,
    ChargeEvent,
    ChargeState,
    IllegalTransitionError,
    Mark,
    Receipt,
    SettlementEvent,
    after_settlement,
)
from gatekeeper.credits.pricing import Token
from gatekeeper.store import charges_sql
from gatekeeper.store.burn_sql import BurnTransactions
from gatekeeper.store.charges_sql import Held, Steps
from gatekeeper.store.dialects import Dialect, table
from gatekeeper.store.fitting import LARGEST, fit_text
from gatekeeper.store.ledger import StoredSettlement, StoredTransaction
from gatekeeper.store.settlement_rows import Row, SettlementRows
from gatekeeper.store.settlements_sql import UNDER_WAY, read_settlements

#: Longest reason, in bytes.
LONGEST_REASON: Final = 1024

_E: Final = SettlementEvent
_TOKEN_ID: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)

#: What :meth:`SettlingSql.mark` is for.
_MARKED: Final = frozenset(
    {_E.NOTHING, _E.MINE, _E.REORGANIZE, _E.CONFIRM, _E.REVERT, _E.DISPLACE, _E.GIVE_UP}
)

#: What lets the nonce go.
_BACK: Final = (_E.REVERT, _E.DISPLACE)


class SettlingSql:
    """What the burner of ``account`` does to the ledger."""

    def __init__(self, dialect: Dialect, account: str) -> None:
        self._dialect = dialect
        self._account = account
        self._settlements = SettlementRows(dialect, account)
        self._transactions = BurnTransactions(dialect)

    # --- charges --------------------------------------------------------------------------

    def waiting(self, state: ChargeState, most: int) -> Steps[list[Charge]]:
        """Charges in this state; those first whose turn it is.

        What cannot be on a chain, for its token has no number, is left out.
        """
        order = "looked_at, id" if state is ChargeState.UNCOLLECTED else "id"
        rows = yield (
            "SELECT id, source, name, holder, credits, created FROM charge "  # noqa: S608
            # Not a parameter: the index is one of this state.
            f"WHERE state = '{state.value}' ORDER BY {order} LIMIT {self._dialect.placeholder}",
            (most,),
        )
        return [
            Charge(number, Token(source, int(name)), holder, credits, since)
            for number, source, name, holder, credits, since in rows
            if _TOKEN_ID.fullmatch(name)
        ]

    def retry(self, ids: Sequence[int], now: float) -> Steps[None]:
        """See :meth:`ISettling.retry`."""
        held = yield from self._hold_charges(ChargeState.UNCOLLECTED, ids)
        yield from charges_sql.change(
            self._dialect, held, ChargeState.UNCOLLECTED, ChargeEvent.RETRY, now
        )

    def touch(self, ids: Sequence[int], now: float) -> Steps[None]:
        """See :meth:`ISettling.touch`."""
        held = yield from self._hold_charges(ChargeState.UNCOLLECTED, ids)
        condition, values = charges_sql.with_ids(self._dialect, [each.id for each in held])
        yield (
            f"UPDATE charge SET looked_at = {self._dialect.placeholder} "  # noqa: S608
            f"WHERE state = 'uncollected'{condition}",
            (now, *values),
        )

    def _hold_charges(self, state: ChargeState, ids: Iterable[int]) -> Steps[list[Held]]:
        return charges_sql.hold(self._dialect, state, *charges_sql.with_ids(self._dialect, ids))

    # --- settlements begin ----------------------------------------------------------------

    def claim(self, group: Group, now: float) -> Steps[int | None]:
        """See :meth:`ISettling.claim`."""
        asked = {number for entry in group.entries for number in entry.charges}
        held = yield from self._hold_charges(ChargeState.PENDING, asked)
        payers = {(entry.holder, str(entry.token_id)) for entry in group.entries}
        sums: dict[tuple[str, str], int] = defaultdict(int)
        claimed = []
        for charge in held:
            payer = charge.holder, charge.name
            # What comes to more than an entry has room for is left for the next settlement.
            if (
                charge.source == group.contract
                and payer in payers
                and sums[payer] + charge.credits <= LARGEST
            ):
                sums[payer] += charge.credits
                claimed.append(charge)
        if not claimed:
            return None
        entries = [(*payer, credits, credits) for payer, credits in sums.items()]
        number = yield from self._settlements.begin(
            group.contract, 0, now, {"entries": len(entries)}
        )
        rows = table(self._dialect, "text", "text", "bigint", "bigint")
        yield (
            "INSERT INTO settlement_entry (settlement, holder, token_id, credits, burn) "  # noqa: S608
            f"SELECT {self._dialect.placeholder}, e.* FROM ({rows}) AS e",
            (number, json.dumps(entries)),
        )
        yield from charges_sql.change(
            self._dialect,
            claimed,
            ChargeState.PENDING,
            ChargeEvent.CLAIM,
            now,
            number,
            {"settlement": number},
        )
        return number

    def split(self, settlement: int, entries: Sequence[Entry], now: float) -> Steps[int]:
        """See :meth:`ISettling.split`."""
        row = yield from self._settlements.hold(settlement)
        after = after_settlement(row.state, _E.SPLIT)
        there = yield from self._settlements.entries(settlement)
        payers = {(entry.holder, str(entry.token_id)) for entry in entries}
        if not payers or not payers < there.keys():
            raise IllegalTransitionError(f"some entries of settlement {settlement}, and not all")
        number = yield from self._settlements.begin(
            row.contract, row.attempts, now, {"of": settlement}
        )
        place = self._dialect.placeholder
        yield (
            f"UPDATE settlement_entry SET settlement = {place} WHERE settlement = {place} "  # noqa: S608
            f"AND (holder, token_id) IN ({table(self._dialect, 'text', 'text')})",
            (number, settlement, json.dumps(sorted(payers))),
        )
        held = yield from self._charges_of(settlement)
        theirs = [charge for charge in held if (charge.holder, charge.name) in payers]
        condition, ids = charges_sql.with_ids(self._dialect, [charge.id for charge in theirs])
        yield (
            f"UPDATE charge SET settlement = {place}, updated = {place} "  # noqa: S608
            f"WHERE settlement = {place}{condition}",
            (number, now, settlement, *ids),
        )
        yield charges_sql.log_charges(
            self._dialect,
            now,
            _E.SPLIT.value,
            ChargeState.CLAIMED.value,
            ChargeState.CLAIMED.value,
            [(charge.id, charge.credits) for charge in theirs],
            {"settlement": number},
        )
        yield from self._settlements.advance(
            row, _E.SPLIT, row._replace(state=after), now, {"into": number}
        )
        return number

    def under_way(self) -> Steps[list[StoredSettlement]]:
        """See :meth:`ISettling.under_way`."""
        return read_settlements(
            self._dialect,
            f"WHERE state IN ({UNDER_WAY}) AND account = {self._dialect.placeholder} ORDER BY id",
            (self._account,),
        )

    # --- and go on ------------------------------------------------------------------------

    def sign(
        self,
        settlement: int,
        mark: Mark,
        entries: Sequence[Entry] | None,
        transaction: StoredTransaction,
        now: float,
    ) -> Steps[None]:
        """See :meth:`ISettling.sign`."""
        row = yield from self._settlements.hold(settlement)
        if mark.event not in (_E.SIGN, _E.REPLACE):
            raise IllegalTransitionError(f"{mark.event.value!r} does not sign")
        after = after_settlement(row.state, mark.event)
        if mark.event is _E.REPLACE:
            if entries is not None or transaction.nonce != row.nonce:
                raise IllegalTransitionError("a replacement burns the same, under the same nonce")
        else:
            yield from self._settlements.check_nonce(transaction.nonce)
            if entries is not None:
                yield from self._settlements.set_burns(settlement, entries)
        yield from self._transactions.insert(settlement, transaction)
        detail = {"hash": transaction.hash, "nonce": transaction.nonce}
        changed = row._replace(state=after, nonce=transaction.nonce)
        yield from self._settlements.advance(row, mark.event, changed, now, detail)

    def sent(self, settlement: int, name: str, now: float) -> Steps[None]:
        """See :meth:`ISettling.sent`."""
        row = yield from self._settlements.hold(settlement)
        after = after_settlement(row.state, _E.SEND)
        again = yield from self._transactions.sent(settlement, row.nonce, name, now)
        # The log would be full of what is sent again and again.
        detail = None if again else {"hash": name}
        changed = row._replace(state=after)
        yield from self._settlements.advance(row, _E.SEND, changed, now, detail)

    def mark(
        self, settlement: int, mark: Mark, now: float, reason: str, receipt: Receipt | None
    ) -> Steps[None]:
        """See :meth:`ISettling.mark`."""
        if mark.event not in _MARKED:
            raise IllegalTransitionError(f"{mark.event.value!r} is more than a mark")
        row = yield from self._settlements.hold(settlement)
        after = after_settlement(row.state, mark.event)
        yield from self._transactions.mark(settlement, row.nonce, mark, row.state, now, receipt)
        reason = fit_text(reason, LONGEST_REASON)
        back = mark.event in _BACK
        changed = row._replace(
            state=after,
            nonce=None if back else row.nonce,
            attempts=row.attempts + (mark.event is _E.REVERT),
            reason=reason or row.reason,
        )
        if after in CARRIED:
            yield from self._end(row, mark.event, CARRIED[after], now, reason)
        detail: dict[str, Any] = {"hash": mark.hash} if mark.hash else {}
        if reason:
            detail["reason"] = reason
        if receipt is not None:
            detail["block"] = receipt.block
            detail["succeeded"] = receipt.succeeded
        yield from self._settlements.advance(row, mark.event, changed, now, detail)

    def _end(
        self,
        row: Row,
        event: SettlementEvent,
        carried: ChargeEvent,
        now: float,
        reason: str,
    ) -> Steps[None]:
        """It ends, and its charges with it."""
        if event is not _E.CONFIRM:
            yield self._settlements.burn_nothing(row.id)
        held = yield from self._charges_of(row.id)
        yield from charges_sql.change(
            self._dialect,
            held,
            ChargeState.CLAIMED,
            carried,
            now,
            reason if carried is ChargeEvent.GIVE_UP else None,
            {"settlement": row.id},
        )
        if carried is ChargeEvent.BURN:
            there = yield from self._settlements.entries(row.id)
            short = [
                (row.contract, token_id, holder, credits - burn)
                for (holder, token_id), (credits, burn) in there.items()
                if burn < credits
            ]
            why = reason or "the payer had not enough"
            yield from charges_sql.add_uncollected(self._dialect, short, row.id, why, now)

    def _charges_of(self, settlement: int) -> Steps[list[Held]]:
        condition = f" AND settlement = {self._dialect.placeholder}"
        return charges_sql.hold(self._dialect, ChargeState.CLAIMED, condition, (settlement,))
