"""``gatekeeper service``: the services of the running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper.cli.completion import complete_service
from gatekeeper.cli.management import (
    asks_daemon,
    confirm,
    format_option,
    limit_option,
    without_nothing,
    yes_option,
)
from gatekeeper.cli.management_output import tell

if TYPE_CHECKING:
    from gatekeeper.management_client import Client

_SERVICES: Final = ("v1", "services")
_LARGEST: Final = 1024 * 1024  # bytes of a definition

service_argument = click.argument("service", shell_complete=complete_service)


@click.group("service")
def service() -> None:
    """List, show, add and remove services of the running daemon.

    Those of the configuration file are shown too; they are changed in that file only.
    """


@service.command("list")
@asks_daemon
@limit_option
@format_option
def list_services(client: Client, limit: int | None, form: str | None) -> None:
    """List the services."""
    from gatekeeper.cli.management_output import Column, asked_for, show_list

    headings = ("name", "origin", "hosts", "from", "to", "checkers", "description")
    found = client.items(_SERVICES, most=asked_for(form, limit))
    show_list(form, found, map(Column, headings), limit)


@service.command("show")
@asks_daemon
@service_argument
@format_option
def show(client: Client, service: str, form: str | None) -> None:
    """Show one service, all of it."""
    from gatekeeper.cli.management_output import show_one

    show_one(form, client.call("GET", (*_SERVICES, service)))


@service.command("add")
@asks_daemon
@click.argument("name", required=False)
@click.option("--to", metavar="URL", help="Where it goes: http://10.0.0.5:8080/api.")
@click.option("--from", "from_", metavar="PATH", help="Path prefix.  [default: /]")
@click.option("--host", "hosts", multiple=True, help="A host that it answers to; repeat for more.")
@click.option(
    "--checker",
    "checkers",
    multiple=True,
    metavar="NAME",
    help="A checker that is asked, in this order; repeat it for more.",
)
@click.option("--public", is_flag=True, help="Ask no checker: everybody may use it.")
@click.option(
    "--listener", "listeners", multiple=True, metavar="NAME", help="Only on this listener."
)
@click.option("--description", metavar="TEXT", help="Free text.")
@click.option(
    "--file",
    "file",
    metavar="FILE",
    help="Read the definition from a file: .json, .toml or .yaml. `-` is standard input.",
)
@click.option(
    "--input",
    "kind",
    type=click.Choice(["json", "toml", "yaml"]),
    help="What the file is.  [default: told by its ending; json from standard input]",
)
@click.option("--golem", is_flag=True, help="The file is a definition as Golem's providers have.")
@click.option("--replace", is_flag=True, help="Replace the service of this name.")
@format_option
def add(
    client: Client,
    name: str | None,
    file: str | None,
    kind: str | None,
    form: str | None,
    *,
    golem: bool,
    replace: bool,
    public: bool,
    **options: Any,
) -> None:
    """Add a service, which is served at once.

    Its fields are those of [[services]] in the configuration file, from a file, from options, or
    from both: options win.

    \b
    Examples:
      gatekeeper service add acme --to http://10.0.0.5:8080 --from /acme --checker users
      gatekeeper service add --file acme.toml
      gatekeeper service add --file acme.toml --replace
      gatekeeper service add --golem --file definition.json
      make-definition | gatekeeper service add acme --file -
    """
    options["from"] = options.pop("from_")
    given = without_nothing({"name": name, **options})
    if public:
        if "checkers" in given:
            raise click.UsageError("either --public or --checker")
        given["checkers"] = []
    if golem and (file is None or replace or set(given) - {"name", "from", "to", "description"}):
        message = "--golem takes --file, NAME, --from, --to and --description only"
        raise click.UsageError(message)
    fields = {} if file is None else _read(file, kind)
    fields.update(given)
    if not isinstance(fields.get("name"), str) and not golem:
        raise click.UsageError("the service has no name: give NAME")
    if golem:
        made = client.call("POST", ("services",), body=fields)
    elif replace:
        made = client.call("PUT", (*_SERVICES, fields["name"]), body=fields)
    else:
        made = client.call("POST", _SERVICES, body=fields)
    to = made["to"] if isinstance(made["to"], str) else ", ".join(made["to"])
    tell(form, made, f"Service {made['name']}: {made['from']} goes to {to}.")


@service.command("remove")
@asks_daemon
@service_argument
@yes_option
@format_option
def remove(client: Client, service: str, form: str | None, *, yes: bool) -> None:
    """Remove a service, its users and their keys. Requests that run may end.

    \b
    Example:
      gatekeeper service remove acme --yes
    """
    confirm(f"Remove the service {service}, its users and their keys?", yes=yes)
    client.call("DELETE", (*_SERVICES, service))
    tell(form, None, f"Service {service} is removed.")


def _read(file: str, kind: str | None) -> dict[str, Any]:
    """What stands in a file, or in standard input."""
    import json

    from gatekeeper.errors import ConfigurationError
    from gatekeeper.golem.files import ENDINGS, read_file

    ending = f".{kind}" if kind else ".json" if file == "-" else Path(file).suffix.lower()
    if ending not in ENDINGS:
        message = "its ending is not .json, .toml or .yaml: say with --input what it is"
        raise click.BadParameter(message, param_hint="--file")
    try:
        with _with_ending(file, ending) as path:
            found = read_file(path)
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise click.BadParameter(message, param_hint="--file") from None
    except ConfigurationError as error:
        message = "; ".join(problem.message for problem in error.problems)
        raise click.BadParameter(f"{file} {message}", param_hint="--file") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{file} holds no table", param_hint="--file")
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError):  # a date, for example
        message = f"{file} holds what has no place in JSON, such as a date"
        raise click.BadParameter(message, param_hint="--file") from None
    return found


@contextmanager
def _with_ending(file: str, ending: str) -> Iterator[Path]:
    """The file; a copy where its name, or that it has none, does not say what it is."""
    from tempfile import NamedTemporaryFile

    if file != "-" and Path(file).suffix.lower() == ending:
        yield Path(file)
        return
    with click.open_file(file, "rb") as stream:
        content = stream.read(_LARGEST + 1)  # one byte too many, and it is refused
    with NamedTemporaryFile(suffix=ending) as copy:  # which nobody else can read
        copy.write(content)
        copy.flush()
        yield Path(copy.name)
