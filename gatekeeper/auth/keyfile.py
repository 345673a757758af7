"""The file of API keys: two line formats, freely mixed, comments and blank lines between them::

    key001=2df1eeea…                                                    id 001, no groups
    kapi_id="003";kapi_key="b9b8d5…";kapi_groups="stats,spender";…      the rest is ignored

The second form's rest was shell code in the program that the format comes from. Nothing in the
file is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gatekeeper.auth.properties import PropertiesFile, parse_properties

_MIN_DIGITS: Final = 32
_WHAT: Final = "the id"

_SHORT: Final = re.compile(r"key(?P<id>[A-Za-z0-9]+)=(?P<key>[0-9A-Fa-f]+)(?:\s+#.*)?")
_LONG: Final = re.compile(
    r'kapi_id="(?P<id>[A-Za-z0-9]+)";kapi_key="(?P<key>[0-9A-Fa-f]+)";'
    r'kapi_groups="(?P<groups>[^"]*)"(?:;.*)?'
)
_GROUP: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. ``secret`` is the HMAC key: the hex digits as text, not the bytes they stand for.

    ``groups`` are those that its line lists, and no others: nobody is in a group by default.
    """

    id: str
    secret: bytes = field(repr=False)
    groups: frozenset[str] = frozenset()


def parse_keys(text: str, source: str) -> dict[str, ApiKey]:
    """The keys by their ids.

    :raises ConfigurationError: *all* lines that are wrong, each as ``source:line`` (path ``""``),
        without showing what they hold.
    """
    return parse_properties(text, source, _parse_line, _WHAT)


def _parse_line(line: str) -> tuple[str, ApiKey]:
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
    return found["id"], ApiKey(found["id"], found["key"].encode("ascii"), frozenset(groups))


class KeyFile:
    """The keys in a file, read again when it changes.

    :raises ConfigurationError: the file cannot be used, as it is now.
    """

    def __init__(self, path: Path) -> None:
        self._file = PropertiesFile(path, _parse_line, _WHAT)

    @property
    def keys(self) -> Mapping[str, ApiKey]:
        """The keys by their ids."""
        return self._file.content

    def reload(self) -> bool:
        """Read the file if it has changed; True where the keys are others than before.

        A file that cannot be used leaves the keys as they are; that is logged once.
        """
        return self._file.reload()
