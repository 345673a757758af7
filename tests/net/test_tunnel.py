"""Tunnels: after CONNECT, and after 101."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.memory import HIGH_WATER, Peer, Server
from tests.world import PROXY, World, public_world, worlds

make_world = pytest.fixture(worlds)
gateway = pytest.fixture(public_world)

MakeWorld = Callable[..., World]

CONNECT = b"CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\r\n"
ESTABLISHED = re.compile(
    rb"HTTP/1\.1 200 Connection established\r\nx-request-id: (?P<id>[0-9A-Za-z]+)\r\n\r\n"
)
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nhost: shop.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: abc\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: def\r\n\r\n"
)
EMPTY = "0 active, 0 idle, 0 connecting, 0 queued"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A forward proxy for everybody, and somebody at ``far.example:443``."""
    world = make_world(listeners=[PROXY | {"checkers": []}], services=[])
    world.names["far.example"] = ["8.8.4.4"]
    world.server = world.serve("8.8.4.4", 443)
    return world


def tunnel(world: World, *, can_half_close: bool = True) -> tuple[Peer, Peer]:
    client = world.connect("proxy", can_half_close=can_half_close)
    client.sends(CONNECT)
    assert ESTABLISHED.fullmatch(client.received())
    return client, world.upstream()


class TestConnect:
    def test_bytes_both_ways(self, world: World) -> None:
        client, upstream = tunnel(world)
        assert upstream.received() == b""
        client.sends(b"ping", b"ping")
        assert upstream.received() == b"pingping"
        upstream.sends(b"HTTP/1.1 400 not for us\r\n\r\n")
        assert client.received() == b"HTTP/1.1 400 not for us\r\n\r\n"
        client.hangs_up()
        assert upstream.was_closed
        entry = world.entry
        assert (entry.method, entry.path, entry.host) == (
            "CONNECT", "far.example:443", "far.example:443",
        )  # fmt: skip
        assert (entry.status, entry.bytes_in, entry.bytes_out) == (200, 8, 27)
        assert entry.reason == "ok"
        assert world.plane.live == set()
        assert len(world.connections) == 0

    def test_the_answer_names_the_request(self, world: World) -> None:
        client = world.connect("proxy")
        client.sends(CONNECT)
        head = ESTABLISHED.fullmatch(client.received())
        assert head
        client.hangs_up()
        assert head["id"].decode() == world.entry.id

    def test_what_came_with_the_request_passes(self, world: World) -> None:
        client = world.connect("proxy")
        client.sends(CONNECT + b"hello")
        assert ESTABLISHED.fullmatch(client.received())
        upstream = world.upstream()
        assert upstream.received() == b"hello"
        client.sends(b", you")
        assert upstream.received() == b", you"
        client.hangs_up()
        assert world.entry.bytes_in == 10

    def test_what_comes_while_connecting_passes_too(self, world: World) -> None:
        client = world.connect("proxy")
        client.sends_at_once(CONNECT)
        client.sends_at_once(b"hello")
        world.loop.settle()
        assert world.upstream().received() == b"hello"

    def test_one_that_speaks_first(self, world: World) -> None:
        client = world.connect("proxy")
        client.sends_at_once(CONNECT)
        while not world.server.peers:
            world.loop.turn()
        upstream = world.upstream()
        upstream.sends_at_once(b"220 ready")
        world.loop.settle()
        assert ESTABLISHED.split(client.received())[2:] == [b"220 ready"]

    @pytest.mark.parametrize(
        ("error", "status"), [(ConnectionRefusedError(), 502), (TimeoutError(), 504)]
    )
    def test_no_connection(self, world: World, error: Exception, status: int) -> None:
        world.server.error = error
        client = world.connect("proxy")
        client.sends(CONNECT)
        assert client.message().status == status

    def test_no_answer(self, world: World) -> None:
        world.server.silent = True
        client = world.connect("proxy")
        client.sends(CONNECT)
        world.advance(6)
        assert client.message().status == 504

    def test_behind_a_refusal_nothing_is_read_as_a_request(self, world: World) -> None:
        """It was meant for the tunnel, and somebody else may have written it."""
        world.server.error = ConnectionRefusedError()
        client = world.connect("proxy")
        client.sends(CONNECT + b"GET http://far.example/ HTTP/1.1\r\nhost: far.example\r\n\r\n")
        message = client.message()
        assert message.status == 502
        assert message.values(b"connection") == [b"close"]
        assert client.saw_end
        assert len(world.log.entries) == 1

    def test_a_client_that_goes_while_connecting(self, world: World) -> None:
        client = world.connect("proxy")
        client.sends_at_once(CONNECT)
        client.hangs_up()
        assert [peer for peer in world.server.peers if peer.is_open] == []
        assert world.entry.reason == "client_gone"

    @pytest.mark.parametrize("turns", range(8))
    def test_whenever_it_goes(self, world: World, turns: int) -> None:
        client = world.connect("proxy")
        client.sends_at_once(CONNECT)
        for _ in range(turns):
            world.loop.turn()
        client.resets()
        assert [peer for peer in world.server.peers if peer.is_open] == []
        assert len(world.log.entries) == 1
        assert world.plane.live == set()
        assert len(world.connections) == 0


