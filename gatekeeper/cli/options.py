"""What the subcommands of ``gatekeeper`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from gatekeeper.config.model import Settings
    from gatekeeper.errors import Problem

DEFAULT_CONFIG: Final = "/etc/gatekeeper/gatekeeper.toml"

#: The configuration is wrong.
EXIT_CONFIGURATION: Final = 1

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Add ``--config``."""
    return click.option(
        "--config",
        "-c",
        type=click.Path(dir_okay=False),
        envvar="GATEKEEPER_CONFIG",
        default=DEFAULT_CONFIG,
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )(command)


def load_settings(path: str) -> Settings:
    """Load the configuration as the daemon does, or end with all of its problems."""
    from gatekeeper.auth.registry import checker_types
    from gatekeeper.config.loading import load
    from gatekeeper.errors import ConfigurationError

    try:
        return load(path, checker_types())
    except ConfigurationError as error:
        refuse(path, error.problems)


def refuse(path: str, problems: Iterable[Problem]) -> NoReturn:
    """Print what is wrong with the configuration, and end."""
    for problem in problems:
        click.echo(f"{path}: {problem}", err=True)
    raise SystemExit(EXIT_CONFIGURATION)
