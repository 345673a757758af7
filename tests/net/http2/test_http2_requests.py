"""Requests and responses on streams."""

import pytest

from tests.net.http2.clients import GET, POST, client_of
from tests.world import DATE, VIA, World, guarded_world, public_world, worlds

make_world = pytest.fixture(worlds)
world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)


def test_a_request_and_its_response(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = world.upstream()
    request = upstream.message()
    assert request.line == b"GET /a HTTP/1.1"
    assert request.values(b"host") == [b"origin.example"]
    assert request.values(b"x-forwarded-host") == [b"shop.example"]
    assert request.values(b"connection") == [b"te"]
    assert not client.answer(stream).fields
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nConnection: x-b\r\nX-B: 2\r\n\r\nhello")
    answer = client.answer(stream)
    assert answer.status == 200
    assert answer.body == b"hello"
    assert answer.ended
    assert answer.fields == [
        (b":status", b"200"),
        (b"x-a", b"1"),
        (b"date", DATE),
        (b"via", VIA),
        (b"x-request-id", b"%032x" % 1),
        (b"content-length", b"5"),
    ]
    assert world.entry.reason == "ok"
    assert (world.entry.status, world.entry.bytes_out, world.entry.host) == (200, 5, "shop.example")
    assert world.plane.live == set()
