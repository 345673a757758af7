"""What the subcommands that ask the running daemon have in common."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper.cli.options import config_option, refuse
from gatekeeper.terminal import printable

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

#: The daemon said no.
EXIT_REFUSED: Final = 1

#: The daemon is not as it should be.
EXIT_NOT_READY: Final = 3

#: The daemon cannot be reached, or the token for it cannot be read.
EXIT_UNREACHABLE: Final = 4


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config``, ``--url`` and ``--token-file``."""
    for option in (
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(dir_okay=False),
            help="Holds the operators' token.  [default: management.token in `state_dir`]",
        ),
        click.option(
            "--url",
            metavar="URL",
            help="Where the daemon's management API is: http://HOST:PORT, or unix:/PATH.  "
            "[default: `management.bind`]",
        ),
        config_option,
    ):
        command = option(command)
    return command


def asks_daemon(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a client for the running daemon as its first argument.

    What the daemon refuses, and that it is not there, ends the process with a message of one line.
    """

    @functools.wraps(command)
    def run(config: str, url: str | None, token_file: str | None, **others: Any) -> Any:
        with _reporting(config):
            return command(_client(config, url, token_file), **others)

    return place_options(run)


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    help="How to print it.  [default: table on a terminal, else json]",
)

limit_option = click.option(
    "--limit",
    type=click.IntRange(1),
    help="So many at the most.  [default: 1000 in a table, else all]",
)

yes_option = click.option(
    "--yes", "-y", is_flag=True, help="Do not ask; it is needed where nobody can be asked."
)


def confirm(question: str, *, yes: bool) -> None:
    """Ask whoever sits at the terminal before something is lost.

    :raises click.UsageError: nobody does, and ``yes`` was not given.
    :raises click.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: give --yes to go ahead")
    click.confirm(printable(question), abort=True, err=True)


def complain(message: str) -> None:
    """Print an error of one line."""
    click.echo(f"gatekeeper: {printable(message)}", err=True)


def without_nothing(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were given: neither None nor an empty list."""
    return {name: value for name, value in fields.items() if value is not None and value != ()}


def _client(config: str, url: str | None, token_file: str | None) -> Client:
    from gatekeeper.cli.management_address import make_client

    try:
        return make_client(config, url, token_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


@contextmanager
def _reporting(config: str) -> Iterator[None]:
    from gatekeeper.errors import ConfigurationError
    from gatekeeper.management_client import Refused, Unreachable

    try:
        yield
    except ConfigurationError as error:
        refuse(config, error.problems)
    except Refused as error:
        complain(str(error))
        raise SystemExit(EXIT_REFUSED) from None
    except Unreachable as error:
        complain(str(error))
        raise SystemExit(EXIT_UNREACHABLE) from None
