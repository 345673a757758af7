"""The request's head as it goes upstream: what is removed, and what we say ourselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gatekeeper.http.fields import normalize
from gatekeeper.http.heads import RequestHead
from gatekeeper.http.target import Authority

if TYPE_CHECKING:
    from gatekeeper.exchange import Exchange

_TRACE: Final = b"x-request-id: %b\r\ntraceparent: 00-%b-%b-00\r\nvia: %b\r\n"
_CONTINUED: Final = b"x-request-id: %b\r\ntraceparent: %b\r\nvia: %b\r\n"
_BODY_EXPECTED: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_TRACEPARENT: Final = re.compile(
    rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}|"
    rb"(?!00|ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def trace_id(head: RequestHead, request_id: bytes) -> bytes:
    """The client's trace id where it is valid (W3C Trace Context), else the request's own id."""
    match = _TRACEPARENT.fullmatch(head.traceparent) if head.traceparent else None
    return (match.group(1) or match.group(2)) if match else request_id


def upstream_head(exchange: Exchange) -> bytes:
    """The head that goes upstream, in one piece.

    Identity and forwarding fields of the client's are gone already (:mod:`gatekeeper.http.heads`);
    here those are added that the grant and the door say.
    """
    head, request, grant = exchange.head, exchange.request, exchange.grant
    client, door, plane = exchange.client, exchange.client.door, exchange.plane
    forwarded = head.forwarded
    if grant.header_names:
        names = grant.header_names
        forwarded = [line for line in forwarded if normalize(line.partition(b":")[0]) not in names]
    parts = [head.method, _request_line(exchange)]
    if forwarded:
        parts += (b"\r\n".join(forwarded), b"\r\n")
    parts.append(door.forwarding_fields(client, head, request))
    request_id = exchange.id
    if head.traceparent is not None and _TRACEPARENT.fullmatch(head.traceparent):
        parts.append(_CONTINUED % (request_id, head.traceparent, plane.via))
    else:
        parts.append(_TRACE % (request_id, request_id, request_id[16:], plane.via))
    authorization = _authorization(exchange)
    if authorization is not None:
        parts += (b"authorization: ", authorization, b"\r\n")
    if request.route.is_service:
        parts.append(grant.user_line)
    parts.append(grant.header_lines)
    if grant.real_ip:
        parts += (b"x-real-ip: ", door.client_address(client.peer, head).encode("ascii"), b"\r\n")
    if head.length is None:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif head.length or head.method in _BODY_EXPECTED:
        parts.append(b"content-length: %d\r\n" % head.length)
    if head.expects_continue:
        parts.append(b"expect: 100-continue\r\n")
    if head.upgrade is not None:
        parts += (b"connection: upgrade\r\nupgrade: ", head.upgrade, b"\r\n")
    elif head.accepts_trailers:
        parts.append(b"connection: te\r\nte: trailers\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _request_line(exchange: Exchange) -> bytes:
    """What follows the method, and the Host; that of the URL which the grant opens, if it does."""
    request, opened = exchange.request, exchange.opened
    if opened is None:
        return request.upstream_line
    default_port = 443 if opened.scheme == "https" else 80
    return b" %b%b HTTP/1.1\r\nhost: %b\r\n" % (
        request.route.upstream_path(request.path),
        request.query,
        Authority(opened.host, opened.port).encode(default_port),
    )


def _authorization(exchange: Exchange) -> bytes | None:
    """The upstream's Authorization: its own credential, or the client's where it is not for us."""
    grant = exchange.grant
    if exchange.opened is not None:
        return exchange.opened.authorization
    if grant.authorization is not None:
        return grant.authorization
    if grant.consumed and exchange.request.consumes_authorization:
        return None
    return exchange.head.authorization
