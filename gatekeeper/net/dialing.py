"""Where a forward proxy's requests go: resolve once, check every address, dial a checked one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from gatekeeper.errors import Refusal
from gatekeeper.net.destinations import DestinationPolicy
from gatekeeper.net.pool import Address, Origin, explain
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.tls import client_context
from gatekeeper.net.transports import LoopProtocol, LoopTransport
from gatekeeper.stats import PoolStats, PoolUse

if TYPE_CHECKING:
    from gatekeeper.exchange import Exchange

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nx-request-id: %b\r\n\r\n"
_MOST_ORIGINS = 4096

#: Makes an origin: its addresses, its name, what to call when it is not used any more, and what
#: counts its dials.
MakeOrigin = Callable[[Callable[[], Sequence[Address]], str, Callable[[], None], PoolStats], Origin]


class _Waiting:
    """A connection's first protocol: reads nothing until the tunnel takes it over."""

    transport: LoopTransport

    def makeConnection(self, transport: LoopTransport) -> None:
        self.transport = transport
        transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        raise AssertionError("reading was paused")

    def readConnectionLost(self) -> bool:
        return False

    def connectionLost(self, reason: Failure) -> None:
        pass


def destination(exchange: Exchange) -> tuple[bool, str, int]:
    """Where a request goes that has no fixed upstream: as the grant says, or its URL.

    With TLS or without, host and port.

    :raises Refusal: 400, the target has no host.
    """
    opened = exchange.opened
    if opened is not None:
        return opened.scheme == "https", opened.host, opened.port
    authority = exchange.request.authority
    if authority is None:
        raise Refusal("bad_target", "the target has no host")
    return False, authority.host, authority.port or 80


class Dialer:
    """Reaches the destinations that requests name: a forward proxy's, or a token's.

    ``ca_file`` holds the authorities that https destinations are verified with (None: the
    system's); the two time-outs are in seconds. ``stats`` counts the dials of all of them, tunnels'
    included.
    """

    def __init__(
        self,
        policy: DestinationPolicy,
        resolver: Resolver,
        loop: asyncio.AbstractEventLoop,
        make_origin: MakeOrigin,
        connect_timeout: float,
        tunnel_timeout: float,
        ca_file: Path | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._loop = loop
        self._make_origin = make_origin
        self._connect_timeout = connect_timeout
        self._tunnel_timeout = tunnel_timeout
        self._ca_file = ca_file
        self.stats = PoolStats()
        self._origins: dict[tuple[bool, str, int], tuple[Sequence[str], Origin]] = {}

    @property
    def use(self) -> PoolUse:
        """The use of all origins together."""
        each = (origin.use for _, origin in self._origins.values())
        return PoolUse(*map(sum, zip(*each, strict=True)))

    def dial(self, exchange: Exchange) -> Deferred[Origin | None]:
        """The way to what the exchange's request names.

        Fires with the origin to lease a connection from; with ``None`` for CONNECT, whose tunnel
        is open then. Fails with a :class:`~gatekeeper.errors.Refusal`: 403, 502, 503 or 504.
        """
        return ensureDeferred(self._dial(exchange))

    async def _dial(self, exchange: Exchange) -> Origin | None:
        secure, host, port = destination(exchange)
        addresses = await self._resolver.resolve_checked(self._policy, host, port)
        if exchange.head.method != b"CONNECT":
            return self._origin(secure, host, port, addresses)
        transport = await Deferred.fromFuture(
            asyncio.ensure_future(self._connect(addresses, port), loop=self._loop)
        )
        if exchange.finished:
            transport.abortConnection()
            return None
        exchange.status = 200
        head = _ESTABLISHED % exchange.id
        exchange.open_tunnel(transport, head, b"", self._tunnel_timeout)
        return None

    async def _connect(self, addresses: Sequence[str], port: int) -> LoopTransport:
        self.stats.dials += 1
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._first_reached(addresses, port)
        except OSError as error:
            refusal = explain(error)
            self.stats.failures[refusal.reason] += 1
            raise refusal from None

    async def _first_reached(self, addresses: Sequence[str], port: int) -> LoopTransport:
        last: OSError = ConnectionError("no address")
        for address in addresses:
            waiting = _Waiting()
            try:
                await self._loop.create_connection(partial(LoopProtocol, waiting), address, port)
            except OSError as error:
                last = error
            else:
                return waiting.transport
        raise last

    def _origin(self, secure: bool, host: str, port: int, addresses: Sequence[str]) -> Origin:
        """The origin of a host, with its pooled connections, as long as its addresses stay."""
        key = (secure, host, port)
        known = self._origins.get(key)
        if known is not None:
            if known[0] == addresses:
                return known[1]
            known[1].close()
        elif len(self._origins) >= _MOST_ORIGINS:
            oldest = next(iter(self._origins))
            self._origins.pop(oldest)[1].close()

        def dialed() -> list[Address]:
            context = client_context(self._ca_file) if secure else None
            name = host if secure else None
            return [Address(address, port, context, name) for address in addresses]

        def unused() -> None:
            known = self._origins.get(key)
            if known is not None and known[1] is origin:  # and not its successor
                del self._origins[key]

        origin = self._make_origin(dialed, f"{host}:{port}", unused, self.stats)
        self._origins[key] = (addresses, origin)
        return origin

    def close(self) -> None:
        """Keep no connection."""
        for _, origin in list(self._origins.values()):
            origin.close()
