"""However an exchange ends, it ends once and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.auth.interfaces import Deny, Grant, Unavailable, Verdict
from tests.memory import HIGH_WATER, Peer
from tests.world import (
    ALICE,
    GUARDED,
    NOW,
    PROXY,
    SERVICE,
    World,
    guarded_world,
    public_world,
    worlds,
)

world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"


def request(*fields: bytes, method: bytes = b"GET", target: bytes = b"/a?secret") -> bytes:
    lines = b"".join(field + b"\r\n" for field in (b"host: shop.example", *fields))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)


GET = request()
POST = request(b"content-length: 5", method=b"POST")
UPGRADE = request(b"connection: upgrade", b"upgrade: x")


def ask(world: World, data: bytes = GET) -> Peer:
    client = world.connect()
    client.sends(data)
    return client


def begin_waiting_for_a_verdict(world: World) -> Peer:
    world.gate.answer = None
    return ask(world, POST + b"123")


def begin_connecting(world: World) -> Peer:
    world.server.silent = True
    return ask(world, POST + b"123")


def begin_request(world: World) -> Peer:
    client = ask(world, POST + b"123")
    world.upstream().received()
    return client


def begin_response(world: World) -> Peer:
    client = ask(world)
    world.upstream().sends(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12")
    return client


def begin_stuck_response(world: World) -> Peer:
    client = ask(world)
    client.stops_reading()
    upstream = world.upstream()
    upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n" + b"x" * 3 * HIGH_WATER)
    return client


def begin_tunnel(world: World) -> Peer:
    client = ask(world, UPGRADE)
    world.upstream().sends(SWITCHED)
    return client


STATES = [
    begin_waiting_for_a_verdict,
    begin_connecting,
    begin_request,
    begin_response,
    begin_stuck_response,
    begin_tunnel,
]


class TestEnds:
    @pytest.mark.parametrize("begin", STATES)
    @pytest.mark.parametrize("leave", [Peer.hangs_up, Peer.resets])
    def test_the_client_goes(
        self, guarded: World, begin: Callable[[World], Peer], leave: Callable[[Peer], None]
    ) -> None:
        client = begin(guarded)
        assert len(guarded.plane.live) == 1
        client.takes = None  # so that a close is not waited for
        leave(client)
        guarded.advance(0)
        self.all_is_over(guarded, "ok" if begin is begin_tunnel else "client_gone")

    @pytest.mark.parametrize("begin", STATES)
    def test_it_is_cut(self, guarded: World, begin: Callable[[World], Peer]) -> None:
        client = begin(guarded)
        (exchange,) = guarded.plane.live
        exchange.cut("revoked")
        guarded.loop.settle()
        assert client.was_aborted
        exchange.cut("again")
        self.all_is_over(guarded, "revoked")

    @pytest.mark.parametrize("begin", STATES)
    def test_what_comes_after_the_end_changes_nothing(
        self, guarded: World, begin: Callable[[World], Peer]
    ) -> None:
        begin(guarded)
        (exchange,) = guarded.plane.live
        exchange.cut("revoked")
        guarded.loop.settle()
        exchange.client_lost()
        exchange.finish("again")
        exchange.watch(NOW, guarded.loop.now)
        exchange._decided(ALICE)
        exchange._dialed(guarded.origin)
        assert guarded.pool.startswith("0 active, 0 idle")
        guarded.server.answers()
        guarded.advance(400)
        self.all_is_over(guarded, "revoked")

    def all_is_over(self, world: World, reason: str) -> None:
        assert world.plane.live == set()
        assert world.pool.startswith("0 active, 0 idle")
        assert world.pool.endswith("0 queued")
        assert [entry.reason for entry in world.log.entries] == [reason]
        assert len(world.journal.records) == (0 if world.gate.waiting else 1)
        assert len(world.connections) == 0
        for waiting in world.gate.waiting:  # a verdict that comes too late
            waiting.callback(ALICE)
        world.loop.settle()
        assert len(world.log.entries) == 1

    def test_waiting_for_a_tunnels_destination(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[PROXY], services=[])
        world.names["far.example"] = ["8.8.4.4"]
        server = world.serve("8.8.4.4", 443)
        server.silent = True
        client = world.connect("proxy")
        client.sends(b"CONNECT far.example:443 HTTP/1.1\r\nhost: x\r\n\r\n")
        (exchange,) = world.plane.live
        exchange.cut("revoked")
        server.answers()
        world.loop.settle()
        assert client.was_aborted
        assert server.peers == []
        assert world.entry.reason == "revoked"

    def test_an_exchange_tells_what_it_is(self, world: World) -> None:
        ask(world)
        (exchange,) = world.plane.live
        assert repr(exchange) == f"<Exchange {1:032x} GET open>"
        world.upstream().sends(OK)
        assert repr(exchange) == f"<Exchange {1:032x} GET 200>"


class TestGrantsThatEnd:
    def running(self, world: World, grant: Grant, data: bytes = GET) -> tuple[Peer, Peer]:
        world.gate.answer = grant
        client = ask(world, data)
        upstream = world.upstream()
        upstream.sends(
            SWITCHED if data is UPGRADE else b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12"
        )
        return client, upstream

    @pytest.mark.parametrize("data", [GET, UPGRADE])
    def test_by_the_clock(self, guarded: World, data: bytes) -> None:
        client, upstream = self.running(guarded, Grant(user="alice", expires=NOW + 10), data)
        guarded.plane.watch()
        assert client.is_open
        guarded.plane.wall_clock = lambda: NOW + 10
        guarded.plane.watch()
        guarded.loop.settle()
        assert client.was_aborted
        assert upstream.was_aborted
        assert guarded.record.reason == "grant_expired"

    @pytest.mark.parametrize("verdict", [Deny("x", "y"), Unavailable("x", "y")])
    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("data", [GET, UPGRADE])
    def test_when_asked_again(
        self, guarded: World, verdict: Verdict, late: bool, data: bytes
    ) -> None:
        client, upstream = self.running(guarded, Grant(user="alice", recheck=5.0), data)
        for _ in range(2):
            guarded.advance(5)
            guarded.plane.watch()
        assert [asked.count for asked in guarded.gate.asked] == [1, 2, 3]
        assert client.is_open
        guarded.gate.answer = None if late else verdict
        guarded.advance(4)
        guarded.plane.watch()
        assert len(guarded.gate.asked) == 3
        guarded.advance(1)
        guarded.plane.watch()
        guarded.plane.watch()
        assert len(guarded.gate.asked) == 4
        if late:
            assert client.is_open
            guarded.gate.waiting[0].callback(verdict)
        guarded.loop.settle()
        assert client.was_aborted
        assert upstream.was_aborted
        assert guarded.record.reason == "grant_withdrawn"

    def test_an_answer_that_comes_too_late_is_no_answer(self, guarded: World) -> None:
        client, upstream = self.running(guarded, Grant(user="alice", recheck=5.0))
        guarded.gate.answer = None
        guarded.advance(5)
        guarded.plane.watch()
        upstream.sends(b"3456789")
        assert client.message().body == b"123456789"
        guarded.gate.waiting[0].callback(Deny("x", "y"))
        guarded.loop.settle()
        assert client.is_open
        assert guarded.record.reason == "ok"

    def test_everything_is_asked_for_when_something_has_changed(self, guarded: World) -> None:
        client, _ = self.running(guarded, ALICE)
        guarded.gate.answer = Deny("x", "y")
        guarded.plane.check_again()
        guarded.loop.settle()
        assert client.was_aborted

    def test_but_not_for_what_needs_no_grant(self, make_world: MakeWorld) -> None:
        services = [
            GUARDED | {"open_methods": ["GET"]},
            SERVICE | {"name": "public", "from": "/public"},
        ]
        world = make_world(services=services)
        world.gate.answer = Deny("x", "y")
        clients = [ask(world), ask(world, request(target=b"/public/"))]
        world.plane.check_again()
        world.loop.settle()
        assert [client.is_open for client in clients] == [True, True]
        assert world.gate.asked == []

    def test_nor_for_what_has_not_got_one_yet(self, guarded: World) -> None:
        guarded.gate.answer = None
        client = ask(guarded)
        guarded.plane.check_again()
        assert len(guarded.gate.asked) == 1
        guarded.gate.waiting[0].callback(ALICE)
        guarded.loop.settle()
        guarded.upstream().sends(OK)
        assert client.message().status == 200

    @pytest.mark.parametrize("data", [GET, UPGRADE])
    def test_when_its_key_is_revoked(self, guarded: World, data: bytes) -> None:
        client, _ = self.running(guarded, Grant(user="alice", key_id="k1"), data)
        guarded.plane.revoke("k2")
        assert client.is_open
        guarded.plane.revoke("k1")
        guarded.loop.settle()
        assert client.was_aborted
        assert guarded.record.reason == "grant_revoked"

    def test_when_a_group_is_lost(self, make_world: MakeWorld) -> None:
        access = [{"path": "/**", "groups": ["staff"]}]
        world = make_world(services=[GUARDED | {"access": access}])
        client, _ = self.running(world, Grant(user="alice", groups=frozenset({"staff"})))
        world.gate.answer = Grant(user="alice")
        world.plane.check_again()
        world.loop.settle()
        assert client.was_aborted

    def test_open_methods_pass_beside_access_rules(self, make_world: MakeWorld) -> None:
        service = GUARDED | {"open_methods": ["GET"], "access": [{"path": "/x"}]}
        world = make_world(services=[service])
        client = ask(world)
        world.upstream().sends(OK)
        assert client.message().status == 200
