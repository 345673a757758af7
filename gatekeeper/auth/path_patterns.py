"""Path patterns by the rules of the npm package path-to-regexp, version 6.3.

``:name`` is one segment, ``(.*)`` an expression of one's own, ``:name(\\d+)`` both; ``?``, ``*``
and ``+`` behind them make them optional or repeat them together with the ``/`` or ``.`` before
them; ``{-:name}?`` puts other text before and behind; ``\\`` takes the next character as it is.
Letters match in either case, and a ``/`` at the end is optional.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

from gatekeeper.auth.automaton import (
    ANY_BYTE,
    Automaton,
    Bytes,
    Node,
    PatternError,
    Repeat,
    Sequence,
    byte_set,
    literal,
)
from gatekeeper.auth.group_patterns import parse_group

MAX_LENGTH: Final = 2048
#: A longer path matches nothing.
MAX_PATH: Final = 8192

_NAME: Final = frozenset(string.ascii_letters + string.digits + "_")
_PREFIXES: Final = frozenset("./")
_DELIMITERS: Final = "/#?"
_IN_SEGMENT: Final = ANY_BYTE & ~byte_set(_DELIMITERS.encode())
_PARAMETER: Final = Repeat(Bytes(_IN_SEGMENT), optional=False, many=True)
#: Stands at the end of every pattern.
_END: Final = Repeat(Bytes(byte_set(_DELIMITERS.encode())), optional=True, many=False)
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = (string.ascii_letters + string.digits + "-._~").encode()
# RFC 3986, section 3.3: what stands for itself in a path, and "%".
_PATH_CHARACTERS: Final = "/-._~!$&'()*+,;=:@%"


class _Token(NamedTuple):
    """``kind`` is ``char``, ``escaped``, ``name``, ``group``, or the sign itself."""

    kind: str
    text: str
    place: int


class _Parameter(NamedTuple):
    """A part of a path that is not fixed; ``pattern`` is None where it is only ``before``."""

    before: str
    pattern: Node | None
    behind: str
    modifier: str


class PathPattern:
    """A pattern, ready to match.

    :raises PatternError: it is malformed, not supported, or too complex.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise PatternError("the pattern is too long")
        parts = _Parser(text).parts()
        # The text at the beginning is most of nearly every pattern: it needs no automaton.
        first = parts[0] if parts else ""
        self._beginning = _canonical(first) if isinstance(first, str) else b""
        parts = parts[1:] if isinstance(first, str) else parts
        nodes = [literal(_canonical(p)) if isinstance(p, str) else _node(p) for p in parts]
        self._rest = Automaton(Sequence((*nodes, _END)))
        self.branches = self._rest.branches

    def matches(self, path: bytes) -> bool:
        """Whether it matches all of a canonical path (without a query)."""
        beginning = self._beginning
        size = len(beginning)
        return (
            path[:size].lower() == beginning
            and len(path) <= MAX_PATH
            and self._rest.matches(path[size:])
        )


def without_query(text: str) -> str:
    """The part of a URL before its query and fragment, patterns in it.

    A ``?`` that can be a modifier is one.
    """
    before = ""
    for token in _tokens(text):
        if (token.kind == "?" and before not in ("name", "group", "}")) or (
            token.kind == "char" and token.text == "#"
        ):
            return text[: token.place]
        before = token.kind
    return text


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        start, char = place, text[place]
        place += 1
        if char in "*+?{}":
            yield _Token(char, char, start)
        elif char == "\\":
            if place == len(text):
                raise PatternError("the pattern ends with a backslash")
            place += 1
            yield _Token("escaped", text[place - 1], start)
        elif char == ":":
            while place < len(text) and text[place] in _NAME:
                place += 1
            if place == start + 1:
                raise PatternError("a `:` is not followed by a name")
            yield _Token("name", text[start + 1 : place], start)
        elif char == "(":
            place = _group_end(text, place)
            yield _Token("group", text[start + 1 : place - 1], start)
        else:
            yield _Token("char", char, start)


