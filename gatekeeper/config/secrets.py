"""Values that stand outside of the configuration file: ``{ env = "NAME" }``, ``{ file = "path" }``.

They are put into the raw tree, before it is validated, wherever a string may stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gatekeeper.config.annotations import model_of
from gatekeeper.config.messages import path_of
from gatekeeper.config.model import Settings
from gatekeeper.errors import Problem

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST_FILE = 65536  # bytes: a device named by mistake must not fill the memory
_SECTIONS = {name for name, field in Settings.model_fields.items() if model_of(field.annotation)}


class Secrets:
    """Resolves references, and knows the values that must not be shown.

    ``base`` is the directory that relative file names start from. After :meth:`resolve`,
    ``problems`` holds what could not be resolved.
    """

    def __init__(self, environ: Mapping[str, str], base: Path) -> None:
        self._environ = environ
        self._base = base
        self._values: set[str] = set()
        self.problems: list[Problem] = []

    def resolve(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the tree with values in place of references.

        A reference that cannot be resolved stays as it is and leaves a problem.
        """
        return {key: self._resolve(value, (key,)) for key, value in tree.items()}

    def mask(self, problems: Iterable[Problem]) -> list[Problem]:
        """Blot out every resolved value from messages that somebody else worded."""
        longest_first = sorted(self._values, key=len, reverse=True)
        masked = []
        for problem in problems:
            message = problem.message
            for value in longest_first:
                message = message.replace(value, "***")
            masked.append(Problem(problem.path, message))
        return masked

    def _resolve(self, value: Any, location: tuple[str | int, ...]) -> Any:
        if isinstance(value, list):
            return [self._resolve(item, (*location, i)) for i, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and not _is_table(location):
            ((kind, name),) = value.items()
            if kind in ("env", "file") and isinstance(name, str):
                return self._fetch(kind, name, location) or value
        return {key: self._resolve(item, (*location, key)) for key, item in value.items()}

    def _fetch(self, kind: str, name: str, location: tuple[str | int, ...]) -> str | None:
        try:
            value = self._variable(name) if kind == "env" else self._content(name)
        except ValueError as error:
            self.problems.append(Problem(path_of(location), str(error)))
            return None
        self._values.add(value)
        return value

    def _variable(self, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            # Not shown: it may be the secret itself.
            raise ValueError("`env` must be the name of an environment variable")
        value = self._environ.get(name)
        if value is None:
            raise ValueError(f"the environment variable `{name}` is not set")
        if not value:
            raise ValueError(f"the environment variable `{name}` is empty")
        return value

    def _content(self, name: str) -> str:
        try:
            with (self._base / name).open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise ValueError(f"the file `{name}` cannot be read: {error.strerror}") from None
        if len(content) > _LARGEST_FILE:
            raise ValueError(f"the file `{name}` is larger than {_LARGEST_FILE} bytes")
        try:
            value = content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"the file `{name}` is not UTF-8") from None
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise ValueError(f"the file `{name}` is empty")
        return value


def _is_table(location: tuple[str | int, ...]) -> bool:
    """Whether a table stands here whatever it holds, and never a reference."""
    match location:
        case (name,):
            return name in _SECTIONS
        case ("checkers", _):
            return True
    return False
