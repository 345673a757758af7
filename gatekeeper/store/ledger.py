"""What was drawn from accounts, what is owed on a chain, and how that is settled.

Charges come in with a batch of usage, in its transaction; whoever burns them moves them on. Every
change of the state of a charge or a settlement, and of what was granted, leaves an entry in the
ledger's log, in the transaction that makes it; usage that is added to an open charge does not, nor
does a transaction that is sent once more. States and what leads from one to another are in
:mod:`gatekeeper.credits.ledger`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from gatekeeper.credits.grouping import Charge, Entry, Group
from gatekeeper.credits.ledger import ChargeState, Mark, Receipt, Settlement, SettlementState
from gatekeeper.errors import AlreadyThereError
from gatekeeper.store.state import AuditEntry
from gatekeeper.usage.records import Account


class Kept(NamedTuple):
    """What the store knows of an account.

    Prepaid: ``granted`` so much in all, ``spent`` so much of it; a quota: ``granted`` is 0; credits
    on a chain: ``granted`` is 0, ``spent`` is what was metered and is not burned. A charge counts
    as burned from when its transaction was seen in a block, and had succeeded.
    """

    granted: int = 0
    spent: int = 0


class Granted(NamedTuple):
    """What an account has after a grant, which was ``repeated`` if it had been made before."""

    kept: Kept
    repeated: bool = False


class GrantDiffersError(AlreadyThereError):
    """A grant of this id was made before, and is another one: so many ``credits`` for whom."""

    def __init__(self, grant_id: str, pool: str, holder: str, credits: int) -> None:
        super().__init__("grant", grant_id)
        self.pool = pool
        self.holder = holder
        self.credits = credits

    def __str__(self) -> str:
        return (
            f"the grant `{self.name}` was made before, and with other contents: {self.credits} "
            f"credits for user `{self.holder}` in pool `{self.pool}`"
        )


class ChargeQuery(NamedTuple):
    """Which charges to read, the newest first: every field narrows it."""

    states: tuple[ChargeState, ...] = ()
    source: str | None = None
    name: str | None = None
    holder: str | None = None
    settlement: int | None = None
    before: int | None = None  # an id
    limit: int = 1000


class ChargeRow(NamedTuple):
    """A charge. Times are in seconds since the epoch.

    Usage adds up in the charge of its account that is ``open``, until a settlement takes it.
    ``origin`` is the settlement that could not collect it; ``reason`` says why.
    """

    id: int
    account: Account
    credits: int
    state: ChargeState
    open: bool
    settlement: int | None
    origin: int | None
    reason: str
    created: float
    updated: float


class SettlementQuery(NamedTuple):
    """Which settlements to read, the newest first."""

    states: tuple[SettlementState, ...] = ()
    before: int | None = None
    limit: int = 100


class StoredTransaction(NamedTuple):
    """A signed transaction, as it was stored before it was sent; prices in wei.

    ``outcome`` is ``""`` until it is known: ``succeeded``, ``reverted`` (it is in ``block``), or
    ``displaced`` (another transaction took its nonce, or a sibling of it).
    """

    hash: str
    raw: bytes
    nonce: int
    gas: int
    max_fee: int
    priority: int
    since: float
    sent_at: float | None = None
    block: int | None = None
    gas_used: int | None = None
    gas_price: int | None = None
    outcome: str = ""


class StoredSettlement(NamedTuple):
    """A settlement of one contract's charges: its entries, and all it has ever signed.

    ``settlement.transactions`` are only those under its present nonce. ``account`` is the one that
    burns.
    """

    id: int
    contract: str
    account: str
    settlement: Settlement
    entries: tuple[Entry, ...]
    transactions: tuple[StoredTransaction, ...]
    reason: str
    created: float
    updated: float


class LedgerEvent(NamedTuple):
    """One change: of what (``charge``, ``settlement``, ``prepaid``) and which, what happened to it.

    ``before`` and ``after`` are states; ``detail`` is JSON: credits, hashes, who asked for it.
    """

    time: float
    kind: str
    subject: str
    event: str
    before: str
    after: str
    detail: str = "{}"


class Owed(NamedTuple):
    """The sum of what is in one state: how much, of how many charges, the oldest ``since`` when."""

    state: ChargeState
    credits: int
    charges: int
    since: float | None


class ILedger(Interface):
    """Part of every store. Failures to reach it are StoreErrors."""

    def read_accounts(accounts: Sequence[Account]) -> Deferred[list[Kept]]:
        """What is known of each, in this order; of one that nobody has drawn from, zeros."""

    def grant(
        account: Account, credits: int, entry: AuditEntry, grant_id: str | None = None
    ) -> Deferred[Granted]:
        """Grant a prepaid account more credits (or fewer, where negative); what it has then.

        Noted down in the ledger's log and in the audit log. Where a grant of ``grant_id`` (up to 64
        characters) is in the ledger's log and was the same, nothing changes: it may be asked for
        again, by several at once, and is done once.

        :raises GrantDiffersError: it was of another account, or of other credits.
        :raises ValueError: it is not prepaid, or more would be taken than was granted.
        """

    def list_accounts(
        source: str,
        name: str | None = None,
        holder: str | None = None,
        limit: int = 1000,
        after: tuple[str, str] | None = None,
    ) -> Deferred[list[tuple[Account, Kept]]]:
        """Prepaid accounts or quotas, ordered by name and holder; only those ``after`` such."""

    def charges(query: ChargeQuery) -> Deferred[list[ChargeRow]]:
        """Read charges."""

    def owed() -> Deferred[list[Owed]]:
        """What is in which state (but BURNED), for reports and metrics."""

    def settlements(query: SettlementQuery) -> Deferred[list[StoredSettlement]]:
        """Read settlements."""

    def ledger_events(
        limit: int, before: int | None = None, subject: tuple[str, str] | None = None
    ) -> Deferred[list[tuple[int, LedgerEvent]]]:
        """Read the ledger's log with the entries' numbers, the newest first.

        ``subject`` is a kind and which of that kind.
        """

    def retry_charges(ids: Sequence[int] | None, entry: AuditEntry, now: float) -> Deferred[int]:
        """An operator wants these (``None``: all that can be) to be tried again; how many are.

        From UNCOLLECTED and ERROR to PENDING; of others nothing changes.
        """

    def own_burning(account: str) -> Deferred[ISettling | None]:
        """Become the one process that burns from this account; ``None``: another one is.

        It is ours until it is closed, the process ends, or the connection to the store is lost:
        then every further call on it is a StoreError, and somebody else may be the owner.
        """


class ISettling(Interface):
    """The ledger, in the hands of the one process that burns from ``account``.

    Every method is one transaction, made on the connection that holds the lock: what it writes is
    written by the owner or not at all. ``now`` is in seconds since the epoch. An illegal change
    (see :mod:`gatekeeper.credits.ledger`) is an IllegalTransitionError, and changes nothing.
    """

    account: str = Attribute("The address that burns, in lower case.")

    def pending(limit: int) -> Deferred[list[Charge]]:
        """PENDING charges on the chain, those that have waited longest first.

        What is owed for a token without a number is left out: nobody can burn that.
        """

    def uncollected(limit: int) -> Deferred[list[Charge]]:
        """UNCOLLECTED charges, those that were looked at least recently first."""

    def retry(ids: Sequence[int], now: float) -> Deferred[None]:
        """UNCOLLECTED charges whose payer's balance is back become PENDING."""

    def touch(ids: Sequence[int], now: float) -> Deferred[None]:
        """UNCOLLECTED charges were looked at, and stay."""

    def claim(group: Group, now: float) -> Deferred[int | None]:
        """Make a settlement out of a group's charges; its id.

        Entries have the sums that the charges have *now*; usage that comes later opens new charges.
        Charges that are not PENDING any more are left out; ``None``: nothing was left.
        """

    def under_way() -> Deferred[list[StoredSettlement]]:
        """All settlements of this account that have not ended, the oldest first."""

    def split(settlement: int, entries: Sequence[Entry], now: float) -> Deferred[int]:
        """SPLIT: these entries, with their charges, become a settlement of their own; its id.

        They are some of its entries, and not all. It has had as many attempts.
        """

    def sign(
        settlement: int,
        mark: Mark,
        entries: Sequence[Entry] | None,
        transaction: StoredTransaction,
        now: float,
    ) -> Deferred[None]:
        """SIGN (with what is burned of each entry) or REPLACE: store a transaction unsent.

        With SIGN, ``entries`` are all that the settlement has (``None``: as they are stored), and
        no other settlement under way has the nonce. With REPLACE there are none, for the same is
        burned under the same nonce.
        """

    def sent(settlement: int, name: str, now: float) -> Deferred[None]:
        """SEND: a node has taken the transaction of this hash."""

    def mark(
        settlement: int,
        mark: Mark,
        now: float,
        *,
        reason: str = "",
        receipt: Receipt | None = None,
    ) -> Deferred[None]:
        """Everything else that happens to a settlement, as :class:`Mark` says.

        ``receipt`` goes with MINE, and may go with what comes after: CONFIRM, REVERT and GIVE_UP
        of what is MINED say what became of ``mark.hash`` in the end, whatever its block was before.
        With CONFIRM and NOTHING its charges are BURNED, and what an entry is short of (with
        NOTHING: all of it) becomes a charge that is UNCOLLECTED; with GIVE_UP they are ERROR with
        this ``reason``.
        """

    def close() -> Deferred[None]:
        """Let somebody else be the owner."""
