"""Live exchanges: the requests that run now, tunnels among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gatekeeper.errors import Refusal
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.models import Document, Listing, Page, Time, page, write_time

if TYPE_CHECKING:
    from gatekeeper.exchange import Exchange

table = Table("exchanges")


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


class ExchangeListing(Listing):
    """Which exchanges."""

    service: str = Field(default="", max_length=255, description="Of this service only.")
    user: str = Field(default="", max_length=255, description="Of this user only.")


@table.get("/v1/exchanges")
async def list_exchanges(call: Call, query: ExchangeListing) -> Page[LiveExchange]:
    """The requests that run now."""
    found = (
        exchange
        for exchange in tuple(call.managed.plane.live)
        if query.service in ("", _service(exchange)) and query.user in ("", exchange.grant.user)
    )
    return page(found, _id, lambda exchange: _show(call, exchange), query)


@table.get("/v1/exchanges/{exchange}", errors=(404,))
async def show_exchange(call: Call, exchange: str) -> LiveExchange:
    """One request that runs now."""
    return _show(call, _find(call, exchange))


@table.delete("/v1/exchanges/{exchange}", status=204, errors=(404,))
async def cut_exchange(call: Call, exchange: str) -> None:
    """Cut a request. What it used by then counts."""
    found = _find(call, exchange)
    service, user = _service(found), found.grant.user
    found.cut("operator")
    await call.managed.note(
        call, "exchange.cut", f"exchanges/{exchange}", service=service, user=user
    )


def _find(call: Call, wanted: str) -> Exchange:
    for exchange in call.managed.plane.live:
        if _id(exchange) == wanted:
            return exchange
    raise Refusal("not_found", "There is no such exchange; it may have ended.", status=404)


def _id(exchange: Exchange) -> str:
    return exchange.id.decode("ascii")


def _service(exchange: Exchange) -> str:
    # A request may be listed before it is understood.
    return exchange.request.route.name if exchange.request is not None else ""


def _show(call: Call, exchange: Exchange) -> LiveExchange:
    plane, head, request = call.managed.plane, exchange.head, exchange.request
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
