"""Leases: parts of accounts that one process has for itself, to spend them without asking again.

All processes that share a store draw on the same accounts. What one of them may spend it has
leased before, and what nobody has leased is *free*: what there is, less what was spent and what is
leased. When usage comes into the store, the leases of its owner go down by what the accounts were
charged: nothing gets free by that. So all of them together never spend more than there is.

An owner is a process, as the keys of its batches name it: see :func:`owner_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import Interface

from gatekeeper.store.fitting import LARGEST
from gatekeeper.usage.records import Account

#: A lease is never of more than this; of what lies on a chain there may be more.
_MOST = LARGEST // 4

#: So great a part of what is free a lease may get beyond what is asked for now.
_SHARE = 4


def owner_of(node: str, worker: int) -> str:
    """The owner that a batch's ``node`` and ``worker`` mean."""
    return f"{node}-{worker}"


class Seen(NamedTuple):
    """What of an account on a chain was not burned at one moment.

    ``charges`` are the ids of those that are not burned, ``burning`` those settlements, with the
    credits that they burn of the account, which are in a block and not confirmed. ``burned`` is the
    newest charge that is burned; 0: none is.
    """

    charges: frozenset[int] = frozenset()
    burning: frozenset[tuple[int, int]] = frozenset()
    burned: int = 0

    def still_holds(self, later: Seen) -> bool:
        """Whether nothing was burned, or became unburned, between this and ``later``."""
        # What came later, and is burned already, is newer than all that was there.
        return self.charges <= later.charges and self[1:] == later[1:]


class ChainBalance(NamedTuple):
    """A balance on a chain, and what was ``seen`` of the account *before* it was read there.

    In that order, a burn in between is noticed: the store counts it no longer as owed, and the
    balance may be one of before it.
    """

    credits: int
    seen: Seen


class Wish(NamedTuple):
    """What a process wants of an account: to give back ``give``; or else to get more.

    At ``least`` so much (it has no use for less), and all that its requests ``demand`` if there is
    so much; and a ``block`` beyond that, if there is plenty. ``allowance`` is what there is beside
    what was granted; ``balance`` is needed to get credits on a chain.
    """

    account: Account
    give: int = 0
    least: int = 0
    demand: int = 0
    block: int = 0
    allowance: int = 0
    balance: ChainBalance | None = None


class Leased(NamedTuple):
    """What became of a wish.

    The lease has so many ``credits`` now, of which so many were ``taken`` just now. ``free`` is
    what nobody has leased, and is negative where more is spent and leased than there is; ``None``:
    that cannot be told, for there is no balance, or something was burned since it was read.
    """

    credits: int
    taken: int = 0
    free: int | None = None


class ILeases(Interface):
    """Part of every store. Failures to reach it are StoreErrors."""

    def see(accounts: Sequence[Account]) -> Deferred[list[Seen]]:
        """What of each account on a chain is not burned, in this order."""

    def lease(owner: str, wishes: Sequence[Wish]) -> Deferred[list[Leased]]:
        """Give back and get leases, and renew those that are wished for; in this order.

        No two wishes are for the same account. After a failure it is unknown what was done. A call
        that comes after it waits until that has ended.
        """

    def release(owners: Sequence[str], older: float) -> Deferred[int]:
        """Free all that these have leased, and what was not renewed for ``older`` seconds.

        What was asked for before, with :meth:`lease` of this store, is among that.
        Returns how many leases that were.
        """


def share(wish: Wish, had: int, in_all: int, taken: int) -> tuple[int, int]:
    """How much a lease changes, and what is free then.

    It ``had`` so much. There are ``in_all`` credits, of which so many are ``taken``: spent, or
    leased by anybody else.
    """
    given = min(max(wish.give, 0), had)
    free = in_all - taken - (had - given)
    wanted = max(wish.demand, min(wish.demand + wish.block, free // _SHARE))
    got = max(min(wanted, free, _MOST - had), 0)
    if wish.demand <= 0 or got < wish.least:
        got = 0
    return got - given, free - got
