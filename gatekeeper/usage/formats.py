"""Reports as JSON, CSV and tables, written while their rows come in."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from gatekeeper.terminal import printable
from gatekeeper.usage.report import View

if TYPE_CHECKING:
    from rich.console import Console

_NUMBERS: Final = ("requests", "bytes_in", "bytes_out", "units", "duration", "status")
_TIMES: Final = ("hour", "day", "start")


class Format(Protocol):
    """Takes rows, some at a time, and an end. Before the first row nothing is written."""

    def take(self, rows: Sequence[Any]) -> None:
        """Take some rows."""

    def end(self) -> None:
        """That were all."""


class JsonFormat:
    """A JSON list, one object a line."""

    def __init__(self, view: View, out: IO[str]) -> None:
        self._view = view
        self._out = out
        self._before = "["

    def take(self, rows: Sequence[Any]) -> None:
        """See :meth:`Format.take`."""
        for row in rows:
            self._out.write(self._before + json.dumps(self._view.flat(row)))
            self._before = ",\n "

    def end(self) -> None:
        """See :meth:`Format.end`."""
        self._out.write("[]\n" if self._before == "[" else "]\n")


class CsvFormat:
    """CSV (RFC 4180) with a header."""

    def __init__(self, view: View, out: IO[str]) -> None:
        self._view = view
        self._writer = csv.DictWriter(out, view.columns)
        self._begun = False

    def take(self, rows: Sequence[Any]) -> None:
        """See :meth:`Format.take`."""
        self._begin()
        for row in rows:
            flat = self._view.flat(row)
            self._writer.writerow(
                {n: json.dumps(v) if isinstance(v, list) else v for n, v in flat.items()}
            )

    def end(self) -> None:
        """See :meth:`Format.end`."""
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._writer.writeheader()


class TableFormat:
    """A table of at most ``limit`` rows, with totals below; it says so where there are more.

    It has to be given one row more than that, if there is one.
    """

    def __init__(self, view: View, console: Console, limit: int) -> None:
        self._view = view
        self._console = console
        self._limit = limit
        self._rows: list[dict[str, object]] = []

    def take(self, rows: Sequence[Any]) -> None:
        """See :meth:`Format.take`."""
        self._rows += map(self._view.flat, rows)

    def end(self) -> None:
        """See :meth:`Format.end`."""
        from rich.table import Table
        from rich.text import Text

        rows, view = self._rows[: self._limit], self._view
        cut = len(self._rows) > len(rows)
        caption = None if rows else "Nothing."
        if cut:
            caption = f"The first {len(rows):,d} rows; for more use --limit or --format csv."
        table = Table(show_footer=bool(view.sums) and len(rows) > 1, caption=caption)
        for number, name in enumerate(view.table):
            numeric = name in _NUMBERS
            if name in view.sums:
                total: Any = sum(row[name] for row in rows)
                footer = _cell(name, total)
            else:
                footer = "" if number else "these" if cut else "all"
            table.add_column(
                name,
                footer=footer,
                justify="right" if numeric else "left",
                no_wrap=numeric or name in _TIMES,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(Text(_cell(name, row[name])) for name in view.table))
        self._console.print(table)


def _cell(name: str, value: object) -> str:
    if name == "duration":
        return f"{value:,.1f} s"
    return f"{value:,d}" if isinstance(value, int) else printable(str(value))
