"""How charges are settled on the chain, and the log of everything that happened to credits."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from gatekeeper.credits.grouping import Entry
from gatekeeper.credits.ledger import SettlementState
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.chain_names import token_shown
from gatekeeper.management.v1.models import (
    Document,
    History,
    Newest,
    Time,
    maybe_time,
    write_time,
)
from gatekeeper.store.ledger import SettlementQuery, StoredSettlement, StoredTransaction

table = Table("credits")

State = Literal["claimed", "signed", "sent", "mined", "confirmed", "error"]


class SettlementListing(Newest):
    """Which settlements."""

    state: list[State] = Field(
        default=[], max_length=6, description="In this state only; repeat it for more."
    )


class SettlementEntry(Document):
    """What one payer pays: `burn` of the `credits`; the rest becomes a charge of its own."""

    holder: str
    token: str
    credits: int
    burn: int


class Transaction(Document):
    """A transaction that was signed; prices are in wei.

    `outcome`: `succeeded`; `reverted`; `displaced`, another one has used its nonce; empty: it is
    not known yet.
    """

    hash: str
    nonce: int
    gas: int
    max_fee: int
    priority: int
    since: Time
    sent: Time | None
    block: int | None
    gas_used: int | None
    gas_price: int | None
    outcome: str


class Settlement(Document):
    """Charges of several payers that are burned with one transaction."""

    id: int
    contract: str
    account: str = Field(description="Which account burns.")
    state: State
    attempts: int = Field(description="How often the contract has refused.")
    reason: str
    entries: list[SettlementEntry]
    transactions: list[Transaction]
    created: Time
    updated: Time


class LogListing(Newest):
    """Which part of the ledger's log."""

    subject: str | None = Field(
        default=None,
        max_length=2100,
        pattern=r"^(?:charge|settlement|prepaid)/[^\x00]+$",
        description="About this only: `charge/12`, `settlement/3`, `prepaid/default/alice`.",
    )


class LedgerEntry(Document):
    """A change: of what, what has happened to it, and its states before and after."""

    number: int
    time: Time
    subject: str
    event: str
    before: str
    after: str
    detail: dict[str, Any]


@table.get("/v1/credits/settlements")
async def list_settlements(call: Call, query: SettlementListing) -> History[Settlement]:
    """What was burned, or is being burned, the newest first; with the transactions' hashes."""
    states = tuple(map(SettlementState, query.state))
    wanted = SettlementQuery(states, query.before, query.limit + 1)
    found = await call.managed.store.settlements(wanted)
    items = [_settlement(each) for each in found[: query.limit]]
    return History(items=items, next=items[-1].id if len(found) > len(items) else None)


@table.get("/v1/credits/ledger")
async def list_ledger(call: Call, query: LogListing) -> History[LedgerEntry]:
    """The ledger's log: everything that happened to charges, settlements, granted credits."""
    subject = None
    if query.subject is not None:
        kind, _, which = query.subject.partition("/")
        subject = kind, which
    found = await call.managed.store.ledger_events(query.limit + 1, query.before, subject)
    items = [
        LedgerEntry(
            number=number,
            time=write_time(event.time),
            subject=f"{event.kind}/{event.subject}",
            event=event.event,
            before=event.before,
            after=event.after,
            detail=json.loads(event.detail),
        )
        for number, event in found[: query.limit]
    ]
    return History(items=items, next=items[-1].number if len(found) > len(items) else None)


def _settlement(stored: StoredSettlement) -> Settlement:
    return Settlement(
        id=stored.id,
        contract=stored.contract,
        account=stored.account,
        state=stored.settlement.state.value,
        attempts=stored.settlement.attempts,
        reason=stored.reason,
        entries=list(map(_entry, stored.entries)),
        transactions=list(map(_transaction, stored.transactions)),
        created=write_time(stored.created),
        updated=write_time(stored.updated),
    )


def _entry(entry: Entry) -> SettlementEntry:
    return SettlementEntry(
        holder=entry.holder,
        token=token_shown(str(entry.token_id)),
        credits=entry.credits,
        burn=entry.burn,
    )


def _transaction(stored: StoredTransaction) -> Transaction:
    """Not the signed bytes: whoever has them can send them."""
    return Transaction(
        hash=stored.hash,
        nonce=stored.nonce,
        gas=stored.gas,
        max_fee=stored.max_fee,
        priority=stored.priority,
        since=write_time(stored.since),
        sent=maybe_time(stored.sent_at),
        block=stored.block,
        gas_used=stored.gas_used,
        gas_price=stored.gas_price,
        outcome=stored.outcome,
    )
