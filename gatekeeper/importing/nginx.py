"""Reading nginx's configuration files: directives and blocks, without what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<mark>[{};])
      | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<word>(?:\$\{[^}\n]*\}|\\.|[^\s{};"'\\])(?:\$\{[^}\n]*\}|\\.|[^\s{};\\])*)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\([\"'\\ ])")
_DEEPEST: Final = 32


class Directive(NamedTuple):
    """A directive: ``listen 443 ssl;``. ``block`` is what stands in its braces, if it has any."""

    name: str
    arguments: tuple[str, ...]
    line: int
    block: tuple[Directive, ...] | None = None


class _Token(NamedTuple):
    text: str
    line: int
    mark: bool


def parse(text: str) -> tuple[Directive, ...]:
    """The directives of a file. Files that it includes are not read.

    :raises ValueError: it is not nginx's language; the message begins with the line's number.
    """
    return tuple(_directives(_tokens(text), 0))


def _tokens(text: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"{line}: a quote or an escape has no end")
        if match["mark"]:
            yield _Token(match[0], line, True)
        elif match["quoted"]:
            yield _Token(_ESCAPED.sub(r"\1", match[0][1:-1]), line, False)
        elif match["word"]:
            yield _Token(_ESCAPED.sub(r"\1", match[0]), line, False)
        line += match[0].count("\n")
        position = match.end()


def _directives(tokens: Iterator[_Token], depth: int) -> Iterator[Directive]:
    """Directives up to the ``}`` that ends their block, or to the end of the file."""
    words: list[_Token] = []
    for token in tokens:
        if not token.mark:
            words.append(token)
            continue
        if token.text == "}":
            if not depth or words:
                raise ValueError(f"{token.line}: a `}}` too many, or a `;` is missing before it")
            return
        if not words:
            raise ValueError(f"{token.line}: a `{token.text}` without a directive")
        name, *arguments = words
        block = None
        if token.text == "{":
            if depth == _DEEPEST:
                raise ValueError(f"{token.line}: the blocks are nested too deeply")
            block = tuple(_directives(tokens, depth + 1))
        yield Directive(name.text, tuple(word.text for word in arguments), name.line, block)
        words = []
    if depth or words:
        raise ValueError("the end: a `;` or a `}` is missing")
