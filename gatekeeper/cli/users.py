"""``gatekeeper user``: who may use a service, with a password."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from gatekeeper.cli.completion import complete_service, complete_user
from gatekeeper.cli.management import asks_daemon, confirm, format_option, limit_option, yes_option
from gatekeeper.cli.management_output import tell
from gatekeeper.cli.services import service_argument
from gatekeeper.cli.values import later, password_option, read_password

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

user_argument = click.argument("user", shell_complete=complete_user)

expires_option = click.option(
    "--expires",
    callback=later,
    metavar="WHEN",
    help="Nothing is granted from then on: 30d, 2031-05-01, 2031-05-01T10:00:00Z.",
)
groups_option = click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="NAME",
    help="A group that access rules ask for; repeat it for more.",
)
disabled_option = click.option("--disabled", is_flag=True, help="Not yet to be used.")


@click.group("user")
def user() -> None:
    """Look after the users of services, who present a password.

    Users that stand in the configuration file are not shown here. A password is asked for, or read
    from standard input; there is no option for it, since others can see a command line.
    """


@user.command("list")
@asks_daemon
@click.argument("service", required=False, shell_complete=complete_service)
@limit_option
@format_option
def list_users(client: Client, service: str | None, limit: int | None, form: str | None) -> None:
    """List the users of SERVICE, or of all services."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    path = ("v1", "users") if service is None else ("v1", "services", service, "users")
    headings = ("service", "name", "groups", "disabled", "expires", "created")
    found = client.items(path, most=asked_for(form, limit))
    show_list(form, found, map(Column, headings), limit)


@user.command("add")
@asks_daemon
@service_argument
@click.argument("user")
@password_option
@expires_option
@groups_option
@disabled_option
@format_option
def add(
    client: Client,
    service: str,
    user: str,
    expires: str | None,
    groups: tuple[str, ...],
    form: str | None,
    *,
    password_stdin: bool,
    disabled: bool,
) -> None:
    """Add USER to SERVICE.

    \b
    Examples:
      gatekeeper user add acme alice
      pass show acme/alice | gatekeeper user add acme alice --password-stdin --expires 90d
    """
    body = {
        "name": user,
        "password": read_password(from_stdin=password_stdin),
        "expires": expires,
        "groups": groups,
        "disabled": disabled,
    }
    made = client.call("POST", ("v1", "services", service, "users"), body=body)
    tell(form, made, f"User {made['name']} of service {service} is added.")


@user.command("remove")
@asks_daemon
@service_argument
@user_argument
@yes_option
@format_option
def remove(client: Client, service: str, user: str, form: str | None, *, yes: bool) -> None:
    """Remove USER of SERVICE, and the keys that this user has for it."""
    confirm(f"Remove the user {user} of service {service}, and that user's keys for it?", yes=yes)
    client.call("DELETE", ("v1", "services", service, "users", user))
    tell(form, None, f"User {user} of service {service} is removed.")


@user.command("passwd")
@asks_daemon
@service_argument
@user_argument
@password_option
@format_option
def passwd(
    client: Client, service: str, user: str, form: str | None, *, password_stdin: bool
) -> None:
    """Give USER of SERVICE another password. The old one is refused at once."""
    body = {"password": read_password(from_stdin=password_stdin)}
    _change(client, service, user, body, form, "has another password")


@user.command("disable")
@asks_daemon
@service_argument
@user_argument
@format_option
def disable(client: Client, service: str, user: str, form: str | None) -> None:
    """Refuse USER of SERVICE, and that user's keys for it, until enabled again."""
    _change(client, service, user, {"disabled": True}, form, "is disabled")


@user.command("enable")
@asks_daemon
@service_argument
@user_argument
@format_option
def enable(client: Client, service: str, user: str, form: str | None) -> None:
    """Let USER of SERVICE in again."""
    _change(client, service, user, {"disabled": False}, form, "is enabled")


@user.command("stats")
@asks_daemon
@service_argument
@click.argument("user", required=False, shell_complete=complete_user)
@click.option("--since", metavar="WHEN", help="From this time on: 2031-05-01, 24h, 7d.")
@click.option("--until", metavar="WHEN", help="Before this time, in the same forms.")
@click.option(
    "--by",
    type=click.Choice(["user", "path", "model", "hour", "day"]),
    help="What to group by.  [default: path; user, where no USER is given]",
)
@limit_option
@format_option
def stats(
    client: Client,
    service: str,
    user: str | None,
    since: str | None,
    until: str | None,
    by: str | None,
    limit: int | None,
    form: str | None,
) -> None:
    """Show what USER, or each user, has used of SERVICE until now.

    `gatekeeper usage` reports more, and needs no daemon; this includes the last few seconds.
    """
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    group = by or ("user" if user is None else "path")
    named = ("service",) if user is None else ("service", "user")
    query = {
        "service": service,
        "user": user,
        "since": since,
        "until": until,
        "by": tuple(dict.fromkeys((*named, group))),
    }
    found = client.items(("v1", "usage"), query, cursor="offset", most=asked_for(form, limit))
    first = next(found, None)
    if first is None:  # nothing was used, or there is nobody who could have
        client.call("GET", ("v1", "services", service, *(() if user is None else ("users", user))))
    headings = (group, "requests", "units", "bytes_in", "bytes_out", "duration")
    show_list(form, chain(() if first is None else (first,), found), map(Column, headings), limit)


def _change(
    client: Client, service: str, user: str, body: Any, form: str | None, outcome: str
) -> None:
    made = client.call("PATCH", ("v1", "services", service, "users", user), body=body)
    tell(form, made, f"User {user} of service {service} {outcome}.")
