"""What every store can do. One contract suite (``tests/store``) runs against each of them."""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import Interface

from gatekeeper.usage.records import Batch


class UsageQuery(NamedTuple):
    """Which usage to read: every field narrows it; times in seconds since the epoch, UTC.

    ``since`` is included, ``until`` is not; both are compared with the hour of the counter.
    ``by`` lists what the rows are grouped by, out of ``service user path hour day``.
    """

    service: str | None = None
    user: str | None = None
    since: int | None = None
    until: int | None = None
    by: tuple[str, ...] = ("service", "user", "path")


class UsageRow(NamedTuple):
    """A line of a usage report. What the query does not group by is ``""``.

    ``hour`` is the hour or, grouped by day, the day's first hour: seconds since the epoch, UTC;
    ``None`` where the query groups by neither.
    """

    service: str
    user: str
    path: str
    hour: int | None
    requests: int
    bytes_in: int
    bytes_out: int
    units: int
    duration: float


class IStore(Interface):
    """A store. Every failure to reach it is a :class:`~gatekeeper.errors.StoreError`."""

    def open() -> Deferred[None]:
        """Connect and bring the schema up to date.

        :raises ConfigurationError: the store's schema is newer than this program.
        :raises StoreError: it cannot be reached now; may be called again.
        """

    def close() -> Deferred[None]:
        """Finish what is under way and let go. No other call may follow."""

    def ping() -> Deferred[None]:
        """Succeed when the store answers, for readiness."""

    def write_batch(batch: Batch) -> Deferred[None]:
        """Add a batch's counters in one transaction; a batch that is there already adds nothing.

        After a failure it is unknown whether the batch was taken: give the same one again.
        """

    def usage(query: UsageQuery) -> Deferred[list[UsageRow]]:
        """Read usage, ordered by what it is grouped by."""
