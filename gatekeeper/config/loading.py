"""From a TOML file to :class:`~gatekeeper.config.model.Settings`, or to all of its problems."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatekeeper.config.checkers import CheckerTable, CheckerTypes
from gatekeeper.config.checks import cross_check
from gatekeeper.config.fields import Section
from gatekeeper.config.files import check_files
from gatekeeper.config.messages import path_of, problems_of, suggestion
from gatekeeper.config.model import Settings
from gatekeeper.config.paths import absolute_in_table, in_state_dir
from gatekeeper.config.secrets import Secrets
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.golem.expansion import expand

_LARGEST_FILE = 16 * 1024 * 1024  # bytes


def _as_it_is(tree: dict[str, Any]) -> dict[str, Any]:
    return tree


def load(
    path: str | Path,
    checker_types: CheckerTypes,
    *,
    environ: Mapping[str, str] = os.environ,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_is,
) -> Settings:
    """Read a configuration file.

    ``checker_types`` is what the installed checkers accept, ``environ`` where
    ``{ env = "NAME" }`` is looked up. ``complete`` may add to what stands in the file, and take
    away from it, before that is looked at.

    :raises ConfigurationError: with every problem, each at its path. No message shows a value
        that came from the environment or from a file, or anything else that may be a secret.
    """
    file = Path(path).absolute()
    try:
        tree = complete(_read(file))
    except ValueError as error:
        raise ConfigurationError([Problem("", str(error))], str(path)) from None
    secrets = Secrets(environ, file.parent)
    definitions = expand(absolute_in_table(Settings, secrets.resolve(tree), file.parent))
    tree = definitions.tree
    tables, problems = _read_checkers(tree.get("checkers", {}), checker_types, file.parent)
    settings = None
    try:
        settings = Settings.model_validate(
            {**tree, "checkers": tables}, by_alias=True, by_name=False
        )
    except ValidationError as error:
        problems += problems_of(error, Settings)
    problems += check_files(tree)
    problems += cross_check(tree, checker_types, tables if isinstance(tables, dict) else {})
    problems = definitions.problems + definitions.tell(problems)
    problems = secrets.problems + secrets.mask(_beside(problems, secrets.problems))
    if problems or settings is None:
        raise ConfigurationError(problems, str(path))
    return in_state_dir(settings)


def _read(file: Path) -> dict[str, Any]:
    """Parse the file; ``ValueError`` says why it is not possible."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"the configuration cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"the configuration is larger than {_LARGEST_FILE} bytes")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"the configuration is not UTF-8 (at line {line})") from None
    except ValueError as error:  # TOMLDecodeError, or a number that is too long for Python
        raise ValueError(f"the configuration is not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError("the configuration is nested too deeply") from None


def _read_checkers(raw: Any, types: CheckerTypes, base: Path) -> tuple[Any, list[Problem]]:
    """Read the ``[checkers.NAME]`` tables.

    What cannot be read leaves its problems, and something harmless in its place.
    """
    if not isinstance(raw, dict):
        return raw, []  # the model says so
    tables: dict[str, CheckerTable] = {}
    problems: list[Problem] = []
    for name, table in raw.items():
        try:
            tables[name] = _read_checker(name, table, types, base)
        except ConfigurationError as error:
            tables[name] = CheckerTable("", Section())
            problems += error.problems
    return tables, problems


def _read_checker(name: str, table: Any, types: CheckerTypes, base: Path) -> CheckerTable:
    location = ("checkers", name)
    path = path_of(location)
    if not isinstance(table, dict):
        raise ConfigurationError([Problem(path, "must be a table")])
    settings = dict(table)
    kind = settings.pop("type", None)
    if not isinstance(kind, str):
        message = "is required" if kind is None else "must be a string"
        raise ConfigurationError([Problem(f"{path}.type", message)])
    if kind not in types.models:
        near = suggestion(kind, types.models)
        known = ", ".join(f"`{known}`" for known in sorted(types.models)) or "none"
        message = f"no checker is of this type{near or f'; known: {known}'}"
        raise ConfigurationError([Problem(f"{path}.type", message)])
    model = types.models[kind]
    try:
        settings = absolute_in_table(model, settings, base)
        return CheckerTable(kind, model.model_validate(settings, by_alias=True, by_name=False))
    except ValidationError as error:
        problems = list(problems_of(error, model, location))
    except ConfigurationError as error:
        problems = [
            Problem(f"{path}.{inner.path}" if inner.path else path, inner.message)
            for inner in error.problems
        ]
    raise ConfigurationError(problems)


def _beside(problems: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    """Without those problems that stand where a known one stands, and so only repeat it."""
    places = {problem.path for problem in known}
    return [problem for problem in problems if problem.path not in places]
