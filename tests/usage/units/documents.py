"""Strategies: JSON documents that have the wanted paths, and look-alikes of them, everywhere."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, TypeAlias

from hypothesis import strategies as st

from gatekeeper.usage.units.paths import parse_path

#: What is looked for in them.
PATHS = ("usage.total_tokens", "usage", "model", "a[1].b", "a[0][2]", "b.model.usage", "é.a[2]")

KEYS = ("usage", "total_tokens", "model", "a", "b", "é", "us", "usages", "", '"', "\\", "{")
STRINGS = (
    "",
    "usage",
    '"usage":{"total_tokens":7}',
    '}]{["',
    '\\"',
    "é\U0001f600",
    "\u2028",
    "x" * 90,
)

Pairs: TypeAlias = list[tuple[str, Any]]


class Members(list[Any]):
    """An object, as a list of keys and values: a key may come more than once."""


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(STRINGS),
    st.text(max_size=10),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=5).map(Members),
    ),
    max_leaves=25,
)
#: Objects with members at the top.
objects = st.lists(st.tuples(st.sampled_from(KEYS), documents), min_size=1, max_size=5).map(Members)


@st.composite
def texts(draw: st.DrawFn, values: st.SearchStrategy[Any] = objects) -> bytes:
    """A document as it may be written: with blanks, escapes, and keys more than once."""
    blanks: tuple[str, str, str] = draw(
        st.tuples(*[st.sampled_from(["", " ", "\n", "\t\r\n "])] * 3)
    )
    before, behind, inside = blanks
    ascii_only = draw(st.booleans())
    escape_keys = draw(st.booleans())

    def key(text: str) -> str:
        if escape_keys and text.isalpha():
            return '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"'
        return json.dumps(text, ensure_ascii=ascii_only)

    def write(value: Any) -> str:
        if isinstance(value, Members):
            parts = [f"{before}{key(k)}{behind}:{inside}{write(v)}{behind}" for k, v in value]
            return "{" + ",".join(parts) + inside + "}"
        if isinstance(value, list):
            return "[" + ",".join(before + write(v) + inside for v in value) + "]"
        return json.dumps(value, ensure_ascii=ascii_only)

    return (before + write(draw(values)) + behind).encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces; the places are taken modulo its length."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def found(document: bytes) -> list[object]:
    """What the standard library finds at :data:`PATHS`; numbers as they are written."""
    tree = json.loads(document, parse_int=_Number, parse_float=_Number)
    return [_at(tree, parse_path(path)) for path in PATHS]


def meaning(text: bytes | None) -> object:
    """A JSON text in the terms of :func:`found`."""
    return None if text is None else json.loads(text, parse_int=_Number, parse_float=_Number)


class _Number(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str(self) == str(other)

    __hash__ = str.__hash__


def _at(value: object, path: tuple[str | int, ...]) -> object:
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return None if isinstance(value, dict | list) else value
