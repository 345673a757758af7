"""A client's HTTP/2 connection (RFC 9113): the server's side. Each stream is one exchange."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived
from twisted.logger import Logger

from gatekeeper.accounting import unread_entry
from gatekeeper.errors import ProtocolError, Refusal
from gatekeeper.http.heads import parse_request_head
from gatekeeper.http.http2 import MalformedMessageError, body_length, request_head
from gatekeeper.net.http2.connection import MOST_STREAMS, Connection
from gatekeeper.net.http2.requests import RequestStream, UnreadStream
from gatekeeper.net.sweep import NEVER
from gatekeeper.net.transports import LoopTransport
from gatekeeper.replies import Reply, make_reply

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from gatekeeper.auth.chain import Chain
    from gatekeeper.doors import Door
    from gatekeeper.net.listeners import Connections
    from gatekeeper.net.server import ClientConnection
    from gatekeeper.plane import Plane

log = Logger()

_LINGER: Final = 2.0  # seconds that a client has to hang up
_LAST_CALL: Final = 1.0  # seconds in which requests that are on their way may still arrive
_ALL_STREAMS: Final = 2**31 - 1
_PING: Final = b"lastcall"
_NO_REPLY: Final = Reply(0, b"", [], b"")


class State(enum.Enum):
    """Where a connection is."""

    OPEN = "serving"
    LAST_CALL = "leaving, and told so; what is on its way is served"
    LEAVING = "taking no further request"
    CLOSED = "gone, or waiting for the client to hang up"


class ServerConnection(Connection):
    """See the module. What all streams have in common is here: peer, door, credentials."""

    client_side: ClassVar[bool] = False

    def __init__(self, plane: Plane, door: Door, connections: Connections) -> None:
        super().__init__(plane.sweep, plane.head_limits, plane.timeouts.body)
        self.plane = plane
        self.door = door
        self.peer = ""
        self.forwarded_for = b""
        self.digest: tuple[Chain | None, bytes, bytes] = (None, b"", b"")
        self._connections = connections
        self._state = State.OPEN
        self._last_stream = _ALL_STREAMS
        self._ignored = 0
        self._begun = False  # half a frame has come, or half a header block, and the clock runs

    def __repr__(self) -> str:
        return f"<ServerConnection {self.peer} {self._state.name} {len(self.streams)} streams>"

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The certificate that the client has shown, as the ssl module tells it."""
        return self.transport.info("peercert") or None

    def makeConnection(self, transport: LoopTransport) -> None:
        """A client has connected, and speaks HTTP/2."""
        address = transport.getPeer()
        self.peer = str(address[0]).removeprefix("::ffff:") if address else ""
        self.forwarded_for = b"x-forwarded-for: %b\r\n" % self.peer.encode("ascii")
        if not self.peer or not self._connections.admit(self):
            self.over = True
            self.transport = transport
            transport.abortConnection()
            return
        self.start(transport)
        if self.door.draining:
            self.wind_down()

    def take_over(self, earlier: ClientConnection) -> None:
        """A connection that has been admitted turns out to speak HTTP/2."""
        self.peer, self.forwarded_for = earlier.peer, earlier.forwarded_for
        self._connections.replace(earlier, self)
        self.sweep.timed.discard(earlier)
        self.start(earlier.transport)
        if self.door.draining:
            self.wind_down()

    def call_soon(self, call: Any) -> None:
        """In the loop's next turn."""
        self._connections.call_soon(call)

    # --- requests -------------------------------------------------------------------------

    def message(self, event: Event) -> None:
        """A request has come."""
        if not isinstance(event, RequestReceived):
            return
        stream_id = event.stream_id or 0
        if stream_id > self._last_stream:
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        if len(self.streams) >= MOST_STREAMS:
            self._cutter.charge_reset(self.sweep.now)
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        section = event.headers or []
        ended = event.stream_ended is not None
        try:
            head = parse_request_head(request_head(section, ended=ended), self.limits)
        except MalformedMessageError:
            self._cutter.charge_reset(self.sweep.now)
            self._log(_NO_REPLY, "bad_request")
            self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        except ProtocolError as refusal:
            self._refuse(UnreadStream(self, stream_id), ended, refusal)
            return
        head.accepts_trailers = True  # as everybody does who speaks HTTP/2
        stream = RequestStream(self, stream_id, head)
        stream.peer_ended = ended
        stream.expected = None if ended else body_length(section)
        self.opened(stream)
        stream.begin()

    def _refuse(self, stream: UnreadStream, ended: bool, refusal: Refusal) -> None:
        """Answer what never became a request."""
        request_id = self.plane.next_id()
        reply = make_reply(refusal, (), request_id)
        stream.peer_ended = ended
        self.opened(stream)
        self._log(reply, refusal.reason, request_id)
        stream.answer(reply, [b"date: " + self.plane.date()])

    def _log(self, reply: Reply, reason: str, request_id: bytes = b"") -> None:
        plane = self.plane
        self.door.stats.count(reply.status, reason)
        if plane.access_log is not None:
            plane.access_log.write(
                unread_entry(self, plane.wall_clock(), request_id or plane.next_id(), reply, reason)
            )

    # --- deadlines and the end ------------------------------------------------------------

    def settle(self) -> None:
        """What had arrived has been read, or a stream has ended."""
        timeouts, now = self.plane.timeouts, self.sweep.now
        if self._state is State.LEAVING and not self.streams:
            self._hang_up()
        elif self.writing_paused or self._state is State.LAST_CALL:
            pass  # that deadline has been set
        elif self._cutter.incomplete:
            if not self._begun:  # more bytes do not wind this clock up
                self._begun = True
                self.deadline = now + timeouts.head
        else:
            self._begun = False
            self.deadline = NEVER if self.streams else now + timeouts.idle

    def timed_out(self) -> None:
        """The deadline has passed."""
        if self.over or self.writing_paused:
            self.transport.abortConnection()
        elif self._state is State.LAST_CALL:
            self.answered_ping()
        elif self._begun:
            self.fault(ErrorCodes.PROTOCOL_ERROR, "a frame took too long")
        else:
            self.close()

    def close(self) -> None:
        """Take no further request: the daemon drains, or the client was idle.

        What is on its way when we say so is served: first all streams are named as the last one,
        and when the client has read that, the last one that has come (RFC 9113, 6.8).
        """
        if self.over or self._state is not State.OPEN:
            return
        if self.streams:
            self._call_last()
        else:
            self._leave()

    def wind_down(self) -> None:
        """The same, also where nothing is under way that we know of."""
        if not self.over and self._state is State.OPEN:
            self._call_last()

    def _call_last(self) -> None:
        self._state = State.LAST_CALL
        self.deadline = self.sweep.now + _LAST_CALL
        self.say_goodbye(ErrorCodes.NO_ERROR, _ALL_STREAMS)
        self.codec.ping(_PING)
        self.flush()

    def answered_ping(self) -> None:
        """What the client sent before it knew has arrived."""
        if self._state is State.LAST_CALL:
            self._leave()

    def _leave(self) -> None:
        self._state = State.LEAVING
        self._last_stream = self.codec.highest_inbound_stream_id
        self.say_goodbye(ErrorCodes.NO_ERROR, self._last_stream)
        self.settle()

    def peer_leaves(self, last_stream: int, code: int) -> None:
        """The client sends no further request, but may wait for answers."""
        if not self.over:
            self._state = State.LEAVING

    def leave(self, detail: str) -> None:
        """Hang up because of a fault; what runs ends."""
        if self.over:
            return
        self._log(_NO_REPLY, reason="bad_connection")
        log.info("{connection}: {detail}", connection=self, detail=detail)
        self.lose_streams()
        self._hang_up()

    def _hang_up(self) -> None:
        """Close in a way that lets the client read our last words."""
        self._write()
        self.over = True
        self._state = State.CLOSED
        self.deadline = self.sweep.now + _LINGER
        if self.transport.reading_paused:
            self.transport.resumeProducing()
        if self.transport.can_half_close:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def ignored(self, size: int) -> None:
        """So many bytes came after the end."""
        self._ignored += size
        if self._ignored > self.plane.drain_limit:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone."""
        self._state = State.CLOSED
        super().connectionLost(reason)
        self._connections.forget(self)
