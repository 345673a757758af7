"""Listening sockets, and all the client connections that came in through them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gatekeeper.clientside import OnEnd
from gatekeeper.config.model import Limits
from gatekeeper.doors import Door
from gatekeeper.net.http2.negotiation import Negotiation
from gatekeeper.net.server import ClientConnection
from gatekeeper.net.transports import LoopProtocol, LoopTransport

if TYPE_CHECKING:
    from gatekeeper.net.tls import ServerTLS
    from gatekeeper.plane import Plane

BACKLOG = 2048


class Connection(Protocol):
    """A client's connection, whatever it speaks."""

    door: Door
    peer: str
    transport: LoopTransport

    def close(self) -> None:
        """Take no further request."""

    def wind_down(self) -> None:
        """Take what is on its way already; the door is draining."""


class Connections:
    """All client connections, tunnels included, with their bounds.

    ``accepted`` and ``refused`` count them by the listeners' names. ``limits`` may change.
    """

    def __init__(self, limits: Limits, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self.call_soon = call_soon
        self.open: set[Connection] = set()
        self.limits = limits
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._per_peer: Counter[str] = Counter()
        self._on_empty: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self.open)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; false where there are too many, of this peer or in all."""
        peer = connection.peer
        if (
            len(self.open) >= self.limits.connections
            or self._per_peer[peer] >= self.limits.connections_per_peer
        ):
            self.refused[connection.door.name] += 1
            return False
        self.accepted[connection.door.name] += 1
        self.open.add(connection)
        self._per_peer[peer] += 1
        return True

    def replace(self, earlier: Connection, connection: Connection) -> None:
        """A connection is in other hands: it stays one."""
        self.open.remove(earlier)
        self.open.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self.open:
            return
        self.open.remove(connection)
        self._per_peer[connection.peer] -= 1
        if not self._per_peer[connection.peer]:
            del self._per_peer[connection.peer]
        if not self.open and self._on_empty is not None:
            self._on_empty()

    def ends_tunnel(self, connection: Connection, end: OnEnd) -> OnEnd:
        """``end``, and the connection is forgotten with its tunnel."""

        def ended(bytes_in: int, bytes_out: int, reason: str) -> None:
            end(bytes_in, bytes_out, reason)
            self.forget(connection)

        return ended

    def wind_down(self, door: Door) -> None:
        """Nobody listens at this door any more: whoever has come through it may finish."""
        door.draining = True
        for connection in list(self.open):
            if connection.door is door:
                connection.wind_down()

    def drain(self, on_empty: Callable[[], None]) -> None:
        """Let what runs finish and close the rest; ``on_empty`` is called when none is left."""
        self._on_empty = on_empty
        for connection in list(self.open):
            connection.close()
        if not self.open:
            on_empty()


class Listener:
    """One address, and the door behind it. ``socket`` listens from the beginning."""

    def __init__(
        self,
        listening: socket.socket,
        door: Door,
        plane: Plane,
        connections: Connections,
        tls: ServerTLS | None,
        http2: bool = False,
    ) -> None:
        self.door = door
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self.tls = tls
        self.socket = listening
        self._plane = plane
        self._connections = connections
        self._server: asyncio.Server | None = None
        self._protocol = Negotiation if http2 else ClientConnection

    def __repr__(self) -> str:
        return f"<Listener {self.door.name} {self.address[0]}:{self.address[1]}>"

    async def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections, unless it was stopped before."""
        if self.socket.fileno() < 0:
            return
        self._server = await loop.create_server(
            self._make, sock=self.socket, backlog=BACKLOG, **self._secured()
        )

    async def take(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        """Serve a connection that somebody else has accepted at this address."""
        with contextlib.suppress(OSError):  # of the connection, and of TLS
            await loop.connect_accepted_socket(self._make, connection, **self._secured())

    def _make(self) -> LoopProtocol:
        return LoopProtocol(self._protocol(self._plane, self.door, self._connections))

    def _secured(self) -> dict[str, Any]:
        if self.tls is None:
            return {}
        return {"ssl": self.tls.context, "ssl_handshake_timeout": self._plane.timeouts.head}

    def stop(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
        self.socket.close()