def _group_end(text: str, place: int) -> int:
    """Where the group ends whose inside begins at ``place``."""
    start = place
    depth = 1
    while depth:
        char = text[place : place + 1]
        if not char:
            raise PatternError("a `(` is not closed")
        if char == "\\":
            place += 1
        elif char == "(":
            if text[place + 1 : place + 2] != "?":
                raise PatternError("an expression in parentheses has a group other than `(?:…)`")
            depth += 1
        elif char == ")":
            depth -= 1
        place += 1
    if place == start + 1 or text[start] == "?":
        raise PatternError("an expression in parentheses is empty or begins with `?`")
    return place


class _Parser:
    """From tokens to parts: text, and parameters."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), _Token("end", "", len(text))]
        self._place = 0
        self._parts: list[str | _Parameter] = []

    def parts(self) -> list[str | _Parameter]:
        text = ""
        while True:
            char, name, group = self._take("char"), self._take("name"), self._take("group")
            if name or group:
                before = char if char in _PREFIXES else ""
                self._add_text(text + char[len(before) :])
                text = ""
                self._add_parameter(before, group, "")
            elif char or (char := self._take("escaped")):
                text += char
            else:
                self._add_text(text)
                text = ""
                if not self._take("{"):
                    self._expect("end")
                    return self._parts
                self._braces()

    def _braces(self) -> None:
        before = self._text()
        name, group = self._take("name"), self._take("group")
        pattern = self._pattern(before, group) if name or group else None
        behind = self._text()
        self._expect("}")
        self._add(_Parameter(before, pattern, behind, self._modifier()))

    def _add_parameter(self, before: str, group: str, behind: str) -> None:
        pattern = self._pattern(before, group)
        self._add(_Parameter(before, pattern, behind, self._modifier()))

    def _add(self, parameter: _Parameter) -> None:
        bare = not (parameter.before or parameter.behind)
        if parameter.pattern is not None and bare and parameter.modifier in ("*", "+"):
            raise PatternError("only what has text before or behind it can be repeated")
        self._parts.append(parameter)

    def _add_text(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def _pattern(self, before: str, group: str) -> Node:
        """The group's, or that of a plain name: it must not run over the text before it again."""
        if group:
            return parse_group(group)
        last = self._parts[-1] if self._parts else ""
        if not before and isinstance(last, _Parameter):
            raise PatternError("there is no text between two names")
        text = before or str(last)
        if not text or any(delimiter in text for delimiter in _DELIMITERS):
            return _PARAMETER
        return Repeat(Bytes(_IN_SEGMENT, unless=_canonical(text)), optional=False, many=True)

    def _text(self) -> str:
        text = ""
        while char := self._take("char") or self._take("escaped"):
            text += char
        return text

    def _modifier(self) -> str:
        return self._take("?") or self._take("*") or self._take("+")

    def _take(self, kind: str) -> str:
        """The next token's text if it is of this kind, else nothing."""
        token = self._tokens[self._place]
        if token.kind != kind:
            return ""
        self._place += 1
        return token.text

    def _expect(self, kind: str) -> None:
        token = self._tokens[self._place]
        if token.kind != kind:
            raise PatternError(f"there is a `{token.text or kind}` in the wrong place")
        self._place += 1


def _node(parameter: _Parameter) -> Node:
    before, behind = (literal(_canonical(text)) for text in (parameter.before, parameter.behind))
    modifier = parameter.modifier
    if parameter.pattern is None:
        whole: Node = Sequence((before, behind))
        return Repeat(whole, modifier in ("?", "*"), modifier in ("*", "+")) if modifier else whole
    whole = Sequence((before, parameter.pattern, behind))
    if modifier in ("*", "+"):
        # Text behind one and before the next stands between them: that is the same again.
        return Repeat(whole, optional=modifier == "*", many=True)
    return Repeat(whole, optional=True, many=False) if modifier else whole


def _canonical(text: str) -> bytes:
    """Text of a pattern as it stands in canonical paths, in lower case."""
    quoted = quote(text, safe=_PATH_CHARACTERS, encoding="utf-8").encode("ascii")
    return _ESCAPE.sub(_unescape, quoted).lower()


def _unescape(match: re.Match[bytes]) -> bytes:
    value = int(match[1], 16)
    return bytes((value,)) if value in _UNRESERVED else match[0]
