"""What a batch has spent, into SQLite: within the batch's transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Final

from gatekeeper.credits.ledger import ChargeState
from gatekeeper.store.fitting import LARGEST, Fitted
from gatekeeper.store.leases import owner_of

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

#: Behind an INSERT of what was spent: adds it to what is there.
ADD_UP_SPENT: Final = f"""
ON CONFLICT (source, name, holder) DO UPDATE
SET spent = min(account.spent, {LARGEST} - excluded.spent) + excluded.spent,
    updated = excluded.updated
"""
_DRAW: Final = f"""
INSERT INTO account (source, name, holder, granted, spent, updated) VALUES (?, ?, ?, 0, ?, ?)
{ADD_UP_SPENT}
"""  # noqa: S608
_COVER: Final = """
UPDATE lease SET credits = max(credits - ?, 0)
WHERE owner = ? AND source = ? AND name = ? AND holder = ?
"""


def write(connection: sqlite3.Connection, fitted: Fitted) -> None:
    """Add charges to the open ones of their accounts, and the rest to the accounts of the store.

    All of it goes off the leases of the batch's owner.
    """
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
    owner = owner_of(*fitted.key[:2])
    for columns in (fitted.charged, fitted.drawn):
        rows = zip(*columns, strict=True)
        connection.executemany(_COVER, ((row[3], owner, *row[:3]) for row in rows))
