"""The regular expressions that stand in parentheses in a path pattern: ``:id(\\d+)``.

They are JavaScript's. What decides by more than the text at hand (look-around, anchors, word
boundaries, back references) is refused, and so is what JavaScript tolerates rather than defines.
"""

from __future__ import annotations

import re
import string
from typing import Final

from gatekeeper.auth.automaton import (
    ANY_BYTE,
    Bytes,
    Choice,
    Node,
    PatternError,
    Repeat,
    Sequence,
    byte_set,
)

_DEPTH: Final = 20
_MOST_TIMES: Final = 255
_COUNTED: Final = re.compile(r"\{([0-9]{1,3})(,([0-9]{1,3})?)?\}")

_DIGITS: Final = byte_set(string.digits.encode())
_WORD: Final = byte_set((string.ascii_letters + string.digits + "_").encode())
_SPACE: Final = byte_set(b"\t\n\v\f\r ")
_NO_LINE_END: Final = ANY_BYTE & ~byte_set(b"\r\n")
_CLASSES: Final = {
    "d": _DIGITS,
    "D": ANY_BYTE & ~_DIGITS,
    "w": _WORD,
    "W": ANY_BYTE & ~_WORD,
    "s": _SPACE,
    "S": ANY_BYTE & ~_SPACE,
}


def parse_group(text: str) -> Node:
    """What stands between the parentheses.

    :raises PatternError: it is malformed, or not supported.
    """
    if not text.isascii():
        raise PatternError("an expression in parentheses must be ASCII")
    reader = _Reader(text)
    expression = reader.choice(0)
    if reader.next:
        raise PatternError("an expression in parentheses has a `)` too many")
    return expression


class _Reader:
    """Reads from left to right; ``next`` is the next character, empty at the end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0

    @property
    def next(self) -> str:
        return self._text[self._place : self._place + 1]

    def take(self) -> str:
        taken = self.next
        if not taken:
            raise PatternError("an expression in parentheses ends too early")
        self._place += 1
        return taken

    def skip(self, text: str) -> bool:
        """Whether ``text`` comes next; it is taken then."""
        found = self._text.startswith(text, self._place)
        if found:
            self._place += len(text)
        return found

    def choice(self, depth: int) -> Node:
        if depth > _DEPTH:
            raise PatternError("an expression in parentheses is nested too deeply")
        options = [self._sequence(depth)]
        while self.skip("|"):
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.next not in ("", "|", ")"):
            parts += self._repeated(self._atom(depth))
        return Sequence(tuple(parts))

    def _atom(self, depth: int) -> Node:
        taken = self.take()
        if taken == "(":
            if not self.skip("?:"):
                raise PatternError("an expression in parentheses has a group other than `(?:…)`")
            inner = self.choice(depth + 1)
            if not self.skip(")"):
                raise PatternError("an expression in parentheses has a `(` too many")
            return inner
        if taken == "[":
            return Bytes(self._set())
        if taken == ".":
            return Bytes(_NO_LINE_END)
        if taken == "\\":
            return Bytes(self._escaped())
        if taken in "*+?{^$":
            raise PatternError(f"an expression in parentheses has `{taken}`: not supported")
        return Bytes(byte_set(taken.encode()))

    def _repeated(self, atom: Node) -> list[Node]:
        """The atom as often as the quantifier behind it says."""
        counted = _COUNTED.match(self._text, self._place)
        if counted is not None:
            self._place = counted.end()
            parts = _times(atom, *counted.groups())
        elif self.next and self.next in "*+?":
            sign = self.take()
            parts = [Repeat(atom, optional=sign != "+", many=sign != "?")]
        else:
            return [atom]
        self.skip("?")  # Lazy or not: it is the same texts that match.
        return parts

    def _escaped(self) -> int:
        taken = self.take()
        if taken in _CLASSES:
            return _CLASSES[taken]
        if taken.isalnum() or taken == "_":
            raise PatternError(f"an expression in parentheses has `\\{taken}`: not supported")
        return byte_set(taken.encode())

    def _set(self) -> int:
        negated = self.skip("^")
        found = 0
        while not self.skip("]"):
            first, single = self._member()
            if self.next != "-" or self._text.startswith("-]", self._place):
                found |= first
                continue
            self.take()
            last, also_single = self._member()
            low, high = first.bit_length() - 1, last.bit_length() - 1
            if not (single and also_single and low <= high):
                raise PatternError("an expression in parentheses has a range that makes no sense")
            found |= (1 << (high + 1)) - (1 << low)
        found = byte_set(value for value in range(256) if found >> value & 1)
        return ANY_BYTE & ~found if negated else found

    def _member(self) -> tuple[int, bool]:
        """What stands in a set, and whether it is a single character (not in either case yet)."""
        taken = self.take()
        if taken == "\\":
            if self.next in _CLASSES:
                return _CLASSES[self.take()], False
            taken = self.take()
            if taken.isalnum() or taken == "_":
                raise PatternError(f"an expression in parentheses has `\\{taken}`: not supported")
        return 1 << ord(taken), True


def _times(atom: Node, least: str, comma: str | None, most: str | None) -> list[Node]:
    """``{n}``, ``{n,}`` and ``{n,m}``, written out."""
    low = int(least)
    high = low if most is None else int(most)
    if not low <= high <= _MOST_TIMES:
        raise PatternError("an expression in parentheses has a count that makes no sense")
    parts = [atom] * low
    if comma and most is None:
        return [*parts, Repeat(atom, optional=True, many=True)]
    return [*parts, *[Repeat(atom, optional=True, many=False)] * (high - low)]
