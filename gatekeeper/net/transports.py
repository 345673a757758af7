"""The loop's transports as Twisted transports.

Twisted's own TCP transport costs twice the CPU of a whole request here, so data-plane sockets are
the loop's (uvloop's), and these two classes stand between: :class:`LoopProtocol` is what the loop
calls, :class:`LoopTransport` is what a Twisted protocol calls its transport. The hot methods are
the other side's own bound methods, or closures: no more Python frames than need be.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

_DONE: Final = Failure(ConnectionDone())
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # linger: yes, for 0 s


class Producer(Protocol):
    """What can be told to stop for a while: a push producer without its end."""

    def pauseProducing(self) -> None:
        """Deliver nothing until told to go on."""

    def resumeProducing(self) -> None:
        """Go on."""


class StreamProtocol(Protocol):
    """What we use of a Twisted protocol, and half-closing."""

    def makeConnection(self, transport: Any) -> None:
        """The connection is there."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone; nothing else is called any more."""

    def readConnectionLost(self) -> bool:
        """The peer sends no more. True keeps our direction open."""


@implementer(ITransport, IPushProducer)
class LoopTransport:
    """A connection, as a Twisted protocol sees it.

    ``write`` collects what is written in one turn of the loop. ``send`` gives it to the kernel at
    once, so that nothing is in the way of a response's end (see ``descriptor``); what the kernel
    does not take, and what goes through TLS, is written.

    ``registerProducer`` names who is paused while this transport's write buffer is full: with
    back-pressure, usually the transport of the other side of the proxy. ``on_lost`` is called when
    the connection is gone, whatever protocol has it then.
    """

    __slots__ = (
        "_descriptor",
        "_loop_protocol",
        "_loop_transport",
        "abortConnection",
        "loseConnection",
        "on_lost",
        "producer",
        "reading_paused",
        "send",
        "write",
        "writeSequence",
        "writing_paused",
    )

    def __init__(self, transport: asyncio.Transport, protocol: LoopProtocol) -> None:
        self._loop_transport = transport
        self._loop_protocol = protocol
        self.write = transport.write
        self._descriptor = _descriptor(transport)
        self.send = _sender(transport, self._descriptor)
        self.writeSequence = transport.writelines
        self.loseConnection = transport.close  # what was written is sent first
        self.abortConnection = transport.abort
        self.producer: Producer | None = None
        self.on_lost: Callable[[], None] | None = None
        self.writing_paused = False
        self.reading_paused = False

    def getPeer(self) -> Any:
        """The socket address of the other end, as the socket module gives it."""
        return self._loop_transport.get_extra_info("peername")

    def getHost(self) -> Any:
        """The socket address of this end."""
        return self._loop_transport.get_extra_info("sockname")

    def info(self, name: str) -> Any:
        """What the loop knows about the connection, such as ``ssl_object``."""
        return self._loop_transport.get_extra_info(name)

    def registerProducer(self, producer: Producer, streaming: bool = True) -> None:
        """Pause ``producer`` while the write buffer is full."""
        self.producer = producer
        if self.writing_paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Nobody is to be paused any more."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Read nothing until told to go on."""
        self.reading_paused = True
        if not self._loop_transport.is_closing():
            self._loop_transport.pause_reading()

    def resumeProducing(self) -> None:
        """Read again."""
        self.reading_paused = False
        if not self._loop_transport.is_closing():
            self._loop_transport.resume_reading()

    def stopProducing(self) -> None:
        """Nobody wants more of this: hang up."""
        self._loop_transport.close()

    def resetConnection(self) -> None:
        """Hang up at once, and so that the peer cannot take it for an end: RST instead of FIN."""
        connection = self._loop_transport.get_extra_info("socket")
        if connection is not None and not self._loop_transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.abortConnection()

    def loseWriteConnection(self) -> None:
        """Send no more, but go on reading; where TLS cannot do that, hang up."""
        if self._loop_transport.is_closing():
            return
        if self._loop_transport.can_write_eof():
            self._loop_transport.write_eof()
        else:
            self._loop_transport.close()

    @property
    def can_half_close(self) -> bool:
        """Whether :meth:`loseWriteConnection` leaves the other direction open."""
        return self._loop_transport.can_write_eof()

    def descriptor(self) -> int:
        """The socket's, as long as the kernel has taken all that was written; -1: it has not.

        Always -1 where it is not for us to write to: what is sent goes through TLS.
        """
        transport = self._loop_transport
        if transport.is_closing() or transport.get_write_buffer_size():
            return -1
        return self._descriptor

    @property
    def buffered(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        return self._loop_transport.get_write_buffer_size()

    def switch(self, protocol: StreamProtocol) -> None:
        """Another protocol takes over; what the old one knew must have been handed on."""
        successor = LoopProtocol(protocol)
        successor.transport = self
        self._loop_protocol.transport = None
        self._loop_protocol = successor
        self._loop_transport.set_protocol(successor)


class LoopProtocol(asyncio.Protocol):
    """What the loop calls: hands on to a Twisted protocol."""

    __slots__ = ("data_received", "protocol", "transport")

    def __init__(self, protocol: StreamProtocol) -> None:
        self.protocol = protocol
        self.data_received = protocol.dataReceived  # type: ignore[method-assign]
        self.transport: LoopTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the protocol its transport."""
        self.transport = LoopTransport(cast("asyncio.Transport", transport), self)
        self.protocol.makeConnection(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol, and let the two go."""
        reason = _DONE if exc is None else Failure(ConnectionLost(str(exc)))
        transport = self.transport
        self.protocol.connectionLost(reason)
        self.transport = None
        if transport is not None and transport.on_lost is not None:
            transport.on_lost()

    def eof_received(self) -> bool:
        """The peer sends no more; whether we may go on is the protocol's to say."""
        return self.protocol.readConnectionLost()

    def pause_writing(self) -> None:
        """The write buffer is full."""
        transport = self.transport
        if transport is not None:
            transport.writing_paused = True
            if transport.producer is not None:
                transport.producer.pauseProducing()

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        transport = self.transport
        if transport is not None:
            transport.writing_paused = False
            if transport.producer is not None:
                transport.producer.resumeProducing()


def _descriptor(transport: asyncio.Transport) -> int:
    """The socket's, if what is written to the transport goes there as it is; else -1."""
    connection = transport.get_extra_info("socket")
    if connection is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    number: int = connection.fileno()
    return number


def _sender(transport: asyncio.Transport, descriptor: int) -> Callable[[bytes], object]:
    """Return :attr:`LoopTransport.send` for a transport of the loop's."""
    write, is_closing = transport.write, transport.is_closing
    buffered = transport.get_write_buffer_size
    if descriptor < 0:
        return write

    def send(data: bytes) -> None:
        # It is open as long as the transport is not closing: only then its number is nobody else's.
        if is_closing() or buffered():
            write(data)
            return
        try:
            sent = os.write(descriptor, data)
        except OSError:  # nothing is taken now, or the peer is gone, which the loop finds out
            sent = 0
        if sent != len(data):
            write(memoryview(data)[sent:] if sent else data)

    return send
