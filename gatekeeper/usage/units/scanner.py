"""Reads a few values out of JSON as it passes (RFC 8259), without keeping the document.

What is wanted is found by following the document's structure, so that nothing inside of a string,
and no look-alike at another depth, is taken for it. What is not wanted is skipped by regular
expressions, many members and levels at a time: that is what makes it fast. What is kept between two
pieces is a depth, a place in the tree of wanted paths, and at most :data:`LONGEST_TOKEN` bytes of a
key or a value that the next piece may complete.

Documents may follow one another. Of each path the last value counts, as it does where an object has
a key twice; a ``null`` is no value. What is not JSON leads to some values or to none, and never to
an exception.
"""

from __future__ import annotations

import json
import re
from typing import Final

from gatekeeper.usage.units.tree import ATOM, BALANCED, STRING, STRING_REST, Node

#: Bytes of a key or of a value, quotes and escapes included; a longer one is not looked at.
LONGEST_TOKEN: Final = 1024

# What is skipped at once costs next to nothing. A document made so that every byte must be looked
# at by itself would hold up everybody else: it is given up when it has needed a step for every
# sixteen bytes, and four for every piece, and these beside. An ordinary one needs one for hundred.
_SPARE_STEPS: Final = 4096

_skip_balanced: Final = re.compile(BALANCED, re.DOTALL).match
_skip_string: Final = re.compile(STRING_REST, re.DOTALL).match
_skip_blanks: Final = re.compile(rb"[\s:]*+").match
_skip_opening: Final = re.compile(rb"[\[{]*+").match
_skip_closing: Final = re.compile(rb"[\]}]*+").match
_match_string: Final = re.compile(STRING, re.DOTALL).match
_match_atom: Final = re.compile(ATOM).match

_QUOTE, _COMMA, _OPEN, _ESCAPE = b'",{\\'
_OBJECT: Final = -1  # in place of an array's index


