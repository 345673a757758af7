"""Settlements in SQL: reading them, with their entries and transactions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from gatekeeper.credits.fees import Fees
from gatekeeper.credits.grouping import Entry
from gatekeeper.credits.ledger import Sent, Settlement, SettlementState
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import Dialect, table
from gatekeeper.store.ledger import StoredSettlement, StoredTransaction

#: Those that have not ended, as SQL.
UNDER_WAY: Final = ", ".join(
    f"'{state.value}'"
    for state in SettlementState
    if state not in (SettlementState.CONFIRMED, SettlementState.ERROR)
)


def read_settlements(
    dialect: Dialect, rest: str, values: Sequence[Any]
) -> Steps[list[StoredSettlement]]:
    """Read settlements; ``rest`` is what follows behind FROM, ``values`` are its parameters."""
    rows = yield (
        "SELECT id, contract, account, state, nonce, attempts, reason, created, updated "  # noqa: S608
        f"FROM settlement {rest}",
        values,
    )
    if not rows:
        return []
    theirs = f"WHERE settlement IN ({table(dialect, 'bigint')})"
    ids = [json.dumps([[row[0]] for row in rows])]
    charges: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for settlement, holder, name, charge in (
        yield f"SELECT settlement, holder, name, id FROM charge {theirs} ORDER BY id", ids  # noqa: S608
    ):
        charges[settlement, holder, name].append(charge)
    entries: dict[int, list[Entry]] = defaultdict(list)
    for settlement, holder, token_id, credits, burn in (
        yield (
            "SELECT settlement, holder, token_id, credits, burn "  # noqa: S608
            f"FROM settlement_entry {theirs} ORDER BY settlement, holder, token_id",
            ids,
        )
    ):
        theirs_too = tuple(charges[settlement, holder, token_id])
        entries[settlement].append(Entry(holder, int(token_id), credits, burn, theirs_too))
    transactions: dict[int, list[StoredTransaction]] = defaultdict(list)
    for settlement, *row in (
        yield (
            f"SELECT settlement, {', '.join(StoredTransaction._fields)} "  # noqa: S608
            f"FROM burn_transaction {theirs} ORDER BY number",
            ids,
        )
    ):
        transactions[settlement].append(_transaction(row))
    return [_settlement(row, entries[row[0]], transactions[row[0]]) for row in rows]


def _transaction(row: Sequence[Any]) -> StoredTransaction:
    found = StoredTransaction._make(row)
    return found._replace(
        raw=bytes(found.raw),
        max_fee=int(found.max_fee),
        priority=int(found.priority),
        gas_price=None if found.gas_price is None else int(found.gas_price),
    )


def _settlement(
    row: Sequence[Any], entries: Sequence[Entry], transactions: Sequence[StoredTransaction]
) -> StoredSettlement:
    number, contract, account, state, nonce, attempts, reason, created, updated = row
    present = tuple(
        Sent(each.hash, Fees(each.max_fee, each.priority), each.since, each.sent_at)
        for each in transactions
        if each.nonce == nonce
    )
    return StoredSettlement(
        number,
        contract,
        account,
        Settlement(SettlementState(state), nonce, present, attempts),
        tuple(entries),
        tuple(transactions),
        reason,
        created,
        updated,
    )
