"""A stream to an upstream: what an exchange knows of where its request goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from gatekeeper.errors import UpstreamError
from gatekeeper.http.fields import Fields
from gatekeeper.http.heads import ResponseHead, bad_response, parse_response_head
from gatekeeper.http.http2 import (
    MalformedMessageError,
    Section,
    body_length,
    request_section,
    response_head,
)
from gatekeeper.net.http2.streams import Stream
from gatekeeper.net.sweep import NEVER

if TYPE_CHECKING:
    from gatekeeper.clientside import Flow
    from gatekeeper.net.http2.upstream import UpstreamConnection
    from gatekeeper.net.pool import Origin
    from gatekeeper.net.upstream import Receiver

_MOST_INFORMATIONAL: Final = 16
_NOTHING: Final[Fields] = []


class UpstreamStream(Stream):
    """One exchange at an upstream: a :class:`gatekeeper.net.upstream.Upstream`."""

    __slots__ = ("_head_only", "_informational", "_receiver", "_responding")

    _connection: UpstreamConnection

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__(connection, 0)
        self._receiver: Receiver | None = None
        self._head_only = False
        self._responding = False
        self._informational = 0

    @property
    def transport(self) -> Flow:
        """The stream is its own."""
        return self

    @property
    def origin(self) -> Origin:
        """Whose stream it is."""
        return self._connection.origin

    # --- the request ----------------------------------------------------------------------

    def send(
        self, receiver: Receiver, head: bytes, *, head_only: bool, upgrading: bool, done: bool
    ) -> None:
        """Send a request's head, as HTTP/1.1 would have it. Nobody upgrades a stream."""
        connection = self._connection
        self._receiver = receiver
        self._head_only = head_only
        self.id = connection.begin(self)
        section = request_section(head, connection.scheme)
        connection.send_section(self, section, ended=done)
        self.ended = done
        if done:
            self.deadline = self._response_deadline()
        connection.flush()

    def send_data(self, data: bytes, *, done: bool) -> None:
        """Send more of the request's body."""
        self.send_chunk(data, done=done, trailers=_NOTHING)

    def send_chunk(self, payload: bytes, *, done: bool, trailers: Fields) -> None:
        """Send more of the request's body; ``done`` with the last piece, and then the trailers."""
        self.write(payload, done=done, trailers=trailers)

    def _sent_all(self) -> None:
        """The request is complete: now it is the upstream's turn."""
        if not self._responding:
            self.deadline = self._response_deadline()
        if self.peer_ended:
            self._connection.forget(self)

    def _response_deadline(self) -> float:
        return self._connection.sweep.now + self.origin.timeouts.response

    # --- the response ---------------------------------------------------------------------

    def head_received(self, section: Section, *, informational: bool) -> None:
        """A response's header section."""
        receiver = self._receiver
        if receiver is None:
            return
        try:
            head = parse_response_head(response_head(section), self._connection.limits)
            if head.status == 101 or informational != (head.status < 200):
                raise bad_response("it switched protocols on a stream")
            if informational:
                self._inform(receiver, head)
            else:
                self._respond(receiver, head, body_length(list(section)))
        except MalformedMessageError as error:
            self._fail(bad_response(str(error)))
        except UpstreamError as refusal:
            self._fail(refusal)

    def _inform(self, receiver: Receiver, head: ResponseHead) -> None:
        self._informational += 1
        if self._informational > _MOST_INFORMATIONAL:
            raise bad_response("too many informational responses")
        receiver.informational(head)

    def _respond(self, receiver: Receiver, head: ResponseHead, length: int | None) -> None:
        self._responding = True
        self.deadline = self._connection.body_deadline()
        bodiless = self._head_only or head.status in (204, 304)
        if self.peer_ended and length and not bodiless:
            raise bad_response("the body is too short")
        self.expected = 0 if bodiless else length
        if self.peer_ended or bodiless:
            self._done()
            receiver.response(head, head.length, b"", True)
        else:
            receiver.response(head, head.length, b"", False)

    def data_received(self, payload: bytes, size: int) -> None:
        """More of the response's body."""
        receiver = self._receiver
        self.deadline = self._connection.body_deadline()
        if receiver is None:
            self.taken(size)
            return
        done = self.peer_ended
        if done:
            self._done()
        if payload or done:
            receiver.response_data(payload, done, _NOTHING)
        if not self.closed:
            self.taken(size)

    def trailers_received(self, trailers: Fields) -> None:
        """The response has ended, with trailers."""
        receiver = self._receiver
        self._done()
        if receiver is not None:
            receiver.response_data(b"", True, trailers)

    def _done(self) -> None:
        """The response is complete: what of the request is still to be sent, nobody wants."""
        self._receiver = None
        self.deadline = NEVER
        if not (self.ended and self.peer_ended):
            self.reset(ErrorCodes.NO_ERROR if self.peer_ended else ErrorCodes.CANCEL)

    # --- the end --------------------------------------------------------------------------

    def abort(self) -> None:
        """The exchange was given up."""
        self._receiver = None
        self.reset(ErrorCodes.CANCEL)

    def _fail(self, refusal: UpstreamError) -> None:
        receiver, self._receiver = self._receiver, None
        self.reset(ErrorCodes.CANCEL)
        if receiver is not None:
            receiver.upstream_failed(refusal)

    def lost(self, code: int | None, *, unprocessed: bool) -> None:
        """The upstream broke it off, or the connection is gone.

        A connection that was kept may have been closed while this request was on its way.
        """
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            stale = code is None and self.id > 1
            receiver.upstream_lost(untouched=(unprocessed or stale) and not self._responding)

    def malformed(self) -> None:
        """The body is not what was said."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.upstream_failed(bad_response("the body is not as long as it said"))

    def timed_out(self) -> None:
        """The upstream is silent, or does not take the request."""
        if self.reading_paused:
            self._fail(UpstreamError("client_stuck", "the client stopped reading", status=504))
        else:
            self._fail(UpstreamError("upstream_timeout", "the upstream is silent", status=504))
