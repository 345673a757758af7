"""How charges are settled: every credit is burned once, or recorded as not collectable.

A *charge* is what a payer owes. A *settlement* burns the charges of several payers with one
transaction; each payer's sum is an *entry*. Here are the states of both, and what to do next.
Nothing here asks anybody: facts go in, a step comes out, and whoever takes the step writes down
the new state before the world can see it, or after, as each step says.

What keeps a credit from being burned twice:

* A settlement signs under one nonce, of which a chain takes one transaction only. The signed bytes
  are stored before they are sent; they, or a dearer sibling under the same nonce, are sent again
  as long as it is needed.
* Only when another transaction is known to have used that nonce, or our own was reverted, and so
  many blocks ago that this is not undone any more, the settlement goes back and may sign again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from gatekeeper.credits.fees import FeeBounds, Fees, bump


class ChargeState(Enum):
    """Where a charge is."""

    PENDING = "pending"  #: waits to be claimed
    CLAIMED = "claimed"  #: belongs to a settlement that is under way
    BURNED = "burned"  #: its settlement has ended; what was short is a charge of its own
    UNCOLLECTED = "uncollected"  #: the payer has not enough
    ERROR = "error"  #: its settlement was given up


class ChargeEvent(Enum):
    """What happens to a charge."""

    CLAIM = "claim"  #: a settlement takes it
    BURN = "burn"  #: the settlement is confirmed
    GIVE_UP = "give up"  #: the settlement has failed for good
    RETRY = "retry"  #: an operator asks for it, or the payer's balance is back


#: Every legal change of a charge; whatever is not here is a bug, and changes nothing.
CHARGES: Final[Mapping[tuple[ChargeState, ChargeEvent], ChargeState]] = {
    (ChargeState.PENDING, ChargeEvent.CLAIM): ChargeState.CLAIMED,
    (ChargeState.CLAIMED, ChargeEvent.BURN): ChargeState.BURNED,
    (ChargeState.CLAIMED, ChargeEvent.GIVE_UP): ChargeState.ERROR,
    (ChargeState.UNCOLLECTED, ChargeEvent.RETRY): ChargeState.PENDING,
    (ChargeState.ERROR, ChargeEvent.RETRY): ChargeState.PENDING,
}


class SettlementState(Enum):
    """Where a settlement is."""

    CLAIMED = "claimed"  #: it has charges, and no nonce
    SIGNED = "signed"  #: a transaction is stored, and may have been sent
    SENT = "sent"  #: the newest transaction has been sent, and may be lost
    MINED = "mined"  #: one of its transactions is in a block
    CONFIRMED = "confirmed"  #: the block is old enough; or there was nothing to burn
    ERROR = "error"  #: given up; its nonce is used, or there was none


class SettlementEvent(Enum):
    """What happens to a settlement."""

    SPLIT = "split"  #: some of its entries become a settlement of their own
    SIGN = "sign"  #: stored with its nonce, before it is sent
    NOTHING = "nothing to burn"  #: no payer has anything left
    SEND = "send"  #: the node took it
    REPLACE = "replace"  #: a dearer sibling under the same nonce is stored, before it is sent
    MINE = "mine"  #: there is a receipt
    REORGANIZE = "reorganize"  #: the receipt is gone again
    CONFIRM = "confirm"  #: burned, so many blocks ago
    REVERT = "revert"  #: the contract refused, in a dry run or so many blocks ago: try again
    DISPLACE = "displace"  #: another wallet used the nonce, so many blocks ago
    GIVE_UP = "give up"  #: tried too often, or not to be had


_S: Final = SettlementState
_E: Final = SettlementEvent

#: Every legal change of a settlement. All ways back to CLAIMED leave a nonce that is used up.
SETTLEMENTS: Final[Mapping[tuple[SettlementState, SettlementEvent], SettlementState]] = {
    (_S.CLAIMED, _E.SPLIT): _S.CLAIMED,
    (_S.CLAIMED, _E.REVERT): _S.CLAIMED,
    (_S.CLAIMED, _E.SIGN): _S.SIGNED,
    (_S.CLAIMED, _E.NOTHING): _S.CONFIRMED,
    (_S.CLAIMED, _E.GIVE_UP): _S.ERROR,
    (_S.SIGNED, _E.SEND): _S.SENT,
    (_S.SIGNED, _E.REPLACE): _S.SIGNED,
    (_S.SIGNED, _E.MINE): _S.MINED,
    (_S.SIGNED, _E.DISPLACE): _S.CLAIMED,
    (_S.SENT, _E.SEND): _S.SENT,
    (_S.SENT, _E.REPLACE): _S.SIGNED,
    (_S.SENT, _E.MINE): _S.MINED,
    (_S.SENT, _E.DISPLACE): _S.CLAIMED,
    (_S.MINED, _E.REORGANIZE): _S.SENT,
    (_S.MINED, _E.CONFIRM): _S.CONFIRMED,
    (_S.MINED, _E.REVERT): _S.CLAIMED,
    (_S.MINED, _E.GIVE_UP): _S.ERROR,
}

#: What a settlement's charges go through with it.
CARRIED: Final[Mapping[SettlementState, ChargeEvent]] = {
    _S.CONFIRMED: ChargeEvent.BURN,
    _S.ERROR: ChargeEvent.GIVE_UP,
}


class IllegalTransitionError(AssertionError):
    """A bug: something happened that cannot, in this state."""


def after_charge(state: ChargeState, event: ChargeEvent) -> ChargeState:
    """The state of a charge after ``event``.

    :raises IllegalTransitionError: there is none.
    """
    try:
        return CHARGES[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value!r} of a {state.value} charge") from None


def after_settlement(state: SettlementState, event: SettlementEvent) -> SettlementState:
    """The state of a settlement after ``event``.

    :raises IllegalTransitionError: there is none.
    """
    try:
        return SETTLEMENTS[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value!r} of a {state.value} settlement") from None


class Receipt(NamedTuple):
    """A transaction is in a block: which, and whether it did what it should; the price in wei."""

    block: int
    succeeded: bool
    gas_used: int = 0
    gas_price: int = 0


class Sent(NamedTuple):
    """A stored transaction; times in seconds since the epoch.

    ``since`` is when it began to wait for a block: when it was signed, or a reorganization took it
    out of one. ``sent_at`` is when a node took it last; ``None``: it never did, or we were killed
    before that was written down.
    """

    hash: str
    fees: Fees
    since: float
    sent_at: float | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settlement, as it is stored. ``transactions`` are those under ``nonce``, the oldest first.

    ``attempts`` counts how often the contract has refused. What a settlement burns may be changed
    only while it is CLAIMED.
    """

    state: SettlementState
    nonce: int | None = None
    transactions: tuple[Sent, ...] = ()
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the chain shows now.

    ``receipts`` has those of the settlement's transactions that are in a block, as of ``head``, the
    newest block; ``spent`` is the account's next nonce there, ``settled`` the same as many blocks
    ago as there are confirmations. ``spender`` is the hash of the transaction that used the nonce,
    where :class:`Look` has asked for it. ``wanted`` are the fees that a new transaction would
    offer, ``now`` is in seconds since the epoch.
    """

    head: int
    spent: int
    settled: int
    now: float
    receipts: Mapping[str, Receipt]
    spender: str | None = None
    wanted: Fees | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants.

    A transaction is final when ``confirmations`` blocks stand on its own. It is sent again after
    ``resend`` seconds, and replaced by a dearer one after ``stuck`` seconds. The contract may
    refuse ``retries`` times, and be asked again, before the settlement is given up.
    """

    bounds: FeeBounds
    confirmations: int = 5
    resend: float = 15.0
    stuck: float = 120.0
    retries: int = 3


