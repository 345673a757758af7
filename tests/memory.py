"""A loop and connections in memory: bytes in, bytes out, and a clock that is set by hand.

What the loop gives our code are :class:`MemoryTransport` objects, as strict as uvloop's. What a
test holds is the :class:`Peer` at the other end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, NamedTuple, Self, TypeVarTuple

Ts = TypeVarTuple("Ts")

HIGH_WATER = 65536  # as uvloop has it
LOW_WATER = 16384


class Message(NamedTuple):
    """An HTTP message taken apart: the first line, the fields in their order, and what follows."""

    line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        head, end, body = raw.partition(b"\r\n\r\n")
        assert end, f"no whole head: {raw!r}"
        line, *lines = head.split(b"\r\n")
        fields = [(name, value) for name, _, value in (each.partition(b": ") for each in lines)]
        return cls(line, fields, body)

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    def values(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.fields if field == name]

    def names(self) -> set[bytes]:
        return {name for name, _ in self.fields}


class MemoryTransport(asyncio.Transport):
    """What the loop gives a protocol."""

    def __init__(
        self,
        loop: ManualLoop,
        protocol: asyncio.Protocol,
        address: tuple[str, int] | None,
        *,
        can_half_close: bool = True,
    ) -> None:
        super().__init__({"peername": address, "sockname": ("192.0.2.1", 443)})
        self.loop = loop
        self.protocol = protocol
        self.peer = Peer(self)
        self.can_half_close = can_half_close
        self.closing = False
        self.lost = False
        self.aborted = False
        self.eof_written = False
        self.reading = True
        self.writing_paused = False
        self.incoming: deque[bytes | None] = deque()
        self.buffer = bytearray()

    # --- what our code calls --------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.lost or self.aborted:
            return
        self.buffer += data
        self.flush()
        if len(self.buffer) > HIGH_WATER and not self.writing_paused:
            self.writing_paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.eof_written = True
        self.flush()

    def can_write_eof(self) -> bool:
        return self.can_half_close

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.flush()

    def abort(self) -> None:
        if self.lost or self.aborted:
            return
        self.closing = self.aborted = True
        self.buffer.clear()
        self.loop.call_soon(self.lose, None)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.loop.call_soon(self.pump)

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    # --- what the loop does ---------------------------------------------------------------

    def flush(self) -> None:
        """Hand over to the peer what it takes."""
        peer = self.peer
        taken = len(self.buffer) if peer.takes is None else min(peer.takes, len(self.buffer))
        peer.arrived += self.buffer[:taken]
        del self.buffer[:taken]
        if peer.takes is not None:
            peer.takes -= taken
        if self.writing_paused and len(self.buffer) <= LOW_WATER:
            self.writing_paused = False
            self.protocol.resume_writing()
        if not self.buffer:
            peer.saw_end = peer.saw_end or self.eof_written
            if self.closing and not self.aborted:
                self.loop.call_soon(self.lose, None)

    def pump(self) -> None:
        """Deliver what the peer has sent."""
        while self.incoming and self.reading and not self.closing:
            data = self.incoming.popleft()
            try:
                if data is not None:
                    self.protocol.data_received(data)
                elif not self.protocol.eof_received():
                    self.close()
            except Exception as error:  # as the loops do it
                self.loop.errors.append(error)
                self.lose(error)

    def lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = self.closing = True
        self.peer.saw_end = True
        self.protocol.connection_lost(error)


class Peer:
    """The other end of a connection."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._loop = transport.loop
        self.arrived = bytearray()
        self.takes: int | None = None  # bytes that it takes before it must be told to go on
        self.saw_end = False  # nothing more comes from there
        self.shut = False  # it has said that it sends no more

    def sends(self, *pieces: bytes) -> None:
        """Send; each piece arrives by itself."""
        for piece in pieces:
            self.sends_at_once(piece)
            self._loop.settle()

    def sends_at_once(self, data: bytes) -> None:
        """Send, and leave it to the test when the loop goes on."""
        assert not self.shut
        self._transport.incoming.append(data)
        self._transport.pump()

    def sends_bytewise(self, data: bytes) -> None:
        self.sends(*(data[i : i + 1] for i in range(len(data))))

    def shuts_down(self) -> None:
        """Send no more."""
        self.shuts_down_at_once()
        self._loop.settle()

    def shuts_down_at_once(self) -> None:
        """The same, and leave it to the test when the loop goes on."""
        if not self.shut:
            self.shut = True
            self._transport.incoming.append(None)
            self._transport.pump()

    def hangs_up(self) -> None:
        """Close: whatever comes is not read any more."""
        self.shuts_down()
        self._loop.call_soon(self._transport.lose, None)
        self._loop.settle()

    def resets(self) -> None:
        self._loop.call_soon(self._transport.lose, ConnectionResetError("reset by peer"))
        self._loop.settle()

    def stops_reading(self) -> None:
        self.takes = 0

    def takes_more(self, count: int) -> None:
        assert self.takes is not None
        self.takes += count
        self._transport.flush()
        self._loop.settle()

    def goes_on_reading(self) -> None:
        self.takes = None
        self._transport.flush()
        self._loop.settle()

    def received(self) -> bytes:
        """What has arrived since this was asked last."""
        data = bytes(self.arrived)
        self.arrived.clear()
        return data

    def message(self) -> Message:
        """What has arrived since the last time, as one message."""
        return Message.parse(self.received())

    @property
    def is_read(self) -> bool:
        """Whether the other side takes what we send."""
        return self._transport.reading and not self._transport.closing

    @property
    def unsent(self) -> int:
        """Bytes that the other side has written and we have not taken."""
        return len(self._transport.buffer)

    @property
    def is_open(self) -> bool:
        return not self._transport.lost

    @property
    def was_aborted(self) -> bool:
        """Whether the other side broke the connection."""
        return self._transport.aborted

    @property
    def was_closed(self) -> bool:
        """Whether the other side closed the connection in order."""
        return self._transport.lost and not self._transport.aborted


