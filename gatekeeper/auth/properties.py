"""Files of one definition a line, with comments and blank lines between, read again on a change."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from twisted.logger import Logger

from gatekeeper.errors import ConfigurationError, Problem

T = TypeVar("T")

#: Reads a line that is neither blank nor a comment, blanks stripped: what is defined, and as what.
#: Raises ``ValueError`` that says what is wrong, without showing the line.
ParseLine: TypeAlias = Callable[[str], tuple[str, T]]

_MAX_SIZE: Final = 64 * 1024 * 1024

#: Tells a file from what it was: device, inode, size, times of change in nanoseconds.
_Signature: TypeAlias = tuple[int, int, int, int, int]


def parse_properties(text: str, source: str, parse: ParseLine[T], what: str) -> dict[str, T]:
    """The definitions by name. ``what`` is defined goes into messages: ``the id``.

    :raises ConfigurationError: *all* lines that are wrong, each as ``source:line`` (path ``""``),
        without showing what they hold; a name that is defined twice among them.
    """
    found: dict[str, T] = {}
    lines: dict[str, int] = {}
    problems = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            name, value = parse(line)
            if name in found:
                raise ValueError(f"{what} `{name}` stands in line {lines[name]} already")
        except ValueError as error:
            problems.append(Problem("", f"{source}:{number}: {error}"))
        else:
            found[name] = value
            lines[name] = number
    if problems:
        raise ConfigurationError(problems)
    return found


class PropertiesFile(Generic[T]):
    """The definitions in a file, read again when it changes.

    :param what: is defined, as in :func:`parse_properties`.
    :raises ConfigurationError: the file cannot be used, as it is now (path ``""``).
    """

    log = Logger()

    def __init__(self, path: Path, parse: ParseLine[T], what: str) -> None:
        self._path = path
        self._parse = parse
        self._what = what
        self._seen: _Signature | None = None
        self._complaint = ""
        self.content: Mapping[str, T] = self._read()

    def reload(self) -> bool:
        """Read the file if it has changed; True where the content is another than before.

        A file that cannot be used leaves the content as it is; that is logged once.
        """
        try:
            unchanged = _signature(os.stat(self._path)) == self._seen
            content = self.content if unchanged else self._read()
        except OSError as error:
            self._complain(f"{self._path}: {error.strerror}")
            return False
        except ConfigurationError as error:
            self._complain(str(error))
            return False
        self._complaint = ""
        if content == self.content:
            return False
        self.content = content
        self.log.info("Read {count} lines from {path}", count=len(content), path=str(self._path))
        return True

    def _read(self) -> dict[str, T]:
        try:
            with self._path.open("rb") as file:
                # Of the file that is read, before it is read: a later change is seen next time.
                signature = _signature(os.fstat(file.fileno()))
                data = file.read(_MAX_SIZE + 1)
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror}") from None
        self._seen = signature
        if len(data) > _MAX_SIZE:
            raise self._problem(f"is larger than {_MAX_SIZE} bytes")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise self._problem("is not UTF-8") from None
        return parse_properties(text, str(self._path), self._parse, self._what)

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            self._complaint = message
            self.log.error(
                "What {path} said before stays in force: {error}",
                path=str(self._path),
                error=message,
            )

    def _problem(self, message: str) -> ConfigurationError:
        return ConfigurationError([Problem("", f"{self._path}: {message}")])


def _signature(status: os.stat_result) -> _Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