class Scanner:
    """Is fed with JSON; ``values`` are the texts found, as they stand there, each in its slot.

    A text is a number, a word such as ``true``, or a string with its quotes. What is found counts
    once its document has ended, or :meth:`restart` was called.
    """

    # `_node` is the object or array that we are in, `_index` the place in the array, `_next` what
    # is wanted of the value that comes next. `_stack` holds what is around it, and is no deeper
    # than a path. `_depth` counts the brackets, and `_in_string` tells of the string, in something
    # that is not wanted.
    __slots__ = (
        "_carry",
        "_depth",
        "_expects_key",
        "_found",
        "_in_string",
        "_index",
        "_next",
        "_node",
        "_root",
        "_stack",
        "_steps",
        "values",
    )

    def __init__(self, root: Node) -> None:
        self._root = root
        self.values: list[bytes | None] = [None] * len(root.slots)
        self._found: list[bytes | None] = [None] * len(root.slots)
        self._stack: list[tuple[Node, int]] = []
        self._steps = _SPARE_STEPS
        self.restart()

    def restart(self) -> None:
        """The next byte begins a document, whatever came before."""
        self._keep()
        self._carry = b""
        self._depth = 0
        self._in_string = self._expects_key = False
        self._stack.clear()
        self._node = self._root
        self._index = _OBJECT
        self._next: Node | None = self._root

    def _keep(self) -> None:
        for slot, value in enumerate(self._found):
            if value is not None:
                self._found[slot] = None
                if value != b"null":
                    self.values[slot] = value

    def feed(self, data: bytes) -> None:
        """Read on. The cost is bounded for each byte, however the document is made."""
        steps = self._steps + len(data) // 16 + 4
        if self._carry:
            data = self._carry + data
            self._carry = b""
        position, end = 0, len(data)
        while position < end and steps > 0:
            steps -= 1
            if self._in_string:
                position = self._skip_string(data, position)
            elif self._depth:
                position = self._skip(data, position)
            elif self._expects_key:
                position = self._member(data, position)
            else:
                position = _end(_skip_blanks(data, position))
                if position < end:
                    position = self._token(data, position)
        self._steps = steps

    # --- what is not wanted ---------------------------------------------------------------

    def _skip_string(self, data: bytes, position: int) -> int:
        position = _end(_skip_string(data, position))
        if position == len(data):
            return position
        if data[position] == _ESCAPE:  # what it escapes is in the next piece
            self._carry = b"\\"
            return len(data)
        self._in_string = False
        return position + 1

    def _skip(self, data: bytes, position: int) -> int:
        position = _end(_skip_balanced(data, position))
        if position == len(data):
            return position
        if data[position] == _QUOTE:
            self._in_string = True
            return position + 1
        opened = _end(_skip_opening(data, position))
        if opened > position:
            self._depth += opened - position
            return opened
        closed = min(_end(_skip_closing(data, position)), position + self._depth)
        self._depth -= closed - position
        if not self._depth:
            self._ended()
        return closed

    # --- where something may be wanted ----------------------------------------------------

    def _member(self, data: bytes, position: int) -> int:
        """Go to the next wanted member of an object."""
        match = self._node.members(data, position)
        assert match is not None  # it may be empty
        position = match.end()
        if match[1] is not None:
            self._key(match[1])
            if match[2] is not None:
                self._value(match[2])
        elif position < len(data):
            return self._token(data, position)
        return position

    def _token(self, data: bytes, position: int) -> int:
        byte = data[position]
        if byte == _QUOTE:
            return self._string(data, position)
        if byte == _COMMA:
            self._comma()
        elif byte in b"{[":
            self._open(byte == _OPEN)
        elif byte in b"}]":
            self._close()
        else:
            return self._atom(data, position)
        return position + 1

    def _string(self, data: bytes, position: int) -> int:
        match = _match_string(data, position)
        if match is None and len(data) - position <= LONGEST_TOKEN:
            self._carry = data[position:]
            return len(data)
        if match is None:  # too long to be of any use
            self._in_string = True
            if self._expects_key:
                self._key(b"")
            else:
                self._ended()
            return position + 1
        if self._expects_key:
            self._key(_key_in(match[0]))
        else:
            self._value(match[0])
        return match.end()

    def _atom(self, data: bytes, position: int) -> int:
        match = _match_atom(data, position)
        if match is None:  # a colon where a key should be
            return position + 1
        if match.end() < len(data):
            self._value(match[0])
        elif len(data) - position <= LONGEST_TOKEN:
            self._carry = data[position:]
        else:
            self._next = None
        return match.end()

    def _key(self, key: bytes) -> None:
        self._expects_key = False
        node = self._next = self._node.by_key.get(key)
        if node is not None:
            for slot in node.slots:
                self._found[slot] = None

    def _value(self, text: bytes) -> None:
        node = self._next
        if node is not None and node.slot >= 0 and len(text) <= LONGEST_TOKEN:
            self._found[node.slot] = text
        self._ended()

    def _open(self, is_object: bool) -> None:
        node = self._next
        if node is None or not (node.by_key if is_object else node.by_index):
            self._depth = 1
            return
        self._stack.append((self._node, self._index))
        self._node = node
        self._expects_key = is_object
        self._index = _OBJECT if is_object else 0
        self._next = None if is_object else node.by_index.get(0)

    def _close(self) -> None:
        if self._stack:
            self._node, self._index = self._stack.pop()
        self._ended()

    def _comma(self) -> None:
        if not self._stack:
            return
        if self._index == _OBJECT:
            self._expects_key = True
            self._next = None
        elif self._index < self._node.last_index:
            self._index += 1
            self._next = self._node.by_index.get(self._index)
        else:  # the rest of the array is not wanted
            self._node, self._index = self._stack.pop()
            self._depth = 1

    def _ended(self) -> None:
        """A value is over, and with it perhaps the document."""
        if self._stack:
            self._next = None
            self._expects_key = self._index == _OBJECT
        else:
            self._next = self._root
            self._expects_key = False
            self._keep()


def _end(match: re.Match[bytes] | None) -> int:
    """Where it ends; for expressions that match nothing, too."""
    assert match is not None
    return match.end()


def _key_in(token: bytes) -> bytes:
    """What a key's token says in UTF-8; nothing where it cannot be read."""
    try:
        text: str = json.loads(token.decode())
        return text.encode()
    except ValueError:
        return b""
