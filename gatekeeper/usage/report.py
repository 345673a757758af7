"""What a usage report shows: times as they are typed, rows as flat objects with names."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gatekeeper.store.interface import UsageQuery, UsageRow
from gatekeeper.usage.records import Counted, UsageRecord

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class View(NamedTuple):
    """How rows are shown: ``flat`` turns one into an object with the keys ``columns``.

    A table has the columns ``table`` only, so that it has room on a terminal, and the totals of
    those that are in ``sums``.
    """

    columns: tuple[str, ...]
    table: tuple[str, ...]
    sums: tuple[str, ...]
    flat: Callable[[Any], dict[str, object]]


def parse_time(text: str, now: float, zone: tzinfo | None = None) -> float:
    """Return the seconds since the epoch of ``2024-05-01``, ``2024-05-01T10:00+02:00`` or ``24h``.

    A time without an offset is one of ``zone``, UTC if left out. ``30m``, ``24h``, ``7d``, ``2w``
    are so long before ``now``.

    :raises ValueError: it is none of these.
    """
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text, re.ASCII):
        return now - int(match[1]) * _SECONDS[match[2]]
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or zone or UTC).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a date or time (ISO 8601) nor a span such as 24h or 7d"
        ) from None


def full_hour(time: float) -> int:
    """Round a time down to the full hour (UTC), for usage is kept by the hour."""
    return int(time // 3600) * 3600


def parse_zone(name: str) -> tzinfo:
    """Return the time zone of that name in the IANA database: ``Europe/Berlin``.

    :raises ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone such as Europe/Berlin") from None


def usage_view(query: UsageQuery) -> View:
    """Show the rows of ``query``, times in its zone: with ``model`` and time where it has them."""
    time = "hour" if "hour" in query.by else "day" if "day" in query.by else None
    model = ("model",) if "model" in query.by else ()
    groups = ("service", "user", "path", *model)
    columns = (*groups, *((time,) if time else ()), *Counted._fields)

    def flat(row: UsageRow) -> dict[str, object]:
        values = {**row._asdict(), "duration": round(row.duration, 6)}
        if time == "day":
            values[time] = datetime.fromtimestamp(row.hour or 0, UTC).strftime("%Y-%m-%d")
        elif time == "hour":
            values[time] = _stamp(row.hour or 0, query.zone)
        return {name: values[name] for name in columns}

    sums = ("requests", "bytes_in", "bytes_out", "units", "duration")
    shown = (*((time,) if time else ()), *(name for name in groups if name in query.by))
    return View(columns, (*shown, *sums), sums, flat)


def records_view(zone: tzinfo | None) -> View:
    """Show single records, times in ``zone``."""

    def flat(record: UsageRecord) -> dict[str, object]:
        return {
            **record._asdict(),
            "start": _stamp(record.start, zone),
            "duration": round(record.duration, 6),
            "spent": [spent._asdict() for spent in record.spent],
        }

    shown = ("start", "service", "user", "path", "status", "units", "duration")
    return View(UsageRecord._fields, shown, (), flat)


def _stamp(time: float, zone: tzinfo | None) -> str:
    """RFC 3339, in UTC with a Z."""
    text = datetime.fromtimestamp(time, zone or UTC).isoformat()
    return text if zone else text.removesuffix("+00:00") + "Z"
