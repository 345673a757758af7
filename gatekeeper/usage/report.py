"""Usage reports for people and for programs: times as they are typed, rows as they are shown."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatekeeper.store.interface import UsageRow
from gatekeeper.terminal import printable

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SUMS: Final = ("requests", "bytes_in", "bytes_out", "units", "duration")


def parse_time(text: str, now: float) -> int:
    """Return the seconds since the epoch of ``2024-05-01``, ``2024-05-01T10:00+02:00`` or ``24h``.

    A time without an offset is UTC. ``30m``, ``24h``, ``7d``, ``2w`` are so long before ``now``.
    The result is rounded down to the full hour, for usage is kept by the hour.

    :raises ValueError: it is none of these.
    """
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text, re.ASCII):
        seconds = now - int(match[1]) * _SECONDS[match[2]]
    else:
        try:
            time = datetime.fromisoformat(text)
            seconds = time.replace(tzinfo=time.tzinfo or UTC).timestamp()
        except (ValueError, OverflowError):
            raise ValueError(
                f"{text!r} is neither a date or time (ISO 8601) nor a span such as 24h or 7d"
            ) from None
    return int(seconds // 3600) * 3600


def as_objects(rows: Sequence[UsageRow], by: Sequence[str]) -> Iterator[dict[str, object]]:
    """Turn rows into flat objects, with ``hour`` (RFC 3339) or ``day`` where ``by`` has it."""
    time = _time_column(by)
    for row in rows:
        found: dict[str, object] = {
            "service": row.service,
            "user": row.user,
            "path": row.path,
        }
        if time is not None:
            found[time] = _time(row, time)
        for name in _SUMS:
            found[name] = getattr(row, name)
        found["duration"] = round(row.duration, 6)
        yield found


def write_json(rows: Sequence[UsageRow], by: Sequence[str], out: IO[str]) -> None:
    """Write a JSON list, one object a line."""
    lines = (json.dumps(found) for found in as_objects(rows, by))
    out.write("[" + ",\n ".join(lines) + "]\n")


def write_csv(rows: Sequence[UsageRow], by: Sequence[str], out: IO[str]) -> None:
    """Write CSV (RFC 4180) with a header."""
    time = _time_column(by)
    names = ["service", "user", "path", *([time] if time else []), *_SUMS]
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(as_objects(rows, by))


def print_table(rows: Sequence[UsageRow], by: Sequence[str], console: Console) -> None:
    """Print a table of what ``by`` groups by, with the sums below."""
    table = Table(show_footer=len(rows) > 1, caption=None if rows else "No usage.")
    time = _time_column(by)
    groups = [*([time] if time else []), *(n for n in ("service", "user", "path") if n in by)]
    for number, name in enumerate(groups):
        table.add_column(name, footer="all" if number == 0 else "", overflow="fold")
    for name in _SUMS:
        total = sum(getattr(row, name) for row in rows)
        table.add_column(name, footer=_number(total), justify="right", no_wrap=True)
    for row in rows:
        texts = (_time(row, name) if name == time else getattr(row, name) for name in groups)
        sums = (_number(getattr(row, name)) for name in _SUMS)
        table.add_row(*(Text(printable(text)) for text in texts), *sums)
    console.print(table)


def _time_column(by: Sequence[str]) -> str | None:
    return "hour" if "hour" in by else "day" if "day" in by else None


def _time(row: UsageRow, column: str) -> str:
    time = datetime.fromtimestamp(row.hour or 0, UTC)
    return time.strftime("%Y-%m-%d" if column == "day" else "%Y-%m-%dT%H:%M:%SZ")


def _number(value: float) -> str:
    return f"{value:,d}" if isinstance(value, int) else f"{value:,.1f} s"
