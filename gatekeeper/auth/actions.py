"""The action file: each action of an API, and the one group that may use it::

    action_getblockhash=stats
    action_spend=spender

It decides about two kinds of path, and closes all others:

* ``/v0/<action>`` and everything below: the caller is in the action's group. An action that the
  file does not list is forbidden for everybody.
* ``/s/<group>`` and everything below: the caller is in the group that the path names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gatekeeper.auth.access import FORBIDDEN, Access, AccessRules
from gatekeeper.auth.interfaces import Deny
from gatekeeper.auth.properties import PropertiesFile, parse_properties
from gatekeeper.config.model_services import Service
from gatekeeper.errors import ConfigurationError, Problem

#: What goes before an action in the path of a request, and not to the upstream.
ACTIONS: Final = b"/v0/"

_WHAT: Final = "the action"
_LINE: Final = re.compile(r"action_(?P<action>[A-Za-z0-9_-]+)=(?P<group>[A-Za-z0-9_-]+)(?:\s+#.*)?")


def make_access(service: Service) -> Access | None:
    """The access rules of a service, from its ``access`` or its ``actions_file``; None: no rules.

    :raises ConfigurationError: the file cannot be used (path ``actions_file``), each wrong line.
    """
    if service.actions_file is not None:
        return ActionRules(service.actions_file, service.from_.encode("ascii"))
    return AccessRules(service.access) if service.access else None


def parse_actions(text: str, source: str) -> dict[str, str]:
    """The group of each action.

    :raises ConfigurationError: *all* lines that are wrong, each as ``source:line`` (path ``""``).
    """
    return parse_properties(text, source, _parse_line, _WHAT)


class ActionRules:
    """The rules of an action file, read again when it changes.

    Membership is exact: who is in ``spender`` is not in ``spend``.

    :param prefix: the service's ``from``, which goes before the paths above.
    :raises ConfigurationError: the file cannot be used, as it is now (path ``actions_file``).
    """

    def __init__(self, path: Path, prefix: bytes = b"/") -> None:
        self._skip = len(prefix.rstrip(b"/"))
        try:
            self._file = PropertiesFile(path, _parse_line, _WHAT)
        except ConfigurationError as error:
            raise ConfigurationError(
                [Problem("actions_file", problem.message) for problem in error.problems]
            ) from None

    def decide(self, method: bytes, path: bytes, groups: frozenset[str]) -> Deny | None:
        """None where the caller may pass; the method does not matter.

        ``path`` is canonical, without the query, and below the service's ``from``.
        """
        return None if self._group(path) in groups else FORBIDDEN

    def explain(self, method: bytes, path: bytes) -> str:
        """See :class:`Access`."""
        group = self._group(path)
        return "no action of the file, nobody" if group is None else f"group {group}"

    def reload(self) -> bool:
        """Read the file if it has changed; see :class:`Access`."""
        return self._file.reload()

    def _group(self, path: bytes) -> str | None:
        """Whose the path is; None: nobody's."""
        before, *segments = path[self._skip :].split(b"/", 3)
        if before or len(segments) < 2 or not segments[1]:
            return None
        kind, name = segments[0], segments[1].decode("latin-1")
        if kind == b"v0":
            return self._file.content.get(name)
        return name if kind == b"s" else None


def _parse_line(line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("not of the form `action_NAME=GROUP`")
    return match["action"], match["group"]
