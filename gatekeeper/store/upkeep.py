"""Before when something is old: from what is to be kept to points in time."""

from __future__ import annotations

from typing import Final, NamedTuple

from gatekeeper.store.days import DAY
from gatekeeper.store.interface import Retention

#: A batch's key is kept for so long, in seconds, and that of the last batch of each worker for
#: ever: a worker that comes back after years may not know whether its last batch was taken.
KEEP_BATCHES: Final = 30 * DAY

#: So long, in seconds, a quota is kept after its last change: longer than any period of a quota.
KEEP_QUOTAS: Final = 70 * DAY


class Cuts(NamedTuple):
    """What is older is rolled up, or deleted: seconds since the epoch, the beginnings of days.

    ``None``: nothing is. ``batches``, ``quotas``, ``ledger`` and ``audit`` may be any second.
    """

    hours: int | None
    days: int | None
    records: int | None
    batches: int
    quotas: int
    ledger: int | None = None
    audit: int | None = None


def cuts(now: float, keep: Retention) -> Cuts:
    """Return what ``keep`` comes to at ``now``. What begins within a day is done with the day."""
    return Cuts(
        _day(now, keep.hours),
        _day(now, keep.days),
        _day(now, keep.records),
        int(now) - KEEP_BATCHES,
        int(now) - KEEP_QUOTAS,
        None if keep.ledger is None else int(now - keep.ledger),
        None if keep.audit is None else int(now - keep.audit),
    )


def _day(now: float, seconds: float | None) -> int | None:
    return None if seconds is None else int((now - seconds) // DAY) * DAY
