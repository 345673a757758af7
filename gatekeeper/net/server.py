"""One client's connection: the server's side of HTTP/1.1 (RFC 9112).

Requests are taken one after the other; what a client pipelines waits in the buffer, and reading
stops meanwhile. After a message that is not HTTP/1.1 nothing more is read as a request.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.accounting import unread_entry
from gatekeeper.clientside import OnEnd
from gatekeeper.errors import ProtocolError, Refusal
from gatekeeper.exchange import Exchange
from gatekeeper.http.bodies import Body, ChunkedBody, CountedBody, chunk, last_chunk
from gatekeeper.http.fields import Fields, field_lines
from gatekeeper.http.heads import RequestHead, ResponseHead, check_beginning, parse_request_head
from gatekeeper.net.sweep import NEVER
from gatekeeper.net.transports import LoopTransport
from gatekeeper.net.tunnel import Tunnel
from gatekeeper.replies import Reply, make_reply

if TYPE_CHECKING:
    from gatekeeper.auth.chain import Chain
    from gatekeeper.doors import Door
    from gatekeeper.net.listeners import Connections
    from gatekeeper.plane import Plane

log = Logger()

_LINGER: Final = 2.0  # seconds that a client has to hang up after its last answer
_LAST_CALL: Final = 5.0  # seconds in which a client may begin one more request at a closed door
_IN_ONE_TURN: Final = 32  # pipelined requests answered before others get their turn


class State(enum.Enum):
    """Where a connection is."""

    IDLE = "waiting for a request"
    HEAD = "reading a head"
    BODY = "in an exchange, its request's body still coming"
    RESPONSE = "in an exchange, its request complete"
    DRAIN = "answered, the request's body still coming"
    LINGER = "answered for the last time, waiting for the client to hang up"
    CLOSED = "gone, or a tunnel's"


IDLE, HEAD, BODY, RESPONSE, DRAIN, LINGER, CLOSED = State  # faster to look up


@lru_cache(maxsize=1024)
def _status_line(status: int, reason: bytes) -> bytes:
    return b"HTTP/1.1 %d %b" % (status, reason)


class ClientConnection:
    """See the module. ``deadline`` is when the sweep calls :meth:`timed_out`."""

    __slots__ = (
        "_body",
        "_body_wanted",
        "_buffer",
        "_chunked",
        "_connections",
        "_drained",
        "_exchange",
        "_head",
        "_held",
        "_held_all",
        "_keep_alive",
        "_paused",
        "_plane",
        "_processing",
        "_state",
        "deadline",
        "digest",
        "door",
        "forwarded_for",
        "peer",
        "transport",
    )

    transport: LoopTransport

    def __init__(self, plane: Plane, door: Door, connections: Connections) -> None:
        self.door = door
        self.peer = ""
        self.forwarded_for = b""
        self.digest: tuple[Chain | None, bytes, bytes] = (None, b"", b"")
        self.deadline = NEVER
        self._plane = plane
        self._connections = connections
        self._state = IDLE
        self._buffer = b""
        self._head: RequestHead | None = None  # the last one
        self._body: Body | None = None
        self._body_wanted = False
        self._exchange: Exchange | None = None
        self._keep_alive = True
        self._chunked = False
        self._paused = False
        self._processing = False
        self._drained = 0
        self._held = b""  # the end of a response, or all of it, until its usage is written down
        self._held_all = False

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer} {self._state.name}>"

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The certificate that the client has shown, as the ssl module tells it."""
        return self.transport.info("peercert") or None

    # --- Twisted's protocol ---------------------------------------------------------------

    def makeConnection(self, transport: LoopTransport) -> None:
        """A client has connected."""
        self.transport = transport
        address = transport.getPeer()
        self.peer = str(address[0]).removeprefix("::ffff:") if address else ""
        self.forwarded_for = b"x-forwarded-for: %b\r\n" % self.peer.encode("ascii")
        if not self.peer or not self._connections.admit(self):
            self._state = CLOSED
            transport.abortConnection()
            return
        self._wait()
        self._plane.sweep.timed.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        state = self._state
        if state is IDLE or state is HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._process()
        elif state is BODY:
            if self._body_wanted:
                self._read_body(data)
            else:
                self._buffer += data
                self._pause()
        elif state is RESPONSE:
            self._buffer += data
            self._pause()
        elif state is DRAIN:
            self._drain(data)
        elif state is LINGER:
            self._drained += len(data)
            if self._drained > self._plane.drain_limit:
                self.transport.abortConnection()

    def readConnectionLost(self) -> bool:
        """The client sends no more: so it is over, as it is for nginx."""
        return False

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone."""
        self._state = CLOSED
        self._plane.sweep.timed.discard(self)
        self._connections.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()

    def timed_out(self) -> None:
        """The deadline has passed."""
        state = self._state
        if state is HEAD:
            self._refuse(ProtocolError("slow_head", "the request took too long", status=408))
        elif state is BODY and self._exchange is not None:
            self.deadline = NEVER
            self._keep_alive = False
            if self._paused:
                refusal = Refusal("upstream_timeout", "the upstream stopped reading", status=504)
            else:
                refusal = Refusal("slow_body", "the request's body took too long", status=408)
            self._exchange.fail(refusal)
        elif state is IDLE and not self.transport.buffered:
            self.close()
        else:
            self.transport.abortConnection()

    # --- reading --------------------------------------------------------------------------

    def _process(self) -> None:
        """Read heads while there are some and nothing else is going on."""
        if self._processing:
            return
        self._processing = True
        try:
            for _ in range(_IN_ONE_TURN):
                if not self._buffer or self._state not in (IDLE, HEAD):
                    break
                if self.transport.writing_paused:
                    self._pause()  # he asks and asks, and does not read the answers
                    self.transport.registerProducer(_Resumption(self))
                    break
                if not self._read_head():
                    break
            else:
                if self._state is IDLE:  # else it is the exchange that goes on
                    self._pause()
                    self._connections.call_soon(self._go_on)
        finally:
            self._processing = False

    def _go_on(self) -> None:
        if self._state in (IDLE, HEAD):
            self._unpause()
            self._process()

    def _read_head(self) -> bool:
        """Read one head from the buffer and begin its exchange; whether there was one."""
        data = self._buffer
        plane = self._plane
        limits = plane.head_limits
        try:
            end = data.find(b"\r\n\r\n")
            if data.startswith(b"\r\n"):  # one empty line is forgiven (RFC 9112, 2.2)
                data = self._buffer = data[2:]
                if not data:
                    return False
                end = data.find(b"\r\n\r\n")
            if end < 0:
                if data == b"\r":  # half an empty line
                    return False
                check_beginning(data, limits)
                if self._state is IDLE:  # more bytes do not wind this clock up
                    self._state = HEAD
                    self.deadline = plane.sweep.now + plane.timeouts.head
                return False
            end += 4
            if end == len(data):
                self._buffer = b""
                head = parse_request_head(data, limits, self._head)
            else:
                self._buffer = data[end:]
                head = parse_request_head(data[:end], limits, self._head)
        except ProtocolError as refusal:
            self._refuse(refusal)
            return False
        self._head = head
        # What follows a refused CONNECT was meant for the tunnel (RFC 9931).
        self._keep_alive = head.keep_alive and head.method != b"CONNECT"
        if plane.draining or self.door.draining:
            self._keep_alive = False
        length = head.length
        if length == 0:
            self._state = RESPONSE
            self.deadline = NEVER
        else:
            self._body = ChunkedBody() if length is None else CountedBody(length)
            self._body_wanted = False
            self._state = BODY
            self.deadline = NEVER
        exchange = self._exchange = Exchange(plane, self, head)
        exchange.begin()
        return True

    def start_body(self) -> None:
        """The exchange wants the request's body."""
        if self._state is not BODY:
            return
        self._body_wanted = True
        self.deadline = self._plane.sweep.now + self._plane.timeouts.body
        data, self._buffer = self._buffer, b""
        self._unpause()
        if self._exchange is not None and self._exchange.upstream is not None:
            # This may pause us again: the upstream may still be full of an earlier request.
            self._exchange.upstream.transport.registerProducer(_BodySource(self))
        if data:
            self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None
        self.deadline = self._plane.sweep.now + self._plane.timeouts.body
        try:
            payload = body.feed(data)
        except ProtocolError as refusal:
            self._keep_alive = False
            self._body = None
            self._state = RESPONSE
            if exchange is not None:
                exchange.fail(refusal)
            return
        if body.done:
            self._state = RESPONSE
            self.deadline = NEVER
            self._buffer = body.rest
            self._body = None
            if body.rest:
                self._pause()
        if exchange is not None:
            exchange.request_data(payload, body.done, body.trailers)

    def _drain(self, data: bytes) -> None:
        """Read on behind an answer, up to a bound, so that the next request can be read."""
        body = self._body
        assert body is not None
        self._drained += len(data)
        try:
            body.feed(data)
        except ProtocolError:
            self._linger()
            return
        if body.done and self._keep_alive:
            self._buffer = body.rest
            self._body = None
            self._next()
        elif body.done or self._drained > self._plane.drain_limit:
            self._linger()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _unpause(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    # --- writing --------------------------------------------------------------------------

    def send_informational(self, head: ResponseHead) -> None:
        """Send a 1xx response."""
        line = _status_line(head.status, head.reason)
        self.transport.write(b"\r\n".join((line, *head.lines, b"", b"")))

    def send_response(
        self,
        status: int,
        reason: bytes,
        lines: list[bytes],
        length: int | None,
        body: bytes,
        done: bool,
    ) -> None:
        """Send a response's head and the first piece of its body (all of it when ``done``)."""
        request = self._head
        assert request is not None
        parts = [_status_line(status, reason), *lines]
        self._chunked = False
        if request.method == b"HEAD" or status == 304:
            body = b""
            if length is not None:
                parts.append(b"content-length: %d" % length)
        elif status == 204:
            body = b""
        elif length is not None:
            parts.append(b"content-length: %d" % length)
        elif request.minor == 1:
            self._chunked = True
            parts.append(b"transfer-encoding: chunked")
            body = chunk(body) + b"0\r\n\r\n" if done else chunk(body)
        else:
            self._keep_alive = False
        if self._state is BODY and request.expects_continue:
            exchange = self._exchange
            if exchange is None or not exchange.body_sent:
                self._keep_alive = False  # he may send the body after all, or not
        if not self._keep_alive:
            parts.append(b"connection: close")
        elif request.minor == 0:
            parts.append(b"connection: keep-alive")
        parts += (b"", body)
        data = b"\r\n".join(parts)
        if done:
            self._end(data, whole=True)
        else:
            self.transport.send(data)

    def send_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """Send more of the response's body."""
        end = payload
        if self._chunked and not done:
            end = chunk(payload)
        elif self._chunked:
            end = last_chunk(trailers)
            if payload:
                self.transport.send(b"%x\r\n%b" % (len(payload), payload))
                end = b"\r\n" + end
        if done:
            self._end(end, whole=False)
        elif end:
            self.transport.send(end)

    def _end(self, data: bytes, *, whole: bool) -> None:
        """Send the response's end, ``whole``: all of it; not before its usage is written down."""
        self._held = data
        self._held_all = whole
        exchange = self._exchange
        if exchange is None or not exchange.metered:  # else the meter knows
            self._send_end()

    def release(self, number: int) -> None:
        """The usage record is in the journal: send what was held."""
        data, self._held = self._held, b""
        meter = self._plane.meter
        assert meter is not None
        if data and self._state is not CLOSED:
            meter.send(number, self.transport, data)
        else:
            meter.settle(number)
        self._response_done()

    def _send_end(self) -> None:
        data, self._held = self._held, b""
        if data and self._state is not CLOSED:
            self.transport.send(data)
        self._response_done()

    def withhold(self) -> None:
        """The usage record cannot be written down, so nobody may have the whole response."""
        exchange = self._exchange
        if exchange is None or exchange.request.route.admits_unmetered:
            self._send_end()
            return
        self._held = b""
        if self._state is CLOSED:
            return
        if self._held_all:
            exchange.withhold()
        else:
            self.abort()

    def send_reply(self, reply: Reply, lines: list[bytes]) -> None:
        """Send an answer of ours, whole."""
        body = reply.body
        self.send_response(reply.status, reply.phrase, lines, len(body), body, True)

    def abort(self, reason: str = "") -> None:
        """Break the connection, so that nobody takes a piece for the whole."""
        self._exchange = None
        self.transport.resetConnection()

    def become_tunnel(
        self, upstream: LoopTransport, answer: bytes, data: bytes, idle_timeout: float, end: OnEnd
    ) -> Tunnel:
        """Join this connection and the upstream's: bytes both ways from now on."""
        self._state = CLOSED
        self._exchange = None
        self._plane.sweep.timed.discard(self)
        early, self._buffer = self._buffer, b""
        tunnel = Tunnel(self._plane.sweep, idle_timeout, self._connections.ends_tunnel(self, end))
        self.transport.write(answer + data)
        if early:
            upstream.write(early)
        tunnel.client.bytes, tunnel.upstream.bytes = len(early), len(data)
        tunnel.join(self.transport, upstream)
        return tunnel

    def close(self) -> None:
        """Hang up, if nothing is under way: the daemon drains, or the client was idle."""
        if self._state is IDLE:
            self._state = CLOSED
            self.transport.loseConnection()
        else:
            self._keep_alive = False

    def wind_down(self) -> None:
        """Take what is on its way already: nobody listens any more where this came from.

        A client that has been told nothing may send a request at any time, and to hang up just then
        would be to lose it. So the next answer says that it is the last.
        """
        exchange = self._exchange
        if self._state is IDLE:
            self._wait()
        elif exchange is not None and not exchange.responding:
            self._keep_alive = False  # else he may have been told that there can be a next one

    # --- between two requests -------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for a request, but not for ever."""
        idle = _LAST_CALL if self.door.draining else self._plane.timeouts.idle
        self.deadline = self._plane.sweep.now + idle

    def _response_done(self) -> None:
        self._exchange = None
        self._drained = 0
        if self._state is CLOSED:
            return
        if not self._keep_alive:
            self._linger()
        elif self._state is BODY:
            self._state = DRAIN
            self.deadline = self._plane.sweep.now + self._plane.timeouts.body
            data, self._buffer = self._buffer, b""
            self._unpause()
            if data:
                self._drain(data)
        else:
            self._next()

    def _next(self) -> None:
        self._state = IDLE
        self._drained = 0
        self._wait()
        self._unpause()
        if self._buffer:
            self._process()

    def _linger(self) -> None:
        """Close in a way that lets the client read the answer (RFC 9112, 9.6)."""
        self._state = LINGER
        self._body = None
        self._buffer = b""
        self._drained = 0
        patience = self._plane.timeouts.body if self.transport.buffered else _LINGER
        self.deadline = self._plane.sweep.now + patience
        self._unpause()
        if self.transport.can_half_close:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what never became a request."""
        plane = self._plane
        request_id = plane.next_id()
        reply = make_reply(refusal, (), request_id)
        lines = [_status_line(reply.status, reply.phrase), b"date: " + plane.date()]
        lines += field_lines(reply.fields)
        lines += (b"connection: close", b"content-length: %d" % len(reply.body), b"", reply.body)
        self.transport.write(b"\r\n".join(lines))
        self.door.stats.count(reply.status, refusal.reason)
        if plane.access_log is not None:
            plane.access_log.write(
                unread_entry(self, plane.wall_clock(), request_id, reply, refusal.reason)
            )
        self._linger()


class _Resumption:
    """Goes on with pipelined requests when the client reads our answers again."""

    __slots__ = ("_connection",)

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        """Reading has stopped already."""

    def resumeProducing(self) -> None:
        """There is room for answers again."""
        self._connection.transport.unregisterProducer()
        self._connection._go_on()


class _BodySource:
    """Stops reading a request's body while the upstream's write buffer is full."""

    __slots__ = ("_connection",)

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        """The upstream takes no more for now."""
        if self._connection._state is BODY:
            self._connection._pause()

    def resumeProducing(self) -> None:
        """The upstream takes more."""
        if self._connection._state is BODY:
            self._connection._unpause()
