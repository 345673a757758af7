"""One connection to an upstream: the client's side of HTTP/1.1 (RFC 9112).

It carries one exchange at a time, and goes back to its origin's pool only after an exchange that
left no doubt where the next response begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from gatekeeper.errors import ProtocolError, UpstreamError
from gatekeeper.http.bodies import (
    Body,
    ChunkedBody,
    CountedBody,
    UnboundedBody,
    chunk,
    last_chunk,
)
from gatekeeper.http.fields import Fields
from gatekeeper.http.heads import ResponseHead, bad_response, parse_response_head
from gatekeeper.net.sweep import NEVER
from gatekeeper.net.transports import LoopTransport

if TYPE_CHECKING:
    from gatekeeper.clientside import Flow
    from gatekeeper.net.pool import Origin

_MOST_INFORMATIONAL: Final = 16
_NO_TRAILERS: Final[Fields] = []


class Upstream(Protocol):
    """Where an exchange's request goes: a connection to an upstream, or a stream on one."""

    @property
    def transport(self) -> Flow:
        """What the upstream sends, and is sent."""

    def send(
        self, receiver: Receiver, head: bytes, *, head_only: bool, upgrading: bool, done: bool
    ) -> None:
        """Send a request's head. See :meth:`UpstreamConnection.send`."""

    def send_data(self, data: bytes, *, done: bool) -> None:
        """Send more of a body whose length the head has told."""

    def send_chunk(self, payload: bytes, *, done: bool, trailers: Fields) -> None:
        """Send more of any other body; ``done`` with the last piece, and then the trailers."""

    def abort(self) -> None:
        """The exchange was given up."""


class Receiver(Protocol):
    """Who gets what an upstream connection brings. After the end, or a failure, nothing more."""

    def leased(self, upstream: Upstream) -> None:
        """Here is a connection: send the request."""

    def informational(self, head: ResponseHead) -> None:
        """A 1xx response, but 101."""

    def response(self, head: ResponseHead, length: int | None, payload: bytes, done: bool) -> None:
        """The final response's head, and what of the body came with it.

        ``length`` is the body's length, or what a HEAD response says of it; ``None``: unknown.
        """

    def response_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """More of the body; ``done`` with its last piece."""

    def switched(self, head: ResponseHead, upstream: UpstreamConnection, data: bytes) -> None:
        """101: from ``data`` on, the connection is a tunnel, and the receiver's own."""

    def upstream_lost(self, *, untouched: bool) -> None:
        """The connection broke. ``untouched``: reused, and not one byte of an answer came."""

    def upstream_failed(self, refusal: UpstreamError) -> None:
        """No connection, no answer in time, or one that is not HTTP."""


class Lessor(Protocol):
    """Who gives out ways to an upstream: an origin, or a balancer before several."""

    def lease(self, receiver: Receiver) -> Upstream | None:
        """A way, or ``None``: then ``receiver.leased`` or ``upstream_failed`` is called.

        :raises UpstreamError: 503, there is none.
        """

    def forget(self, receiver: Receiver) -> None:
        """Somebody who waited has gone."""


