"""``gatekeeper status``, ``reload`` and ``audit``: the running daemon itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gatekeeper.cli.management import EXIT_NOT_READY, asks_daemon, format_option
from gatekeeper.cli.management_output import in_json, tell

if TYPE_CHECKING:
    from gatekeeper.management_client import Client


@click.command("status")
@asks_daemon
@format_option
def status(client: Client, form: str | None) -> None:
    """Show how the running daemon is.

    \b
    Exit status:
      0  it is ready
      3  it is not: draining, or a check has found something
      4  it cannot be reached
    """
    from gatekeeper.cli.management_output import show_lines, write_json

    health: dict[str, Any] = client.call("GET", ("v1", "health"))
    if in_json(form):
        write_json(health)
    else:
        show_lines(_lines(health))
    if health["status"] != "ready":
        raise SystemExit(EXIT_NOT_READY)


@click.command("reload")
@asks_daemon
@format_option
def reload(client: Client, form: str | None) -> None:
    """Have the configuration and the files that it names read again, as SIGHUP does.

    Either all of it takes effect or, where something in it cannot be used, nothing: the exit
    status is 1 then.
    """
    made = client.call("POST", ("v1", "reload"))
    keys = ", ".join(made["needs_restart"])
    rest = f" These keys need a restart: {keys}." if keys else ""
    tell(form, made, f"The configuration is reloaded.{rest}")


@click.command("audit")
@asks_daemon
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="So many at the most."
)
@format_option
def audit(client: Client, limit: int, form: str | None) -> None:
    """Show what operators have changed, the newest first: who, when, what, from where."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    columns = [
        *map(Column, ("number", "time", "actor", "source", "action", "subject")),
        Column("detail", lambda change: json.dumps(change["detail"]) if change["detail"] else ""),
    ]
    found = client.items(("v1", "audit"), cursor="before", most=asked_for(form, limit))
    show_list(form, found, columns, limit)


def _lines(health: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("status", "version", "started", "connections", "exchanges", "services", "users"):
        yield name, str(health[name])
    for listener in health["listeners"]:
        yield f"listener {listener['name']}", f"{listener['role']} on {listener['address']}"
    for check in health["checks"]:
        yield f"check {check['name']}", check["problem"] or "ok"
    journal, flusher = health["journal"], health["flusher"]
    if journal is None:
        yield "journal", "usage is not counted"
    else:
        yield (
            "journal",
            f"{journal['records']:,d} records, {journal['bytes']:,d} of {journal['limit']:,d} bytes"
            + ("; it is full" if journal["full"] else "")
            + ("; it cannot be written" if journal["failing"] else ""),
        )
    if flusher is not None:
        yield (
            "flushing",
            f"{flusher['lag']:,.1f} s behind, {flusher['written']:,d} batches written, "
            f"{flusher['failures']:,d} attempts failed, {flusher['rejected']:,d} segments set aside"
            + ("; it fails now" if flusher["failing"] else ""),
        )
