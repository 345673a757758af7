"""Flow control both ways: nobody's buffer grows because somebody else is slow."""

from typing import Any

import pytest
from h2.settings import SettingCodes

from tests.net.http2.clients import POST, client_of
from tests.world import World, public_world, worlds

make_world = pytest.fixture(worlds)
world = pytest.fixture(public_world)

BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


def test_a_client_that_does_not_open_its_window_stops_the_upstream(world: World) -> None:
    client = client_of(world, acknowledges=False)
    stream = client.asks()
    upstream = world.upstream()
    upstream.sends(BIG + b"x" * 100_000)
    assert not upstream.is_read
    assert len(client.answer(stream).body) == 65_535
    client.h2.increment_flow_control_window(200_000)
    client.flush()
    assert len(client.answer(stream).body) == 65_535  # the stream's window is shut as well
    client.h2.increment_flow_control_window(34_464, stream)
    client.flush()
    assert len(client.answer(stream).body) == 99_999
    assert not upstream.is_read
    client.h2.increment_flow_control_window(900_001, stream)
    client.flush()
    assert len(client.answer(stream).body) == 100_000
    assert upstream.is_read
    upstream.sends(b"y" * 800_000)
    assert not upstream.is_read
    upstream.sends(b"y" * 100_000)
    assert len(client.answer(stream).body) < 300_000
    client.h2.increment_flow_control_window(1_000_000)
    client.flush()
    answer = client.answer(stream)
    assert answer.body == b"x" * 100_000 + b"y" * 900_000
    assert answer.ended
    assert client.raw.count(b"x") >= 100_000


def test_a_client_that_does_not_read_stops_the_upstream(world: World) -> None:
    client = client_of(world, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    client.h2.increment_flow_control_window(2**29)
    client.flush()
    stream = client.asks()
    upstream = world.upstream()
    client.peer.stops_reading()
    upstream.sends(BIG + b"x" * 200_000)
    assert not upstream.is_read
    assert not client.peer.is_read
    client.peer.goes_on_reading()
    assert upstream.is_read
    assert client.peer.is_read
    upstream.sends(b"x" * 800_000)
    answer = client.answer(stream)
    assert len(answer.body) == 1_000_000
    assert answer.ended


def test_a_client_that_does_not_read_is_cut(world: World) -> None:
    client = client_of(world, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    client.h2.increment_flow_control_window(2**29)
    client.flush()
    client.asks()
    client.peer.stops_reading()
    world.upstream().sends(BIG + b"x" * 1_000_000)
    world.advance(20)
    assert client.peer.is_open
    world.advance(20)
    assert not client.peer.is_open
    assert world.plane.live == set()
    assert len(world.connections) == 0


@pytest.mark.parametrize("whole", [True, False])
def test_a_window_that_stays_shut_ends_the_stream(world: World, whole: bool) -> None:
    """The response may have come as a whole, and be counted: nothing is kept for ever."""
    client = client_of(world, acknowledges=False, settings={SettingCodes.INITIAL_WINDOW_SIZE: 10})
    stream = client.asks()
    body = b"x" * (1_000_000 if whole else 1000)
    world.upstream().sends(BIG + body)
    assert client.answer(stream).body == b"x" * 10
    world.advance(31)
    answer = client.answer(stream)
    assert not answer.ended
    assert answer.reset is not None
    assert client.goaways == []
    assert world.entry.reason == ("ok" if whole else "client_stuck")
    assert world.plane.live == set()


def test_streams_share_the_connection_fairly(world: World) -> None:
    client = client_of(
        world, acknowledges=False, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**20}
    )
    streams = [client.asks() for _ in range(4)]
    for _ in streams:
        world.upstream().sends(BIG + b"x" * 200_000)
    for _ in range(8):
        client.h2.increment_flow_control_window(30_000)
        client.flush()
    lengths = [len(client.answer(stream).body) for stream in streams]
    assert sum(lengths) == 65_535 + 240_000
    assert min(lengths) >= 30_000


def test_an_upstream_that_does_not_read_stops_the_client(world: World) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    client.sends(stream, b"")
    upstream = world.upstream()
    upstream.received()
    upstream.stops_reading()
    sent = 0
    while room := min(client.h2.local_flow_control_window(stream), 16_384):
        client.sends(stream, b"x" * room)
        sent += room
        assert sent < 1_000_000
    assert upstream.unsent < 400_000
    upstream.goes_on_reading()
    client.receive()
    assert client.h2.local_flow_control_window(stream) > 100_000
    client.sends(stream, b"", ended=True)
    upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.answer(stream).status == 200
    assert world.entry.bytes_in == sent


def test_an_upstream_that_never_reads(world: World) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    upstream = world.upstream()
    upstream.stops_reading()
    while room := min(client.h2.local_flow_control_window(stream), 16_384):
        client.sends(stream, b"x" * room)
    world.advance(31)
    assert client.answer(stream).status == 504
    assert world.entry.reason == "upstream_timeout"


def test_what_comes_before_the_upstream_is_there_waits(world: World) -> None:
    world.server.silent = True
    client = client_of(world)
    stream = client.begins(POST)
    while room := min(client.h2.local_flow_control_window(stream), 16_384):
        client.sends(stream, b"x" * room)
    other = client.begins(POST)
    assert client.h2.local_flow_control_window(other) > 200_000  # it has a window of its own
    world.server.answers()
    world.loop.settle()
    assert len(world.upstream().message().body) > 262_144
    client.receive()
    assert client.h2.local_flow_control_window(stream) > 100_000


def test_a_slow_body(world: World) -> None:
    client = client_of(world)
    stream = client.begins(POST)
    world.upstream()
    for _ in range(3):
        world.advance(20)
        client.sends(stream, b"x")
    world.advance(31)
    answer = client.answer(stream)
    assert (answer.status, answer.ended, answer.reset) == (408, True, None)
    world.advance(3)
    assert client.answer(stream).reset == 0
    assert world.entry.reason == "slow_body"


def test_who_has_an_answer_may_take_his_time(world: World) -> None:
    """Both sides of a call talk when they like; only the upstream's silence counts."""
    client = client_of(world)
    stream = client.begins(POST)
    upstream = world.upstream()
    upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    for _ in range(4):
        world.advance(20)
        upstream.sends(b"1\r\na\r\n")
    answer = client.answer(stream)
    assert answer.body == b"aaaaa"
    assert answer.reset is None
    world.advance(31)
    assert client.answer(stream).reset == 2
    assert world.entry.reason == "upstream_timeout"


def test_the_memory_of_a_connection_is_bounded(make_world: Any) -> None:
    """All streams of a connection together may not send more than its window."""
    world = make_world()
    world.server.silent = True
    client = client_of(world)
    sent = 0
    for _ in range(50):
        stream = client.begins(POST)
        while room := min(client.h2.local_flow_control_window(stream), 16_384):
            client.sends(stream, b"x" * room)
            sent += room
    assert sent == 1_048_576
