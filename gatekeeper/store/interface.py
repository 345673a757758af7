"""What every store can do. One contract suite (``tests/store``) runs against each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import Interface

from gatekeeper.store.leases import ILeases
from gatekeeper.store.ledger import ILedger
from gatekeeper.store.state import IState
from gatekeeper.usage.records import Batch, UsageRecord


class UsageQuery(NamedTuple):
    """Which usage to read: every field narrows it; times in seconds since the epoch, UTC.

    ``since`` is included, ``until`` is not; both are compared with the hour of the counter. ``by``
    lists what the rows are grouped by, out of ``service user path model hour day``. A day is one
    of UTC, or of ``zone``: an hour counts for the day in which it begins there. ``limit`` is how
    many rows there are at the most.

    Of usage that was rolled up into days (:meth:`IStore.maintain`) only the days (UTC) are known:
    all of a day counts in its first hour, as the same day in every zone, and lies before or after
    ``since`` and ``until`` as a whole, wherever the bigger part of it does.
    """

    service: str | None = None
    user: str | None = None
    path: str | None = None
    model: str | None = None
    since: int | None = None
    until: int | None = None
    by: tuple[str, ...] = ("service", "user", "path")
    zone: tzinfo | None = None
    limit: int | None = None


class UsageRow(NamedTuple):
    """A line of a usage report. What the query does not group by is ``""``.

    ``hour`` is in seconds since the epoch, UTC; grouped by day it is the midnight *in UTC* of that
    date, whatever the zone of the query. It is ``None`` where the query groups by neither.
    """

    service: str
    user: str
    path: str
    model: str
    hour: int | None
    requests: int
    bytes_in: int
    bytes_out: int
    units: int
    duration: float
    status_1xx: int = 0
    status_2xx: int = 0
    status_3xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0


class RecordQuery(NamedTuple):
    """Which single records to read, by the time of their start; the newest come first."""

    service: str | None = None
    user: str | None = None
    path: str | None = None
    model: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int | None = 1000


class Retention(NamedTuple):
    """How long things are kept, in seconds; ``None``: for ever."""

    records: float | None
    hours: float | None
    days: float | None
    ledger: float | None = None
    audit: float | None = None


class Upkept(NamedTuple):
    """What the upkeep did: rows rolled up into days, and what was deleted.

    Charges that are burned, settlements that have ended, grants in the ledger's log, and entries in
    the audit log.
    """

    rolled_up: int = 0
    rows: int = 0
    record_days: int = 0
    batches: int = 0
    quotas: int = 0
    charges: int = 0
    settlements: int = 0
    grants: int = 0
    audit: int = 0


class SchemaVersion(NamedTuple):
    """The number of the store's schema (0: it is empty), and the one that this program needs."""

    found: int
    needed: int


class ISchema(Interface):
    """The version of a store. These may be called without, and instead of, ``open()``."""

    def version() -> Deferred[SchemaVersion]:
        """Look which version the store has; this changes nothing.

        :raises StoreError: it cannot be reached.
        """

    def upgrade(tell: Callable[[str], object]) -> Deferred[None]:
        """Bring the schema up to date, one transaction for each version; done again, nothing.

        Where two do it at once, one waits for the other. ``tell`` is told what is being done.

        :raises ConfigurationError: the store is newer than this program.
        :raises StoreError: it failed; all steps that were told as done are.
        """


class IUsage(Interface):
    """What was used: going in and being read."""

    def write_batch(batch: Batch) -> Deferred[None]:
        """Add a batch in one transaction; a batch that is there already adds nothing.

        Texts and numbers that the store has no room for are made to fit. After a failure it is
        unknown whether the batch was taken: give the same one again.

        :raises BatchRejected: giving it again is of no use.
        """

    def usage(query: UsageQuery) -> Deferred[list[UsageRow]]:
        """Read usage, ordered by what it is grouped by.

        :raises ValueError: it cannot be grouped so.
        """

    def stream_usage(
        query: UsageQuery, take: Callable[[Sequence[UsageRow]], object]
    ) -> Deferred[None]:
        """Read usage and give it to ``take``, some rows at a time, so that it may be much."""

    def records(query: RecordQuery) -> Deferred[list[UsageRecord]]:
        """Read single records, the newest first."""

    def stream_records(
        query: RecordQuery, take: Callable[[Sequence[UsageRecord]], object]
    ) -> Deferred[None]:
        """Read single records and give them to ``take``, some at a time."""


class IUpkeep(Interface):
    """What is to be done now and then."""

    def maintain(now: float, keep: Retention) -> Deferred[Upkept]:
        """Roll hours up into days, and delete what is too old at ``now`` (since the epoch).

        What was rolled up counts as before, in total and by day. This is done in many small
        transactions; after a failure in between, the rest is done the next time. Where another
        node is at it already, nothing happens.
        """


class IStore(ISchema, IUsage, IUpkeep, IState, ILedger, ILeases):
    """A store. Every failure to reach it is a :class:`~gatekeeper.errors.StoreError`."""

    def open() -> Deferred[None]:
        """Connect; a store that is empty gets its schema.

        :raises ConfigurationError: the schema is older or newer than what this program needs.
        :raises StoreError: it cannot be reached now; may be called again.
        """

    def close() -> Deferred[None]:
        """Finish what is under way and let go. No other call may follow."""

    def ping() -> Deferred[None]:
        """Succeed when the store answers, for readiness."""