class Wait(NamedTuple):
    """Nothing is to be done now. ``reason`` is for the log."""

    reason: str


class Sign(NamedTuple):
    """Choose a nonce, sign, and store that as ``event`` says; then send it."""

    event: SettlementEvent
    nonce: int | None = None
    fees: Fees | None = None


class Send(NamedTuple):
    """Send the stored transaction once more; when the node took it, write SEND down."""

    hash: str


class Look(NamedTuple):
    """Find out which transaction used this nonce, up to this block (what is later may change)."""

    nonce: int
    block: int


class Mark(NamedTuple):
    """Write this down; ``hash`` is the transaction that it is about.

    With REORGANIZE the newest transaction begins to wait anew: ``since`` is now, ``sent_at`` is
    ``None``. With REVERT and DISPLACE the nonce and its transactions are let go, and REVERT adds
    to ``attempts``. Where it ends, the charges go along (:data:`CARRIED`) in the same transaction
    of the store; with CONFIRM and NOTHING, what was short becomes uncollected charges there.
    """

    event: SettlementEvent
    hash: str = ""


Step = Wait | Sign | Send | Look | Mark


def next_step(settlement: Settlement, facts: Facts, policy: Policy) -> Step | None:
    """What to do next for a settlement; ``None``: it has ended."""
    if settlement.state in (SettlementState.CONFIRMED, SettlementState.ERROR):
        return None
    if settlement.state is SettlementState.CLAIMED:
        return Sign(SettlementEvent.SIGN, fees=facts.wanted) if facts.wanted else _TOO_DEAR
    for transaction in settlement.transactions:
        receipt = facts.receipts.get(transaction.hash)
        if receipt is not None:
            return _in_a_block(settlement, transaction.hash, receipt, facts.head, policy)
    if settlement.state is SettlementState.MINED:
        return Mark(SettlementEvent.REORGANIZE, settlement.transactions[-1].hash)
    assert settlement.nonce is not None, "what is signed has a nonce"
    if facts.spent > settlement.nonce:
        return _used(settlement, settlement.nonce, facts, policy)
    return _under_way(settlement, settlement.nonce, facts, policy)


