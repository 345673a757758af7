"""Sockets that listened before this process began: its predecessor's, or the service manager's."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from gatekeeper.config.values import parse_bind, unix_path

Where: TypeAlias = str | tuple[str, int]


class Inherited:
    """Listening sockets by their addresses, for whoever is configured to listen there.

    ``sockets`` are pairs of an address as the configuration has it (``0.0.0.0:443``,
    ``unix:/run/x.sock``) and the socket. Those that nobody takes are to be closed.
    """

    def __init__(self, sockets: Iterable[tuple[str, socket.socket]] = ()) -> None:
        self._sockets: dict[Where, list[tuple[str, socket.socket]]] = {}
        for bind, listening in sockets:
            self.add(bind, listening)

    def __iter__(self) -> Iterator[str]:
        """The addresses of those that nobody has taken."""
        return (bind for sockets in self._sockets.values() for bind, _ in sockets)

    def add(self, bind: str, listening: socket.socket) -> None:
        """One more."""
        self._sockets.setdefault(where(bind), []).append((bind, listening))

    def count(self, bind: str) -> int:
        """How many there are for an address."""
        return len(self._sockets.get(where(bind), ()))

    def take(self, bind: str) -> socket.socket | None:
        """The socket for an address; ``None``: there is none. It belongs to the caller then."""
        sockets = self._sockets.get(where(bind))
        return sockets.pop(0)[1] if sockets else None

    def close(self) -> None:
        """Close those that nobody has taken."""
        while self._sockets:
            for _, listening in self._sockets.popitem()[1]:
                listening.close()


#: Nothing was inherited.
NOTHING: Final = Inherited()


def where(bind: str) -> Where:
    """One spelling for each address that the configuration may have: a path, or IP and port."""
    path = unix_path(bind)
    if path is not None:
        return path
    host, port = parse_bind(bind)
    return ("127.0.0.1" if host == "localhost" else host), port
