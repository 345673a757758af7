"""A tunnel: bytes in both directions after CONNECT or 101, until both sides have ended."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from gatekeeper.clientside import OnEnd
from gatekeeper.net.sweep import Sweep
from gatekeeper.net.transports import LoopTransport


class TunnelEnd:
    """One side: what comes in here goes out on the other."""

    __slots__ = ("_tunnel", "bytes", "ended", "gone", "other", "transport", "write")

    transport: LoopTransport
    other: TunnelEnd
    write: Callable[[bytes], None]  # the other side's

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self.bytes = 0  # received on this side
        self.ended = False  # the peer sends no more
        self.gone = False

    def makeConnection(self, transport: LoopTransport) -> None:
        """The connection is there."""
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        """Bytes: on they go."""
        self.bytes += len(data)
        tunnel = self._tunnel
        tunnel.deadline = tunnel.sweep.now + tunnel.idle_timeout
        self.write(data)

    def readConnectionLost(self) -> bool:
        """The peer sends no more: tell the other side, keep our direction open if it can be."""
        self.ended = True
        if self.other.gone or self.other.ended:
            return False
        self.other.transport.loseWriteConnection()
        return self.transport.can_half_close and self.other.transport.can_half_close

    def connectionLost(self, reason: Failure) -> None:
        """This side is gone: so is the other, when it has sent what it holds.

        A connection that broke is no end: what came before may not be all.
        """
        self.gone = True
        if self.other.gone:
            self._tunnel.end("ok")
        elif reason.check(ConnectionDone):
            self.other.transport.loseConnection()
        else:
            self.other.transport.resetConnection()


class Tunnel:
    """Two connections joined. ``idle_timeout`` in seconds."""

    def __init__(self, sweep: Sweep, idle_timeout: float, on_end: OnEnd) -> None:
        self.sweep = sweep
        self.idle_timeout = idle_timeout
        self.deadline = sweep.now + idle_timeout
        self._on_end: OnEnd | None = on_end
        self.client = TunnelEnd(self)
        self.upstream = TunnelEnd(self)
        self.client.other, self.upstream.other = self.upstream, self.client

    def join(self, client: LoopTransport, upstream: LoopTransport) -> None:
        """Take both connections over. What either side sent before is the caller's to pass on."""
        self.client.makeConnection(client)
        self.upstream.makeConnection(upstream)
        self.client.write, self.upstream.write = upstream.write, client.write
        client.registerProducer(upstream)
        upstream.registerProducer(client)
        client.switch(self.client)
        upstream.switch(self.upstream)
        self.sweep.timed.add(self)
        if not upstream.writing_paused:
            client.resumeProducing()
        if not client.writing_paused:
            upstream.resumeProducing()

    def end(self, reason: str) -> None:
        """Both sides are gone, or will be at once."""
        self.sweep.timed.discard(self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self.client.bytes, self.upstream.bytes, reason)

    def cut(self, reason: str) -> None:
        """End it now."""
        self.end(reason)
        self.client.transport.abortConnection()
        self.upstream.transport.abortConnection()

    def timed_out(self) -> None:
        """Nothing has moved for too long."""
        self.cut("tunnel_idle")
