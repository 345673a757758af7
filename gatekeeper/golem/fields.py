"""The fields of a definition, read one by one: what each may hold, and what is wrong with it.

The functions take what a file or a request holds, and give back the value in its one spelling; they
raise ``ValueError`` (or :class:`ConfigurationError`, with paths inside the field) with a sentence
for the provider.
"""

from __future__ import annotations

import json
import math
import os.path
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from gatekeeper.config import values
from gatekeeper.errors import ConfigurationError, Problem

T = TypeVar("T")

_LONGEST_TIMEOUT: Final = 366 * 24 * 3_600_000  # milliseconds, as in the configuration
_MOST_THREADS: Final = 65_536
_LONGEST_TEXT: Final = 65_536
_DEEPEST: Final = 16
_LARGEST_PROPERTIES: Final = 262_144  # characters

_REQUIRED: Final[Any] = object()


class Fields:
    """The fields of a definition. ``null`` is as good as a field that is left out.

    :raises ConfigurationError: it has no fields at all.
    """

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, dict):
            raise ConfigurationError([Problem("", "must be an object with the service's fields")])
        self._given = {key: value for key, value in raw.items() if value is not None}
        self._known: set[str] = set()
        self._problems: list[Problem] = []

    def __contains__(self, field: str) -> bool:
        return field in self._given

    def has_any(self, *fields: str) -> bool:
        """Whether one of them is given."""
        return any(field in self._given for field in fields)

    def blame(self, field: str, message: str) -> None:
        """Note a problem."""
        self._problems.append(Problem(field, message))

    def read(self, field: str, parse: Callable[[Any], T], default: Any = _REQUIRED) -> T | Any:
        """The field's value; what is wrong with it becomes a problem, and the default its value."""
        self._known.add(field)
        if field not in self._given:
            if default is _REQUIRED:
                self.blame(field, "is required")
            return default
        try:
            return parse(self._given[field])
        except ConfigurationError as error:
            for path, message in error.problems:
                self.blame(field + path, message)
        except ValueError as error:
            self.blame(field, str(error))
        return default

    def finish(self) -> None:
        """Look at what is left.

        :raises ConfigurationError: with every problem, if there is one.
        """
        for field in self._given.keys() - self._known:
            self.blame(_shown(field), "unknown field" + _suggestion(field, self._known))
        if self._problems:
            raise ConfigurationError(sorted(self._problems))


class InnerFields(Fields):
    """The fields of an object inside a definition."""

    def blame(self, field: str, message: str) -> None:
        """Note a problem; who reads the outer field puts its name before."""
        super().blame(f".{field}", message)


def _shown(field: object) -> str:
    """A field's name as anybody may have written it, fit for a message."""
    text = str(field)[:100]
    return text if text.isidentifier() else json.dumps(text)


def _suggestion(field: object, known: Iterable[str]) -> str:
    import difflib  # not worth its time where nothing is wrong

    near = difflib.get_close_matches(str(field)[:100], sorted(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def text_of(raw: Any) -> str:
    """Text, of a length that somebody may read."""
    if not isinstance(raw, str):
        raise ValueError("must be a string")
    if len(raw) > _LONGEST_TEXT:
        raise ValueError(f"must have at most {_LONGEST_TEXT} characters")
    return _unicode(raw)


def _unicode(text: str) -> str:
    """The text, unless there is half a character in it, as JSON's escapes allow."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


def name_of(raw: Any) -> str:
    """The name of a service."""
    return values.check_name(text_of(raw))


def prefix_of(raw: Any) -> str:
    """A path prefix of whole segments."""
    # A slash at the end has always been allowed, and means nothing.
    return values.check_prefix(text_of(raw).rstrip("/") or "/")


def destination_of(raw: Any) -> str:
    """The URL of an upstream."""
    return values.check_upstream(text_of(raw))


def _several(raw: Any, parse: Callable[[Any], str]) -> tuple[str, ...]:
    """One, or a list of them, each once."""
    if not isinstance(raw, list):
        return (parse(raw),)
    if not raw:
        raise ValueError("must not be empty")
    found: dict[str, None] = {}
    problems = []
    for i, item in enumerate(raw):
        try:
            found[parse(item)] = None
        except ValueError as error:
            problems.append(Problem(f"[{i}]", str(error)))
    if problems:
        raise ConfigurationError(problems)
    return tuple(found)


def addresses_of(raw: Any) -> tuple[str, ...]:
    """Addresses to listen on, ``host:port``; one or a list."""
    return _several(raw, _address)


def _address(raw: Any) -> str:
    host, port = values.parse_bind(text_of(raw))
    if port == 0:
        raise ValueError("the port must be a number from 1 to 65535")
    host = "127.0.0.1" if host == "localhost" else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_names_of(raw: Any) -> tuple[str, ...]:
    """Domain names and public addresses; one or a list."""
    return _several(raw, _server_name)


def _server_name(raw: Any) -> str:
    text = text_of(raw)
    if not 1 <= len(text) <= 253 or not text.isprintable() or " " in text:
        raise ValueError("must be a domain name or an address")
    return text


def path_of(raw: Any, base: Path | None) -> str:
    """An absolute path; relative ones start at ``base``, if there is one."""
    text = text_of(raw)
    if not text or "\0" in text:
        raise ValueError("must be a path")
    if base is None and not os.path.isabs(text):
        raise ValueError("must be an absolute path")
    return os.path.normpath(os.path.join(base or "/", text))


def milliseconds_of(raw: Any) -> int:
    """A timeout."""
    return _number(raw, _LONGEST_TIMEOUT, "milliseconds")


def threads_of(raw: Any) -> int:
    """A number of threads."""
    return _number(raw, _MOST_THREADS, "threads")


def _number(raw: Any, most: int, what: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= most:
        raise ValueError(f"must be a whole number of {what}, from 1 to {most}")
    return raw


def properties_of(raw: Any) -> Mapping[str, Any]:
    """What a service advertises: anything that JSON can hold, within bounds."""
    if not isinstance(raw, dict):
        raise ValueError("must be an object")
    if _size(raw) > _LARGEST_PROPERTIES:
        raise ValueError(f"must not be larger than {_LARGEST_PROPERTIES} characters")
    return raw


def _size(raw: Any, depth: int = 0) -> int:
    """About how many characters a JSON value is long, as far as that is not too many.

    YAML's aliases make a small file hold a lot: what counts is what would be written.
    """
    if depth > _DEEPEST:
        raise ValueError(f"must not be nested deeper than {_DEEPEST}")
    if isinstance(raw, str):
        return len(_unicode(raw)) + 2
    if raw is None or isinstance(raw, int) or (isinstance(raw, float) and math.isfinite(raw)):
        return 8
    if isinstance(raw, dict):
        raw = [*raw, *raw.values()] if all(isinstance(key, str) for key in raw) else None
    if not isinstance(raw, list):
        raise ValueError("must hold what JSON can hold only, with strings as keys")
    size = 2
    for item in raw:
        if size <= _LARGEST_PROPERTIES:
            size += _size(item, depth + 1)
    return size
