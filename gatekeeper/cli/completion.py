"""``gatekeeper completion``: what a shell needs to complete commands, and names from the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from gatekeeper.cli.options import DEFAULT_CONFIG

_PROGRAM: Final = "gatekeeper"

#: Seconds that a shell waits for a connection, and for an answer: someone is typing.
_PATIENCE: Final = (0.3, 0.7)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what a shell needs to complete this program's commands.

    Names of services, users and pools, and ids of keys, exchanges and charges, are completed as
    well, where the daemon answers at once.

    \b
    bash, in ~/.bashrc:
      eval "$(gatekeeper completion bash)"
    zsh, in ~/.zshrc:
      eval "$(gatekeeper completion zsh)"
    fish:
      gatekeeper completion fish > ~/.config/fish/completions/gatekeeper.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # the choice above are those that there are
    command = context.find_root().command
    click.echo(made(command, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source())


Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def names_of(path: str, field: str, **query: Any) -> Completer:
    """Complete from a list of the API, which ``query`` may narrow, by a field of its items.

    In ``path`` ``{name}`` stands for what was given for that parameter before.
    """

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        values = context.params
        parts = path.removeprefix("/").split("/")
        filled = [values.get(part[1:-1]) if part.startswith("{") else part for part in parts]
        if not all(filled):
            return []
        found = _ask(values, [str(part) for part in filled], query)
        names = dict.fromkeys(str(item.get(field, "")) for item in found)
        return [name for name in names if name.startswith(incomplete) and name.isprintable()]

    return complete


complete_service: Final = names_of("/v1/services", "name")
complete_user: Final = names_of("/v1/services/{service}/users", "name")
complete_key: Final = names_of("/v1/keys", "id")
complete_exchange: Final = names_of("/v1/exchanges", "id")
complete_any_user: Final = names_of("/v1/users", "name")
complete_payer: Final = names_of("/v1/credits/accounts", "user")
complete_pool: Final = names_of("/v1/credits/accounts", "pool")
complete_charge: Final = names_of("/v1/credits/charges", "id", state=["uncollected", "error"])


def _ask(
    values: dict[str, Any], path: Sequence[str], query: dict[str, Any]
) -> list[dict[str, Any]]:
    """What the API lists; nothing where that fails, for a line that is typed is no place to say."""
    from gatekeeper.cli.management_address import make_client
    from gatekeeper.errors import GatekeeperError

    config = values.get("config") or os.environ.get("GATEKEEPER_CONFIG") or DEFAULT_CONFIG
    try:
        client = make_client(config, values.get("url"), values.get("token_file"), _PATIENCE)
        items: list[dict[str, Any]] = client.call("GET", path, {**query, "limit": 1000})["items"]
    except (GatekeeperError, ValueError, TypeError, KeyError):
        return []
    return items
