"""One of several upstreams, and one request's attempt at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.errors import UpstreamError
from gatekeeper.http.fields import Fields
from gatekeeper.http.heads import ResponseHead
from gatekeeper.net.balancing_health import EjectionPolicy, Health, State
from gatekeeper.net.pool import Origin
from gatekeeper.net.upstream import Receiver, Upstream, UpstreamConnection

if TYPE_CHECKING:
    from gatekeeper.clientside import Flow
    from gatekeeper.net.balancing import Balancer

#: What says that the upstream, and not we or the client, is at fault.
_ITS_FAULT: Final = (502, 504)


class UpstreamState(NamedTuple):
    """What there is to know of one upstream: its URL, and requests and tunnels under way."""

    url: str
    state: State
    outstanding: int
    ejections: int


class Balanced:
    """One of the upstreams. ``host`` is its Host field, with the line's ends."""

    __slots__ = ("_tunnels", "health", "host", "origin")

    def __init__(self, origin: Origin, host: bytes, policy: EjectionPolicy) -> None:
        self.origin = origin
        self.host = b"\r\nhost: %b\r\n" % host
        self.health = Health(policy)
        self._tunnels = 0

    @property
    def outstanding(self) -> int:
        """Requests that are under way or wait, and open tunnels."""
        return self.origin.outstanding + self._tunnels

    @property
    def state(self) -> UpstreamState:
        """How it is now."""
        health = self.health
        return UpstreamState(self.origin.name, health.state, self.outstanding, health.ejections)

    def tunnel_opened(self, connection: UpstreamConnection) -> None:
        """A connection leaves the pool, and is work for the upstream until it ends."""
        self._tunnels += 1
        connection.transport.on_lost = self._tunnel_ended

    def _tunnel_ended(self) -> None:
        self._tunnels -= 1


class Attempt:
    """One request at one upstream: stands between the exchange and the way upstream."""

    __slots__ = (
        "_balancer",
        "_last",
        "_over",
        "_probe",
        "_receiver",
        "_responding",
        "_sent",
        "tried",
        "upstream",
        "way",
    )

    def __init__(
        self,
        balancer: Balancer,
        receiver: Receiver,
        upstream: Balanced,
        tried: tuple[Balanced, ...],
        last: bool,
        probe: bool,
    ) -> None:
        self.upstream = upstream
        self.tried = (*tried, upstream)
        self.way: Upstream | None = None
        self._balancer = balancer
        self._receiver = receiver
        self._last = last  # a last resort
        self._probe = probe
        self._sent = False  # the whole request is
        self._responding = False
        self._over = False

    # --- as the exchange's way upstream ---------------------------------------------------

    @property
    def _leased(self) -> Upstream:
        assert self.way is not None, "nobody knows of it before"
        return self.way

    @property
    def transport(self) -> Flow:
        """See :class:`~gatekeeper.net.upstream.Upstream`."""
        return self._leased.transport

    def send(
        self, receiver: Receiver, head: bytes, *, head_only: bool, upgrading: bool, done: bool
    ) -> None:
        """Send a request's head, with the Host of the upstream that it goes to."""
        self._sent = done
        first, own = self._balancer.upstreams[0].host, self.upstream.host
        if own != first:  # the Host stands first
            head = head.replace(first, own, 1)
        self._leased.send(self, head, head_only=head_only, upgrading=upgrading, done=done)

    def send_data(self, data: bytes, *, done: bool) -> None:
        """See :class:`~gatekeeper.net.upstream.Upstream`."""
        self._sent = done
        self._leased.send_data(data, done=done)

    def send_chunk(self, payload: bytes, *, done: bool, trailers: Fields) -> None:
        """See :class:`~gatekeeper.net.upstream.Upstream`."""
        self._sent = done
        self._leased.send_chunk(payload, done=done, trailers=trailers)

    def abort(self) -> None:
        """The exchange was given up, which says nothing of the upstream."""
        self._leased.abort()

    # --- as who gets what the way upstream brings -----------------------------------------

    def leased(self, upstream: Upstream) -> None:
        """See :class:`~gatekeeper.net.upstream.Receiver`."""
        self.way = upstream
        self._balancer.settled(self._receiver)
        self._receiver.leased(self)

    def informational(self, head: ResponseHead) -> None:
        """See :class:`~gatekeeper.net.upstream.Receiver`."""
        self._receiver.informational(head)

    def response(self, head: ResponseHead, length: int | None, payload: bytes, done: bool) -> None:
        """The final response's head: whatever it says, the upstream is there."""
        self._responding = True
        self._balancer.succeeded(self.upstream)
        self._receiver.response(head, length, payload, done)

    def response_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """See :class:`~gatekeeper.net.upstream.Receiver`."""
        self._receiver.response_data(payload, done, trailers)

    def switched(self, head: ResponseHead, upstream: UpstreamConnection, data: bytes) -> None:
        """The connection is a tunnel from now on."""
        self._balancer.succeeded(self.upstream)
        self.upstream.tunnel_opened(upstream)
        self._receiver.switched(head, upstream, data)

    def upstream_lost(self, *, untouched: bool) -> None:
        """The connection broke.

        That is not held against the upstream where a kept connection had become stale, or where it
        had not got the whole request: it may have lost patience with the client.
        """
        if not untouched and self._sent and not self._responding:
            self._balancer.failed(self.upstream, "upstream_lost", probe=self._probe)
        self._receiver.upstream_lost(untouched=untouched)

    def upstream_failed(self, refusal: UpstreamError) -> None:
        """No connection: then on to the next. Or no good answer in time: that is the answer."""
        if self._over:
            return
        reached = self.way is not None
        if not reached:
            self._balancer.settled(self._receiver)
        if refusal.status in _ITS_FAULT and not self._responding:
            self._balancer.failed(self.upstream, refusal.reason, probe=self._probe)
            if not reached:
                self.move_on()
                return
        self._receiver.upstream_failed(refusal)

    # --- before anything was sent ---------------------------------------------------------

    def withdraw(self) -> None:
        """Do not wait there any longer."""
        self._over = True
        self.upstream.origin.forget(self)

    def move_on(self) -> None:
        """Go to another upstream; nothing that happens at this one matters any more."""
        self._over = True
        self._balancer.move_on(self._receiver, self.tried, last=self._last)
