"""Hours, days and months of the calendar in UTC, which has no daylight saving time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

Length: TypeAlias = Literal["hour", "day", "month"]


class Period(NamedTuple):
    """From ``start`` to before ``end``, in seconds since the epoch.

    ``name`` says when it begins: ``2024-05-01T14``, ``2024-05-01`` or ``2024-05``.
    """

    name: str
    start: int
    end: int


def period_of(length: Length, time: float) -> Period:
    """The period that a time, in seconds since the epoch, is in."""
    now = datetime.fromtimestamp(time // 1, UTC)
    if length == "hour":
        start = now.replace(minute=0, second=0)
        return _period(f"{start:%Y-%m-%dT%H}", start, start + timedelta(hours=1))
    midnight = now.replace(hour=0, minute=0, second=0)
    if length == "day":
        return _period(f"{midnight:%Y-%m-%d}", midnight, midnight + timedelta(days=1))
    start = midnight.replace(day=1)
    following = (start + timedelta(days=31)).replace(day=1)
    return _period(f"{start:%Y-%m}", start, following)


def _period(name: str, start: datetime, end: datetime) -> Period:
    return Period(name, int(start.timestamp()), int(end.timestamp()))
