"""Several sockets at one address, one for each worker: the kernel spreads what comes over them.

All of them stay open in the supervisor: what comes for a worker that has died waits for the next.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from twisted.logger import Logger

from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.net.inherited import Inherited
from gatekeeper.net.listeners import BACKLOG

log = Logger()


class Group(NamedTuple):
    """The sockets at one address, which the configuration has as ``bind``."""

    bind: str
    sockets: list[socket.socket]


class Siblings:
    """All groups, each of ``number`` sockets.

    :param inherited: sockets that listened before we began.
    """

    def __init__(self, number: int, inherited: Inherited) -> None:
        self.number = number
        self._inherited = inherited
        self._groups: dict[Any, Group] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def of_worker(self, slot: int) -> Iterator[tuple[str, socket.socket]]:
        """The sockets of one worker, by their addresses in the configuration."""
        return ((bind, sockets[slot]) for bind, sockets in self)

    def all(self) -> Iterator[tuple[str, socket.socket]]:
        """Every socket, by its address in the configuration."""
        return ((bind, each) for bind, sockets in self for each in sockets)

    def add(self, sockets: Iterable[tuple[str, socket.socket]]) -> list[Group]:
        """Make groups for those that listen and have none; these are returned."""
        made = []
        for bind, listening in sockets:
            address = listening.getsockname()
            if address not in self._groups:
                group = Group(bind, self._make(bind, listening))
                self._groups[address] = group
                made.append(group)
        return made

    def keep(self, sockets: Iterable[tuple[str, socket.socket]]) -> None:
        """Close groups of which none of these is one: nobody listens there any more."""
        wanted = {listening.getsockname() for _, listening in sockets}
        for address in list(self._groups):
            if address not in wanted:
                _close(self._groups.pop(address))

    def close(self) -> None:
        """Close all."""
        while self._groups:
            _close(self._groups.popitem()[1])

    def _make(self, bind: str, first: socket.socket) -> list[socket.socket]:
        sockets = [first.dup()]
        while len(sockets) < self.number:
            there = self._inherited.take(bind)
            sockets.append(there if there is not None else _sibling(first))
        return sockets


def check(inherited: Inherited, workers: int) -> None:
    """See that no socket is left without a worker: what comes there would wait for ever.

    :raises ConfigurationError: the process before this one has had more workers.
    """
    most = max((inherited.count(bind) for bind in inherited), default=0)
    if most > workers:
        message = f"was {most}: to have fewer of them takes a restart, an upgrade is not enough"
        raise ConfigurationError([Problem("workers", message)])


def _sibling(first: socket.socket) -> socket.socket:
    """One more at the same address.

    The first was bound without SO_REUSEPORT, so that a port that is taken by others is an error.
    """
    made = socket.socket(first.family, first.type)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in (first, made):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(first.getsockname())
        made.listen(BACKLOG)
    except OSError as error:
        # It was made by another user, a service manager's perhaps.
        made.close()
        log.warn(
            "Workers share the socket of {address}: {why}",
            address=first.getsockname(),
            why=error.strerror,
        )
        return first.dup()
    return made


def _close(group: Group) -> None:
    for each in group.sockets:
        each.close()
