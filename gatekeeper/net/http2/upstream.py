"""An HTTP/2 connection to an upstream (RFC 9113): the client's side, many exchanges on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from h2.errors import ErrorCodes
from h2.events import Event, InformationalResponseReceived, ResponseReceived
from twisted.python.failure import Failure

from gatekeeper.net.http2.connection import MOST_STREAMS, Connection
from gatekeeper.net.http2.responses import UpstreamStream
from gatekeeper.net.sweep import NEVER
from gatekeeper.net.transports import LoopTransport

if TYPE_CHECKING:
    from gatekeeper.net.http2.origin import MultiplexingOrigin

_LAST_ID = 2**31 - 1


class UpstreamConnection(Connection):
    """See the module."""

    client_side: ClassVar[bool] = True

    def __init__(self, origin: MultiplexingOrigin) -> None:
        super().__init__(origin.sweep, origin.head_limits, origin.timeouts.body)
        self.origin = origin
        self.scheme = b"http"
        self._ready = False  # the upstream has said how many streams it takes
        self._leaving = False  # no further stream may begin

    def __repr__(self) -> str:
        state = "leaving" if self._leaving else "open"
        return f"<UpstreamConnection {self.origin.name} {state} {len(self.streams)} streams>"

    def makeConnection(self, transport: LoopTransport) -> None:
        """The connection is there; the origin says for whom."""
        tls = transport.info("ssl_object")
        if tls is not None:
            self.scheme = b"https"
            if tls.selected_alpn_protocol() != "h2":
                self.transport = transport
                self.over = True
                transport.abortConnection()
                self.origin.not_spoken()
                return
        self.start(transport)
        self.deadline = self.sweep.now + self.origin.timeouts.connect
        self.origin.made(self)

    def call_soon(self, call: Callable[[], None]) -> None:
        """In the loop's next turn."""
        self.origin.call_soon(call)

    # --- streams --------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another stream may begin."""
        if self.over or self._leaving or not self._ready:
            return False
        most = min(MOST_STREAMS, self.codec.remote_settings.max_concurrent_streams)
        return len(self.streams) < most

    def begin(self, stream: UpstreamStream) -> int:
        """A stream begins now; its number."""
        number = self.codec.get_next_available_stream_id()
        if number + 2 > _LAST_ID:
            self._leaving = True  # it was the last one
        stream.id = number
        self.deadline = NEVER
        self.opened(stream)
        return number

    def message(self, event: Event) -> None:
        """A response's head has come."""
        if not isinstance(event, (ResponseReceived, InformationalResponseReceived)):
            return
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return
        informational = isinstance(event, InformationalResponseReceived)
        if isinstance(event, ResponseReceived):
            stream.peer_ended = event.stream_ended is not None
        stream.head_received(event.headers or [], informational=informational)
        self._see_whether_over(stream)

    def settings_changed(self) -> None:
        """The upstream may have said that it takes more streams."""
        self._ready = True
        self.origin.has_room(self)

    def settle(self) -> None:
        """What had arrived has been read, or a stream has ended."""
        if not self._ready:
            return
        if self.streams or self.over:
            if not self.writing_paused:
                self.deadline = NEVER
        elif self._leaving:
            self.close()
            return
        elif self.deadline == NEVER:
            self.deadline = self.sweep.now + self.origin.limits.idle_timeout
        self.origin.has_room(self)

    # --- the end --------------------------------------------------------------------------

    def peer_leaves(self, last_stream: int, code: int) -> None:
        """The upstream takes no stream above this one, and has done nothing for those."""
        self._leaving = True
        self.origin.unusable(self)
        for stream in [each for each in self.streams.values() if each.id > last_stream]:
            self.forget(stream)
            stream.lost(None, unprocessed=True)
        self.settle()

    def close(self) -> None:
        """Hang up when nothing is under way."""
        self._leaving = True
        self.origin.unusable(self)
        if not self.streams and not self.over:
            self.say_goodbye(ErrorCodes.NO_ERROR, 0)
            self.over = True
            self.transport.loseConnection()
            self.deadline = self.body_deadline()

    def leave(self, detail: str) -> None:
        """The upstream broke the protocol: hang up."""
        if not self.over:
            self.lose_streams()
            self.origin.gone(self)
            self.transport.abortConnection()

    def timed_out(self) -> None:
        """Nothing was under way for a while, or the upstream takes, or says, nothing."""
        if self.over or self.writing_paused or not self._ready:
            self.lose_streams()
            self.origin.gone(self)
            self.transport.abortConnection()
        else:
            self.close()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        self.origin.gone(self)
