"""Whatever happens, in whatever order: every exchange ends once, and leaves nothing behind."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from gatekeeper.auth.interfaces import ABSTAIN, Deny, Grant, Unavailable, Verdict
from gatekeeper.net.dialing import Dialer
from gatekeeper.net.pool import Origin
from gatekeeper.net.upstream import UpstreamConnection
from tests.memory import HIGH_WATER, Peer, Server
from tests.world import ALICE, GATEWAY, GUARDED, NOW, PROXY, World

HOST = b" HTTP/1.1\r\nhost: shop.example\r\n"
GET = b"GET /a" + HOST + b"\r\n"
BIG = b"x" * (HIGH_WATER + 1000)

REQUESTS = {
    "get": GET,
    "three gets": GET * 3,
    "head": b"HEAD /a" + HOST + b"\r\n",
    "old get": b"GET /a HTTP/1.0\r\n\r\n",
    "last get": b"GET /a" + HOST + b"connection: close\r\n\r\n",
    "get with trailers": b"GET /a" + HOST + b"connection: te\r\nte: trailers\r\n\r\n",
    "post and get": b"POST /a" + HOST + b"content-length: 5\r\n\r\n12345" + GET,
    "half a post": b"POST /a" + HOST + b"content-length: 5\r\n\r\n12",
    "polite post": b"POST /a" + HOST + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n",
    "big put": b"PUT /a" + HOST + b"content-length: 999999\r\n\r\n" + BIG,
    "chunked post": b"POST /a" + HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "upgrade": b"GET /a" + HOST + b"connection: upgrade\r\nupgrade: x\r\n\r\n",
}
PROXY_REQUESTS = {
    "connect": b"CONNECT far.example:443" + HOST + b"\r\n",
    "eager connect": b"CONNECT far.example:443" + HOST + b"\r\nearly",
    "private connect": b"CONNECT near.example:443" + HOST + b"\r\n",
    "far get": b"GET http://far.example/a" + HOST + b"\r\n",
    "half a far post": b"POST http://far.example/a" + HOST + b"content-length: 5\r\n\r\n123",
}
FROM_CLIENTS = {
    "half a get": GET[:20],
    "the other half": GET[20:],
    "an empty line": b"\r\n",
    "three bytes": b"123",
    "a chunk": b"3\r\nabc\r\n",
    "the last chunk": b"0\r\n\r\n",
    "trailers": b"0\r\na: b\r\n\r\n",
    "very much": BIG,
    "a bad head": b"GET /a" + HOST + b"bad header: x\r\n\r\n",
    "a bad target": b"GET /a/../b" + HOST + b"\r\n",
    "trace": b"TRACE /a" + HOST + b"\r\n",
    "no HTTP at all": b"\x16\x03\x01",
}

OK = b"HTTP/1.1 200 OK\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
ANSWERS = {
    "ok": OK + b"content-length: 2\r\n\r\nhi",
    "the last ok": OK + b"content-length: 2\r\nconnection: close\r\n\r\nhi",
    "ok and nothing": OK + b"content-length: 0\r\n\r\n",
    "ok, five bytes to come": OK + b"content-length: 5\r\n\r\n",
    "ok, much to come": OK + b"content-length: %d\r\n\r\n%b" % (2 * len(BIG), BIG),
    "ok, chunks to come": OK + b"transfer-encoding: chunked\r\n\r\n",
    "ok in chunks": OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: b\r\n\r\n",
    "ok until the end": OK + b"\r\nall day long",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "many hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10,
    "switched": SWITCHED,
    "switched, and much": SWITCHED + BIG,
}
FROM_UPSTREAMS = {
    "half a head": b"HTTP/1.1 200 O",
    "the other half": b"K\r\n\r\n",
    "too much": OK + b"content-length: 2\r\n\r\nhi!",
    "five bytes": b"12345",
    "very much": BIG,
    "a big chunk": b"%x\r\n%b\r\n" % (len(BIG), BIG),
    "a chunk": b"1\r\nx\r\n",
    "the last chunk": b"0\r\n\r\n",
    "trailers": b"0\r\na: b\r\n\r\n",
    "no HTTP at all": b"nonsense\r\n\r\n",
}

VERDICTS: dict[str, Verdict | Exception | None] = {
    "grant": ALICE,
    "grant nobody": Grant(),
    "grant for a minute": Grant(user="alice", expires=NOW + 60, recheck=5.0),
    "deny": Deny("denied", "No."),
    "unavailable": Unavailable("away", "Later."),
    "abstain": ABSTAIN,
    "fail": ValueError("broken"),
    "later": None,
}

ACTS = [
    "stops_reading", "goes_on_reading", "shuts_down", "shuts_down_at_once", "hangs_up", "resets",
]  # fmt: skip

numbers = st.integers(min_value=0, max_value=11)
verdicts = st.sampled_from([*["grant"] * 4, *["later"] * 2, *sorted(VERDICTS)])


class InOrder(dict[Any, None]):
    """A set that tells its members in the order they came: a run must be the same every time."""

    def add(self, member: object) -> None:
        self[member] = None

    def discard(self, member: object) -> None:
        self.pop(member, None)


class Traffic(RuleBasedStateMachine):
    """Some clients, two upstreams, and everything that they and the clock may do."""

    expected: ClassVar[set[str]] = {"Checker {checker} failed: {kind} at {place}"}

    @initialize()
    def begin(self) -> None:
        self.world = World(
            listeners=[GATEWAY, PROXY],
            services=[GUARDED | {"limits": {"body": 10_000_000}}],
            pool={"connections": 2, "idle": 1, "queue": 2},
            limits={"connections": 4, "connections_per_peer": 4, "drain": 1000},
        )
        world = self.world
        world.sweep.timed = InOrder()  # type: ignore[assignment]
        world.plane.live = InOrder()  # type: ignore[assignment]
        world.names = {"far.example": ["8.8.4.4"], "near.example": ["10.0.0.1"]}
        world.plane.wall_clock = lambda: NOW + world.loop.now - 1000.0
        self.servers = [
            world.server,
            world.serve("8.8.4.4", 80),
            world.serve("8.8.4.4", 443),
        ]
        self.clients: list[Peer] = []

    @property
    def upstreams(self) -> list[Peer]:
        return [peer for server in self.servers for peer in server.peers if peer.is_open]

    @property
    def asked(self) -> list[Peer]:
        """Upstreams that have been sent something that they have not answered."""
        return [peer for peer in self.upstreams if peer.arrived]

    def origins(self) -> list[Origin]:
        dialers = [
            each.upstream
            for each in self.world.assembly.served
            if isinstance(each.upstream, Dialer)
        ]
        return [
            self.world.origin,
            *(origin for dialer in dialers for _, origin in dialer._origins.values()),
        ]

    # --- clients --------------------------------------------------------------------------

    @rule(name=st.sampled_from(sorted(REQUESTS)), halves=st.booleans())
    def a_client_comes(self, name: str, halves: bool) -> None:
        self.come("public", REQUESTS[name], halves)

    @rule(name=st.sampled_from(sorted(PROXY_REQUESTS)), halves=st.booleans())
    def a_proxys_client_comes(self, name: str, halves: bool) -> None:
        self.come("proxy", PROXY_REQUESTS[name], halves)

    def come(self, listener: str, data: bytes, halves: bool) -> None:
        self.clients = [client for client in self.clients if client.is_open]
        self.clients.append(self.world.connect(listener, can_half_close=halves))
        self.clients[-1].sends(data)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, name=st.sampled_from(sorted(REQUESTS)), waits=st.booleans())
    def a_client_asks(self, number: int, name: str, waits: bool) -> None:
        self.send(self.clients[number % len(self.clients)], REQUESTS[name], waits)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, name=st.sampled_from(sorted(FROM_CLIENTS)), waits=st.booleans())
    def a_client_sends(self, number: int, name: str, waits: bool) -> None:
        self.send(self.clients[number % len(self.clients)], FROM_CLIENTS[name], waits)

    def send(self, peer: Peer, data: bytes, waits: bool) -> None:
        if not peer.shut:
            peer.sends(data) if waits else peer.sends_at_once(data)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, name=st.sampled_from(ACTS))
    def a_client_acts(self, number: int, name: str) -> None:
        getattr(self.clients[number % len(self.clients)], name)()

    # --- upstreams ------------------------------------------------------------------------

    @precondition(lambda self: self.asked)
    @rule(number=numbers, name=st.sampled_from(sorted(ANSWERS)), waits=st.booleans())
    def an_upstream_answers(self, number: int, name: str, waits: bool) -> None:
        upstream = self.asked[number % len(self.asked)]
        upstream.received()
        self.send(upstream, ANSWERS[name], waits)

    @precondition(lambda self: self.upstreams)
    @rule(number=numbers, name=st.sampled_from(sorted(FROM_UPSTREAMS)), waits=st.booleans())
    def an_upstream_sends(self, number: int, name: str, waits: bool) -> None:
        self.send(self.upstreams[number % len(self.upstreams)], FROM_UPSTREAMS[name], waits)

    @precondition(lambda self: self.upstreams)
    @rule(number=numbers, name=st.sampled_from(ACTS))
    def an_upstream_acts(self, number: int, name: str) -> None:
        getattr(self.upstreams[number % len(self.upstreams)], name)()

    @rule(number=numbers, how=st.sampled_from(["good", "good", "refuses", "silent"]))
    def connecting_becomes(self, number: int, how: str) -> None:
        server: Server = self.servers[number % len(self.servers)]
        server.error = ConnectionRefusedError() if how == "refuses" else None
        if how == "silent":
            server.silent = True
        else:
            server.answers()
            self.world.loop.settle()

    # --- ourselves ------------------------------------------------------------------------

    @rule(name=verdicts)
    def verdicts_become(self, name: str) -> None:
        self.world.gate.answer = VERDICTS[name]

    @precondition(lambda self: self.world.gate.waiting)
    @rule(number=numbers, name=verdicts)
    def a_verdict_comes(self, number: int, name: str) -> None:
        waiting = self.world.gate.waiting
        verdict, deferred = VERDICTS[name], waiting.pop(number % len(waiting))
        if verdict is None or isinstance(verdict, Exception):
            deferred.errback(Failure(verdict or CancelledError()))
        else:
            deferred.callback(verdict)
        self.world.loop.settle()

    @rule(seconds=st.sampled_from([0.3, 0.3, 0.3, 3.0, 6.0, 16.0, 31.0, 61.0, 76.0, 301.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.world.plane.watch()
        self.world.loop.settle()

    @precondition(lambda self: self.world.plane.live)
    @rule(number=numbers)
    def an_exchange_is_cut(self, number: int) -> None:
        live = sorted(self.world.plane.live, key=lambda exchange: exchange.id)
        live[number % len(live)].cut("revoked")

    @rule()
    def everything_is_checked_again(self) -> None:
        self.world.plane.check_again()

    @rule()
    def the_loop_goes_on(self) -> None:
        self.world.loop.settle()

    # --- what must hold -------------------------------------------------------------------

    @invariant()
    def nothing_has_failed(self) -> None:
        assert self.world.loop.errors == []
        self.world.problems[:] = [
            problem for problem in self.world.problems if problem["log_format"] not in self.expected
        ]
        assert self.world.problems == []

    @invariant()
    def every_exchange_runs_or_has_one_line(self) -> None:
        world = self.world
        ended = [entry.id for entry in world.log.entries]
        running = [exchange.id.decode() for exchange in world.plane.live]
        assert sorted(ended + running) == [
            f"{number + 1:032x}" for number in range(world.plane.ids)
        ]

    @invariant()
    def usage_is_for_those_who_were_authorized(self) -> None:
        world = self.world
        assert world.plane.meter is not None
        world.plane.meter.drain()  # what the loop would do at the end of this turn
        lines = {entry.id: entry for entry in world.log.entries}
        records = {record.id: record for record in world.journal.records}
        assert len(records) == len(world.journal.records)
        for record in records.values():
            line = lines[record.id]
            assert record.user
            assert (record.user, record.status, record.reason) == (
                line.user, line.status, line.reason,
            )  # fmt: skip
            assert (record.bytes_in, record.bytes_out) == (line.bytes_in, line.bytes_out)
        with_answer = {line.id for line in lines.values() if line.user and line.upstream_status}
        assert with_answer <= records.keys()

    @invariant()
    def pools_are_right(self) -> None:
        for origin in self.origins():
            connections = origin._connections
            assert len(connections) <= 2
            assert len(origin._idle) <= 1
            assert len(origin._waiting) <= 3  # one for each connection that is made, two queued
            assert set(origin._idle) <= connections
            for connection in connections:
                assert isinstance(connection, UpstreamConnection)
                receiver = connection.receiver
                if connection in origin._idle:
                    assert receiver is None
                    assert not connection.transport.reading_paused
                else:
                    assert receiver in self.world.plane.live
            for receiver in origin._waiting:
                assert receiver in self.world.plane.live

    @invariant()
    def nothing_is_unbounded(self) -> None:
        assert len(self.world.connections) <= 4
        for peer in (*self.clients, *self.upstreams):
            assert peer.unsent < 6 * HIGH_WATER

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for server in self.servers:
            server.answers()
        for waiting in world.gate.waiting:
            waiting.callback(Deny("late", "too late"))
        world.loop.settle()
        for peer in self.clients:
            peer.resets()
        world.advance(0)
        assert not world.plane.live
        assert len(world.connections) == 0
        for peer in self.upstreams:
            peer.goes_on_reading()
        world.advance(400)
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"
        assert self.upstreams == []
        assert not world.sweep.timed
        self.every_exchange_runs_or_has_one_line()
        self.nothing_has_failed()
        world.close()


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
