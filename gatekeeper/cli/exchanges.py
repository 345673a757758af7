"""``gatekeeper exchanges``: the requests that run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper.cli.completion import complete_exchange, complete_service
from gatekeeper.cli.management import asks_daemon, confirm, format_option, limit_option, yes_option
from gatekeeper.cli.management_output import tell

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

_EXCHANGES: Final = ("v1", "exchanges")
_COLUMNS: Final = (
    "id",
    "service",
    "user",
    "client",
    "method",
    "path",
    "status",
    "bytes_in",
    "bytes_out",
    "start",
    "tunnel",
)


class _ListByDefault(click.Group):
    """A group that lists where no subcommand is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :meth:`click.Command.parse_args`."""
        # While a line is completed, no word yet may become any subcommand.
        nothing = not args and not ctx.resilient_parsing
        if nothing or (args and args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("exchanges", cls=_ListByDefault)
def exchanges() -> None:
    """List the requests that run now, tunnels among them; or cut them.

    Without a subcommand they are listed.
    """


@exchanges.command("list")
@asks_daemon
@click.option("--service", shell_complete=complete_service, help="Of this service only.")
@click.option("--user", help="Of this user only.")
@limit_option
@format_option
def list_exchanges(
    client: Client, service: str | None, user: str | None, limit: int | None, form: str | None
) -> None:
    """List the requests that run now."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    query = {"service": service, "user": user}
    found = client.items(_EXCHANGES, query, most=asked_for(form, limit))
    show_list(form, found, map(Column, _COLUMNS), limit)


@exchanges.command("cut")
@asks_daemon
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_exchange)
@click.option("--service", shell_complete=complete_service, help="All of this service.")
@click.option("--user", help="All of this user.")
@yes_option
@format_option
def cut(
    client: Client,
    ids: tuple[str, ...],
    service: str | None,
    user: str | None,
    form: str | None,
    *,
    yes: bool,
) -> None:
    """Cut requests that run: those of the IDs, or all of a service, of a user, or of both.

    What they have used counts. Those that have ended meanwhile are passed over, unless they were
    named. --yes is needed for what is not named by its ID.

    \b
    Examples:
      gatekeeper exchanges cut d4854303a7aa84b7000083f516a6f64c
      gatekeeper exchanges cut --user mallory --yes
    """
    from gatekeeper.management_client import Refused

    if bool(ids) == bool(service or user):
        raise click.UsageError("give either IDs, or --service or --user")
    found: list[dict[str, Any]] = []
    if not ids:
        found = list(client.items(_EXCHANGES, {"service": service, "user": user}))
        if found:
            confirm(f"Cut {len(found)} running requests?", yes=yes)
    done: list[str] = []
    for wanted in ids or [each["id"] for each in found]:
        try:
            client.call("DELETE", (*_EXCHANGES, wanted))
        except Refused as error:
            if ids or error.status != 404:
                raise
        else:
            done.append(wanted)
    tell(form, {"cut": done}, f"{len(done)} cut.")
