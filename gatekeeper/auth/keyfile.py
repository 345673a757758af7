"""The file of API keys: two line formats, freely mixed, comments and blank lines between them::

    key001=2df1eeea…                                                    id 001, no groups
    kapi_id="003";kapi_key="b9b8d5…";kapi_groups="stats,spender";…      the rest is ignored

The second form's rest was shell code in the program that the format comes from. Nothing in the
file is ever evaluated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from twisted.logger import Logger

from gatekeeper.errors import ConfigurationError, Problem

_MIN_DIGITS: Final = 32
_MAX_SIZE: Final = 64 * 1024 * 1024

_SHORT: Final = re.compile(r"key(?P<id>[A-Za-z0-9]+)=(?P<key>[0-9A-Fa-f]+)(?:\s+#.*)?")
_LONG: Final = re.compile(
    r'kapi_id="(?P<id>[A-Za-z0-9]+)";kapi_key="(?P<key>[0-9A-Fa-f]+)";'
    r'kapi_groups="(?P<groups>[^"]*)"(?:;.*)?'
)
_GROUP: Final = re.compile(r"[A-Za-z0-9_-]+")

#: Tells a file from what it was: device, inode, size, times of change in nanoseconds.
_Signature: TypeAlias = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. ``secret`` is the HMAC key: the hex digits as text, not the bytes they stand for."""

    id: str
    secret: bytes = field(repr=False)
    groups: frozenset[str] = frozenset()


def parse_keys(text: str, source: str) -> dict[str, ApiKey]:
    """The keys by their ids.

    :raises ConfigurationError: *all* lines that are wrong, each as ``source:line`` (path ``""``),
        without showing what they hold.
    """
    keys: dict[str, ApiKey] = {}
    lines: dict[str, int] = {}
    problems = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            key = _parse_line(line)
            if key.id in keys:
                raise ValueError(f"the id `{key.id}` stands in line {lines[key.id]} already")
        except ValueError as error:
            problems.append(Problem("", f"{source}:{number}: {error}"))
        else:
            keys[key.id] = key
            lines[key.id] = number
    if problems:
        raise ConfigurationError(problems)
    return keys


def _parse_line(line: str) -> ApiKey:
    match = _SHORT.fullmatch(line) or _LONG.fullmatch(line)
    if match is None:
        raise ValueError('neither `keyID=HEX` nor `kapi_id="ID";kapi_key="HEX";kapi_groups="…";`')
    found = match.groupdict(default="")
    if len(found["key"]) < _MIN_DIGITS:
        raise ValueError(f"the key is shorter than {_MIN_DIGITS} hex digits")
    groups = [group.strip() for group in found.get("groups", "").split(",")]
    groups = [group for group in groups if group]
    if not all(map(_GROUP.fullmatch, groups)):
        raise ValueError("a group has other characters than letters, digits, `_` and `-`")
    return ApiKey(found["id"], found["key"].encode("ascii"), frozenset(groups))


class KeyFile:
    """The keys in a file, read again when it changes.

    :raises ConfigurationError: the file cannot be used, as it is now.
    """

    log = Logger()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: _Signature | None = None
        self._complaint = ""
        self.keys: Mapping[str, ApiKey] = self._read()

    def reload(self) -> bool:
        """Read the file if it has changed; True where the keys are others than before.

        A file that cannot be used leaves the keys as they are; that is logged once.
        """
        try:
            keys = self.keys if self._signature(os.stat(self._path)) == self._seen else self._read()
        except OSError as error:
            self._complain(f"{self._path}: {error.strerror}")
            return False
        except ConfigurationError as error:
            self._complain(str(error))
            return False
        self._complaint = ""
        if keys == self.keys:
            return False
        self.keys = keys
        self.log.info("Read {count} keys from {path}", count=len(keys), path=str(self._path))
        return True

    def _read(self) -> dict[str, ApiKey]:
        try:
            with self._path.open("rb") as file:
                # Of the file that is read, before it is read: a later change is seen next time.
                signature = self._signature(os.fstat(file.fileno()))
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
        return parse_keys(text, str(self._path))

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            self._complaint = message
            self.log.error("The keys stay as they are: {error}", error=message)

    def _problem(self, message: str) -> ConfigurationError:
        return ConfigurationError([Problem("", f"{self._path}: {message}")])

    @staticmethod
    def _signature(status: os.stat_result) -> _Signature:
        return (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
