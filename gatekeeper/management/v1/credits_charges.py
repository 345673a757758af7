"""What was charged on a chain, and what became of it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from gatekeeper.credits.ledger import ChargeState
from gatekeeper.credits.pricing import MAX_CREDITS
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.chain_names import Address, TokenId, token_name, token_shown
from gatekeeper.management.v1.models import (
    Document,
    History,
    Newest,
    Number,
    Time,
    maybe_time,
    write_time,
)
from gatekeeper.store.ledger import ChargeQuery, ChargeRow

table = Table("credits")

_MOST_IDS: Final = 1000

State = Literal["pending", "claimed", "burned", "uncollected", "error"]


class ChargeListing(Newest):
    """Which charges."""

    state: list[State] = Field(
        default=[], max_length=5, description="In this state only; repeat it for more."
    )
    contract: Address | None = None
    token: TokenId | None = None
    holder: Address | None = None
    settlement: Number | None = Field(default=None, description="Of this settlement only.")


class Charge(Document):
    """What a payer is charged, of one token."""

    id: int
    contract: str
    token: str
    holder: str
    credits: int
    state: State
    open: bool = Field(description="Usage still adds up in it.")
    settlement: int | None = Field(description="What burns it, or has.")
    origin: int | None = Field(description="The settlement that could not collect it.")
    reason: str
    created: Time
    updated: Time


class OwedSum(Document):
    """The sum of the charges in a state."""

    state: State
    credits: int
    charges: int
    since: Time | None = Field(description="Since when there is the oldest of them.")


class Owed(Document):
    """What was metered, and is not burned: by state; those that there are none of are left out."""

    items: list[OwedSum]


class Retry(Document):
    """What is to be tried again."""

    ids: (
        Annotated[
            list[Annotated[int, Field(ge=1, le=MAX_CREDITS)]],
            Field(min_length=1, max_length=_MOST_IDS),
        ]
        | None
    ) = Field(description="Ids of charges; `null`: all that can be.")


class Retried(Document):
    """How many charges are tried again."""

    retried: int


@table.get("/v1/credits/charges")
async def list_charges(call: Call, query: ChargeListing) -> History[Charge]:
    """What payers are charged on the chain, the newest first."""
    await call.managed.flushed()
    found = await call.managed.store.charges(
        ChargeQuery(
            tuple(map(ChargeState, query.state)),
            _lower(query.contract),
            None if query.token is None else token_name(query.token),
            _lower(query.holder),
            query.settlement,
            query.before,
            query.limit + 1,
        )
    )
    items = [_charge(row) for row in found[: query.limit]]
    return History(items=items, next=items[-1].id if len(found) > len(items) else None)


@table.get("/v1/credits/owed")
async def show_owed(call: Call) -> Owed:
    """How much is owed on the chain, by state."""
    await call.managed.flushed()
    return Owed(
        items=[
            OwedSum(
                state=each.state.value,
                credits=each.credits,
                charges=each.charges,
                since=maybe_time(each.since),
            )
            for each in await call.managed.store.owed()
        ]
    )


@table.post("/v1/credits/retry")
async def retry_charges(call: Call, body: Retry) -> Retried:
    """Have charges that are `uncollected` or in `error` tried again; others stay as they are."""
    managed = call.managed
    entry = managed.entry(call, "credits.retry", "credits/charges", body.model_dump(mode="json"))
    retried = await managed.store.retry_charges(body.ids, entry, managed.wall_clock())
    return Retried(retried=retried)


def _lower(address: str | None) -> str | None:
    return None if address is None else address.lower()


def _charge(row: ChargeRow) -> Charge:
    return Charge(
        id=row.id,
        contract=row.account.source,
        token=token_shown(row.account.name),
        holder=row.account.holder,
        credits=row.credits,
        state=row.state.value,
        open=row.open,
        settlement=row.settlement,
        origin=row.origin,
        reason=row.reason,
        created=write_time(row.created),
        updated=write_time(row.updated),
    )
