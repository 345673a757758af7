"""What a stream is towards a client and towards an upstream alike: pieces under flow control.

What is to be sent goes as the peer's windows allow, and waits here meanwhile; who produces it is
told to pause. What arrives is acknowledged, which opens our window again, only as it is taken.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from gatekeeper.http.fields import Fields
from gatekeeper.http.frames import LARGEST_FRAME
from gatekeeper.net.sweep import NEVER
from gatekeeper.net.transports import Producer

if TYPE_CHECKING:
    from gatekeeper.net.http2.connection import Connection

_NO_TRAILERS: Final[Fields] = []


class Stream:
    """One stream, and the flow of what it carries.

    It is a transport to those who register producers (:class:`gatekeeper.clientside.Flow`).
    ``deadline`` is when the sweep calls :meth:`timed_out`. ``expected``: bytes of the body still to
    come, ``None`` where nobody said. ``peer_ended``: the peer has sent its last byte, ``ended``: we
    have.
    """

    __slots__ = (
        "_connection",
        "_ending",
        "_paused",
        "_pending",
        "_producer",
        "_trailers",
        "_unread",
        "closed",
        "deadline",
        "ended",
        "expected",
        "id",
        "peer_ended",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self.id = stream_id
        self.deadline = NEVER
        self.expected: int | None = None
        self.peer_ended = self.ended = self.closed = False
        self._pending: deque[bytes] = deque()
        self._ending = False
        self._trailers: Fields = _NO_TRAILERS
        self._producer: Producer | None = None
        self._paused = False
        self._unread = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self._connection!r}>"

    # --- what the other side of the exchange does -----------------------------------------

    def registerProducer(self, producer: Producer, streaming: bool = True) -> None:
        """Pause ``producer`` while what it gives cannot be sent."""
        self._producer = producer
        if self._pending or self._connection.writing_paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Nobody is to be paused any more."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Let our window close: nobody takes what arrives."""
        self._paused = True

    def resumeProducing(self) -> None:
        """What arrived is taken: open our window again."""
        self._paused = False
        unread, self._unread = self._unread, 0
        if unread:
            self._connection.acknowledge(self, unread)

    @property
    def reading_paused(self) -> bool:
        """Whether what arrives is not taken for now."""
        return self._paused

    # --- sending --------------------------------------------------------------------------

    def write(self, payload: bytes, *, done: bool, trailers: Fields = _NO_TRAILERS) -> None:
        """Send more of the body; ``done`` with its last piece, behind which the trailers go."""
        if self.closed or self._ending:
            return
        if payload:
            self._pending.append(payload)
        if done:
            self._ending = True
            self._trailers = trailers
        if not self.send_some():
            self._connection.wait(self)
            self.stalled()
        self._connection.flush()

    def stalled(self) -> None:
        """What is to be sent has to wait."""
        if self._producer is not None:
            self._producer.pauseProducing()
        if self._pending and (self._ending or self._producer is None):
            self.deadline = self._connection.body_deadline()

    def send_some(self) -> bool:
        """Send what the windows allow; false where something is left."""
        connection, pending = self._connection, self._pending
        sent = False
        while pending and not connection.writing_paused:
            room = connection.room(self)
            if room <= 0:
                break
            piece = pending[0]
            size = min(room, LARGEST_FRAME)
            whole = len(piece) <= size
            if whole:
                pending.popleft()
            else:
                pending[0] = piece[size:]
                piece = piece[:size]
            last = self._ending and not pending and not self._trailers
            connection.send_data(self, piece, last, whole=whole)
            self.ended = last
            sent = True
        if pending:
            if sent and self.deadline != NEVER:
                self.deadline = connection.body_deadline()
            return False
        if self._ending and not self.ended:
            if self._trailers:
                connection.send_section(self, self._trailers, ended=True)
            else:
                connection.send_data(self, b"", True)
            self.ended = True
        if self.ended:
            self._sent_all()
        return True

    def resumed(self) -> None:
        """All that waited has been sent."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def _sent_all(self) -> None:
        """The last byte has been sent."""
        self.deadline = NEVER
        if self.peer_ended:
            self._connection.forget(self)

    def drop_pending(self) -> None:
        """What waits to be sent is not to be sent any more."""
        self._pending.clear()

    # --- receiving ------------------------------------------------------------------------

    def overruns(self, size: int, *, last: bool) -> bool:
        """Whether a DATA frame of so many bytes does not fit to Content-Length."""
        if self.expected is None:
            return False
        self.expected -= size
        return self.expected < 0 or (last and self.expected > 0)

    def taken(self, size: int) -> None:
        """So many bytes, padding included, have been given to who takes them."""
        if self._paused:
            self._unread += size
        else:
            self._connection.acknowledge(self, size)

    # --- the end --------------------------------------------------------------------------

    def reset(self, code: ErrorCodes) -> None:
        """Break it off."""
        if not self.closed:
            self._connection.reset(self, code)

    def dispose(self) -> None:
        """It is over, as far as the connection is concerned: nothing goes in or out any more."""
        self.closed = True
        self.deadline = NEVER
        self._producer = None
        self.drop_pending()
        unread, self._unread = self._unread, 0
        if unread:  # it is the connection's window, too
            self._connection.acknowledge(self, unread)

    # --- what its kind does ---------------------------------------------------------------

    def data_received(self, payload: bytes, size: int) -> None:
        """A piece of the body, of ``size`` bytes for flow control; ``peer_ended`` with the last."""
        raise NotImplementedError

    def trailers_received(self, trailers: Fields) -> None:
        """The body has ended, with trailers."""
        raise NotImplementedError

    def lost(self, code: int | None, *, unprocessed: bool) -> None:
        """The peer reset it with this code, or (``None``) the connection is gone.

        ``unprocessed``: the peer says that it did nothing.
        """
        raise NotImplementedError

    def malformed(self) -> None:
        """The peer broke the rules, and the stream has been reset."""
        raise NotImplementedError

    def timed_out(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError
