"""Regular expressions whose matching takes time in proportion to the text, whatever they are.

Patterns come in tokens and documents that others write, and a backtracking matcher such as
:mod:`re` can be made to run for hours by a pattern of twenty characters. Here all ways to match are
followed at once (Glushkov's automaton), and the sets of places where they have got to are
remembered, so that a text like one seen before costs a table look-up per byte.

Letters match in either case. A text is matched as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

#: Characters in an expression, after counted repetitions are written out.
MAX_POSITIONS: Final = 1024
#: Those of them after which there is more than one way to go on. This times the text's length
#: bounds the time that a match takes.
MAX_BRANCHES: Final = 32
#: Steps to put an automaton together.
_MAX_LINKS: Final = 10_000
#: Steps that are remembered; then the memory begins anew.
_MAX_KNOWN: Final = 1024

_LOWER: Final = range(ord("a"), ord("z") + 1)
_CASE: Final = ord("a") - ord("A")
ANY_BYTE: Final = (1 << 256) - 1


class PatternError(ValueError):
    """A pattern that cannot be used; the message says why."""


def byte_set(values: Iterable[int]) -> int:
    """A set of bytes as the bits of a number; letters in both cases if they are there in one."""
    found = 0
    for value in values:
        found |= 1 << value
    for lower in _LOWER:
        both = 1 << lower | 1 << (lower - _CASE)
        if found & both:
            found |= both
    return found


@dataclass(frozen=True, slots=True)
class Bytes:
    """One byte of the set ``allowed``, but none with which the text ``unless`` begins."""

    allowed: int
    unless: bytes = b""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; the empty one matches the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Once; not at all as well, if ``optional``; several times as well, if ``many``."""

    part: Node
    optional: bool
    many: bool


Node: TypeAlias = Bytes | Sequence | Choice | Repeat


def literal(text: bytes) -> Sequence:
    """A text, in upper or lower case."""
    return Sequence(tuple(Bytes(byte_set((value,))) for value in text))


class _State(dict[int, "_State"]):
    """A set of places in the expression, and where each symbol leads to from there."""

    __slots__ = ("_automaton", "positions")

    def __init__(self, automaton: Automaton, positions: int) -> None:
        self._automaton = automaton
        self.positions = positions

    def __missing__(self, symbol: int) -> _State:
        return self._automaton.step(self, symbol)


class Automaton:
    """An expression, ready to match.

    Positions are numbered from 1 (0 is the beginning), sets of them are the bits of a number.

    :raises PatternError: the expression is too large, or branches too much.
    """

    def __init__(self, expression: Node) -> None:
        self._chars: list[Bytes] = [Bytes(0)]
        self._follow: list[int] = [0]
        self._links = 0
        nullable, first, last = self._add(expression)
        self._follow[0] = first
        self._last = last | (1 if nullable else 0)
        # After most positions comes the next one, and nothing else: one shift for all of them.
        self._chain = self._branching = 0
        for place, follow in enumerate(self._follow):
            if follow == 1 << (place + 1):
                self._chain |= 1 << place
            elif follow:
                self._branching |= 1 << place
        #: Positions after which there is more than one way to go on.
        self.branches = self._branching.bit_count()
        if self.branches > MAX_BRANCHES:
            raise PatternError("the pattern branches too much")
        self._texts = tuple(dict.fromkeys(char.unless for char in self._chars if char.unless))
        self._not_before = [
            sum(1 << place for place, char in enumerate(self._chars) if char.unless == text)
            for text in self._texts
        ]
        self._accepting: dict[int, int] = {}
        self._states: dict[int, _State] = {}
        self._known = 0
        self._start = _State(self, 1)

    def __repr__(self) -> str:
        return f"<Automaton: {len(self._chars) - 1} positions, {self.branches} branches>"

    def matches(self, text: bytes) -> bool:
        """Whether all of ``text`` matches."""
        text = text.lower()
        state = self._start
        for symbol in self._symbols(text) if self._texts else text:
            state = state[symbol]
            if not state.positions:
                return False
        return bool(state.positions & self._last)

    def step(self, state: _State, symbol: int) -> _State:
        """Work out where ``symbol`` leads to, and remember it."""
        reachable = (state.positions & self._chain) << 1
        rest = state.positions & self._branching
        while rest:
            place = rest & -rest
            reachable |= self._follow[place.bit_length() - 1]
            rest ^= place
        positions = reachable & self._accepted(symbol)
        if self._known >= _MAX_KNOWN:
            for known in self._states.values():
                known.clear()
            self._start.clear()
            self._states.clear()
            self._known = 0
        self._known += 1
        after = self._states.get(positions)
        if after is None:
            after = self._states[positions] = _State(self, positions)
        state[symbol] = after
        return after

    def _symbols(self, text: bytes) -> list[int]:
        """The bytes, each with a bit above its eight for every text that begins with it."""
        symbols = list(text)
        for number, unwanted in enumerate(self._texts):
            flag = 256 << number
            place = text.find(unwanted)
            while place >= 0:
                symbols[place] |= flag
                place = text.find(unwanted, place + 1)
        return symbols

    def _accepted(self, symbol: int) -> int:
        """The positions that take this symbol."""
        byte, flags = symbol & 255, symbol >> 8
        found = self._accepting.get(byte)
        if found is None:
            found = self._accepting[byte] = sum(
                1 << place for place, char in enumerate(self._chars) if char.allowed >> byte & 1
            )
        for number, places in enumerate(self._not_before):
            if flags >> number & 1:
                found &= ~places
        return found

    # Putting it together: each says whether the empty text matches, and which positions may come
    # first and last.

    def _add(self, node: Node) -> tuple[bool, int, int]:
        match node:
            case Bytes():
                return self._add_bytes(node)
            case Sequence():
                return self._add_sequence(node)
            case Choice():
                added = [self._add(option) for option in node.options]
                first = last = 0
                for _, its_first, its_last in added:
                    first |= its_first
                    last |= its_last
                return any(nullable for nullable, _, _ in added), first, last
        nullable, first, last = self._add(node.part)
        if node.many:
            self._link(last, first)
        return nullable or node.optional, first, last

    def _add_bytes(self, node: Bytes) -> tuple[bool, int, int]:
        place = len(self._chars)
        if place > MAX_POSITIONS:
            raise PatternError("the pattern is too long")
        self._chars.append(node)
        self._follow.append(0)
        return False, 1 << place, 1 << place

    def _add_sequence(self, node: Sequence) -> tuple[bool, int, int]:
        nullable, first, last = True, 0, 0
        for part in node.parts:
            its_nullable, its_first, its_last = self._add(part)
            self._link(last, its_first)
            if nullable:
                first |= its_first
            last = its_last | (last if its_nullable else 0)
            nullable = nullable and its_nullable
        return nullable, first, last

    def _link(self, places: int, following: int) -> None:
        self._links += places.bit_count() + 1
        if self._links > _MAX_LINKS:
            raise PatternError("the pattern branches too much")
        while places:
            place = places & -places
            self._follow[place.bit_length() - 1] |= following
            places ^= place
