"""A small web site on Twisted's own transports: bounded, and silent about what runs it.

Nothing here imports the reactor before the service starts.
"""

# mypy: disable-error-code="no-untyped-call"
# (what Twisted's classes leave without annotations is called through super() here)

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorSocket, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

_LONGEST_LENGTH: Final = 1024
_LAST_CALL: Final = 5.0  # seconds in which a client may begin one more request


class BoundedRequest(Request):
    """A request whose body is kept in memory, up to ``body_limit`` bytes; above it 413."""

    body_limit = 65536
    channel: _Channel
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """The head is complete; a body of ``length`` bytes (None: chunked) follows."""
        self.content = self._body = BytesIO()
        if length is not None and length > self.body_limit:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if self._refused:
            return
        if self._body.tell() + len(data) > self.body_limit:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._body.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete."""
        if self._refused:
            return
        try:
            unquote_to_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(HTTPStatus.BAD_REQUEST)
        else:
            super().requestReceived(command, path, version)

    def refuse(self, status: HTTPStatus) -> None:
        """Answer with nothing but ``status``, and hang up."""
        self._refused = True
        self.requestHeaders.removeHeader(b"expect")  # there will be no 100 (Continue)
        self.channel.refuse(status)

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Set a field of the answer, but never the banner that Twisted sets for everybody."""
        if name.lower() != b"server":
            super().setHeader(name, value)

    def getRequestHostname(self) -> bytes:
        """Not what the client says: it need not be a name, and no answer depends on it."""
        return b"localhost"


class _Channel(HTTPChannel):
    """A connection that is counted by its site."""

    factory: BoundedSite

    def connectionMade(self) -> None:
        self.factory.channels.add(self)
        super().connectionMade()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether another request may follow; else the answer says so."""
        if self.factory.closing:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False
        return bool(super().checkPersistence(request, version))

    def refuse(self, status: HTTPStatus) -> None:
        """Answer with nothing but ``status``, and hang up."""
        self.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            "Connection: close\r\nContent-Length: 0\r\n\r\n".encode("ascii")
        )
        self.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        """A line of a head."""
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.lineLengthExceeded(line)
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """The head is longer than what we take: it is the target, or the fields."""
        if self._receivedHeaderSize:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            self.refuse(HTTPStatus.REQUEST_URI_TOO_LONG)

    def headerReceived(self, line: bytes) -> bool:
        """One field of a head. False: it was answered with 400."""
        if len(line) > _LONGEST_LENGTH and line.lower().startswith(b"content-length:"):
            line = b"Content-Length: too long"  # more digits than Python reads as a number
        received: bool = super().headerReceived(line)
        return received

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.channels.discard(self)
        super().connectionLost(reason)


class BoundedSite(Site):
    """A site with at most ``most`` connections and ``head`` bytes of request head.

    It keeps no access log. Once it is ``closing``, every answer is the last one of its connection.
    """

    protocol = _Channel  # type: ignore[assignment]  # HTTP/1.1 only, where Site has a choice

    def __init__(
        self,
        resource: IResource,
        request_factory: type[Request],
        reactor: IReactorTime,
        *,
        most: int,
        head: int,
    ) -> None:
        super().__init__(resource, request_factory, reactor=reactor, parsePOSTFormSubmission=False)
        self.channels: set[_Channel] = set()
        self.closing = False
        self._most = most
        self._head = head

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A channel, or None to hang up."""
        if self.connections >= self._most:
            return None
        channel = super().buildProtocol(addr)
        channel.totalHeadersSize = self._head
        return channel

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self.channels)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return any(channel.requests for channel in self.channels)

    def close_idle(self) -> None:
        """Hang up where nothing was asked."""
        for channel in list(self.channels):
            if not channel.requests:
                channel.loseConnection()

    def log(self, request: object) -> None:
        """Probes come every few seconds: not worth a line each."""


class SiteService(Service):
    """Serves a site on a socket that listens already.

    ``make_resource`` is called when the service starts, with the reactor: what it imports may
    import the reactor. ``address`` is where the site listens (IP address and port), ``file`` is
    the unix socket if it is one; it is removed in the end, unless ``keeps_file`` is set: somebody
    else listens there, too. ``socket`` is closed in the end.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        listening: socket.socket,
        make_resource: Callable[[IReactorTime], IResource],
        request_factory: type[Request] = BoundedRequest,
        *,
        most: int = 256,
        head: int = 4096,
    ) -> None:
        self.setName(name)
        name = listening.getsockname()
        self.file = name if isinstance(name, str) else None
        self.address: tuple[str, int] = ("", 0) if self.file is not None else name[:2]
        self.socket = listening
        self.keeps_file = False
        self._make_resource = make_resource
        self._request_factory = request_factory
        self._most = most
        self._head = head
        self._port: IListeningPort | None = None
        self._site: BoundedSite | None = None

    def startService(self) -> None:
        """Begin to answer."""
        from twisted.internet import reactor

        super().startService()
        clock = IReactorTime(reactor)
        site = BoundedSite(
            self._make_resource(clock),
            self._request_factory,
            clock,
            most=self._most,
            head=self._head,
        )
        site.noisy = False
        self._site = site
        self._port = self._adopt(IReactorSocket(reactor), site)
        self._log.info("{name} listens on {where}", name=self.name, where=self.where)

    def _adopt(self, reactor: IReactorSocket, site: Site) -> IListeningPort:
        descriptor = self.socket.fileno()
        if self.file is None:
            return reactor.adoptStreamPort(descriptor, self.socket.family, site)
        from twisted.internet import tcp
        from twisted.internet.unix import Port

        # What adoptStreamPort does, but that it lets everybody open the socket for a moment.
        port: Any = Port._fromListeningDescriptor(reactor, descriptor, site)
        port.mode = stat.S_IMODE(os.stat(self.file).st_mode)
        port.startListening()
        port._shouldShutdown = False  # others may listen on it as well
        port.connectionLost = partial(tcp.Port.connectionLost, port)  # the file is ours to remove
        adopted: IListeningPort = port
        return adopted

    @property
    def where(self) -> str:
        """Where the site listens, in words."""
        host, port = self.address
        return f"{host}, port {port}" if self.file is None else self.file

    @property
    def connections(self) -> int:
        """How many there are."""
        return 0 if self._site is None else self._site.connections

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._site is not None and self._site.busy

    def pause(self) -> Deferred[None]:
        """Accept no more connections, and no more requests on those that there are.

        The socket goes on listening: what comes waits for who accepts it. The service may be
        started again.
        """
        port, self._port = self._port, None
        stopped: Deferred[None] = maybeDeferred(super().stopService)
        if self._site is not None:
            self._site.closing = True
        if port is not None:
            stopped.addCallback(lambda _: port.stopListening())
        return stopped

    def close_idle(self) -> None:
        """Hang up where nothing was asked."""
        if self._site is not None:
            self._site.close_idle()

    def stopService(self) -> Deferred[None]:
        """Accept no more connections, for good; what was asked is answered."""
        from twisted.internet import reactor

        IReactorTime(reactor).callLater(_LAST_CALL, self.close_idle)
        return self.pause().addCallback(lambda _: self._close())

    def _close(self) -> None:
        self.socket.close()
        if self.file is not None and not self.keeps_file:
            with suppress(FileNotFoundError):
                os.unlink(self.file)