class UpstreamConnection:
    """See the module. ``deadline`` is when the sweep calls :meth:`timed_out`."""

    __slots__ = (
        "_body",
        "_buffer",
        "_ended",
        "_head_only",
        "_informational",
        "_keep_alive",
        "_last",
        "_upgrading",
        "deadline",
        "origin",
        "receiver",
        "request_done",
        "transport",
        "uses",
    )

    transport: LoopTransport

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.receiver: Receiver | None = None
        self.uses = 0
        self.deadline = origin.sweep.now + origin.timeouts.connect
        self.request_done = False
        self._body: Body | None = None
        self._buffer = b""
        self._head_only = False
        self._upgrading = False
        self._keep_alive = False
        self._ended = False
        self._informational = 0
        self._last: ResponseHead | None = None

    def __repr__(self) -> str:
        state = "idle" if self.receiver is None else "busy"
        return f"<UpstreamConnection {self.origin.name} {state} uses={self.uses}>"

    def makeConnection(self, transport: LoopTransport) -> None:
        """The connection is there; the origin says for whom."""
        self.transport = transport
        self.origin.connected(self)

    def send(
        self, receiver: Receiver, head: bytes, *, head_only: bool, upgrading: bool, done: bool
    ) -> None:
        """Send a request's head, and all that came with it.

        ``head_only``: the response has no body whatever it says (HEAD). ``upgrading``: a 101 is
        expected. ``done``: that was the whole request.
        """
        self.receiver = receiver
        self.uses += 1
        self.request_done = done
        self._head_only = head_only
        self._upgrading = upgrading
        self.deadline = self._response_deadline()
        self.transport.send(head)

    def send_data(self, data: bytes, *, done: bool) -> None:
        """Send more of a body whose length the head has told."""
        self.request_done = done
        if done or self._body is not None:
            self.deadline = self.origin.sweep.now + self.origin.timeouts.response
        if data:
            self.transport.send(data)

    def send_chunk(self, payload: bytes, *, done: bool, trailers: Fields) -> None:
        """Send more of a body in chunks; ``done`` with the last piece, and then the trailers."""
        data = chunk(payload)
        self.send_data(data + last_chunk(trailers) if done else data, done=done)

    def _response_deadline(self) -> float:
        """When the response's head must be there.

        Nobody has to answer half a request: while the rest is still coming, only the client's own
        deadline counts.
        """
        if not self.request_done:
            return NEVER
        return self.origin.sweep.now + self.origin.timeouts.response

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the upstream."""
        receiver = self.receiver
        if receiver is None:  # nobody asked
            self.origin.lost(self)
            self.transport.abortConnection()
            return
        origin = self.origin
        self.deadline = origin.sweep.now + origin.timeouts.body
        try:
            if self._body is None:
                self._read_head(receiver, self._buffer + data if self._buffer else data)
            else:
                self._read_body(receiver, self._body, data)
        except UpstreamError as refusal:
            self._fail(refusal)
        except ProtocolError as error:
            self._fail(bad_response(error.detail))

    def _read_head(self, receiver: Receiver, data: bytes) -> None:
        limits = self.origin.head_limits
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > limits.head:
                if len(data) > limits.head:
                    raise bad_response("the head is too large")
                if data.count(b"\n") != data.count(b"\r\n"):
                    raise bad_response("a line does not end in CR LF")
                self._buffer = data
                self.deadline = self._response_deadline()
                return
            end += 4
            whole = len(data) == end
            head = parse_response_head(data if whole else data[:end], limits, self._last)
            data = b"" if whole else data[end:]
            if head.status >= 200:
                break
            if head.status == 101:
                self._switch(receiver, head, data)
                return
            self._informational += 1
            if self._informational > _MOST_INFORMATIONAL:
                raise bad_response("too many informational responses")
            receiver.informational(head)
            if self.receiver is not receiver:
                return
        self._buffer = b""
        self._last = head
        self._read_response(receiver, head, data)

    def _read_response(self, receiver: Receiver, head: ResponseHead, data: bytes) -> None:
        status, length = head.status, head.length
        keep_alive = head.keep_alive
        body: Body
        if self._head_only or status == 204 or status == 304:
            # Some upstreams send the body that they speak of, a moment later: it must not be in
            # front of the next response.
            if data or head.chunked or length:
                keep_alive = False
            self._release(keep_alive)
            receiver.response(head, length, b"", True)
            return
        if head.chunked:
            length = None
            body = ChunkedBody()
        elif length is None:
            keep_alive = False
            body = UnboundedBody()
        elif length == len(data):
            self._release(keep_alive)
            receiver.response(head, length, data, True)
            return
        else:
            body = CountedBody(length)
        self._body = body
        self._keep_alive = keep_alive
        payload = body.feed(data) if data else b""
        if body.done and not body.trailers:
            self._release(keep_alive and not body.rest)
            receiver.response(head, length, payload, True)
            return
        receiver.response(head, length, payload, False)
        if body.done:
            self._release(keep_alive and not body.rest)
            receiver.response_data(b"", True, body.trailers)

    def _read_body(self, receiver: Receiver, body: Body, data: bytes) -> None:
        payload = body.feed(data)
        if body.done:
            self._release(self._keep_alive and not body.rest)
            receiver.response_data(payload, True, body.trailers)
        elif payload:
            receiver.response_data(payload, False, _NO_TRAILERS)

    def _switch(self, receiver: Receiver, head: ResponseHead, data: bytes) -> None:
        if not self._upgrading:
            raise bad_response("it switched protocols without being asked")
        self.receiver = None
        self.origin.lost(self)
        receiver.switched(head, self, data)

    def _release(self, keep_alive: bool) -> None:
        """The exchange is over: back to the pool, or hang up."""
        self.receiver = None
        self._body = None
        self._informational = 0
        self.transport.unregisterProducer()
        if keep_alive and self.request_done:
            self.origin.release(self)
        else:
            self.close()

    def _fail(self, refusal: UpstreamError) -> None:
        receiver = self.receiver
        self.abort()
        if receiver is not None:
            receiver.upstream_failed(refusal)

    def abort(self) -> None:
        """The exchange was given up: nothing on this connection can be trusted any more."""
        self.receiver = None
        self.origin.lost(self)
        self.transport.abortConnection()

    def close(self) -> None:
        """Hang up. What the upstream has not taken by now, it may never take: that is dropped."""
        self.origin.lost(self)
        if self.transport.buffered:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def readConnectionLost(self) -> bool:
        """The upstream says (FIN, or TLS's close_notify) that it sends no more: it is over.

        Nobody may be given this connection.
        """
        self._ended = True
        self.origin.lost(self)
        return False

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self.origin.lost(self)
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            return
        # TLS that stops without a close_notify may have been cut on the way (RFC 8446, 6.1).
        clean = self._ended and isinstance(reason.value, ConnectionDone)
        if clean and isinstance(self._body, UnboundedBody):
            receiver.response_data(b"", True, _NO_TRAILERS)
            return
        untouched = self.uses > 1 and self._body is None and not self._buffer
        receiver.upstream_lost(untouched=untouched and not self._informational)

    def timed_out(self) -> None:
        """Idle for too long, or silent in the middle of an exchange."""
        if self.receiver is None:
            self.close()
        elif self._body is None:
            self._fail(UpstreamError("upstream_timeout", "the upstream is silent", status=504))
        elif self.transport.reading_paused:
            self._fail(UpstreamError("client_stuck", "the client stopped reading", status=504))
        else:
            self._fail(UpstreamError("upstream_timeout", "the upstream stopped", status=504))
