"""How far the clocks of a time zone are from UTC, over a span of time."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

HOUR: Final = 3600
DAY: Final = 86400


class Shift(NamedTuple):
    """Before ``until`` (seconds since the epoch) clocks are ``seconds`` ahead of UTC."""

    until: int
    seconds: int


def shifts(zone: tzinfo, first: int, last: int) -> list[Shift]:
    """Return the shifts of ``zone`` for the hours from ``first`` to ``last``, both full, in order.

    The end of the last one is past ``last``.
    """
    found: list[Shift] = []
    hour, ahead = first, _ahead(zone, first)
    while hour <= last:
        step = min(hour + DAY, last + HOUR)
        if (then := _ahead(zone, step)) != ahead:
            # Clocks are set once a day at the most: somewhere between, to the hour.
            low, high = hour, step
            while high - low > HOUR:
                middle = (low + high) // 2 // HOUR * HOUR
                if _ahead(zone, middle) == ahead:
                    low = middle
                else:
                    high = middle
            found.append(Shift(high, ahead))
            ahead = then
        hour = step
    return [*found, Shift(last + HOUR, ahead)]


def _ahead(zone: tzinfo, time: int) -> int:
    offset = datetime.fromtimestamp(time, zone).utcoffset()
    return int((offset or timedelta()).total_seconds())
