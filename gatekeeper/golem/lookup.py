"""Where the runtime program finds the definition of a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.golem.definitions import Definition, read_definition
from gatekeeper.golem.files import definition_files, read_file

_SERVICES: Final = "services"
_PROVIDER: Final = "ya-runtime-http-auth"  # what providers have called the directory so far


def directories(configured: Iterable[str], environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The directories that are looked into, in this order."""
    home = Path.home()
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [
        *map(Path, configured),
        Path(sys.argv[0]).absolute().parent / _SERVICES,
        Path.cwd() / _SERVICES,
        data / _PROVIDER / _SERVICES,
        settings / _PROVIDER / _SERVICES,
    ]


def find_definition(name: str, places: Iterable[Path]) -> Definition:
    """The first definition whose ``name`` this is.

    :raises ConfigurationError: there is none, or something is wrong with it; then with every
        problem, at ``FILE: FIELD``. What is wrong with other files is told only where none fits.
    """
    places = list(places)
    unreadable: list[Problem] = []
    for place in places:
        try:
            files = definition_files(place)
        except OSError:
            continue  # most of these directories are not there
        except ValueError as error:
            unreadable.append(Problem(str(place), str(error)))
            continue
        for file in files:
            try:
                raw = read_file(file)
            except ConfigurationError as error:
                unreadable += [Problem(str(file), problem.message) for problem in error.problems]
                continue
            if isinstance(raw, dict) and raw.get("name") == name:
                return _read(raw, file)
    searched = ", ".join(dict.fromkeys(map(str, places)))
    missing = Problem("", f"no definition has the name `{name}`; looked into {searched}")
    raise ConfigurationError([missing, *unreadable])


def _read(raw: object, file: Path) -> Definition:
    try:
        return read_definition(raw, base=file.absolute().parent)
    except ConfigurationError as error:
        raise ConfigurationError(
            Problem(f"{file}: {path}", message) for path, message in error.problems
        ) from None
