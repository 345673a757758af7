"""Upstream connections: who gets one, who waits, who is turned away."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from gatekeeper.errors import UpstreamError
from gatekeeper.net.pool import Decision, PoolLimits, decide, explain
from tests.memory import Peer
from tests.world import World, public_world, worlds

world = pytest.fixture(public_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def ask(world: World) -> Peer:
    client = world.connect()
    client.sends(GET)
    return client


@pytest.mark.parametrize(
    ("idle", "total", "queued", "decision"),
    [
        (1, 2, 0, Decision.REUSE),
        (0, 0, 0, Decision.CONNECT),
        (0, 1, 5, Decision.CONNECT),
        (0, 2, 0, Decision.WAIT),
        (0, 2, 2, Decision.WAIT),
        (0, 2, 3, Decision.REFUSE),
    ],
)
def test_the_decision(idle: int, total: int, queued: int, decision: Decision) -> None:
    limits = PoolLimits(connections=2, idle=2, queue=3)
    assert decide(idle, total, queued, limits) is decision


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ConnectionRefusedError(), 502, "connect_failed"),
        (TimeoutError(), 504, "connect_timeout"),
        (ssl.SSLCertVerificationError(), 502, "upstream_tls"),
        (UpstreamError("own", "its own", status=599), 599, "own"),
    ],
)
def test_why_an_upstream_is_not_reached(error: Exception, status: int, reason: str) -> None:
    refusal = explain(error)
    assert (refusal.status, refusal.reason) == (status, reason)


class TestLeasing:
    def test_counts(self, world: World) -> None:
        assert repr(world.origin) == (
            "<Origin http://origin.example: 0 active, 0 idle, 0 connecting, 0 queued>"
        )
        ask(world)
        assert world.pool == "1 active, 0 idle, 0 connecting, 0 queued"
        world.upstream().sends(OK)
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"

    def test_each_request_has_a_connection_to_itself(self, world: World) -> None:
        clients = [ask(world) for _ in range(3)]
        assert world.pool == "3 active, 0 idle, 0 connecting, 0 queued"
        peers = [world.upstream() for _ in range(3)]
        for number, peer in enumerate(peers):
            peer.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)
        assert [client.message().body for client in clients] == [b"0", b"1", b"2"]
        assert world.pool == "0 active, 3 idle, 0 connecting, 0 queued"

    def test_the_one_used_last_is_used_first(self, world: World) -> None:
        for _ in range(2):
            ask(world)
        first, second = world.upstream(), world.upstream()
        first.sends(OK)
        second.sends(OK)
        second.received()
        ask(world)
        assert second.received()
        assert world.pool == "1 active, 1 idle, 0 connecting, 0 queued"

    def test_above_the_bound_they_wait_their_turn(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1})
        clients = [ask(world) for _ in range(3)]
        assert world.pool == "1 active, 0 idle, 0 connecting, 2 queued"
        upstream = world.upstream()
        for number, client in enumerate(clients):
            assert upstream.received()
            upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)
            assert client.message().body == b"%d" % number
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"
        assert world.server.dialed == 1

    def test_above_the_queues_bound_they_are_turned_away(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1, "queue": 1})
        ask(world)
        ask(world)
        answer = ask(world).message()
        assert answer.status == 503
        assert answer.values(b"retry-after") == [b"1"]
        assert world.entry.reason == "upstream_busy"
        assert world.pool == "1 active, 0 idle, 0 connecting, 1 queued"

    def test_who_waits_too_long_is_told_so(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1}, timeouts={"body": 1000.0})
        ask(world)
        world.upstream().sends(b"HTTP/1.1 200 OK\r\n\r\nall day long")
        waiting = ask(world)
        world.advance(30)
        later = ask(world)
        world.advance(31)
        assert waiting.message().status == 503
        assert later.received() == b""
        world.advance(30)
        assert later.message().status == 503
        assert world.pool == "1 active, 0 idle, 0 connecting, 0 queued"

    def test_who_goes_away_while_waiting_is_forgotten(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1})
        ask(world)
        gone, waiting = ask(world), ask(world)
        gone.hangs_up()
        assert world.pool == "1 active, 0 idle, 0 connecting, 1 queued"
        upstream = world.upstream()
        upstream.sends(OK, OK)
        assert waiting.message().status == 200
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"

    def test_who_goes_away_while_connecting_leaves_a_good_connection(self, world: World) -> None:
        world.server.silent = True
        client = ask(world)
        assert world.pool == "0 active, 0 idle, 1 connecting, 1 queued"
        client.hangs_up()
        world.server.answers()
        world.loop.settle()
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"
        assert world.upstream().received() == b""
        assert world.entry.reason == "client_gone"

    def test_a_lost_connection_makes_room_for_who_waits(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1})
        first, second = ask(world), ask(world)
        world.upstream().hangs_up()
        assert first.message().status == 502
        world.upstream().sends(OK)
        assert second.message().status == 200

    def test_a_tunnel_does_not_count(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1})
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"))
        waiting = ask(world)
        world.upstream().sends(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
        )
        world.upstream().sends(OK)
        assert waiting.message().status == 200
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"

    def test_no_more_are_kept_than_wanted(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"idle": 1})
        for _ in range(2):
            ask(world)
        peers = [world.upstream(), world.upstream()]
        for peer in peers:
            peer.sends(OK)
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"
        assert [peer.is_open for peer in peers] == [True, False]


class TestConnecting:
    def test_refused(self, world: World) -> None:
        world.server.error = ConnectionRefusedError()
        assert ask(world).message().status == 502
        assert world.entry.reason == "connect_failed"
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"

    def test_silence(self, world: World) -> None:
        world.server.silent = True
        client = ask(world)
        world.advance(4)
        assert client.received() == b""
        world.advance(2)
        assert client.message().status == 504
        assert world.entry.reason == "connect_timeout"
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"

    def test_everybody_who_waits_gets_an_attempt(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1})
        clients = [world.connect() for _ in range(3)]
        world.server.error = ConnectionRefusedError()
        for client in clients:
            client.sends_at_once(GET)
        world.loop.settle()
        assert [client.message().status for client in clients] == [502, 502, 502]
        assert world.server.dialed == 3
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"

    def test_a_better_one_than_the_first(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1})
        first, second = world.connect(), world.connect()
        world.server.error = ConnectionRefusedError()
        first.sends_at_once(GET)
        second.sends_at_once(GET)
        world.loop.turn()
        world.server.error = None
        world.loop.settle()
        assert first.message().status == 502
        world.upstream().sends(OK)
        assert second.message().status == 200

    def test_who_comes_just_then_does_not_wait_for_the_others(self, make_world: MakeWorld) -> None:
        """A connection that is just up is not counted twice."""
        world = make_world(pool={"connections": 2})
        first, second = world.connect(), world.connect()
        first.sends_at_once(GET)
        while not world.server.peers:
            world.loop.turn()
        second.sends_at_once(GET)
        world.loop.settle()
        assert world.pool == "2 active, 0 idle, 0 connecting, 0 queued"


class TestClosing:
    def test_idle_connections_go_at_once_others_when_they_are_free(self, world: World) -> None:
        ask(world)
        ask(world)
        idle, busy = world.upstream(), world.upstream()
        idle.sends(OK)
        world.assembly.close()
        world.loop.settle()
        assert idle.was_closed
        assert busy.is_open
        busy.sends(OK)
        assert busy.was_closed
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"
