"""``gatekeeper key``: secrets that programs present."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper.cli.completion import complete_key, complete_service
from gatekeeper.cli.management import asks_daemon, confirm, format_option, limit_option, yes_option
from gatekeeper.cli.management_output import in_json, tell
from gatekeeper.cli.users import disabled_option, expires_option, groups_option
from gatekeeper.terminal import printable

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

_KEYS: Final = ("v1", "keys")

key_argument = click.argument("key", metavar="ID", shell_complete=complete_key)


@click.group("key")
def key() -> None:
    """Make, list, disable and revoke keys: secrets that programs present.

    A user may have several, so that they can be changed one by one.
    """


@key.command("create")
@asks_daemon
@click.argument("user")
@click.option(
    "--service",
    shell_complete=complete_service,
    help="The only service that it is good for.  [default: all]",
)
@click.option("--label", default="", metavar="TEXT", help="What it is for.")
@expires_option
@groups_option
@disabled_option
@format_option
def create(
    client: Client,
    user: str,
    service: str | None,
    label: str,
    expires: str | None,
    groups: tuple[str, ...],
    form: str | None,
    *,
    disabled: bool,
) -> None:
    """Make a key for USER. Its secret is printed now, and never again.

    Where the output goes to another program or a file, the secret alone is printed, and the key's
    id to standard error; with --format json, all of it.

    \b
    Examples:
      gatekeeper key create alice --label "build server" --expires 90d
      gatekeeper key create alice --service acme > acme.key
    """
    body = {
        "user": user,
        "service": service,
        "label": label,
        "expires": expires,
        "groups": groups,
        "disabled": disabled,
    }
    made: dict[str, Any] = client.call("POST", _KEYS, body=body)
    if form is None and in_json(form):
        click.echo(f"Key {printable(made['id'])} of {printable(made['user'])}.", err=True)
        click.echo(printable(made["secret"]))
        return
    from gatekeeper.cli.management_output import show_one

    if in_json(form):
        show_one(form, made)
        return
    secret = made.pop("secret")
    show_one(form, made)
    click.echo("The secret, which is not shown again:")
    click.echo(printable(secret))  # in one piece, however narrow the terminal is


@key.command("list")
@asks_daemon
@click.option("--user", help="Of this user only.")
@click.option("--service", shell_complete=complete_service, help="For this service only.")
@limit_option
@format_option
def list_keys(
    client: Client, user: str | None, service: str | None, limit: int | None, form: str | None
) -> None:
    """List the keys, without their secrets."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    headings = ("id", "user", "service", "label", "groups", "disabled", "expires", "created")
    query = {"user": user, "service": service}
    found = client.items(_KEYS, query, most=asked_for(form, limit))
    show_list(form, found, map(Column, headings), limit)


def _switch(name: str, meaning: str, *, disabled: bool) -> None:
    @key.command(name, help=meaning)
    @asks_daemon
    @key_argument
    @format_option
    def switch(client: Client, key: str, form: str | None) -> None:
        made = client.call("PATCH", (*_KEYS, key), body={"disabled": disabled})
        tell(form, made, f"Key {key} is {name}d.")


_switch("disable", "Refuse a key until it is enabled again.", disabled=True)
_switch("enable", "Take a key again.", disabled=False)


@key.command("revoke")
@asks_daemon
@key_argument
@yes_option
@format_option
def revoke(client: Client, key: str, form: str | None, *, yes: bool) -> None:
    """Revoke a key: it is gone, for ever."""
    confirm(f"Revoke the key {key}?", yes=yes)
    client.call("DELETE", (*_KEYS, key))
    tell(form, None, f"Key {key} is revoked.")