class TestEnds:
    def test_the_client_sends_no_more(self, world: World) -> None:
        client, upstream = tunnel(world)
        client.sends(b"question")
        client.shuts_down()
        assert upstream.received() == b"question"
        assert upstream.saw_end
        assert upstream.is_open
        upstream.sends(b"answer")
        assert client.received() == b"answer"
        assert world.log.entries == []
        upstream.shuts_down()
        assert client.was_closed
        assert upstream.was_closed
        assert (world.entry.bytes_in, world.entry.bytes_out) == (8, 6)

    def test_the_upstream_sends_no_more(self, world: World) -> None:
        client, upstream = tunnel(world)
        upstream.sends(b"all I have")
        upstream.shuts_down()
        assert client.received() == b"all I have"
        assert client.saw_end
        assert client.is_open
        client.sends(b"thanks")
        assert upstream.received() == b"thanks"
        client.shuts_down()
        assert client.was_closed
        assert upstream.was_closed

    def test_half_a_tunnel_ends_when_nothing_moves(self, world: World) -> None:
        client, upstream = tunnel(world)
        client.shuts_down()
        world.advance(301)
        assert client.was_aborted
        assert upstream.was_aborted
        assert world.entry.reason == "tunnel_idle"

    def test_where_tls_cannot_close_half_the_whole_is_closed(self, world: World) -> None:
        client, upstream = tunnel(world, can_half_close=False)
        client.sends(b"question")
        client.shuts_down()
        assert upstream.received() == b"question"
        assert upstream.was_closed
        assert client.was_closed

    def test_so_it_is_the_other_way_round(self, world: World) -> None:
        client, upstream = tunnel(world, can_half_close=False)
        upstream.sends(b"answer")
        upstream.shuts_down()
        assert client.received() == b"answer"
        assert client.was_closed
        assert upstream.was_closed
        assert world.entry.reason == "ok"

    @pytest.mark.parametrize("first", [0, 1])
    def test_one_is_reset(self, world: World, first: int) -> None:
        pair = tunnel(world)
        pair[first].resets()
        assert pair[1 - first].was_aborted  # what came before may not be all
        assert world.plane.live == set()
        assert len(world.log.entries) == 1

    def test_what_is_on_the_way_arrives(self, world: World) -> None:
        client, upstream = tunnel(world)
        client.stops_reading()
        upstream.sends(b"x" * 100)
        upstream.hangs_up()
        assert client.is_open
        client.goes_on_reading()
        assert client.received() == b"x" * 100
        assert client.was_closed

    def test_but_nobody_waits_for_ever(self, world: World) -> None:
        client, upstream = tunnel(world)
        client.stops_reading()
        upstream.sends(b"x" * 100)
        upstream.hangs_up()
        assert client.is_open
        world.advance(301)
        assert not client.is_open
        assert len(world.connections) == 0
        assert len(world.log.entries) == 1

    def test_idle(self, world: World) -> None:
        client, upstream = tunnel(world)
        for each in (client, upstream):
            world.advance(299)
            each.sends(b".")
        world.advance(299)
        assert client.is_open
        world.advance(2)
        assert client.was_aborted
        assert upstream.was_aborted
        assert world.entry.reason == "tunnel_idle"

    def test_a_tunnel_is_one_of_the_clients_connections(self, make_world: MakeWorld) -> None:
        world = make_world(
            listeners=[PROXY | {"checkers": []}], services=[], limits={"connections": 1}
        )
        world.names["far.example"] = ["8.8.4.4"]
        world.server = world.serve("8.8.4.4", 443)
        client, _ = tunnel(world)
        assert world.connect("proxy").was_aborted
        client.hangs_up()
        assert world.connect("proxy").is_open


class TestBackPressure:
    @pytest.mark.parametrize("slow", [0, 1])
    def test_who_does_not_read_stops_the_other(self, world: World, slow: int) -> None:
        pair = tunnel(world)
        reader, writer = pair[slow], pair[1 - slow]
        reader.stops_reading()
        writer.sends(b"x" * 2 * HIGH_WATER)
        assert not writer.is_read
        writer.sends(b"y" * HIGH_WATER)
        assert reader.unsent == 2 * HIGH_WATER
        assert reader.is_read
        reader.goes_on_reading()
        assert writer.is_read
        assert reader.received() == b"x" * 2 * HIGH_WATER + b"y" * HIGH_WATER

    def test_from_the_first_byte_on(self, gateway: World) -> None:
        """The answer itself may fill the client."""
        client = gateway.connect()
        client.stops_reading()
        client.sends(UPGRADE)
        upstream = gateway.upstream()
        upstream.sends(SWITCHED + b"x" * 2 * HIGH_WATER)
        assert not upstream.is_read
        client.goes_on_reading()
        assert upstream.is_read


