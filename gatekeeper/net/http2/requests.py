"""A stream that a client has opened: what an exchange knows of its client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes

from gatekeeper.clientside import Cuttable, Flow, OnEnd
from gatekeeper.errors import Refusal
from gatekeeper.exchange import Exchange
from gatekeeper.http import grpc
from gatekeeper.http.fields import Fields, field_lines
from gatekeeper.http.heads import RequestHead, ResponseHead
from gatekeeper.http.http2 import response_section
from gatekeeper.net.http2.streams import Stream
from gatekeeper.net.sweep import NEVER
from gatekeeper.replies import Reply

if TYPE_CHECKING:
    from gatekeeper.auth.chain import Chain
    from gatekeeper.doors import Door
    from gatekeeper.net.http2.server import ServerConnection
    from gatekeeper.net.transports import LoopTransport

#: Why an exchange is cut that nobody grants any more, and what a gRPC client is told.
_NOT_GRANTED: Final = {
    "grant_withdrawn": "the credentials are not accepted any more",
    "grant_revoked": "the credentials have been revoked",
    "grant_expired": "the credentials have expired",
}


_LINGER: Final = 2.0  # seconds in which a client may see that its request's body is not wanted
_ABOUT_BODY: Final = (b"content-type:", b"cache-control:")


class UnreadStream(Stream):
    """A stream whose request could not be understood: it gets an answer, and that is all."""

    __slots__ = ()

    _connection: ServerConnection

    def answer(self, reply: Reply, lines: list[bytes]) -> None:
        """Send an answer of ours, whole."""
        section = response_section(reply.status, lines + field_lines(reply.fields), len(reply.body))
        self._connection.send_section(self, section, ended=False)
        self.write(reply.body, done=True)

    def _sent_all(self) -> None:
        """The response is complete; what of the request is still to come, nobody wants.

        The client may read that in its own time: some take a reset that comes with the response
        for a failure. Its window stays closed meanwhile.
        """
        if self.peer_ended:
            self._connection.forget(self)
        else:
            self.deadline = self._connection.sweep.now + _LINGER

    def data_received(self, payload: bytes, size: int) -> None:
        """Nobody wants it: the window stays closed."""
        self._unread += size

    def trailers_received(self, trailers: Fields) -> None:
        """Nobody wants them."""

    def lost(self, code: int | None, *, unprocessed: bool) -> None:
        """The client has gone; nobody is to be told."""

    def malformed(self) -> None:
        """Nobody is to be told."""

    def timed_out(self) -> None:
        """The client does not take what we have for it, or does not stop (RFC 9113, 8.1)."""
        self.reset(ErrorCodes.NO_ERROR if self.ended else ErrorCodes.CANCEL)


class RequestStream(UnreadStream):
    """A request and its response: a :class:`gatekeeper.clientside.ClientSide`."""

    __slots__ = (
        "_body",
        "_body_wanted",
        "_exchange",
        "_held",
        "_is_grpc",
        "_request_trailers",
        "_responded",
        "door",
        "forwarded_for",
        "head",
        "peer",
    )

    def __init__(self, connection: ServerConnection, stream_id: int, head: RequestHead) -> None:
        super().__init__(connection, stream_id)
        self.door: Door = connection.door
        self.peer = connection.peer
        self.forwarded_for = connection.forwarded_for
        self.head = head
        self._is_grpc = any(map(grpc.is_grpc, head.values(b"content-type")))
        self._exchange: Exchange | None = None
        self._body: list[tuple[bytes, int]] = []  # what came before it was wanted
        self._body_wanted = False
        self._responded = False
        self._request_trailers: Fields = []
        self._held: tuple[Fields | None, bytes, Fields] | None = None

    @property
    def transport(self) -> Flow:
        """The stream is its own."""
        return self

    @property
    def digest(self) -> tuple[Chain | None, bytes, bytes]:
        """What was presented last, on this or another stream of the connection."""
        return self._connection.digest

    @digest.setter
    def digest(self, digest: tuple[Chain | None, bytes, bytes]) -> None:
        self._connection.digest = digest

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The client's certificate."""
        return self._connection.certificate

    def begin(self) -> None:
        """Begin the exchange."""
        exchange = self._exchange = Exchange(self._connection.plane, self, self.head)
        exchange.begin()

    # --- the request's body ---------------------------------------------------------------

    def start_body(self) -> None:
        """The exchange wants the request's body."""
        exchange = self._exchange
        if exchange is None or self.closed:
            return
        self._body_wanted = True
        if exchange.upstream is not None:
            exchange.upstream.transport.registerProducer(self)
        body, self._body = self._body, []
        ended = self.peer_ended
        for payload, size in body:
            self._body_piece(payload, size, done=False)
        if ended:
            self._body_piece(b"", 0, done=True)
        elif not self.closed:
            self.deadline = self._connection.body_deadline()

    def data_received(self, payload: bytes, size: int) -> None:
        """A piece of the request's body."""
        if self._exchange is None:
            self._unread += size  # nobody wants it: the window stays closed
        elif self._body_wanted:
            self._body_piece(payload, size, done=self.peer_ended)
        else:
            self._body.append((payload, size))

    def trailers_received(self, trailers: Fields) -> None:
        """The request's body has ended, with trailers."""
        self._request_trailers = trailers
        if self._body_wanted:
            self._body_piece(b"", 0, done=True)

    def _body_piece(self, payload: bytes, size: int, *, done: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            # Who has an answer already may take his time with the rest of what he asks: that is
            # how both sides of a call talk. Its silence is the upstream's then.
            waiting = not done and not exchange.responding
            self.deadline = self._connection.body_deadline() if waiting else NEVER
            if payload or done:
                exchange.request_data(payload, done, self._request_trailers if done else [])
        if not self.closed:
            self.taken(size)

    # --- the response ---------------------------------------------------------------------

    def send_informational(self, head: ResponseHead) -> None:
        """Send a 1xx response."""
        if not self.closed:
            section = response_section(head.status, head.lines, None)
            self._connection.send_section(self, section, ended=False)
            self._connection.flush()

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
        if self.closed:
            return
        section = response_section(status, lines, length)
        if self.head.method == b"HEAD" or status in (204, 304):
            body = b""
        if done:
            self._end(section, body, [])
        else:
            self._responded = True
            self._connection.send_section(self, section, ended=False)
            self.write(body, done=False)

    def send_reply(self, reply: Reply, lines: list[bytes]) -> None:
        """Send an answer of ours; to a gRPC call, in gRPC's way."""
        if not self._is_grpc:
            body = reply.body
            self.send_response(reply.status, reply.phrase, lines, len(body), body, True)
        elif not self.closed:
            fields = [line for line in lines if not line.startswith(_ABOUT_BODY)]
            code = grpc.code_of(reply.status)
            section = response_section(200, fields, None)
            self._end(section + grpc.only_trailers(code, reply.detail), b"", [])

    def send_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """Send more of the response's body."""
        if done:
            self._end(None, payload, trailers)
        else:
            self.write(payload, done=False)

    def _end(self, section: Fields | None, payload: bytes, trailers: Fields) -> None:
        """Send the response's end; not before its usage is written down."""
        self._held = (section, payload, trailers)
        exchange = self._exchange
        if exchange is None or not exchange.metered:  # else the meter knows
            self._send_end()

    def release(self, number: int) -> None:
        """The usage record is in the journal: send what was held."""
        meter = self._connection.plane.meter
        assert meter is not None
        meter.settle(number)
        self._send_end()

    def _send_end(self) -> None:
        held, self._held = self._held, None
        self._exchange = None
        if self.closed or held is None:
            return
        section, payload, trailers = held
        whole = not payload and not trailers
        if section is not None:
            self._connection.send_section(self, section, ended=whole)
        if section is not None and whole:
            self.ended = True
            self._sent_all()
            self._connection.flush()
        else:
            self.write(payload, done=True, trailers=trailers)

    def withhold(self) -> None:
        """The usage record cannot be written down, so nobody may have the whole response."""
        exchange = self._exchange
        if exchange is None or exchange.request.route.admits_unmetered:
            self._send_end()
            return
        held, self._held = self._held, None
        if self.closed or held is None:
            return
        if held[0] is not None:
            exchange.withhold()
        else:
            self.abort()

    # --- the end --------------------------------------------------------------------------

    def dispose(self) -> None:
        """It is over, as far as the connection is concerned."""
        super().dispose()
        for _, size in self._body:
            self._connection.acknowledge(self, size)
        self._body = []

    def close(self) -> None:
        """A stream is one request, and what is wrong in it does not touch the others."""

    def abort(self, reason: str = "") -> None:
        """Break the stream: the client must not take what it has for the whole.

        A gRPC call whose grant has ended is told so in the trailers.
        """
        self._exchange = None
        message = _NOT_GRANTED.get(reason)
        if self.closed or self._ending:
            return
        if not self._is_grpc or message is None:
            self.reset(ErrorCodes.INTERNAL_ERROR)
            return
        self.drop_pending()
        if self._responded:
            fields = grpc.status_fields(grpc.UNAUTHENTICATED, message)
            self.write(b"", done=True, trailers=fields)
        else:
            fields = grpc.only_trailers(grpc.UNAUTHENTICATED, message)
            self._held = ([(b":status", b"200"), *fields], b"", [])
            self._send_end()

    def become_tunnel(
        self, upstream: LoopTransport, answer: bytes, data: bytes, idle_timeout: float, end: OnEnd
    ) -> Cuttable:
        """Never: neither CONNECT nor an upgrade is taken from a stream."""
        raise AssertionError("a stream does not become a tunnel")

    def lost(self, code: int | None, *, unprocessed: bool) -> None:
        """The client has taken its request back, or has gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()

    def malformed(self) -> None:
        """The body is not what was said; the stream has been reset."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.finish("bad_request")

    def timed_out(self) -> None:
        """The body does not come, or the response is not taken."""
        self.deadline = NEVER
        exchange = self._exchange
        if exchange is None or exchange.finished:
            super().timed_out()
        elif self._pending:
            exchange.fail(Refusal("client_stuck", "the client stopped reading", status=504))
        elif exchange.responding:
            return
        elif self.reading_paused:
            exchange.fail(Refusal("upstream_timeout", "the upstream stopped reading", status=504))
        else:
            exchange.fail(Refusal("slow_body", "the request's body took too long", status=408))
