"""The command ``gatekeeper``. What a subcommand needs is imported in it, so that help is quick."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

import click

from gatekeeper.cli_explain import explain
from gatekeeper.cli_import import import_
from gatekeeper.cli_options import config_option, load_settings, refuse
from gatekeeper.cli_tokens import token

if TYPE_CHECKING:
    from gatekeeper.config.model import Settings
    from gatekeeper.errors import Problem
    from gatekeeper.store.interface import UsageQuery, UsageRow

#: The store cannot be read; click uses 2 for a wrong command line, too.
EXIT_STORE: Final = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look after gatekeeper: check its configuration, read the usage.

    The daemon itself is started with `twistd gatekeeper --config FILE`.

    \b
    Exit status:
      0  done
      1  the configuration is wrong, or something unexpected happened
      2  the command line is wrong, or the store cannot be read
      3  the token is not good, the request would be refused, or an import is incomplete

    \b
    Completion in bash (zsh and fish alike):
      eval "$(_GATEKEEPER_COMPLETE=bash_source gatekeeper)"
    """


main.add_command(token)
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


@main.command("usage")
@config_option
@click.option("--service", help="Of this service only.")
@click.option("--user", help="Of this user only.")
@click.option("--since", help="From this time on: 2024-05-01, 2024-05-01T10:00Z, 24h, 7d.")
@click.option("--until", help="Before this time, in the same forms.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["hour", "day", "path", "user", "service"]),
    help="What to group by; repeat it for more.  [default: service, user, path]",
)
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
    since: str | None,
    until: str | None,
    by: tuple[str, ...],
    form: str | None,
) -> None:
    """Report the usage that is in the store.

    Usage is kept by the hour, in UTC; times without an offset are UTC, and those within an hour
    stand for its beginning. What the daemon has counted in the last few seconds is not there yet.
    """
    from gatekeeper.store.interface import UsageQuery
    from gatekeeper.usage import report

    now = time.time()

    def parse(text: str | None, option: str) -> int | None:
        try:
            return None if text is None else report.parse_time(text, now)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=option) from None

    query = UsageQuery(
        service, user, parse(since, "--since"), parse(until, "--until"), by or UsageQuery().by
    )
    rows = _ask_store(load_settings(config), config, query)
    form = form or ("table" if sys.stdout.isatty() else "json")
    if form == "table":
        from rich.console import Console

        report.print_table(rows, query.by, Console())
    elif form == "json":
        report.write_json(rows, query.by, sys.stdout)
    else:
        report.write_csv(rows, query.by, sys.stdout)


def _ask_store(settings: Settings, path: str, query: UsageQuery) -> list[UsageRow]:
    """Run the reactor for one query."""
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    from gatekeeper.errors import ConfigurationError, StoreError
    from gatekeeper.store.opening import make_store

    answers: list[list[UsageRow] | ConfigurationError | StoreError] = []

    async def ask(reactor: object) -> None:
        try:
            # A file that we would make here might belong to somebody else than the daemon.
            store = make_store(settings.store, reactor, create=False)
            try:
                await store.open()
                answers.append(await store.usage(query))
            finally:
                await store.close()
        except (ConfigurationError, StoreError) as error:
            answers.append(error)

    try:
        react(lambda reactor: ensureDeferred(ask(reactor)))
    except SystemExit as end:  # This is how react() returns.
        if end.code:
            raise
    match answers:
        case [StoreError() as error]:
            click.echo(f"The usage cannot be read: {error}", err=True)
            raise SystemExit(EXIT_STORE)
        case [ConfigurationError() as error]:
            refuse(path, error.problems)
        case [list() as rows]:
            return rows
    raise click.Abort  # Interrupted.
