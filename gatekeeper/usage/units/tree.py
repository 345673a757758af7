"""The wanted paths as a tree, each of its nodes with a regular expression for its members.

All expressions are written so that nothing ever backtracks: every byte is looked at a fixed number
of times, whatever it is. Groups are atomic rather than possessive: those are broken in Python
3.11.0 to 3.11.4 (https://github.com/python/cpython/issues/106052).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gatekeeper.usage.units.paths import JsonPath

#: A string's text from behind its first quote, as far as it goes.
STRING_REST: Final = rb'[^"\\]*+(?>(?:\\.[^"\\]*+)*)'
STRING: Final = rb'"' + STRING_REST + rb'"'
#: A number or a word.
ATOM: Final = rb'[^"\[\]{},:\s]++'
_WHOLE_ATOM: Final = ATOM + rb"(?=[\s,\]}])"


def _balanced(levels: int) -> bytes:
    """Text in which all brackets are closed, and nested no deeper than that."""
    nested = rb"|[\[{]" + _balanced(levels - 1) + rb"[\]}]" if levels else b""
    return rb'(?>(?:[^"\[\]{}]++|' + STRING + nested + rb")*)"


#: More levels skip more at once, and look more often at what the next piece closes.
BALANCED: Final = _balanced(4)
_VALUE: Final = rb"(?:" + STRING + rb"|[\[{]" + BALANCED + rb"[\]}]|" + _WHOLE_ATOM + rb")"


class Node:
    """A step of wanted paths.

    ``slot`` is where the value that stands here goes, or -1; ``slots`` are those of all paths that
    lead through here. ``by_key`` and ``by_index`` are the next steps. ``members`` matches an
    object's members up to the first that is wanted, whose key is the first group, and its value,
    where that is no object or array and is all there, the second.
    """

    __slots__ = ("by_index", "by_key", "last_index", "members", "slot", "slots")

    def __init__(self, paths: Iterable[tuple[JsonPath, int]]) -> None:
        self.slot = -1
        self.slots = []
        below: dict[str | int, list[tuple[JsonPath, int]]] = {}
        for path, slot in paths:
            self.slots.append(slot)
            if path:
                below.setdefault(path[0], []).append((path[1:], slot))
            else:
                self.slot = slot
        nodes = {step: Node(rest) for step, rest in below.items()}
        self.by_key = {s.encode(): node for s, node in nodes.items() if isinstance(s, str)}
        self.by_index = {s: node for s, node in nodes.items() if isinstance(s, int)}
        self.last_index = max(self.by_index, default=-1)
        self.members = re.compile(_members(self.by_key), re.DOTALL).match


def _members(keys: Iterable[bytes]) -> bytes:
    # A key that has an escape in it is none of these: it must be looked at by itself.
    wanted = rb"(?:" + rb"|".join(map(re.escape, keys)) + rb')"'
    others = rb'"(?!' + wanted + rb')[^"\\]*+"\s*+:\s*+' + _VALUE
    scalar = STRING + rb"|" + _WHOLE_ATOM
    return (
        rb"(?>(?:[\s,]++|" + others + rb")*)"
        rb'(?:"(' + wanted[:-1] + rb')"\s*+:\s*+(' + scalar + rb")?)?"
    )


def make_tree(paths: Iterable[JsonPath]) -> Node:
    """The tree of these paths, which are all different; a path's position is its slot."""
    return Node((path, slot) for slot, path in enumerate(paths))
