"""Credits: what users were granted and have left of it, and what there is on a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from gatekeeper.credits.accounts import Answer, UnreadableError
from gatekeeper.credits.pricing import MAX_CREDITS
from gatekeeper.errors import Problem, Refusal
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.reading import unusable
from gatekeeper.management.v1.chain_names import (
    Address,
    TokenId,
    is_askable,
    token_name,
    token_shown,
)
from gatekeeper.management.v1.models import Document, Label, Listing, Page
from gatekeeper.store.ledger import ChargeQuery, Kept
from gatekeeper.usage.records import PREPAID, Account

table = Table("credits")

#: Of a payer's charges, so many are looked through for what else it may pay with.
_MOST_CHARGES: Final = 1000

Pool = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Which credits."),
]
Holder = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
        description="The user, as checkers name it.",
    ),
]
GrantId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_FILTER: Final = r"^[^\x00]*$"  # of what no store can hold


def _not_nothing(credits: int) -> int:
    if credits == 0:
        raise ValueError("must not be 0")
    return credits


class PrepaidAccount(Document):
    """What a user has in a pool. `left` is below 0 where more was spent than was there."""

    pool: str
    user: str
    granted: int
    spent: int
    left: int


class GrantedCredits(PrepaidAccount):
    """What there is after a grant."""

    repeated: bool = Field(description="This grant was made before: nothing has changed.")


class AccountListing(Listing):
    """Which prepaid accounts."""

    after: str = Field(
        default="",
        max_length=1100,
        pattern=_FILTER,
        description="Only what comes after this: `next` of an answer.",
    )
    pool: str = Field(
        default="", max_length=1024, pattern=_FILTER, description="In this pool only."
    )
    user: str = Field(
        default="", max_length=1024, pattern=_FILTER, description="Of this user only."
    )


class Granting(Document):
    """Credits for a user."""

    user: Holder
    credits: Annotated[
        int,
        Field(
            ge=-MAX_CREDITS,
            le=MAX_CREDITS,
            description="So many more; so many fewer where negative. Not 0.",
        ),
        AfterValidator(_not_nothing),
    ]
    pool: Pool = "default"
    note: Label = Field(default="", description="For the audit log.")
    id: GrantId | None = Field(
        default=None,
        description="Made up by the caller: the same grant, asked for again with the same id, is "
        "made once.",
    )


class BalanceQuery(Document):
    """Whose balance, and of what: with `contract` goes `token`."""

    holder: Address
    contract: Address | None = None
    token: TokenId | None = None


class Balance(Document):
    """What a payer has on a chain. `left` is the balance without what is owed.

    Where the balance cannot be read, `problem` says why, and the numbers are `null`.
    """

    contract: str
    token: str
    holder: str
    balance: int | None
    owed: int | None = Field(description="What was metered, and is not burned.")
    left: int | None
    problem: str | None


class Balances(Document):
    """What a payer has."""

    items: list[Balance]


@table.get("/v1/credits/accounts")
async def list_accounts(call: Call, query: AccountListing) -> Page[PrepaidAccount]:
    """What users were granted, and have left: of all, of a user, in a pool."""
    managed = call.managed
    pool, _, user = query.after.partition("/")  # no pool has a slash in its name
    await managed.flushed()
    found = await managed.store.list_accounts(
        PREPAID,
        query.pool or None,
        query.user or None,
        query.limit + 1,
        (pool, user) if query.after else None,
    )
    items = [_show(account, kept) for account, kept in found[: query.limit]]
    more = len(found) > len(items)
    return Page(items=items, next=f"{items[-1].pool}/{items[-1].user}" if more else None)


@table.get("/v1/credits/accounts/{pool}/{user}")
async def show_account(call: Call, pool: str, user: str) -> PrepaidAccount:
    """What one user has in a pool: zeros, where nothing was ever granted or spent."""
    account = Account(PREPAID, pool, user)
    await call.managed.flushed()
    (kept,) = await call.managed.store.read_accounts([account])
    return _show(account, kept)


@table.post("/v1/credits/grants", errors=(409,))
async def grant_credits(call: Call, body: Granting) -> GrantedCredits:
    """Grant a user credits, or take some back; the answer is what there is then.

    Here that takes effect at once, in other processes after a second. Whoever does not get an
    answer may ask again, if there was an `id`: a grant that was made before, of as many credits for
    the same user and pool, is answered as such, with what there is by then. Another one under its
    id is refused with 409. Ids are remembered for `credits.keep_ledger`.
    """
    managed = call.managed
    account = Account(PREPAID, body.pool, body.user)
    detail = body.model_dump(mode="json", include={"credits", "note", "id"}, exclude_defaults=True)
    await managed.flushed()
    entry = managed.entry(call, "credits.grant", f"credits/{body.pool}/{body.user}", detail)
    try:
        granted = await managed.store.grant(account, body.credits, entry, body.id)
    except ValueError as error:
        raise unusable((Problem("credits", str(error)),)) from None
    finally:
        managed.expire(account)  # also where it is not known whether the store has done it
    shown = _show(account, granted.kept)
    return GrantedCredits(**shown.model_dump(), repeated=granted.repeated)


@table.get("/v1/credits/balances", errors=(422,))
async def show_balances(call: Call, query: BalanceQuery) -> Balances:
    """What an address has on the chain, of one token or of all that it was ever charged in."""
    managed, holder = call.managed, query.holder.lower()
    if (query.contract is None) != (query.token is None):
        missing = "token" if query.token is None else "contract"
        raise unusable((Problem(missing, "goes with the other one, or both are left out"),))
    await managed.flushed()
    accounts: Sequence[Account]
    if query.contract is not None and query.token is not None:
        accounts = [Account(query.contract.lower(), token_name(query.token), holder)]
    else:
        charges = await managed.store.charges(ChargeQuery(holder=holder, limit=_MOST_CHARGES))
        accounts = sorted({each.account for each in charges if is_askable(each.account)})
    try:
        answers = await managed.balances(accounts) if accounts else []
    except UnreadableError as error:
        raise Refusal("store_away", f"It cannot be read now: {error}.", status=503) from None
    return Balances(
        items=[_balance(account, each) for account, each in zip(accounts, answers, strict=True)]
    )


def _show(account: Account, kept: Kept) -> PrepaidAccount:
    return PrepaidAccount(
        pool=account.name,
        user=account.holder,
        granted=kept.granted,
        spent=kept.spent,
        left=kept.granted - kept.spent,
    )


def _balance(account: Account, answer: Answer) -> Balance:
    problem = str(answer) if isinstance(answer, UnreadableError) else None
    balance, owed = (None, None) if isinstance(answer, UnreadableError) else answer
    return Balance(
        contract=account.source,
        token=token_shown(account.name),
        holder=account.holder,
        balance=balance,
        owed=owed,
        left=None if balance is None or owed is None else balance - owed,
        problem=problem,
    )
