"""Which HTTP a client's connection speaks: what TLS agreed on (ALPN), or how it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.python.failure import Failure

from gatekeeper.http.frames import PREFACE
from gatekeeper.net.http2.server import ServerConnection
from gatekeeper.net.server import ClientConnection
from gatekeeper.net.transports import LoopTransport

if TYPE_CHECKING:
    from gatekeeper.doors import Door
    from gatekeeper.net.listeners import Connections
    from gatekeeper.plane import Plane


class Negotiation:
    """A connection's first protocol, for as long as it takes to find the right one.

    Without TLS a client that begins with the preface of HTTP/2 knows that we speak it (RFC 9113,
    3.3). The connection is HTTP/1.1's until then, with its clock.
    """

    __slots__ = ("_begun", "_connections", "_door", "_http1", "_plane")

    def __init__(self, plane: Plane, door: Door, connections: Connections) -> None:
        self._plane = plane
        self._door = door
        self._connections = connections
        self._http1 = ClientConnection(plane, door, connections)
        self._begun = b""

    def makeConnection(self, transport: LoopTransport) -> None:
        """A client has connected; with TLS, it has said what it wants."""
        tls = transport.info("ssl_object")
        if tls is None:
            self._http1.makeConnection(transport)
            return
        wanted = tls.selected_alpn_protocol()
        protocol = self._http2() if wanted == "h2" else self._http1
        transport.switch(protocol)
        protocol.makeConnection(transport)

    def _http2(self) -> ServerConnection:
        return ServerConnection(self._plane, self._door, self._connections)

    def dataReceived(self, data: bytes) -> None:
        """The first bytes."""
        transport = self._http1.transport
        data = self._begun + data
        if data.startswith(PREFACE):
            http2 = self._http2()
            transport.switch(http2)
            http2.take_over(self._http1)
            http2.dataReceived(data)
        elif PREFACE.startswith(data):
            self._begun = data
        else:
            transport.switch(self._http1)
            self._http1.dataReceived(data)

    def readConnectionLost(self) -> bool:
        """The client sends no more: so it is over."""
        return False

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone before it said anything."""
        self._http1.connectionLost(reason)
