"""The access rules of a service: who may do what, told from method, path and groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from gatekeeper.auth.interfaces import Deny
from gatekeeper.config.model_services import AccessRule

#: The answer to whom the rules do not let pass (RFC 6750, 3.1).
FORBIDDEN: Final = Deny(
    "insufficient_scope", "You may not do this here.", status=403, error="insufficient_scope"
)


class Access(Protocol):
    """Who may do what in a service."""

    def decide(self, method: bytes, path: bytes, groups: frozenset[str]) -> Deny | None:
        """None where the caller may pass. ``path`` is canonical and without the query."""

    def explain(self, method: bytes, path: bytes) -> str:
        """Which rule :meth:`decide` goes by, in words for the operator."""

    def reload(self) -> bool:
        """Read changed files again; asked about once a second, so it is cheap if nothing has.

        True where decisions may be others than before. Never raises: what cannot be read leaves
        everything as it was, and is logged.
        """


class _Node:
    """Where a path has got to after some segments; numbers are those of rules."""

    __slots__ = ("any", "here", "literal", "rest")

    def __init__(self) -> None:
        self.literal: dict[bytes, _Node] = {}
        self.any: _Node | None = None
        self.here: list[int] = []  # rules whose pattern ends here
        self.rest: list[int] = []  # rules whose pattern goes on with ``**``


class AccessRules:
    """Rules, compiled: the cost depends on the path and on how many rules fit it, not on all.

    The first rule that fits path and method decides: it lets the caller pass who is in one of
    its groups, or anybody if it names none. No rule fits: nobody passes. No rules at all:
    everybody does.

    In a pattern ``*`` is a whole segment that is not empty; ``/**`` at the end is the path
    before it, with a slash after it or without, and everything below. All else is compared
    byte by byte, a slash at the end included. Methods are case-sensitive (RFC 9110, 9.1).
    """

    def __init__(self, rules: Sequence[AccessRule]) -> None:
        self._root = _Node()
        self._described = [_describe(number, rule) for number, rule in enumerate(rules)]
        self._rules = [
            (
                None if rule.methods is None else frozenset(map(str.encode, rule.methods)),
                None if rule.groups is None else frozenset(rule.groups),
            )
            for rule in rules
        ]
        for number, rule in enumerate(rules):
            self._add(rule.path.encode("ascii"), number)

    def decide(self, method: bytes, path: bytes, groups: frozenset[str]) -> Deny | None:
        """None where the caller may pass. ``path`` is canonical and without the query."""
        if not self._rules:
            return None
        number = self._deciding(method, path)
        if number is None:
            return FORBIDDEN
        wanted = self._rules[number][1]
        return None if wanted is None or not wanted.isdisjoint(groups) else FORBIDDEN

    def explain(self, method: bytes, path: bytes) -> str:
        """See :class:`Access`."""
        if not self._rules:
            return "there are no rules"
        number = self._deciding(method, path)
        return "no rule fits" if number is None else self._described[number]

    def reload(self) -> bool:
        """Do nothing: these rules are in the configuration."""
        return False

    def _add(self, pattern: bytes, number: int) -> None:
        node = self._root
        for segment in pattern.split(b"/")[1:]:
            if segment == b"**":
                node.rest.append(number)
                return
            if segment == b"*":
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.literal.setdefault(segment, _Node())
        node.here.append(number)

    def _deciding(self, method: bytes, path: bytes) -> int | None:
        """The first rule that fits."""
        for number in self._fitting(path):
            methods = self._rules[number][0]
            if methods is None or method in methods:
                return number
        return None

    def _fitting(self, path: bytes) -> list[int]:
        """The rules whose pattern fits, in their order."""
        if not path.startswith(b"/"):  # the "*" of OPTIONS, or an authority
            return []
        found: list[int] = []
        nodes = [self._root]
        for segment in path[1:].split(b"/"):
            following = []
            for node in nodes:
                found += node.rest
                literal = node.literal.get(segment)
                if literal is not None:
                    following.append(literal)
                if node.any is not None and segment:
                    following.append(node.any)
            nodes = following
            if not nodes:
                break
        for node in nodes:
            found += node.here
            found += node.rest
        found.sort()
        return found


def _describe(number: int, rule: AccessRule) -> str:
    methods = "any method" if rule.methods is None else ", ".join(rule.methods)
    groups = "anybody" if rule.groups is None else f"groups {', '.join(rule.groups)}"
    return f"access[{number}]: {rule.path}, {methods}, {groups}"
