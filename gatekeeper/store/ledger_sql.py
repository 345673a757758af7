"""The ledger in SQL: what everybody may ask of it and do to it (see :class:`ILedger`).

The functions here are generators of statements; SQLite and PostgreSQL differ in nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from gatekeeper.credits.ledger import ChargeEvent, ChargeState
from gatekeeper.store import charges_sql
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import Dialect, limit, table, where
from gatekeeper.store.fitting import LARGEST, fit_account
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
from gatekeeper.store.settlements_sql import read_settlements
from gatekeeper.store.state import AuditEntry
from gatekeeper.store.state_sql import insert_entry
from gatekeeper.usage.records import PREPAID, Account

_HALF: Final = 32

# One statement, so that all of it is of one moment: a charge must not be seen before it is burned,
# and its settlement after.
_ACCOUNTS: Final = """
WITH asked (source, name, holder) AS ({table})
SELECT a.source, a.name, a.holder, a.granted, a.spent
FROM asked JOIN account AS a
    ON a.source = asked.source AND a.name = asked.name AND a.holder = asked.holder
UNION ALL
SELECT c.source, c.name, c.holder, 0, c.credits
FROM asked JOIN charge AS c
    ON c.source = asked.source AND c.name = asked.name AND c.holder = asked.holder
WHERE c.state <> 'burned'
UNION ALL
SELECT s.contract, e.token_id, e.holder, 0, -e.burn
FROM settlement AS s
JOIN settlement_entry AS e ON e.settlement = s.id
JOIN asked ON asked.source = s.contract AND asked.name = e.token_id AND asked.holder = e.holder
WHERE s.state = 'mined' AND EXISTS (
    SELECT 1 FROM burn_transaction AS t WHERE t.settlement = s.id AND t.outcome = 'succeeded'
)
"""


def read_accounts(dialect: Dialect, accounts: Sequence[Account]) -> Steps[list[Kept]]:
    """See :meth:`ILedger.read_accounts`."""
    fitted = [fit_account(account) for account in accounts]
    found = {account: Kept() for account in fitted}
    if not found:
        return []
    text = _ACCOUNTS.format(table=table(dialect, "text", "text", "text"))
    rows = yield text, (json.dumps([*found]),)
    for *account, granted, spent in rows:
        kept = found[Account._make(account)]
        found[Account._make(account)] = Kept(kept.granted + granted, kept.spent + spent)
    return [found[account] for account in fitted]


def grant(
    dialect: Dialect,
    account: Account,
    credits: int,
    entry: AuditEntry,
    grant_id: str | None = None,
) -> Steps[Granted]:
    """See :meth:`ILedger.grant`.

    :raises GrantDiffersError, ValueError: see there.
    """
    if account.source != PREPAID:
        raise ValueError("only prepaid accounts are granted credits")
    account = fit_account(account)
    place = dialect.placeholder
    this = f"source = {place} AND name = {place} AND holder = {place}"
    yield (
        "INSERT INTO account (source, name, holder, granted, spent, updated) "  # noqa: S608
        f"VALUES ({place}, {place}, {place}, 0, 0, {place}) ON CONFLICT DO NOTHING",
        (*account, entry.time),
    )
    ((granted, spent),) = yield (
        f"SELECT granted, spent FROM account WHERE {this}{dialect.lock}",  # noqa: S608
        account,
    )
    kept = Kept(granted + credits, spent)
    change = str(granted), str(kept.granted)
    if not (yield from _log_grant(dialect, account, credits, entry, change, grant_id)):
        return Granted(Kept(granted, spent), repeated=True)
    if kept.granted < 0:
        raise ValueError(f"of {granted} granted credits {-credits} cannot be taken back")
    if kept.granted > LARGEST:
        raise ValueError(f"{kept.granted} credits are more than can be granted in all")
    yield (
        f"UPDATE account SET granted = {place}, updated = {place} WHERE {this}",  # noqa: S608
        (kept.granted, entry.time, *account),
    )
    yield insert_entry(entry, dialect)
    return Granted(kept)


def _log_grant(
    dialect: Dialect,
    account: Account,
    credits: int,
    entry: AuditEntry,
    change: tuple[str, str],
    grant_id: str | None,
) -> Steps[bool]:
    """Write a grant into the ledger's log; false: the same one is there.

    :raises GrantDiffersError: another grant of its id is there.
    """
    detail = {"pool": account.name, "holder": account.holder, "credits": credits}
    named = {} if grant_id is None else {"id": grant_id}
    event = LedgerEvent(
        entry.time,
        PREPAID,
        f"{account.name}/{account.holder}",
        "grant",
        *change,
        json.dumps({**detail, **named, **_who(entry)}),
    )
    places = ", ".join([dialect.placeholder] * (len(event) + 1))
    insert = (
        f"INSERT INTO ledger_event ({', '.join(LedgerEvent._fields)}, grant_id) "  # noqa: S608
        f"VALUES ({places}) ON CONFLICT DO NOTHING RETURNING 1"
    )
    # Whoever is about to write the same id is waited for. Between the two statements it may go,
    # for it is old, and then this is a new grant.
    while not (yield insert, (*event, grant_id)):
        found = yield (
            f"SELECT detail FROM ledger_event WHERE grant_id = {dialect.placeholder}",  # noqa: S608
            (grant_id,),
        )
        for (text,) in found:
            before = json.loads(text)
            there = {name: before[name] for name in detail}
            if there != detail:
                assert grant_id is not None
                raise GrantDiffersError(grant_id, **there)
            return False
    return True


def list_accounts(
    dialect: Dialect,
    source: str,
    name: str | None,
    holder: str | None,
    most: int,
    after: tuple[str, str] | None,
) -> Steps[list[tuple[Account, Kept]]]:
    """See :meth:`ILedger.list_accounts`."""
    conditions, values = where(
        dialect, (("source =", source), ("name =", name), ("holder =", holder))
    )
    if after is not None:
        place = dialect.placeholder
        conditions += f" AND (name, holder) > ({place}, {place})"
        values += after
    at_most, number = limit(dialect, most)
    rows = yield (
        f"SELECT source, name, holder, granted, spent FROM account{conditions} "  # noqa: S608
        f"ORDER BY name, holder{at_most}",
        values + number,
    )
    return [(Account._make(row[:3]), Kept._make(row[3:])) for row in rows]


def charges(dialect: Dialect, query: ChargeQuery) -> Steps[list[ChargeRow]]:
    """See :meth:`ILedger.charges`."""
    conditions, values = where(
        dialect,
        (
            ("source =", query.source),
            ("name =", query.name),
            ("holder =", query.holder),
            ("settlement =", query.settlement),
            ("id <", query.before),
        ),
        {"state": [state.value for state in query.states]},
    )
    at_most, number = limit(dialect, query.limit)
    rows = yield (
        "SELECT id, source, name, holder, credits, state, open, settlement, origin, reason, "  # noqa: S608
        f"created, updated FROM charge{conditions} ORDER BY id DESC{at_most}",
        values + number,
    )
    return [
        ChargeRow(number, Account(*account), credits, ChargeState(state), is_open == 1, *rest)
        for (number, *account, credits, state, is_open), rest in (
            (row[:7], row[7:]) for row in rows
        )
    ]


def owed(dialect: Dialect) -> Steps[list[Owed]]:
    """See :meth:`ILedger.owed`."""
    # In halves, for sums of whole numbers may come to more than 64 bits, and are to be exact.
    rows = yield (
        f"SELECT state, sum(credits >> {_HALF}), sum(credits & {2**_HALF - 1}), count(*), "  # noqa: S608
        f"min(created) FROM charge WHERE state IN ({charges_sql.UNBURNED}) "
        "GROUP BY state ORDER BY state",
        (),
    )
    return [
        Owed(ChargeState(state), (int(high) << _HALF) + int(low), count, since)
        for state, high, low, count, since in rows
    ]


def settlements(dialect: Dialect, query: SettlementQuery) -> Steps[list[StoredSettlement]]:
    """See :meth:`ILedger.settlements`."""
    conditions, values = where(
        dialect, (("id <", query.before),), {"state": [state.value for state in query.states]}
    )
    at_most, number = limit(dialect, query.limit)
    rest = f"{conditions} ORDER BY id DESC{at_most}"
    return (yield from read_settlements(dialect, rest, values + number))


def events(
    dialect: Dialect, most: int, before: int | None, subject: tuple[str, str] | None
) -> Steps[list[tuple[int, LedgerEvent]]]:
    """See :meth:`ILedger.ledger_events`."""
    kind, which = subject or (None, None)
    conditions, values = where(
        dialect, (("kind =", kind), ("subject =", which), ("number <", before))
    )
    at_most, number = limit(dialect, most)
    rows = yield (
        f"SELECT number, {', '.join(LedgerEvent._fields)} FROM ledger_event{conditions} "  # noqa: S608
        f"ORDER BY number DESC{at_most}",
        values + number,
    )
    return [(row[0], LedgerEvent._make(row[1:])) for row in rows]


def retry(dialect: Dialect, ids: Sequence[int] | None, entry: AuditEntry, now: float) -> Steps[int]:
    """See :meth:`ILedger.retry_charges`."""
    condition, values = ("", []) if ids is None else charges_sql.with_ids(dialect, ids)
    retried = 0
    for state in (ChargeState.UNCOLLECTED, ChargeState.ERROR):
        held = yield from charges_sql.hold(dialect, state, condition, values)
        event = ChargeEvent.RETRY
        yield from charges_sql.change(dialect, held, state, event, now, detail=_who(entry))
        retried += len(held)
    yield insert_entry(entry, dialect)
    return retried


def _who(entry: AuditEntry) -> dict[str, str]:
    return {"actor": entry.actor, "source": entry.source}