class TestUpgrade:
    def test_a_websocket(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(UPGRADE)
        upstream = gateway.upstream()
        request = upstream.message()
        assert request.line == b"GET /chat HTTP/1.1"
        assert request.values(b"connection") == [b"upgrade"]
        assert request.values(b"upgrade") == [b"websocket"]
        assert request.values(b"sec-websocket-key") == [b"abc"]
        upstream.sends(SWITCHED + b"early")
        answer = client.message()
        assert answer.line == b"HTTP/1.1 101 Switching Protocols"
        assert answer.fields == [
            (b"Sec-WebSocket-Accept", b"def"),
            (b"via", b"1.1 gatekeeper-test"),
            (b"x-request-id", b"%032x" % 1),
            (b"connection", b"upgrade"),
            (b"upgrade", b"websocket"),
        ]
        assert answer.body == b"early"
        client.sends(b"frame")
        assert upstream.received() == b"frame"
        upstream.hangs_up()
        assert client.was_closed
        entry = gateway.entry
        assert (entry.status, entry.upstream_status, entry.reason) == (101, 101, "ok")
        assert (entry.bytes_in, entry.bytes_out) == (5, 5)
        assert gateway.pool == EMPTY

    def test_byte_by_byte(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends_bytewise(UPGRADE)
        upstream = gateway.upstream()
        upstream.sends_bytewise(SWITCHED + b"early")
        assert client.message().body == b"early"

    def test_a_clients_early_frames_pass(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(UPGRADE + b"one", b"two")
        upstream = gateway.upstream()
        assert upstream.message().body == b""
        upstream.sends(SWITCHED)
        assert upstream.received() == b"onetwo"

    def test_nobody_asked(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(b"GET /chat HTTP/1.1\r\nhost: shop.example\r\nupgrade: websocket\r\n\r\n")
        upstream = gateway.upstream()
        assert b"upgrade" not in upstream.message().names()
        upstream.sends(SWITCHED + b"GET / HTTP/1.1\r\n\r\n")
        assert client.message().status == 502
        assert upstream.was_aborted

    def test_another_answer_is_an_answer(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(UPGRADE)
        upstream = gateway.upstream()
        upstream.received()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
        assert client.message().body == b"no"
        client.sends(b"GET /b HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        assert upstream.message().line == b"GET /b HTTP/1.1"
        upstream.sends(SWITCHED)
        assert client.message().status == 502

    @pytest.mark.parametrize(
        "fields",
        [
            b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n",
            b"connection: upgrade\r\nupgrade: websocket, H2C\r\n",
            b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n",
        ],
    )
    def test_some_are_never_passed_on(self, gateway: World, fields: bytes) -> None:
        client = gateway.connect()
        client.sends(b"GET /chat HTTP/1.1\r\nhost: shop.example\r\n%b\r\n" % fields)
        upstream = gateway.upstream()
        names = upstream.message().names()
        assert names.isdisjoint({b"upgrade", b"connection", b"http2-settings"})
        upstream.sends(SWITCHED)
        assert client.message().status == 502

    def test_nor_is_one_of_http_10(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert b"upgrade" not in gateway.upstream().message().names()

    def test_what_is_silent_for_too_long(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(UPGRADE)
        upstream = gateway.upstream()
        upstream.sends(SWITCHED)
        gateway.advance(301)
        assert client.was_aborted
        assert upstream.was_aborted
        assert gateway.entry.reason == "tunnel_idle"

    def test_a_revoked_one_is_cut_at_once(self, gateway: World) -> None:
        client = gateway.connect()
        client.sends(UPGRADE)
        upstream = gateway.upstream()
        upstream.sends(SWITCHED)
        (exchange,) = gateway.plane.live
        exchange.cut("revoked")
        exchange.cut("again")
        gateway.loop.settle()
        assert client.was_aborted
        assert upstream.was_aborted
        assert gateway.entry.reason == "revoked"
        assert len(gateway.connections) == 0


def test_half_closing_is_up_to_the_upstream_as_well(make_world: MakeWorld) -> None:
    world = make_world(listeners=[PROXY | {"checkers": []}], services=[])
    world.names["far.example"] = ["8.8.4.4"]
    world.server = world.loop.servers["8.8.4.4", 443] = Server(can_half_close=False)
    client, upstream = tunnel(world)
    client.sends(b"question")
    client.shuts_down()
    assert upstream.received() == b"question"
    assert upstream.was_closed
    assert client.was_closed
