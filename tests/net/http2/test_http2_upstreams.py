"""Upstreams that speak HTTP/2: many exchanges on one connection."""

from collections.abc import Iterator
from typing import Any

import pytest
from h2.settings import SettingCodes

from gatekeeper.auth.interfaces import Grant
from tests.net.http2.clients import GET, POST, client_of
from tests.net.http2.upstreams import Upstream
from tests.world import SERVICE, VIA, World, worlds

make_world = pytest.fixture(worlds)

SERVED = {**SERVICE, "http2": "always", "to": "http://origin.example/base"}
OK = (b":status", b"200")


@pytest.fixture
def world() -> Iterator[World]:
    world = World(services=[SERVED])
    yield world
    world.close()


def upstream_of(world: World, **options: Any) -> Upstream:
    return Upstream(world.upstream(), **options)


def test_a_request_and_its_response(world: World) -> None:
    client = client_of(world)
    stream = client.asks([*GET, (b"x-a", b"1")])
    upstream = upstream_of(world)
    asked = upstream.request(1)
    assert asked.fields[:4] == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"origin.example"),
        (b":path", b"/base/a"),
    ]
    assert asked.values(b"x-a") == [b"1"]
    assert asked.values(b"x-forwarded-host") == [b"shop.example"]
    assert asked.values(b"via") == [VIA]
    assert asked.values(b"te") == [b"trailers"]
    assert not {b"host", b"connection", b"transfer-encoding"} & {name for name, _ in asked.fields}
    assert asked.ended
    upstream.heads(1, OK, (b"x-b", b"2"))
    upstream.sends(1, b"hello")
    upstream.heads(1, (b"grpc-status", b"0"), ended=True)
    answer = client.answer(stream)
    assert answer.body == b"hello"
    assert answer.value(b"x-b") == b"2"
    assert answer.trailers == [(b"grpc-status", b"0")]
    assert answer.ended
    assert world.entry.reason == "ok"
    assert world.plane.live == set()
    assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"


def test_for_a_client_of_http1(world: World) -> None:
    client = world.connect()
    client.sends(
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: te\r\n"
        b"TE: trailers\r\n\r\n3\r\nabc\r\n"
    )
    upstream = upstream_of(world)
    assert upstream.request(1).body == b"abc"
    client.sends(b"0\r\nX-Sum: 1\r\n\r\n")
    asked = upstream.request(1)
    assert asked.trailers == [(b"x-sum", b"1")]
    assert asked.ended
    upstream.heads(1, OK)
    upstream.sends(1, b"xyz")
    upstream.heads(1, (b"x-t", b"2"), ended=True)
    message = client.message()
    assert message.values(b"transfer-encoding") == [b"chunked"]
    assert message.body == b"3\r\nxyz\r\n0\r\nx-t: 2\r\n\r\n"


