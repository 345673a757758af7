"""Upstream connections, pooled per origin with bounds.

The decision is one pure function, :func:`decide`; connecting comes after.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from twisted.logger import Logger

from gatekeeper.errors import UpstreamError
from gatekeeper.http.heads import HeadLimits
from gatekeeper.net.sweep import NEVER, Sweep
from gatekeeper.net.transports import LoopProtocol, StreamProtocol
from gatekeeper.net.upstream import Receiver, Upstream, UpstreamConnection
from gatekeeper.stats import PoolStats, PoolUse

log = Logger()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds for each origin; ``idle_timeout`` in seconds."""

    connections: int = 256
    idle: int = 64
    idle_timeout: float = 30.0
    queue: int = 1024


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """In seconds: reaching the origin, its response head, two pieces of a body, tunnel silence."""

    connect: float = 5.0
    response: float = 60.0
    body: float = 30.0
    tunnel: float = 300.0


class Address(NamedTuple):
    """Where an origin is dialed. ``context`` and ``server_name`` only where it speaks TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    server_name: str | None = None


class Decision(enum.Enum):
    """What to do for somebody who wants a connection."""

    REUSE = "reuse"
    CONNECT = "connect"
    WAIT = "wait"
    REFUSE = "refuse"


def decide(idle: int, total: int, queued: int, limits: PoolLimits) -> Decision:
    """What to do, with so many connections idle and in all, and so many requests queued."""
    if idle:
        return Decision.REUSE
    if total < limits.connections:
        return Decision.CONNECT
    return Decision.WAIT if queued < limits.queue else Decision.REFUSE


class Origin:
    """One origin's connections and those who wait for one, first come first served.

    ``stats`` counts its dials, alone or together with other origins'.
    """

    def __init__(
        self,
        addresses: Callable[[], Sequence[Address]],
        name: str,
        loop: asyncio.AbstractEventLoop,
        sweep: Sweep,
        limits: PoolLimits,
        timeouts: UpstreamTimeouts,
        head_limits: HeadLimits,
        on_unused: Callable[[], None] | None = None,
        stats: PoolStats | None = None,
    ) -> None:
        self.name = name
        self.stats = PoolStats() if stats is None else stats
        self.sweep = sweep
        self.limits = limits
        self.timeouts = timeouts
        self.head_limits = head_limits
        self.deadline = NEVER
        self._addresses = addresses
        self._loop = loop
        self._on_unused = on_unused
        self._idle: list[UpstreamConnection] = []
        self._connections: set[StreamProtocol] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: dict[Receiver, float] = {}
        self._closed = False

    def __repr__(self) -> str:
        use = self.use
        return (
            f"<Origin {self.name}: {use.active} active, {use.idle} idle, "
            f"{use.connecting} connecting, {use.queued} queued>"
        )

    @property
    def use(self) -> PoolUse:
        """How many connections there are now, and how many requests wait for one."""
        idle = len(self._idle)
        active = len(self._connections) - idle
        return PoolUse(active, idle, len(self._connecting), len(self._waiting))

    @property
    def outstanding(self) -> int:
        """How many requests are under way here, or wait to be."""
        return len(self._connections) - len(self._idle) + len(self._waiting)

    def lease(self, receiver: Receiver) -> Upstream | None:
        """A connection, or ``None``: then ``receiver.leased`` or ``upstream_failed`` is called.

        :raises UpstreamError: 503, too many wait already.
        """
        if self._idle:
            return self._idle.pop()
        total = len(self._connections) + len(self._connecting)
        match decide(0, total, len(self._waiting), self.limits):
            case Decision.REFUSE:
                raise too_many()
            case Decision.CONNECT:
                self._connect()
        self._wait(receiver)
        return None

    def _wait(self, receiver: Receiver) -> None:
        if not self._waiting:
            self.deadline = self.sweep.now + self.timeouts.response
            self.sweep.timed.add(self)
        self._waiting[receiver] = self.sweep.now + self.timeouts.response

    def forget(self, receiver: Receiver) -> None:
        """Somebody who waited has gone."""
        self._waiting.pop(receiver, None)
        self._settle()

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection has come up."""
        self._connections.add(connection)
        self.sweep.timed.add(connection)
        self.release(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """A connection is free again, and good."""
        if connection not in self._connections:
            return
        if connection.transport.reading_paused:
            connection.transport.resumeProducing()
        if self._waiting:
            self._hand_over(connection)
        elif self._closed or len(self._idle) >= self.limits.idle:
            connection.close()
        else:
            connection.deadline = self.sweep.now + self.limits.idle_timeout
            self._idle.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone, or must not be used again. May be said more than once."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self.sweep.timed.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_for_waiting()
        self._settle()

    def close(self) -> None:
        """Keep nothing: idle connections go now, the others when their exchange is over."""
        self._closed = True
        self.renew()

    def renew(self) -> None:
        """Send no further request on the connections that there are."""
        for connection in list(self._idle):
            connection.close()

    def timed_out(self) -> None:
        """Somebody has waited too long (the first in the line has waited longest)."""
        now = self.sweep.now
        for receiver in [r for r, deadline in self._waiting.items() if deadline < now]:
            if self._waiting.pop(receiver, None) is None:
                continue  # what another's time-out brought about
            receiver.upstream_failed(
                UpstreamError(
                    "upstream_busy",
                    "no connection became free",
                    status=503,
                    fields=((b"retry-after", b"1"),),
                )
            )
        self._settle()

    def _hand_over(self, connection: Upstream) -> None:
        receiver = next(iter(self._waiting))
        del self._waiting[receiver]
        self._settle()
        hand_over(connection, receiver)

    def _settle(self) -> None:
        if self._waiting:
            self.deadline = next(iter(self._waiting.values()))
            return
        self.deadline = NEVER
        self.sweep.timed.discard(self)
        if self._on_unused and not self._connections and not self._connecting:
            self._on_unused()

    def _connect_for_waiting(self) -> None:
        """Begin a connection where more wait than are being made, and there is room."""
        total = len(self._connections) + len(self._connecting)
        if len(self._waiting) > len(self._connecting) and total < self.limits.connections:
            self._connect()

    def _connect(self) -> None:
        self.stats.dials += 1
        task = self._loop.create_task(self._dial())
        self._connecting.add(task)
        task.add_done_callback(self._dialed)

    def _dialed(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            refusal = explain(error)
            self.stats.failures[refusal.reason] += 1
            if self._waiting:
                receiver = next(iter(self._waiting))
                del self._waiting[receiver]
                receiver.upstream_failed(refusal)
        self._connect_for_waiting()
        self._settle()

    def _make_connection(self) -> StreamProtocol:
        return UpstreamConnection(self)

    async def _dial(self) -> None:
        async with asyncio.timeout(self.timeouts.connect):
            last: OSError = ConnectionError("no address")
            for address in self._addresses():
                try:
                    await self._loop.create_connection(
                        lambda: LoopProtocol(self._make_connection()),
                        address.host,
                        address.port,
                        ssl=address.context,
                        server_hostname=address.server_name,
                    )
                except OSError as error:
                    last = error
                else:
                    return
            raise last


def hand_over(upstream: Upstream, receiver: Receiver) -> None:
    """Give somebody who has waited what was waited for."""
    try:
        receiver.leased(upstream)
    except Exception:  # nobody else would tell the one who has waited
        log.failure("A connection could not be used")
        upstream.abort()
        receiver.upstream_failed(
            UpstreamError("internal_error", "something went wrong here", status=500)
        )


def too_many() -> UpstreamError:
    """What somebody is told for whom there is no room in the line: 503."""
    return UpstreamError(
        "upstream_busy",
        "too many requests wait for this upstream",
        status=503,
        fields=((b"retry-after", b"1"),),
    )


def explain(error: BaseException) -> UpstreamError:
    """Why an upstream could not be reached, as the answer to the client."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, TimeoutError):
        return UpstreamError("connect_timeout", "the upstream cannot be reached", status=504)
    if isinstance(error, ssl.SSLError):
        return UpstreamError("upstream_tls", "the upstream's TLS cannot be trusted (ca_file)")
    return UpstreamError("connect_failed", "the upstream cannot be reached")
