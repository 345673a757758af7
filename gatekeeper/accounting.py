"""A finished exchange as a usage record and as a line in the access log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.usage.accesslog import AccessEntry
from gatekeeper.usage.records import Spent, UsageRecord

if TYPE_CHECKING:
    from gatekeeper.clientside import Visitor
    from gatekeeper.exchange import Exchange
    from gatekeeper.replies import Reply


_METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT")
}


def usage_record(exchange: Exchange, start: float, duration: float, reason: str) -> UsageRecord:
    """What an authorized exchange used; ``start`` in seconds since the epoch.

    What was set aside for it is settled with that.
    """
    request, grant = exchange.request, exchange.grant
    bytes_in, bytes_out = exchange.bytes_in, exchange.bytes_out
    unit_meter = request.route.unit_meter
    if unit_meter is None:
        units, model = 1, ""
    elif exchange.reading is not None:
        units, model = exchange.reading.result(bytes_in, bytes_out, duration)
    else:
        tunnel = exchange.tunnel is not None
        units, model = unit_meter.unread(bytes_in, bytes_out, duration, tunnel=tunnel)
    admitted, subscription = exchange.admitted, grant.subscription
    method = exchange.head.method
    spent: tuple[Spent, ...] = ()
    if admitted is not None:
        status = exchange.upstream_status if exchange.tunnel is None else 200
        spent = admitted.settle(status, units)
    # As UsageRecord(...) does it, without a call of Python's: this is for every request.
    return tuple.__new__(
        UsageRecord,
        (
            exchange.id.decode("ascii"),
            start,
            duration,
            request.route.name,
            grant.metered_user,
            grant.key_id,
            _METHODS.get(method) or method.decode("ascii"),
            request.label,
            exchange.status,
            exchange.upstream_status,
            bytes_in,
            bytes_out,
            units,
            reason,
            model,
            subscription.did if subscription is not None else "",
            subscription.owner if subscription is not None else "",
            spent,
        ),
    )


def access_entry(exchange: Exchange, start: float, duration: float, reason: str) -> AccessEntry:
    """An exchange's line in the access log; it may have been refused before it was understood."""
    request, grant, client, head = exchange.request, exchange.grant, exchange.client, exchange.head
    if request is not None:
        service, host, path = request.route.name, request.host_label, request.label
    else:
        service, host = "", (head.host or b"").decode("latin-1")
        path = head.target.partition(b"?")[0].decode("latin-1")
    return AccessEntry(
        start,
        exchange.id.decode("ascii"),
        client.door.name,
        client.door.client_address(client.peer, head),
        service,
        grant.user,
        grant.key_id,
        head.method.decode("ascii"),
        host,
        path,
        exchange.status,
        exchange.upstream_status,
        exchange.bytes_in,
        exchange.bytes_out,
        duration,
        reason,
    )


def unread_entry(
    client: Visitor, start: float, request_id: bytes, reply: Reply, reason: str
) -> AccessEntry:
    """The line in the access log for bytes that never became a request."""
    return AccessEntry(
        time=start,
        id=request_id.decode("ascii"),
        listener=client.door.name,
        client=client.peer,
        service="",
        user="",
        key_id="",
        method="",
        host="",
        path="",
        status=reply.status,
        upstream_status=0,
        bytes_in=0,
        bytes_out=len(reply.body),
        duration=0.0,
        reason=reason,
    )
