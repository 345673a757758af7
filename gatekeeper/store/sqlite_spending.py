"""What a batch has spent, into SQLite: within the batch's transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Final

from gatekeeper.credits.ledger import ChargeState
from gatekeeper.store.fitting import LARGEST, Fitted

_ADD: Final = """
UPDATE charge SET credits = min(credits, :most - :amount) + :amount, updated = :now
WHERE source = :source AND name = :name AND holder = :holder AND open = 1
"""
_OPEN: Final = """
INSERT INTO charge
    (source, name, holder, credits, state, open, reason, created, updated, looked_at)
VALUES (:source, :name, :holder, :amount, :state, 1, '', :now, :now, :now) RETURNING id
"""
_LOG: Final = """
INSERT INTO ledger_event (time, kind, subject, event, before, after, detail)
VALUES (?, 'charge', ?, 'meter', '', ?, ?)
"""
_DRAW: Final = f"""
INSERT INTO account AS a (source, name, holder, granted, spent, updated) VALUES (?, ?, ?, 0, ?, ?)
ON CONFLICT (source, name, holder) DO UPDATE
SET spent = min(a.spent, {LARGEST} - excluded.spent) + excluded.spent, updated = excluded.updated
"""  # noqa: S608


def write(connection: sqlite3.Connection, fitted: Fitted) -> None:
    """Add charges to the open ones of their accounts, and the rest to the accounts of the store."""
    now = time.time()
    state = ChargeState.PENDING.value
    for source, name, holder, amount in zip(*fitted.charged, strict=True):
        values = {
            "source": source, "name": name, "holder": holder, "amount": amount,
            "now": now, "state": state, "most": LARGEST,
        }  # fmt: skip
        if not connection.execute(_ADD, values).rowcount:
            ((number,),) = connection.execute(_OPEN, values).fetchall()
            detail = json.dumps({"credits": amount})
            connection.execute(_LOG, (now, str(number), state, detail))
    connection.executemany(_DRAW, ((*row, now) for row in zip(*fitted.drawn, strict=True)))
