"""What the management API answers, as tables and as JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import click

from gatekeeper.terminal import printable

#: Rows of a table, unless the command line says how many.
TABLE_ROWS: Final = 1000

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")


class Column(NamedTuple):
    """A column of a table: its heading, which is the field that is shown, or how to make it."""

    heading: str
    make: Callable[[Mapping[str, Any]], Any] | None = None

    def cell(self, item: Mapping[str, Any]) -> Any:
        """What stands in the row of ``item``."""
        return item.get(self.heading) if self.make is None else self.make(item)


def in_json(form: str | None) -> bool:
    """Whether to print JSON: where it is wished for, or the output goes to another program."""
    return form == "json" or (form is None and not sys.stdout.isatty())


def tell(form: str | None, document: Any, sentence: str) -> None:
    """Say what was done: ``sentence`` on a terminal, else what the API has answered, if it has."""
    if not in_json(form):
        click.echo(printable(sentence))
    elif document is not None:
        write_json(document)


def asked_for(form: str | None, limit: int | None) -> int | None:
    """How many items to get: for a table one more, so that it can say that there are more."""
    return limit if in_json(form) else (limit or TABLE_ROWS) + 1


def show_list(
    form: str | None,
    items: Iterable[Mapping[str, Any]],
    columns: Iterable[Column],
    limit: int | None = None,
) -> None:
    """Print a list: a table, or JSON with an object a line. See :func:`asked_for`."""
    if in_json(form):
        before = "["
        for item in items:
            sys.stdout.write(before + json.dumps(item))
            before = ",\n "
        sys.stdout.write("[]\n" if before == "[" else "]\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    most, shown, found = limit or TABLE_ROWS, tuple(columns), iter(items)
    rows = [[column.cell(item) for column in shown] for item in islice(found, most)]
    caption = None if rows else "Nothing."
    if next(found, None) is not None:
        caption = f"The first {most:,d}; for more use --limit or --format json."
    table = Table(caption=caption)
    for number, column in enumerate(shown):
        numeric = any(_is_number(row[number]) for row in rows)
        table.add_column(
            column.heading,
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(written(cell)) for cell in row))
    Console().print(table)


def show_one(form: str | None, document: Mapping[str, Any]) -> None:
    """Print one thing: its fields as the lines of a table, without those that say nothing."""
    if in_json(form):
        write_json(document)
    else:
        show_lines((name, value) for name, value in document.items() if written(value))


def show_lines(lines: Iterable[tuple[str, Any]]) -> None:
    """Print a table of names and values."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(Text(printable(name)), Text(written(value)))
    Console().print(table)


def write_json(document: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(document, indent=2))


def written(value: Any) -> str:
    """A value as it stands in a table: printable, in one line."""
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case int():
            return f"{value:,d}"
        case float():
            return f"{value:,.1f}"
        case str():
            found = _TIME.fullmatch(value)
            return printable(value) if found is None else f"{found[1]}Z"
        case list() if all(isinstance(item, str) for item in value):
            return printable(", ".join(value))
        case dict():
            value = {name: item for name, item in value.items() if item is not None}
    return json.dumps(value) if value else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
