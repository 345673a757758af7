"""Definition files: JSON, TOML or YAML, by their ending."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gatekeeper.errors import ConfigurationError, Problem

ENDINGS: Final = frozenset({".json", ".toml", ".yaml", ".yml"})

_LARGEST: Final = 1024 * 1024  # bytes
_MOST: Final = 1_000


def definition_files(directory: Path) -> list[Path]:
    """The definition files in a directory, by name; what has another ending is none.

    :raises OSError: the directory cannot be read.
    :raises ValueError: there are too many of them.
    """
    files = [
        file
        for file in directory.iterdir()
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    ]
    if len(files) > _MOST:
        raise ValueError(f"holds more than {_MOST} definitions")
    return sorted(files)


def read_file(file: Path) -> Any:
    """What a file holds.

    :raises ConfigurationError: it cannot be read, or breaks the rules of its format; the problem
        has no path.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"is larger than {_LARGEST} bytes")
        return _PARSERS[file.suffix.lower()](content.decode())
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        message = "is not UTF-8"
    except RecursionError:
        message = "is nested too deeply"
    except ValueError as error:
        message = str(error)
    raise ConfigurationError([Problem("", message)])


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"holds {json.dumps(key[:100])} twice")
        found[key] = value
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"is not valid JSON: {text} is not a number there")


def _toml(text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not valid TOML: {error}") from None


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError("needs PyYAML: pip install 'gatekeeper[golem]'") from None

    class Loader(yaml.SafeLoader):
        """Plain values only; what stands twice is an error, as it is in TOML."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = list(_scalars(node))
            if len(set(keys)) < len(keys):
                raise ValueError(f"holds a key twice{_place(node.start_mark)}")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        raise ValueError(
            f"is not valid YAML: {error.problem}{_place(error.problem_mark)}"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {error}") from None


def _scalars(node: Any) -> Iterator[tuple[str, str]]:
    """The keys of a mapping that stand there themselves, and do not come out of a merge."""
    for key, _ in node.value:
        if isinstance(key.value, str) and key.tag != "tag:yaml.org,2002:merge":
            yield key.tag, key.value


def _place(mark: Any) -> str:
    return f" (at line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""


_PARSERS: Final = {".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
