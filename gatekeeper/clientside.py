"""What an exchange knows of its client's connection, whatever protocol that speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gatekeeper.http.fields import Fields
from gatekeeper.http.heads import ResponseHead
from gatekeeper.usage.meter import Held

if TYPE_CHECKING:
    from gatekeeper.auth.chain import Chain
    from gatekeeper.doors import Door
    from gatekeeper.net.transports import LoopTransport
    from gatekeeper.replies import Reply

#: Called once with bytes from the client, bytes to the client, and why it ended.
OnEnd: TypeAlias = Callable[[int, int, str], None]


class Cuttable(Protocol):
    """A tunnel."""

    def cut(self, reason: str) -> None:
        """End it now."""


class Flow(Protocol):
    """What back-pressure needs of a connection, or of a stream on one."""

    def registerProducer(self, producer: Any, streaming: bool = True) -> None:
        """Pause ``producer`` while what it gives cannot be sent."""

    def unregisterProducer(self) -> None:
        """Nobody is to be paused any more."""

    def pauseProducing(self) -> None:
        """Deliver nothing until told to go on."""

    def resumeProducing(self) -> None:
        """Go on."""


class Visitor(Protocol):
    """Somebody who has connected: the door, and the address."""

    door: Door
    peer: str


class ClientSide(Visitor, Held, Protocol):
    """Where the request came from and the response goes: an HTTP/1 connection, or a stream."""

    #: The chain that was asked last, what was presented, and the digest that it is known by.
    digest: tuple[Chain | None, bytes, bytes]

    #: The field line that tells the upstream whom we forward for.
    forwarded_for: bytes

    @property
    def transport(self) -> Flow:
        """What the client sends, and is sent."""

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The client's certificate, see :class:`gatekeeper.auth.interfaces.Credentials`."""

    def start_body(self) -> None:
        """Deliver the request's body to ``exchange.request_data`` from now on."""

    def send_informational(self, head: ResponseHead) -> None:
        """Send a 1xx response."""

    def send_response(
        self,
        status: int,
        reason: bytes,
        lines: list[bytes],
        length: int | None,
        body: bytes,
        done: bool,
    ) -> None:
        """Send the response's head and the body's first piece; ``length`` of the whole body.

        The end of a response whose exchange is metered is held until its usage record is safe, see
        :meth:`release`; so is :meth:`send_data`'s.
        """

    def send_reply(self, reply: Reply, lines: list[bytes]) -> None:
        """Send an answer of ours, whole; ``lines`` are all its field lines."""

    def send_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """Send more of the response's body; ``done`` with the last piece."""

    def close(self) -> None:
        """Take no further request: the connection ends behind the response."""

    def abort(self, reason: str = "") -> None:
        """Break it off: the client must not take what it has for the whole."""

    def become_tunnel(
        self, upstream: LoopTransport, answer: bytes, data: bytes, idle_timeout: float, end: OnEnd
    ) -> Cuttable:
        """Send ``answer`` and ``data`` (from the upstream), then join the two connections."""
