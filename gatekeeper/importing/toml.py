"""Writing a configuration: TOML with a comment above what needs one.

``tomllib`` only reads, and what a configuration needs is small: strings, numbers, lists, inline
tables, and comments, which plain writers have no place for. TOML's basic strings are JSON's, but
for DEL, which must be escaped, and for halves of surrogate pairs, which cannot be written at all
(TOML 1.0, "String").
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gatekeeper.terminal import printable

Value: TypeAlias = "str | bool | int | float | Sequence[Value] | Mapping[str, Value]"

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH: Final = 98


@dataclass(frozen=True)
class Table:
    """A table: its header as it stands (``[[listeners]]``, empty for the top), keys and values.

    ``comments`` are put above the key that they are for; the one for ``""`` above the header.
    """

    header: str
    values: Mapping[str, Value]
    comments: Mapping[str, str] = field(default_factory=dict)


def render(head: str, tables: Iterable[Table]) -> str:
    """The file: the comment ``head``, then the tables.

    :raises ValueError: a string cannot be written as TOML.
    """
    return "\n".join([_comment(head), *map(_table, tables)])


def to_toml(value: Value) -> str:
    """The value as it stands behind ``key =``, on one line.

    :raises ValueError: it holds a string that is not Unicode text, or a number without an end.
    """
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        # The only floats are durations. repr() of large ones has an exponent, which TOML knows.
        return json.dumps(value, allow_nan=False)
    if isinstance(value, Mapping):
        pairs = [f"{_key(key)} = {to_toml(item)}" for key, item in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return f"[{', '.join(map(to_toml, value))}]"


def _string(text: str) -> str:
    text.encode("utf-8")  # UnicodeEncodeError, a ValueError, for surrogates
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _table(table: Table) -> str:
    lines = [_comment(table.comments[""])] if "" in table.comments else []
    if table.header:
        lines.append(f"{table.header}\n")
    for key, value in table.values.items():
        if key in table.comments:
            lines.append(_comment(table.comments[key]))
        lines.append(f"{_key(key)} = {to_toml(value)}\n")
    return "".join(lines)


def _comment(text: str) -> str:
    """Lines that begin with ``#``. What comes from elsewhere cannot end the comment."""
    lines = [
        line
        for paragraph in text.split("\n")
        for line in textwrap.wrap(printable(paragraph), _WIDTH, break_on_hyphens=False) or [""]
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
