"""What runs in the data plane now, in this process or in several."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

from pydantic import Field
from twisted.internet.defer import Deferred

from gatekeeper.management.v1.models import Document, Time, write_time
from gatekeeper.usage.records import Account

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from gatekeeper.exchange import Exchange
    from gatekeeper.net.balancing_attempt import UpstreamState


class LiveExchange(Document):
    """A request that runs. What is not known yet is empty, or 0."""

    id: str
    service: str
    user: str
    key_id: str
    listener: str
    client: str
    method: str
    path: Annotated[str, Field(description="Without the query.")]
    start: Time
    status: int
    bytes_in: int
    bytes_out: int
    tunnel: bool


class Traffic(NamedTuple):
    """Clients' connections and exchanges; and usage that no segment of the journal has yet.

    ``full`` and ``failing`` tell of what is written to now, where that is not the journal here.
    """

    connections: int = 0
    exchanges: int = 0
    records: int = 0
    bytes: int = 0
    full: bool = False
    failing: bool = False


class Exchanges(Protocol):
    """The exchanges that run now."""

    def find(
        self, service: str, user: str, after: str, limit: int
    ) -> Awaitable[Sequence[LiveExchange]]:
        """The first ones whose id comes after this one, in the order of the ids.

        Those of one service and of one user, unless that is ``""``.
        """

    def show(self, wanted: str) -> Awaitable[LiveExchange | None]:
        """The one with this id, if it has not ended."""

    def cut(self, wanted: str) -> Awaitable[LiveExchange | None]:
        """Cut it, and tell how it was."""


class DataPlane(Protocol):
    """What operators and their machines see of what serves requests, wherever it does."""

    @property
    def exchanges(self) -> Exchanges:
        """Those that run now."""

    def traffic(self) -> Awaitable[Traffic]:
        """How much there is."""

    def upstreams(self) -> Awaitable[Mapping[str, Sequence[UpstreamState]]]:
        """How the upstreams are of services that have several."""

    def settled(self) -> Awaitable[object]:
        """Wait until what operators have changed has taken effect, but not for long."""

    def expire(self, account: Account) -> None:
        """An account was changed: read it again before it is drawn on."""

    def collect(self) -> Iterable[Metric] | Deferred[Iterable[Metric]]:
        """What is counted, for ``/metrics``."""

    def document(self) -> Mapping[str, object] | Deferred[Mapping[str, object]]:
        """What is counted, for the dashboard."""


class Live(Protocol):
    """The exchanges of this process, and the clocks that they are measured by."""

    live: set[Exchange]
    wall_clock: Callable[[], float]
    monotonic: Callable[[], float]


class LocalExchanges:
    """The :class:`Exchanges` of this process."""

    def __init__(self, plane: Live) -> None:
        self._plane = plane

    async def find(self, service: str, user: str, after: str, limit: int) -> list[LiveExchange]:
        """See :class:`Exchanges`."""
        found = (
            exchange
            for exchange in tuple(self._plane.live)
            if _id(exchange) > after
            and service in ("", _service(exchange))
            and user in ("", exchange.grant.user)
        )
        return [self._show(each) for each in heapq.nsmallest(limit, found, _id)]

    async def show(self, wanted: str) -> LiveExchange | None:
        """See :class:`Exchanges`."""
        exchange = self._find(wanted)
        return None if exchange is None else self._show(exchange)

    async def cut(self, wanted: str) -> LiveExchange | None:
        """See :class:`Exchanges`."""
        exchange = self._find(wanted)
        if exchange is None:
            return None
        shown = self._show(exchange)
        exchange.cut("operator")
        return shown

    def _find(self, wanted: str) -> Exchange | None:
        return next((each for each in self._plane.live if _id(each) == wanted), None)

    def _show(self, exchange: Exchange) -> LiveExchange:
        plane, head, request = self._plane, exchange.head, exchange.request
        if request is not None:
            path = request.label
        else:
            path = head.target.partition(b"?")[0].decode("latin-1")
        return LiveExchange(
            id=_id(exchange),
            service=_service(exchange),
            user=exchange.grant.user,
            key_id=exchange.grant.key_id,
            listener=exchange.client.door.name,
            client=exchange.client.peer,
            method=head.method.decode("ascii"),
            path=path,
            start=write_time(plane.wall_clock() - (plane.monotonic() - exchange.start)),
            status=exchange.status,
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            tunnel=exchange.tunnel is not None,
        )


def _id(exchange: Exchange) -> str:
    return exchange.id.decode("ascii")


def _service(exchange: Exchange) -> str:
    # A request may be listed before it is understood.
    return exchange.request.route.name if exchange.request is not None else ""
