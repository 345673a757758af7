"""Live exchanges: the requests that run now, tunnels among them."""

from __future__ import annotations

from pydantic import Field

from gatekeeper.errors import Refusal
from gatekeeper.management.live import LiveExchange
from gatekeeper.management.operations import Call, Table
from gatekeeper.management.v1.models import Listing, Page

table = Table("exchanges")


class ExchangeListing(Listing):
    """Which exchanges."""

    service: str = Field(default="", max_length=255, description="Of this service only.")
    user: str = Field(default="", max_length=255, description="Of this user only.")


@table.get("/v1/exchanges")
async def list_exchanges(call: Call, query: ExchangeListing) -> Page[LiveExchange]:
    """The requests that run now."""
    exchanges = call.managed.exchanges
    found = await exchanges.find(query.service, query.user, query.after, query.limit + 1)
    items = list(found[: query.limit])
    return Page(items=items, next=items[-1].id if len(found) > len(items) else None)


@table.get("/v1/exchanges/{exchange}", errors=(404,))
async def show_exchange(call: Call, exchange: str) -> LiveExchange:
    """One request that runs now."""
    return _found(await call.managed.exchanges.show(exchange))


@table.delete("/v1/exchanges/{exchange}", status=204, errors=(404,))
async def cut_exchange(call: Call, exchange: str) -> None:
    """Cut a request. What it used by then counts."""
    found = _found(await call.managed.exchanges.cut(exchange))
    await call.managed.note(
        call, "exchange.cut", f"exchanges/{exchange}", service=found.service, user=found.user
    )


def _found(exchange: LiveExchange | None) -> LiveExchange:
    if exchange is None:
        raise Refusal("not_found", "There is no such exchange; it may have ended.", status=404)
    return exchange
