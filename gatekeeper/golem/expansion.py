"""Definition files become ordinary settings: services, and the gateways that they are found on.

This happens to the raw tree of a configuration, before it is validated, so that all that holds for
other services holds for these. What is then found wrong is told with the file and its field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.golem.definitions import (
    Definition,
    conflict,
    made_up_name,
    read_definition,
)
from gatekeeper.golem.files import definition_files, read_file

#: The checker that knows the users of all services that were defined so.
CHECKER: Final = "golem"

#: Keys of the service's table, and the fields of a definition that they come from.
SERVICE_FIELDS: Final = {
    "name": "name",
    "description": "description",
    "from": "from",
    "to": "to",
    "timeouts.body": "requestTimeout",
    "timeouts.response": "responseTimeout",
}


class Expansion(NamedTuple):
    """A raw tree with the definitions in it. ``problems``: those that could not be used.

    ``places`` says for paths of the tree where they come from.
    """

    tree: dict[str, Any]
    problems: list[Problem]
    places: Mapping[str, str]

    def tell(self, problems: Iterable[Problem]) -> list[Problem]:
        """Put the definitions' files and fields in place of paths that no operator has written."""
        if not self.places:
            return list(problems)
        longest_first = sorted(self.places, key=len, reverse=True)
        paths = re.compile("|".join(f"{re.escape(path)}(?![0-9\\w])" for path in longest_first))

        def told(text: str) -> str:
            return paths.sub(lambda found: self.places[found[0]], text)

        return [Problem(told(path), told(message)) for path, message in problems]


def read_directory(
    directory: Path, server_names: Sequence[str] = ()
) -> tuple[list[tuple[Path, Definition]], list[Problem]]:
    """All definitions of a directory, with their files in order, and all that is wrong with others.

    Those without a name get one. ``server_names`` are for those that have none. The problems' paths
    are ``FILE: FIELD``, or ``services_dir``.
    """
    found: list[tuple[Path, Definition]] = []
    problems: list[Problem] = []
    try:
        files = definition_files(directory)
    except OSError as error:
        return [], [Problem("services_dir", f"`{directory}` cannot be read: {error.strerror}")]
    except ValueError as error:
        return [], [Problem("services_dir", f"`{directory}` {error}")]
    raw: dict[Path, Any] = {}
    for file in files:
        try:
            raw[file] = read_file(file)
        except ConfigurationError as error:
            problems += _in_file(file, error.problems)
    taken = {text for item in raw.values() if isinstance(text := _name_of(item), str)}
    for file, item in raw.items():
        name = None if _name_of(item) is not None else made_up_name(taken)
        try:
            definition = read_definition(
                item, base=file.parent, name=name, server_names=tuple(server_names)
            )
        except ConfigurationError as error:
            problems += _in_file(file, error.problems)
            continue
        taken.add(definition.name)
        for other, earlier in found:
            problem = conflict(definition, earlier)
            if problem is not None:
                message = f"{problem.message} ({other})"
                problems += _in_file(file, [Problem(problem.path, message)])
                break
        else:
            found.append((file, definition))
    return found, problems


def expand(tree: Mapping[str, Any]) -> Expansion:
    """Copy a raw tree (paths absolute, not validated) with what ``services_dir`` holds added."""
    copy = dict(tree)
    directory = tree.get("services_dir")
    if not isinstance(directory, str):
        return Expansion(copy, [], {})
    names = tree.get("server_names")
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    found, problems = read_directory(Path(directory), tuple(known))
    services, listeners = tree.get("services", []), tree.get("listeners", [])
    if not isinstance(services, list) or not isinstance(listeners, list):
        return Expansion(copy, problems, {})  # the model says so
    gateways = _gateways(found)
    places: dict[str, str] = {}
    for number, (file, _) in enumerate(found, len(services)):
        path = f"services[{number}]"
        places[path] = str(file)
        for key, field in SERVICE_FIELDS.items():
            places[f"{path}.{key}"] = f"{file}: {field}"
    for number, (file, definition, address) in enumerate(gateways.values(), len(listeners)):
        encrypted = address in definition.bind_https
        path = f"listeners[{number}]"
        places[path] = str(file)
        places[f"{path}.bind"] = f"{file}: {'bindHttps' if encrypted else 'bindHttp'}"
        places[f"{path}.tls.certificate"] = f"{file}: cert.path"
        places[f"{path}.tls.key"] = f"{file}: cert.keyPath"
    copy["services"] = [*services, *(service_table(definition) for _, definition in found)]
    copy["listeners"] = [
        *listeners,
        *(listener_table(definition, address) for _, definition, address in gateways.values()),
    ]
    checkers = tree.get("checkers", {})
    if found and isinstance(checkers, dict):
        copy["checkers"] = {CHECKER: {"type": "basic"}, **checkers}
    return Expansion(copy, problems, places)


def _gateways(
    found: Iterable[tuple[Path, Definition]],
) -> dict[str, tuple[Path, Definition, str]]:
    """The addresses, each with the first definition that has it, and its file."""
    gateways: dict[str, tuple[Path, Definition, str]] = {}
    for file, definition in found:
        for address in definition.bind_https + definition.bind_http:
            gateways.setdefault(address, (file, definition, address))
    return gateways


def listener_table(definition: Definition, address: str) -> dict[str, Any]:
    """One of the definition's addresses as a table of ``listeners`` in a configuration."""
    table: dict[str, Any] = {"name": listener_name(address), "role": "gateway", "bind": address}
    if address in definition.bind_https and definition.certificate is not None:
        path, key_path = definition.certificate
        table["tls"] = {"certificate": path, "key": key_path}
    return table


def service_table(definition: Definition) -> dict[str, Any]:
    """The definition as a table of ``services`` in a configuration."""
    addresses = definition.bind_https + definition.bind_http
    timeouts = {"body": definition.request_timeout, "response": definition.response_timeout}
    return {
        "name": definition.name,
        "description": definition.description,
        "from": definition.from_,
        "to": definition.to,
        "listeners": [listener_name(address) for address in addresses],
        "checkers": [CHECKER],
        "timeouts": {key: ms / 1000 for key, ms in timeouts.items() if ms is not None},
    }


def listener_name(address: str) -> str:
    """What the gateway on an address is called: ``golem-0.0.0.0-443``."""
    return "golem-" + re.sub(r"[^0-9A-Za-z.]", "-", address)


def _name_of(raw: Any) -> Any:
    return raw.get("name") if isinstance(raw, dict) else None


def _in_file(file: Path, problems: Iterable[Problem]) -> list[Problem]:
    return [Problem(f"{file}: {path}" if path else str(file), text) for path, text in problems]
