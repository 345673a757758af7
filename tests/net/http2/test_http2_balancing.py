"""Several upstreams that speak HTTP/2."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.memory import Peer
from tests.net.http2.upstreams import Upstream
from tests.world import SERVICE, World

NAMES = ("one", "two")
SERVED = {
    **SERVICE,
    "http2": "always",
    "to": [f"http://{name}.example" for name in NAMES],
    "ejection": {"failures": 2},
}
GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 2\r\n\r\nhi"
OK = (b":status", b"200")


@pytest.fixture
def world() -> Iterator[World]:
    world = World(services=[SERVED])
    for name in NAMES:
        world.serve(f"{name}.example")
    yield world
    world.close()


@pytest.fixture
def ask(world: World) -> Callable[..., Peer]:
    def ask(request: bytes = GET) -> Peer:
        client = world.connect()
        client.sends(request)
        return client

    return ask


def upstream_of(world: World, name: str) -> Upstream:
    return Upstream(world.loop.servers[f"{name}.example", 80].accepted())


def states(world: World) -> list[tuple[str, int]]:
    return [
        (each.state.value, each.outstanding) for each in world.assembly.balancers["shop"].states
    ]


def test_streams_are_outstanding_requests(world: World, ask: Callable[..., Peer]) -> None:
    clients = [ask() for _ in range(2)]
    one, two = upstream_of(world, "one"), upstream_of(world, "two")
    clients += [ask() for _ in range(4)]
    assert states(world) == [("up", 3), ("up", 3)]
    for stream in (1, 3, 5):
        assert one.request(stream).values(b":authority") == [b"one.example"]
        assert two.request(stream).values(b":authority") == [b"two.example"]
    for stream in (1, 3):
        two.heads(stream, OK, ended=True)
    assert states(world) == [("up", 3), ("up", 1)]
    clients += [ask() for _ in range(2)]
    assert states(world) == [("up", 3), ("up", 3)]
    assert [client.received()[:12] for client in clients].count(b"HTTP/1.1 200") == 2
    two.receive()
    assert len(two.asked) == 5


@pytest.mark.parametrize("request_", [GET, POST])
def test_what_was_not_sent_moves_on(
    world: World, ask: Callable[..., Peer], request_: bytes
) -> None:
    del world.loop.servers["one.example", 80]
    client = ask(request_)
    two = upstream_of(world, "two")
    assert two.request(1).body == request_.partition(b"\r\n\r\n")[2]
    two.heads(1, OK, ended=True)
    assert client.message().status == 200


def test_who_does_not_speak_it_is_left_alone(world: World, ask: Callable[..., Peer]) -> None:
    waiting = [ask() for _ in range(6)]
    two = upstream_of(world, "two")
    assert states(world) == [("up", 3), ("up", 3)]
    world.loop.servers["one.example", 80].accepted().hangs_up()
    assert states(world) == [("ejected", 0), ("up", 6)]
    for stream in range(1, 12, 2):
        two.request(stream)
        two.heads(stream, OK, ended=True)
    assert [client.message().status for client in waiting] == [200] * 6


def test_a_hung_connection_is_not_used_for_the_probe(
    world: World, ask: Callable[..., Peer]
) -> None:
    clients = [ask() for _ in range(2)]
    one, two = upstream_of(world, "one"), upstream_of(world, "two")
    clients += [ask() for _ in range(2)]
    assert one.asked.keys() == two.asked.keys()
    for stream in (1, 3):
        two.request(stream)
        two.heads(stream, OK, ended=True)
    world.advance(61)
    assert [client.message().status for client in clients] == [504, 200, 504, 200]
    assert states(world) == [("ejected", 0), ("up", 0)]
    world.advance(11)
    clients = [ask() for _ in range(2)]
    again = upstream_of(world, "one")
    again.request(1)
    again.heads(1, OK, ended=True)
    assert states(world)[0] == ("up", 0)


def test_what_the_upstream_has_not_begun_is_sent_again(
    world: World, ask: Callable[..., Peer]
) -> None:
    client = ask()
    one = upstream_of(world, "one")
    one.request(1)
    one.resets(1, 7)  # REFUSED_STREAM
    two = upstream_of(world, "two")
    two.request(1)
    two.heads(1, OK, ended=True)
    assert client.message().status == 200
    assert states(world) == [("up", 0), ("up", 0)]
