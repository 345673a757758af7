"""``gatekeeper token revoke``: tokens that count no more, although they have not expired."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatekeeper.cli.management import asks_daemon, format_option, limit_option
from gatekeeper.cli.management_output import tell
from gatekeeper.cli.values import first_line, later

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

_REVOCATIONS = ("v1", "revocations")


@click.command("revoke")
@asks_daemon
@click.option("--jti", metavar="ID", help="All tokens with this `jti`, in place of one token.")
@click.option(
    "--until",
    callback=later,
    metavar="WHEN",
    help="When the token expires, and the revocation may be forgotten: 30d, 2031-05-01.  "
    "[default: 366d]",
)
@format_option
def revoke(client: Client, jti: str | None, until: str | None, form: str | None) -> None:
    """Revoke a token: nothing is granted for it any more, and what runs under it ends.

    The token is asked for, or read from standard input if that is not a terminal: on a command line
    others could see it. It works for tokens of any checker, opaque ones too.

    \b
    Examples:
      gatekeeper token revoke < token.txt
      gatekeeper token revoke --jti 5f0c1e --until 7d
    """
    body = {"jti": jti, "until": until}
    if jti is None:
        if sys.stdin.isatty():
            typed: str = click.prompt("Token", hide_input=True, err=True)
        else:
            typed = first_line("token")
        body = {"token": typed.strip().removeprefix("Bearer ").strip(), "until": until}
    made = client.call("POST", _REVOCATIONS, body=body)
    tell(form, made, f"Revoked until {made['until']}; SHA-256 {made['digest']}.")


@click.command("revocations")
@asks_daemon
@limit_option
@format_option
def revocations(client: Client, limit: int | None, form: str | None) -> None:
    """List the revocations that still matter, by the SHA-256 of the token or of its `jti`."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    found = client.items(_REVOCATIONS, most=asked_for(form, limit))
    show_list(form, found, map(Column, ("digest", "created", "until")), limit)