_TOO_DEAR: Final = Wait("gas costs more than is allowed")


def _in_a_block(
    settlement: Settlement, name: str, receipt: Receipt, head: int, policy: Policy
) -> Step:
    if settlement.state is not SettlementState.MINED:
        return Mark(SettlementEvent.MINE, name)
    if head - receipt.block < policy.confirmations:
        return Wait("it is in a block, and that is not old enough")
    if receipt.succeeded:
        return Mark(SettlementEvent.CONFIRM, name)
    return Mark(when_refused(settlement.attempts, policy), name)


def when_refused(attempts: int, policy: Policy) -> SettlementEvent:
    """What follows when the contract has refused, after so many refusals before."""
    return SettlementEvent.REVERT if attempts < policy.retries else SettlementEvent.GIVE_UP


def _used(settlement: Settlement, nonce: int, facts: Facts, policy: Policy) -> Step:
    """The nonce is used and the node shows no receipt: that alone proves nothing.

    Two answers of a node may come from two machines, one of which is behind. Only who sees the
    stranger's transaction itself can tell that ours will never be in a block.
    """
    if facts.settled <= nonce:
        return Wait("its nonce was used, and not long ago")
    if facts.spender is None:
        return Look(nonce, facts.head - policy.confirmations)
    if facts.spender in (each.hash for each in settlement.transactions):
        return Wait("it is in a block, and the node does not show its receipt yet")
    return Mark(SettlementEvent.DISPLACE, facts.spender)


def _under_way(settlement: Settlement, nonce: int, facts: Facts, policy: Policy) -> Step:
    last = settlement.transactions[-1]
    if facts.now - last.since >= policy.stuck:
        dearer = bump(last.fees, facts.wanted, policy.bounds)
        if dearer is not None:
            return Sign(SettlementEvent.REPLACE, nonce, dearer)
    if last.sent_at is None or facts.now - last.sent_at >= policy.resend:
        return Send(last.hash)
    return Wait("it was sent, and is in no block")


def choose_nonce(spent: int, settled: int, ours: Collection[int]) -> int | None:
    """The nonce of a new transaction, under the lock that makes one process the account's owner.

    ``spent`` and ``settled`` are as in :class:`Facts`, ``ours`` are the nonces of settlements under
    way. ``None``: wait. Somebody else used a nonce not long ago; where a reorganization takes that
    back, nobody would send it again, and a transaction with a later nonce could never be mined.
    """
    if spent - settled > len(ours) or any(each not in ours for each in range(settled, spent)):
        return None
    return max(spent, *(each + 1 for each in ours)) if ours else spent
