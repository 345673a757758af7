"""Requests and responses on streams."""

import json
from typing import Any

import pytest
from h2.connection import H2Connection

from gatekeeper.auth.interfaces import Abstain
from tests.net.http2.clients import GET, POST, Client, client_of, connect
from tests.world import DATE, SERVICE, VIA, World, guarded_world, public_world, worlds

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
    upstream.sends(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nConnection: x-b\r\nX-B: 2\r\n\r\nhello"
    )
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


def test_a_body_of_known_length(world: World) -> None:
    client = client_of(world)
    stream = client.begins([*POST, (b"content-length", b"6")])
    client.sends(stream, b"abc")
    upstream = world.upstream()
    request = upstream.message()
    assert request.values(b"content-length") == [b"6"]
    assert request.body == b"abc"
    client.sends(stream, b"def", ended=True)
    assert upstream.received() == b"def"
    upstream.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
    answer = client.answer(stream)
    assert (answer.status, answer.ended, answer.body) == (204, True, b"")
    assert world.entry.bytes_in == 6


def test_a_body_of_unknown_length_with_trailers_both_ways(world: World) -> None:
    client = client_of(world)
    stream = client.begins([*POST, (b"te", b"trailers")])
    client.sends(stream, b"abc")
    client.h2.send_headers(stream, [(b"x-sum", b"1"), (b"cookie", b"no")], end_stream=True)
    client.flush()
    upstream = world.upstream()
    request = upstream.message()
    assert request.values(b"transfer-encoding") == [b"chunked"]
    assert request.values(b"te") == [b"trailers"]
    assert request.body == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
    upstream.sends(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n",
        b"0\r\nGrpc-Status: 0\r\n\r\n",
    )
    answer = client.answer(stream)
    assert answer.body == b"xyz"
    assert answer.trailers == [(b"grpc-status", b"0")]
    assert answer.ended


def test_crumbs_of_cookies_are_joined(world: World) -> None:
    client = client_of(world)
    client.asks([*GET, (b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2")])
    assert world.upstream().message().values(b"cookie") == [b"a=1; b=2"]


def test_head_has_a_length_and_no_body(world: World) -> None:
    client = client_of(world)
    stream = client.asks([(b":method", b"HEAD"), *GET[1:]])
    world.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    answer = client.answer(stream)
    assert answer.value(b"content-length") == b"5"
    assert answer.ended


def test_informational_responses(world: World) -> None:
    client = client_of(world)
    stream = client.begins([*POST, (b"expect", b"100-continue"), (b"content-length", b"2")])
    upstream = world.upstream()
    assert upstream.message().values(b"expect") == [b"100-continue"]
    upstream.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.answer(stream).informational == [[(b":status", b"100")]]
    client.sends(stream, b"ok", ended=True)
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.answer(stream).status == 200


def test_many_at_once_and_out_of_order(world: World) -> None:
    client = client_of(world)
    streams = [client.asks([*GET[:3], (b":path", b"/%d" % number)]) for number in range(20)]
    upstreams = [world.upstream() for _ in streams]
    for number in reversed(range(20)):
        path = upstreams[number].message().line.split()[1]
        upstreams[number].sends(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)
        )
    assert [client.answer(stream).body for stream in streams] == [
        b"/%d" % number for number in range(20)
    ]


def test_our_own_answers(guarded: World) -> None:
    guarded.gate.answer = Abstain()
    answer = client_of(guarded).asked()
    assert answer.status == 401
    assert answer.value(b"content-type") == b"application/problem+json"
    assert json.loads(answer.body)["reason"] == "no_credentials"
    assert answer.ended


def test_an_answer_while_the_body_is_coming(guarded: World) -> None:
    """It is complete, and the client is told to stop (RFC 9113, 8.1)."""
    guarded.gate.answer = Abstain()
    client = client_of(guarded)
    stream = client.begins(POST)
    answer = client.answer(stream)
    assert (answer.status, answer.ended, answer.reset) == (401, True, None)
    guarded.advance(3)
    assert client.answer(stream).reset == 0
    assert client.asked().status == 401
    assert client.goaways == []


def test_connect_is_refused(world: World) -> None:
    answer = client_of(world).asked([(b":method", b"CONNECT"), (b":authority", b"a.example:443")])
    assert answer.status == 405


def test_what_is_not_found(make_world: Any) -> None:
    world = make_world(services=[{**SERVICE, "hosts": ["shop.example"], "from": "/a"}])
    client = client_of(world)
    assert client.asked([*GET[:3], (b":path", b"/b")]).status == 404
    assert client.asked([*GET[:2], (b":authority", b"other.example"), GET[3]]).status == 421
    assert client.asked([*GET[:3], (b":path", b"/a/../b")]).status == 400


def test_the_last_byte_waits_for_the_usage_record(guarded: World) -> None:
    client = client_of(guarded)
    stream = client.asks()
    meter = guarded.plane.meter
    assert meter is not None
    held: list[Any] = []
    record = meter.record
    meter.record = lambda each, which: (held.append(which), record(each, None))  # type: ignore
    guarded.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")
    answer = client.answer(stream)
    assert (answer.status, answer.body, answer.ended) == (200, b"", False)
    assert guarded.record.bytes_out == 2
    held.pop().release(1)
    guarded.loop.settle()
    answer = client.answer(stream)
    assert (answer.body, answer.ended) == (b"ok", True)


@pytest.mark.parametrize("pieces", [1, 2])
def test_what_cannot_be_counted_does_not_arrive(guarded: World, pieces: int) -> None:
    client = client_of(guarded)
    stream = client.asks()
    meter = guarded.plane.meter
    assert meter is not None
    held: list[Any] = []
    record = meter.record
    meter.record = lambda each, which: (held.append(which), record(each, None))  # type: ignore
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    guarded.upstream().sends(*([response] if pieces == 1 else [response[:-2], response[-2:]]))
    held.pop().withhold()
    guarded.loop.settle()
    answer = client.answer(stream)
    if pieces == 1:
        assert answer.status == 503
        assert json.loads(answer.body)["reason"] == "usage_unwritable"
    else:
        assert (answer.ended, answer.reset) == (False, 2)


def test_credentials_are_for_us(guarded: World) -> None:
    client = client_of(guarded)
    fields = [*GET, (b"authorization", b"Bearer x")]
    for _ in range(2):
        stream = client.asks(fields)
        upstream = guarded.upstream()
        assert b"authorization" not in upstream.message().names()
        upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert client.answer(stream).status == 200
    assert [asked.presented for asked in guarded.gate.asked] == [b"Bearer x"] * 2


def test_without_tls_a_connection_may_be_either(world: World) -> None:
    peer = connect(world)
    peer.sends_bytewise(b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert world.upstream().message().line == b"PROPFIND / HTTP/1.1"
    client = Client(connect(world))
    assert client.h2.open_outbound_streams == 0
    peer = connect(world)
    peer.sends_bytewise(client_preface())
    assert peer.received()[3] == 4  # SETTINGS
    assert len(world.connections) == 3
    peer = connect(world)
    peer.sends(b"PRI * HT")
    peer.hangs_up()
    assert len(world.connections) == 3


def test_upgrade_to_h2c_is_ignored(world: World) -> None:
    peer = connect(world)
    peer.sends(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    request = world.upstream().message()
    assert request.values(b"upgrade") == request.values(b"http2-settings") == []


def client_preface() -> bytes:
    h2 = H2Connection()
    h2.initiate_connection()
    return h2.data_to_send()
