"""``gatekeeper store``: looks after the store, and how other commands ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import click

from gatekeeper.cli.options import EXIT_CONFIGURATION, config_option, load_settings, refuse

if TYPE_CHECKING:
    from gatekeeper.store.interface import IStore, SchemaVersion

T = TypeVar("T")

#: The store cannot be read; click uses 2 for a wrong command line, too.
EXIT_STORE: Final = 2


def ask_store(config: str, complaint: str, ask: Callable[[IStore], Awaitable[T]]) -> T:
    """Run the reactor for ``ask``, which gets the store of a configuration, not opened yet.

    Where that fails, the process ends, with ``complaint`` before what went wrong with the store.
    """
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    from gatekeeper.errors import ConfigurationError, StoreError
    from gatekeeper.store.opening import make_store

    settings = load_settings(config)
    answers: list[T] = []
    failures: list[Exception] = []

    async def run(reactor: object) -> None:
        try:
            # A file that we would make here might belong to somebody else than the daemon.
            store = make_store(settings.store, reactor, create=False)
            try:
                answers.append(await ask(store))
            finally:
                await store.close()
        except Exception as error:
            failures.append(error)

    try:
        react(lambda reactor: ensureDeferred(run(reactor)))
    except SystemExit as end:  # This is how react() returns.
        if end.code:
            raise
    match failures:
        case [StoreError() as error]:
            click.echo(f"{complaint}: {error}", err=True)
            raise SystemExit(EXIT_STORE)
        case [ConfigurationError() as error]:
            refuse(config, error.problems)
        case [error]:
            raise error
    if not answers:
        raise click.Abort  # Interrupted.
    return answers[0]


@click.group("store")
def store() -> None:
    """Look after the store that usage is kept in."""


@store.command("status")
@config_option
def status(config: str) -> None:
    """Print the version of the store's schema. Exit status 1: this program cannot use it."""

    async def ask(store: IStore) -> SchemaVersion:
        return await store.version()

    found, needed = ask_store(config, "The store cannot be read", ask)
    if not found:
        click.echo(f"The store is empty; it gets schema version {needed} at the first start.")
    else:
        click.echo(f"The store has schema version {found}, this gatekeeper needs {needed}.")
    if 0 < found < needed:
        click.echo(f"Stop all that use it, and run: gatekeeper store upgrade --config {config}")
    elif found > needed:
        click.echo("Install the newer gatekeeper that has written it, or restore a backup.")
    if found not in (0, needed):
        raise SystemExit(EXIT_CONFIGURATION)


@store.command("upgrade")
@config_option
def upgrade(config: str) -> None:
    """Bring the store's schema up to date with this program.

    Stop all daemons that use the store before; what their journals hold is flushed when they start
    again. SQLite files are backed up first, to FILE.vN.backup; of PostgreSQL make a backup
    yourself, with pg_dump.

    An upgrade that was interrupted is taken up where it stopped. One that was done already, or is
    being done somewhere else, does no harm.
    """

    async def ask(store: IStore) -> SchemaVersion:
        await store.upgrade(click.echo)
        return await store.version()

    version = ask_store(config, "The store cannot be upgraded", ask)
    click.echo(f"The store is up to date: schema version {version.found}.")
