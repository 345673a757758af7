"""The command ``gatekeeper``. What a subcommand needs is imported in it, so that help is quick."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatekeeper.cli.completion import completion
from gatekeeper.cli.credits import credits
from gatekeeper.cli.exchanges import exchanges
from gatekeeper.cli.explain import explain
from gatekeeper.cli.importing import import_
from gatekeeper.cli.keys import key
from gatekeeper.cli.options import config_option, load_settings, refuse
from gatekeeper.cli.revocations import revocations, revoke
from gatekeeper.cli.services import service
from gatekeeper.cli.status import audit, reload, status
from gatekeeper.cli.store import store
from gatekeeper.cli.tokens import token
from gatekeeper.cli.usage import usage
from gatekeeper.cli.users import user
from gatekeeper.cli.values import ask_password, first_line

if TYPE_CHECKING:
    from gatekeeper.errors import Problem


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look after gatekeeper: its configuration, its store, and the daemon that runs.

    The daemon itself is started with `twistd gatekeeper --config FILE`. The commands that ask it
    (audit, credits, exchanges, key, reload, service, status, token revoke, user) find its address
    and the operators' token by the configuration.

    \b
    Examples:
      gatekeeper check-config /etc/gatekeeper/gatekeeper.toml
      gatekeeper service add acme --to http://10.0.0.5:8080 --from /acme --checker users
      gatekeeper user add acme alice
      gatekeeper usage --since 7d

    \b
    Exit status:
      0  done
      1  the configuration is wrong, the daemon said no, or something unexpected happened
      2  the command line is wrong, or the store cannot be used
      3  the token is not good, the request would be refused, an import is incomplete,
         or the daemon is not ready
      4  the daemon cannot be reached, or the token for it cannot be read

    \b
    Completion in bash (zsh and fish alike):
      eval "$(gatekeeper completion bash)"
    """


token.add_command(revoke)
token.add_command(revocations)
for command in (
    audit,
    completion,
    credits,
    exchanges,
    explain,
    import_,
    key,
    reload,
    service,
    status,
    store,
    token,
    usage,
    user,
):
    main.add_command(command)


@main.command("version")
@config_option
def version(config: str) -> None:
    """Print the version."""
    from gatekeeper import __version__

    click.echo(f"gatekeeper {__version__}")


@main.command("check-config")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@config_option
def check_config(file: str | None, config: str) -> None:
    """Check a configuration, all of it, without starting anything.

    Every problem is printed with its place in the file. FILE may be given with --config as well.
    """
    from gatekeeper.auth.actions import make_access
    from gatekeeper.auth.registry import close_checkers, make_checkers
    from gatekeeper.demo import prepare
    from gatekeeper.errors import ConfigurationError
    from gatekeeper.store.opening import make_store

    path = file if file is not None else config
    settings = load_settings(path)
    # What the daemon makes at its start: this finds what the file alone does not tell.
    problems: list[Problem] = []
    try:
        settings = prepare(settings, click.echo)
        close_checkers(make_checkers(settings))
    except ConfigurationError as error:
        problems += error.problems
    for number, each in enumerate(settings.services):
        try:
            make_access(each)
        except ConfigurationError as error:
            where = f"services[{number}]"
            problems += [each._replace(path=f"{where}.{each.path}") for each in error.problems]
    try:
        make_store(settings.store)
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        refuse(path, problems)
    click.echo(f"{path}: ok")


@main.command("hash-password")
@config_option
def hash_password(config: str) -> None:
    """Make a hash of a password for the configuration.

    The password is asked for twice, or read from standard input (its first line) if that is not a
    terminal. Only the hash goes to standard output.
    """
    from gatekeeper.auth.passwords import hash_password as make_hash

    password = ask_password() if sys.stdin.isatty() else first_line("password")
    try:
        click.echo(make_hash(password))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
