"""Text for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with all that does not print escaped.

    Users, paths and tokens come from outside: an escape sequence must not reach the terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
