"""Leases of every store: its calls, each as statements that a store runs in its way."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.store import lease_sql
from gatekeeper.store.leases import ILeases, Leased, Seen, Wish
from gatekeeper.store.ledger_calls import LedgerCalls
from gatekeeper.usage.records import Account


@implementer(ILeases)
class LeaseCalls(LedgerCalls):
    """Part of a store, with its ledger."""

    def see(self, accounts: Sequence[Account]) -> Deferred[list[Seen]]:
        """See :meth:`ILeases.see`."""
        return self._do("request", lease_sql.see(self._dialect, accounts))

    def lease(self, owner: str, wishes: Sequence[Wish]) -> Deferred[list[Leased]]:
        """See :meth:`ILeases.lease`."""
        return self._do("lease", lease_sql.lease(self._dialect, owner, wishes))

    def release(self, owners: Sequence[str], older: float) -> Deferred[int]:
        """See :meth:`ILeases.release`."""
        # Not as a "change": an owner that ends may just have asked for one more lease.
        return self._do("lease", lease_sql.release(self._dialect, owners, older))
