"""``gatekeeper usage``: reports what was used."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click

from gatekeeper.cli.options import config_option
from gatekeeper.cli.store import ask_store

if TYPE_CHECKING:
    from datetime import tzinfo

    from gatekeeper.store.interface import IStore
    from gatekeeper.usage.formats import Format
    from gatekeeper.usage.report import View

#: Rows of a table, unless the command line says how many.
TABLE_ROWS: Final = 1000


@click.command("usage")
@config_option
@click.option("--service", help="Of this service only.")
@click.option("--user", help="Of this user only.")
@click.option("--path", help="Of this path only.")
@click.option("--model", help="Of this model only.")
@click.option("--since", help="From this time on: 2024-05-01, 2024-05-01T10:00Z, 24h, 7d.")
@click.option("--until", help="Before this time, in the same forms.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["hour", "day", "path", "model", "user", "service"]),
    help="What to group by; repeat it for more.  [default: service, user, path]",
)
@click.option(
    "--timezone",
    metavar="NAME",
    help="Days and times of this zone, such as Europe/Berlin.  [default: UTC]",
)
@click.option(
    "--records",
    is_flag=True,
    help="Single requests, the newest first, where they are kept (`usage.records`).",
)
@click.option("--limit", type=click.IntRange(1), help="So many rows at the most.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    help="How to print it.  [default: table on a terminal, else json]",
)
def usage(
    config: str,
    service: str | None,
    user: str | None,
    path: str | None,
    model: str | None,
    since: str | None,
    until: str | None,
    by: tuple[str, ...],
    timezone: str | None,
    records: bool,
    limit: int | None,
    form: str | None,
) -> None:
    """Report the usage that is in the store.

    Usage is kept by the hour, in UTC. Times without an offset are of the time zone, and those
    within an hour stand for its beginning; an hour counts for the day in which it begins. What the
    daemon has counted in the last few seconds is not there yet.
    """
    from gatekeeper.store.interface import RecordQuery, UsageQuery
    from gatekeeper.usage import report

    zone, now = _zone(timezone), time.time()
    begin, end = _time(since, "--since", now, zone), _time(until, "--until", now, zone)
    form = form or ("table" if sys.stdout.isatty() else "json")
    if form == "table":
        limit = limit or TABLE_ROWS
        number: int | None = limit + 1  # There is a word to be said if there are more.
    else:
        number = limit
    which = (service, user, path, model)
    if records:
        if by:
            raise click.UsageError("single records are not grouped: leave out --by")
        wanted = RecordQuery(*which, begin, end, number)
        shown = _format(form, report.records_view(zone), limit)
        _report(config, shown, lambda store: store.stream_records(wanted, shown.take))
    else:
        first, last = (None if each is None else report.full_hour(each) for each in (begin, end))
        query = UsageQuery(*which, first, last, by or UsageQuery().by, zone, number)
        shown = _format(form, report.usage_view(query), limit)
        _report(config, shown, lambda store: store.stream_usage(query, shown.take))


def _zone(name: str | None) -> tzinfo | None:
    from gatekeeper.usage.report import parse_zone

    try:
        return None if name is None else parse_zone(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timezone") from None


def _time(text: str | None, option: str, now: float, zone: tzinfo | None) -> float | None:
    from gatekeeper.usage.report import parse_time

    try:
        return None if text is None else parse_time(text, now, zone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _format(form: str, view: View, limit: int | None) -> Format:
    from gatekeeper.usage import formats

    if form == "json":
        return formats.JsonFormat(view, sys.stdout)
    if form == "csv":
        return formats.CsvFormat(view, sys.stdout)
    from rich.console import Console

    return formats.TableFormat(view, Console(), limit or TABLE_ROWS)


def _report(config: str, shown: Format, read: Callable[[IStore], Awaitable[None]]) -> None:
    async def ask(store: IStore) -> None:
        await store.open()
        await read(store)

    ask_store(config, "The usage cannot be read", ask)
    shown.end()
