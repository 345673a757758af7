"""The command ``gatekeeper``. What a subcommand needs is imported in it, so that help is quick."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gatekeeper.cli_explain import explain
from gatekeeper.cli_import import import_
from gatekeeper.cli_options import config_option, load_settings, refuse
from gatekeeper.cli_store import store
from gatekeeper.cli_tokens import token
from gatekeeper.cli_usage import usage

if TYPE_CHECKING:
    from gatekeeper.errors import Problem


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look after gatekeeper: check its configuration, read the usage, upgrade the store.

    The daemon itself is started with `twistd gatekeeper --config FILE`.

    \b
    Exit status:
      0  done
      1  the configuration is wrong, or something unexpected happened
      2  the command line is wrong, or the store cannot be used
      3  the token is not good, the request would be refused, or an import is incomplete

    \b
    Completion in bash (zsh and fish alike):
      eval "$(_GATEKEEPER_COMPLETE=bash_source gatekeeper)"
    """


main.add_command(token)
main.add_command(usage)
main.add_command(store)
main.add_command(explain)
main.add_command(import_)


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
    for number, service in enumerate(settings.services):
        try:
            make_access(service)
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

    password: str
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        line = sys.stdin.buffer.readline()
        try:
            password = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError:
            raise click.UsageError("the password is not UTF-8") from None
    if not password:
        raise click.UsageError("the password is empty")
    try:
        click.echo(make_hash(password))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