def test_an_upgrade_is_not_passed_on(world: World) -> None:
    client = world.connect()
    client.sends(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    upstream = upstream_of(world)
    assert not {b"connection", b"upgrade"} & {name for name, _ in upstream.request(1).fields}
    upstream.heads(1, OK, ended=True)
    assert client.message().status == 200


def test_a_response_that_is_only_trailers(world: World) -> None:
    client = client_of(world)
    stream = client.asks(POST, b"x")
    upstream = upstream_of(world)
    upstream.heads(1, OK, (b"grpc-status", b"5"), ended=True)
    answer = client.answer(stream)
    assert answer.value(b"grpc-status") == b"5"
    assert answer.ended


def test_many_exchanges_on_one_connection(world: World) -> None:
    client = client_of(world)
    streams = [client.asks() for _ in range(30)]
    upstream = upstream_of(world)
    assert world.pool == "1 active, 0 idle, 0 connecting, 0 queued"
    for number in reversed(range(30)):
        upstream.heads(2 * number + 1, OK, (b"x-n", b"%d" % number), ended=True)
    for number, stream in enumerate(streams):
        assert client.answer(stream).value(b"x-n") == b"%d" % number
    assert world.server.dialed == 1


def test_the_upstream_says_how_many_streams(make_world: Any) -> None:
    world = make_world(services=[SERVED], pool={"connections": 2})
    client = client_of(world)
    streams = [client.asks() for _ in range(5)]
    settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
    first = upstream_of(world, settings=settings)
    first.receive()
    assert len(first.asked) == 2
    second = upstream_of(world, settings=settings)
    second.receive()
    assert len(second.asked) == 2
    assert world.pool == "2 active, 0 idle, 0 connecting, 1 queued"
    first.heads(3, OK, ended=True)
    assert len(first.asked) == 3
    first.heads(5, OK, ended=True)
    assert [client.answer(stream).ended for stream in streams].count(True) == 2


def test_the_line_is_bounded(make_world: Any) -> None:
    world = make_world(services=[SERVED], pool={"connections": 1, "queue": 3})
    world.server.silent = True
    client = client_of(world)
    streams = [client.asks() for _ in range(4)]
    assert client.answer(streams[-1]).status == 503
    world.server.answers()
    world.loop.settle()
    upstream = upstream_of(world)
    upstream.receive()
    assert len(upstream.asked) == 3


def test_an_upstream_that_says_nothing(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    world.advance(6)
    assert client.answer(stream).status == 502
    assert world.entry.reason == "upstream_protocol"
    assert world.server.dialed == 1


def test_who_waits_and_goes(world: World) -> None:
    world.server.silent = True
    client = client_of(world)
    stream = client.asks()
    client.resets(stream)
    assert world.entry.reason == "client_gone"
    world.server.answers()
    world.loop.settle()
    upstream = upstream_of(world)
    upstream.receive()
    assert upstream.asked == {}


def test_back_pressure_towards_the_client(world: World) -> None:
    client = client_of(world, acknowledges=False)
    stream = client.asks()
    upstream = upstream_of(world)
    upstream.heads(1, OK)
    sent = 0
    while room := min(upstream.h2.local_flow_control_window(1), 16_384):
        upstream.sends(1, b"x" * room)
        sent += room
        assert sent < 1_000_000
    assert len(client.answer(stream).body) == 65_535
    client.h2.increment_flow_control_window(10**6)
    client.h2.increment_flow_control_window(10**6, stream)
    client.flush()
    assert len(client.answer(stream).body) == sent
    upstream.receive()
    assert upstream.h2.local_flow_control_window(1) > 100_000


def test_back_pressure_towards_the_upstream(world: World) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    upstream = upstream_of(world, acknowledges=False)
    sent = 0
    while room := min(client.h2.local_flow_control_window(stream), 16_384):
        client.sends(stream, b"x" * room)
        sent += room
        assert sent < 1_000_000
    assert len(upstream.request(1).body) == 65_535
    upstream.h2.increment_flow_control_window(10**6)
    upstream.h2.increment_flow_control_window(10**6, 1)
    upstream.flush()
    assert len(upstream.request(1).body) == sent
    client.receive()
    assert client.h2.local_flow_control_window(stream) > 100_000


def test_a_client_that_takes_it_back(world: World) -> None:
    client = client_of(world)
    stream, other = client.asks(), client.asks()
    upstream = upstream_of(world)
    upstream.receive()
    client.resets(stream)
    assert upstream.request(1).reset == 8
    upstream.heads(3, OK, ended=True)
    assert client.answer(other).status == 200


def test_a_grant_that_ends(make_world: Any) -> None:
    world = make_world(services=[{**SERVED, "checkers": ["gate"]}])
    world.gate.answer = Grant(user="alice", key_id="k1")
    client = client_of(world)
    stream = client.begins([*POST, (b"content-type", b"application/grpc")])
    upstream = upstream_of(world)
    upstream.heads(1, OK)
    upstream.sends(1, b"\0\0\0\0\0")
    world.plane.revoke("k1")
    answer = client.answer(stream)
    assert answer.trailers[0] == (b"grpc-status", b"16")
    assert answer.ended
    assert upstream.request(1).reset == 8


@pytest.mark.parametrize("code", [7, 11])
def test_a_stream_that_the_upstream_resets(world: World, code: int) -> None:
    """REFUSED_STREAM: nothing was done, and what can be sent again is, once."""
    client = client_of(world)
    stream = client.asks()
    upstream = upstream_of(world)
    upstream.receive()
    upstream.resets(1, code)
    if code == 7:
        upstream.heads(3, OK, ended=True)
        assert client.answer(stream).status == 200
    else:
        assert client.answer(stream).status == 502
    posted = client.asks(POST, b"x")
    upstream.receive()
    upstream.resets(max(upstream.asked), 7)
    assert client.answer(posted).status == 502


def test_an_upstream_that_leaves(world: World) -> None:
    """What it has begun it finishes; what it has not goes elsewhere."""
    client = client_of(world)
    streams = [client.asks() for _ in range(3)]
    first = upstream_of(world)
    first.receive()
    first.leaves(3)
    second = upstream_of(world)
    second.heads(1, OK, (b"x-from", b"second"), ended=True)
    first.heads(1, OK, (b"x-from", b"first"), ended=True)
    assert not first.peer.saw_end
    first.heads(3, OK, (b"x-from", b"first"), ended=True)
    came = [client.answer(stream).value(b"x-from") for stream in streams]
    assert came == [b"first", b"first", b"second"]
    assert first.peer.saw_end
    client.asks()
    assert world.server.dialed == 2


def test_an_upstream_that_hangs_up(world: World) -> None:
    client = client_of(world)
    first, second = client.asks(), client.asks()
    upstream = upstream_of(world)
    upstream.receive()
    upstream.heads(1, OK)
    upstream.sends(1, b"abc")
    upstream.peer.hangs_up()
    answer = client.answer(first)
    assert (answer.body, answer.ended, answer.reset) == (b"abc", False, 2)
    again = upstream_of(world)  # the second was on a connection that had been used
    again.heads(1, OK, ended=True)
    assert client.answer(second).status == 200


def test_an_upstream_that_speaks_http1(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    world.upstream().sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert client.answer(stream).status == 502
    assert world.entry.reason == "upstream_protocol"


@pytest.mark.parametrize(
    "section",
    [
        [(b"x-a", b"b")],
        [(b":status", b"abc")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"x-a", b"b\r\nc")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"X-A", b"b")],
        [(b":status", b"200"), (b"content-length", b"5")],
    ],
)
def test_malformed_responses(world: World, section: Any) -> None:
    client = client_of(world)
    stream, other = client.asks(), client.asks()
    upstream = upstream_of(world)
    upstream.receive()
    upstream.heads(1, *section, ended=True)
    assert client.answer(stream).status == 502
    assert world.entry.reason == "bad_response"
    upstream.heads(3, OK, ended=True)
    assert client.answer(other).status == 200


@pytest.mark.parametrize("body", [b"abcd", b"ab"])
def test_a_body_that_is_not_as_long_as_it_says(world: World, body: bytes) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = upstream_of(world)
    upstream.heads(1, OK, (b"content-length", b"3"))
    upstream.sends(1, body, ended=True)
    answer = client.answer(stream)
    assert (answer.ended, answer.reset) == (False, 2)
    assert world.entry.reason == "bad_response"


def test_an_answer_before_the_request_is_complete(world: World) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    upstream = upstream_of(world)
    upstream.heads(1, (b":status", b"413"), ended=True)
    answer = client.answer(stream)
    assert (answer.status, answer.ended, answer.reset) == (413, True, None)
    world.advance(3)
    assert client.answer(stream).reset == 0
    assert upstream.request(1).reset == 0


def test_silence(world: World) -> None:
    client = client_of(world)
    silent, begun = client.asks(), client.asks()
    upstream = upstream_of(world)
    upstream.receive()
    upstream.heads(3, OK)
    world.advance(31)
    assert client.answer(begun).reset == 2
    world.advance(31)
    assert client.answer(silent).status == 504
    assert upstream.request(1).reset == 8
    assert {entry.reason for entry in world.log.entries} == {"upstream_timeout"}


def test_an_idle_connection_is_closed(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = upstream_of(world)
    upstream.heads(1, OK, ended=True)
    assert client.answer(stream).status == 200
    world.advance(31)
    upstream.receive()
    assert upstream.goaways == [(0, 0)]
    assert upstream.peer.saw_end
    assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"


def test_closing_waits_for_what_runs(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = upstream_of(world)
    upstream.receive()
    world.assembly.close()
    upstream.heads(1, OK, ended=True)
    assert client.answer(stream).status == 200
    assert upstream.peer.saw_end


def test_informational_responses(world: World) -> None:
    client = client_of(world)
    stream = client.asks()
    upstream = upstream_of(world)
    upstream.heads(1, (b":status", b"103"), (b"link", b"</a>"))
    upstream.heads(1, OK, ended=True)
    answer = client.answer(stream)
    assert answer.informational == [[(b":status", b"103"), (b"link", b"</a>")]]
    assert answer.status == 200


def test_head(world: World) -> None:
    client = client_of(world)
    stream = client.asks([(b":method", b"HEAD"), *GET[1:]])
    upstream = upstream_of(world)
    upstream.heads(1, OK, (b"content-length", b"5"), ended=True)
    answer = client.answer(stream)
    assert answer.value(b"content-length") == b"5"
    assert answer.ended