class Server:
    """Somebody who accepts our connections."""

    def __init__(self, *, can_half_close: bool = True) -> None:
        self.peers: list[Peer] = []
        self.dialed = 0
        self.names: list[str | None] = []  # that TLS is to verify; None without TLS
        self.error: Exception | None = None  # raised at those who connect
        self.silent = False  # connecting takes until it answers
        self.knocking: list[asyncio.Future[None]] = []
        self.can_half_close = can_half_close

    async def accept(
        self, loop: ManualLoop, factory: Callable[[], asyncio.Protocol]
    ) -> MemoryTransport:
        self.dialed += 1
        if self.silent:
            self.knocking.append(loop.create_future())
            await self.knocking[-1]
        if self.error is not None:
            raise self.error
        protocol = factory()
        transport = MemoryTransport(
            loop, protocol, ("203.0.113.80", 80), can_half_close=self.can_half_close
        )
        self.peers.append(transport.peer)
        protocol.connection_made(transport)
        return transport

    def answers(self) -> None:
        """Let those in who wait, and everybody who comes later."""
        self.silent = False
        for waiting in self.knocking:
            if not waiting.done():
                waiting.set_result(None)

    def accepted(self) -> Peer:
        """The connection that came first of those that the test has not asked for yet."""
        return self.peers.pop(0)


class ManualLoop(asyncio.SelectorEventLoop):
    """A loop without sockets. ``servers`` are by the address that is dialed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.scheduled = 0
        self.errors: list[object] = []
        self.servers: dict[tuple[str, int], Server] = {}
        super().__init__()
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self.now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        self.scheduled += 1
        return super().call_soon(callback, *args, context=context)

    async def create_connection(  # type: ignore[override]
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        ssl: object = None,
        server_hostname: str | None = None,
    ) -> tuple[MemoryTransport, asyncio.BaseProtocol]:
        server = self.servers.get((host, port))
        if server is None:
            raise ConnectionRefusedError(111, "Connection refused")
        assert (ssl is None) == (server_hostname is None)
        server.names.append(server_hostname)
        transport = await server.accept(self, factory)
        return transport, transport.protocol

    def turn(self) -> None:
        """Run what is due."""
        self.call_soon(self.stop)
        self.run_forever()

    def settle(self) -> None:
        """Run until nothing is due any more."""
        while True:
            before = self.scheduled
            self.turn()
            if self.scheduled == before + 1:  # the turn's own
                return

    def connect(
        self, protocol: asyncio.Protocol, address: tuple[str, int] | None, *, can_half_close: bool
    ) -> Peer:
        """Somebody connects to us."""
        transport = MemoryTransport(self, protocol, address, can_half_close=can_half_close)
        protocol.connection_made(transport)
        self.settle()
        return transport.peer
