"""An origin that speaks HTTP/2: few connections, and many streams on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatekeeper.errors import UpstreamError
from gatekeeper.net.http2.connection import MOST_STREAMS
from gatekeeper.net.http2.responses import UpstreamStream
from gatekeeper.net.http2.upstream import UpstreamConnection
from gatekeeper.net.pool import Origin, too_many
from gatekeeper.net.transports import StreamProtocol
from gatekeeper.net.upstream import Receiver, Upstream
from gatekeeper.stats import PoolUse


class MultiplexingOrigin(Origin):
    """Streams of one origin, and those who wait for one, first come first served.

    A further connection is made only where all others are full.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._usable: dict[UpstreamConnection, None] = {}
        self._greeting: set[UpstreamConnection] = set()  # have not said how many streams they take

    @property
    def use(self) -> PoolUse:
        """How many connections there are now, and how many requests wait for a stream."""
        active = sum(1 for connection in self._usable if connection.streams)
        idle = len(self._usable) - active
        leaving = len(self._connections) - len(self._usable)
        return PoolUse(active + leaving, idle, len(self._connecting), len(self._waiting))

    @property
    def outstanding(self) -> int:
        """How many requests are under way here, or wait to be."""
        streams = sum(
            len(connection.streams)
            for connection in self._connections
            if isinstance(connection, UpstreamConnection)
        )
        return streams + len(self._waiting)

    def lease(self, receiver: Receiver) -> Upstream | None:
        """A stream, or ``None``: then ``receiver.leased`` or ``upstream_failed`` is called.

        :raises UpstreamError: 503, too many wait already.
        """
        for connection in self._usable:
            if connection.has_room:
                return UpstreamStream(connection)
        if len(self._waiting) >= self.limits.queue:
            raise too_many()
        self._wait(receiver)
        self._connect_for_waiting()
        return None

    def made(self, connection: UpstreamConnection) -> None:
        """A connection has come up; the upstream has not said yet how many streams it takes."""
        self._connections.add(connection)
        self._greeting.add(connection)
        if self._closed:
            connection.close()

    def has_room(self, connection: UpstreamConnection) -> None:
        """Further streams may begin on this connection."""
        self._greeting.discard(connection)
        if connection in self._connections and connection.has_room:
            self._usable[connection] = None
        while self._waiting and connection in self._usable and connection.has_room:
            self._hand_over(UpstreamStream(connection))
        self._connect_for_waiting()

    def unusable(self, connection: UpstreamConnection) -> None:
        """No further stream may begin on this connection."""
        self._usable.pop(connection, None)
        self._connect_for_waiting()

    def gone(self, connection: UpstreamConnection) -> None:
        """A connection is gone. May be said more than once."""
        self._connections.discard(connection)
        if connection in self._greeting:
            self._greeting.remove(connection)
            self.not_spoken()
        self.unusable(connection)
        self._settle()

    def not_spoken(self) -> None:
        """The upstream does not speak HTTP/2: nobody need wait for it."""
        waiting, self._waiting = self._waiting, {}
        for receiver in waiting:
            receiver.upstream_failed(
                UpstreamError("upstream_protocol", "the upstream does not speak HTTP/2")
            )
        self._settle()

    def renew(self) -> None:
        """Send no further request on the connections that there are."""
        for connection in list(self._usable):
            connection.close()

    def call_soon(self, call: Callable[[], None]) -> None:
        """In the loop's next turn."""
        self._loop.call_soon(call)

    def _make_connection(self) -> StreamProtocol:
        return UpstreamConnection(self)

    def _connect_for_waiting(self) -> None:
        """Begin a connection where more wait than those being made can take, and there is room."""
        total = len(self._connections) + len(self._connecting)
        coming = (len(self._connecting) + len(self._greeting)) * MOST_STREAMS
        if len(self._waiting) > coming and total < self.limits.connections:
            self._connect()
