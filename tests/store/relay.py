"""A TCP relay that stands between a client and a server, and can cut the line."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Relay(Factory):
    """Relays to ``port`` of 127.0.0.1. While ``cutting``, every answer cuts its connection."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.cutting = False
        self.cuts = 0
        self._listening: IListeningPort | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._listening = await endpoint.listen(self)
        address = self._listening.getHost()
        assert isinstance(address, IPv4Address)
        return address.port

    async def stop(self) -> None:
        """Listen no more."""
        assert self._listening is not None
        stopped = self._listening.stopListening()
        if stopped is not None:
            await stopped

    def buildProtocol(self, addr: object) -> Protocol:
        return Front(self)


class Front(Protocol):
    """The client's side."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.back: Deferred[Back]

    def connectionMade(self) -> None:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.relay.target)
        self.back = connectProtocol(endpoint, Back(self))

    def dataReceived(self, data: bytes) -> None:
        self.back.addCallback(lambda back: back.send(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.back.addCallback(lambda back: back.hang_up())


class Back(Protocol):
    """The server's side."""

    def __init__(self, front: Front) -> None:
        self.front = front

    def send(self, data: bytes) -> Back:
        assert self.transport is not None
        self.transport.write(data)
        return self

    def hang_up(self) -> Back:
        assert self.transport is not None
        self.transport.loseConnection()
        return self

    def dataReceived(self, data: bytes) -> None:
        front = self.front
        assert front.transport is not None
        if front.relay.cutting:
            front.relay.cuts += 1
            front.transport.abortConnection()  # type: ignore[attr-defined]
        else:
            front.transport.write(data)
