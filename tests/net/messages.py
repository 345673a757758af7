"""What clients and upstreams say to the server in the tests, and what they should hear."""

from __future__ import annotations

from tests.memory import Message
from tests.world import DATE, VIA

GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
GET_10 = b"GET /a HTTP/1.0\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\n"
POST_CHUNKED = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n"
NOWHERE = b"GET /a HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
FORWARDED = (
    b"x-forwarded-for: 198.51.100.7\r\n"
    b"x-forwarded-proto: http\r\n"
    b"x-forwarded-host: shop.example\r\n"
)


def asked(line: bytes, number: int, *, fields: bytes = b"", framing: bytes = b"") -> bytes:
    """What the upstream gets for a request; ``fields`` come first, ``framing`` last."""
    return (
        b"%b HTTP/1.1\r\nhost: origin.example\r\n%b%b"
        b"x-request-id: %032x\r\ntraceparent: 00-%032x-%016x-00\r\nvia: %b\r\n%b\r\n"
        % (line, fields, FORWARDED, number, number, number, VIA, framing)
    )


def answered(
    body: bytes, number: int, *, framing: bytes | None = None, line: bytes = b"HTTP/1.1 200 OK"
) -> bytes:
    """What the client gets for an upstream's answer that has no fields of its own."""
    if framing is None:
        framing = b"content-length: %d\r\n" % len(body)
    ours = b"date: %b\r\nvia: %b\r\nx-request-id: %032x\r\n" % (DATE, VIA, number)
    return b"%b\r\n%b%b\r\n%b" % (line, ours, framing, body)


def refused(message: Message, status: int, *, closing: bool) -> None:
    assert message.status == status
    assert message.values(b"date") == [DATE]
    assert message.values(b"content-length") == [b"%d" % len(message.body)]
    assert message.values(b"connection") == ([b"close"] if closing else [])
