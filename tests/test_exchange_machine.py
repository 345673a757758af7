"""Whatever happens, in whatever order: every exchange ends once, and leaves nothing behind."""

from __future__ import annotations

import os
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.python.failure import Failure

from gatekeeper.auth.interfaces import ABSTAIN, Deny, Grant, Unavailable, Verdict
from gatekeeper.net.dialing import Dialer
from gatekeeper.net.pool import Origin
from tests.memory import HIGH_WATER, Peer, Server
from tests.world import ALICE, GATEWAY, GUARDED, NOW, PROXY, World

HOST = b" HTTP/1.1\r\nhost: shop.example\r\n"
GET = b"GET /a" + HOST + b"\r\n"
FAR = b"http://far.example/a"
BIG = b"x" * (HIGH_WATER + 1000)

FROM_CLIENTS = [
    GET,
    GET * 3,
    GET[:20],
    GET[20:],
    b"\r\n",
    b"HEAD /a" + HOST + b"\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a" + HOST + b"connection: close\r\n\r\n",
    b"GET /a" + HOST + b"connection: te\r\nte: trailers\r\n\r\n",
    b"POST /a" + HOST + b"content-length: 5\r\n\r\n",
    b"POST /a" + HOST + b"content-length: 5\r\n\r\n12345" + GET,
    b"POST /a" + HOST + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n",
    b"GET /a" + HOST + b"content-length: 5\r\n\r\n",
    b"PUT /a" + HOST + b"content-length: 999999\r\n\r\n",
    b"PUT /a" + HOST + b"content-length: 99999999\r\n\r\n",
    b"POST /a" + HOST + b"transfer-encoding: chunked\r\n\r\n",
    b"123",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"0\r\na: b\r\n\r\n",
    BIG,
    b"GET /a" + HOST + b"connection: upgrade\r\nupgrade: x\r\n\r\n",
    b"GET /a" + HOST + b"bad header: x\r\n\r\n",
    b"GET /a/../b" + HOST + b"\r\n",
    b"TRACE /a" + HOST + b"\r\n",
    b"CONNECT far.example:443" + HOST + b"\r\n",
    b"CONNECT far.example:443" + HOST + b"\r\nearly",
    b"CONNECT near.example:443" + HOST + b"\r\n",
    b"GET " + FAR + HOST + b"\r\n",
    b"POST " + FAR + HOST + b"content-length: 5\r\n\r\n123",
    b"\x16\x03\x01",
]

FROM_UPSTREAMS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi!",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nall day long",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10,
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n" + BIG,
    b"HTTP/1.1 200 O",
    b"K\r\n\r\n",
    b"12345",
    b"%x\r\n%b\r\n" % (len(BIG), BIG),
    BIG,
    b"1\r\nx\r\n",
    b"0\r\n\r\n",
    b"0\r\na: b\r\n\r\n",
    b"nonsense\r\n\r\n",
]

VERDICTS: list[Verdict] = [
    ALICE,
    ALICE,
    ALICE,
    Grant(),
    Grant(user="alice", expires=NOW + 60, recheck=5.0),
    Deny("denied", "No."),
    Unavailable("away", "Later."),
    ABSTAIN,
]

numbers = st.integers(min_value=0, max_value=11)


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

    def origins(self) -> list[Origin]:
        dialers: list[Dialer] = self.world.assembly._dialers
        return [
            self.world.origin,
            *(origin for dialer in dialers for _, origin in dialer._origins.values()),
        ]

    # --- clients --------------------------------------------------------------------------

    @rule(listener=st.sampled_from(["public", "public", "proxy"]), halves=st.booleans())
    def a_client_comes(self, listener: str, halves: bool) -> None:
        self.clients = [client for client in self.clients if client.is_open]
        self.clients.append(self.world.connect(listener, can_half_close=halves))

    @precondition(lambda self: self.clients)
    @rule(number=numbers, data=st.sampled_from(FROM_CLIENTS), waits=st.booleans())
    def a_client_sends(self, number: int, data: bytes, waits: bool) -> None:
        client = self.clients[number % len(self.clients)]
        client.sends(data) if waits else client.sends_at_once(data)

    @precondition(lambda self: self.clients)
    @rule(
        number=numbers,
        act=st.sampled_from(
            [Peer.stops_reading, Peer.goes_on_reading, Peer.shuts_down, Peer.hangs_up, Peer.resets]
        ),
    )
    def a_client_acts(self, number: int, act: object) -> None:
        assert callable(act)
        act(self.clients[number % len(self.clients)])

    # --- upstreams ------------------------------------------------------------------------

    @precondition(lambda self: self.upstreams)
    @rule(number=numbers, data=st.sampled_from(FROM_UPSTREAMS), waits=st.booleans())
    def an_upstream_sends(self, number: int, data: bytes, waits: bool) -> None:
        upstream = self.upstreams[number % len(self.upstreams)]
        upstream.sends(data) if waits else upstream.sends_at_once(data)

    @precondition(lambda self: self.upstreams)
    @rule(
        number=numbers,
        act=st.sampled_from(
            [
                Peer.stops_reading,
                Peer.goes_on_reading,
                Peer.shuts_down,
                Peer.shuts_down_at_once,
                Peer.hangs_up,
                Peer.resets,
            ]
        ),
    )
    def an_upstream_acts(self, number: int, act: object) -> None:
        assert callable(act)
        act(self.upstreams[number % len(self.upstreams)])

    @rule(number=numbers, how=st.sampled_from(["good", "refuses", "silent"]))
    def connecting_becomes(self, number: int, how: str) -> None:
        server: Server = self.servers[number % len(self.servers)]
        server.error = ConnectionRefusedError() if how == "refuses" else None
        if how == "silent":
            server.silent = True
        else:
            server.answers()
            self.world.loop.settle()

    # --- ourselves ------------------------------------------------------------------------

    @rule(answer=st.sampled_from([*VERDICTS, None, None, ValueError("broken")]))
    def verdicts_become(self, answer: Verdict | Exception | None) -> None:
        self.world.gate.answer = answer

    @precondition(lambda self: self.world.gate.waiting)
    @rule(number=numbers, verdict=st.sampled_from([*VERDICTS, ValueError("broken")]))
    def a_verdict_comes(self, number: int, verdict: Verdict | Exception) -> None:
        waiting = self.world.gate.waiting
        deferred = waiting.pop(number % len(waiting))
        if isinstance(verdict, Exception):
            deferred.errback(Failure(verdict))
        else:
            deferred.callback(verdict)
        self.world.loop.settle()

    @rule(seconds=st.sampled_from([0.3, 3.0, 6.0, 16.0, 31.0, 61.0, 76.0, 301.0]))
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
            problem
            for problem in self.world.problems
            if problem["log_format"] not in self.expected
        ]
        assert self.world.problems == []

    @invariant()
    def every_exchange_runs_or_has_one_line(self) -> None:
        world = self.world
        ended = [entry.id for entry in world.log.entries]
        running = [exchange.id.decode() for exchange in world.plane.live]
        assert sorted(ended + running) == [f"{number + 1:032x}" for number in range(world.plane.ids)]

    @invariant()
    def usage_is_for_those_who_were_authorized(self) -> None:
        world = self.world
        assert world.plane.meter is not None
        world.plane.meter.drain()  # what the loop would do at the end of this turn
        lines = {entry.id: entry for entry in world.log.entries}
        records = {record.id: record for record in world.counters.records}
        assert len(records) == len(world.counters.records)
        for record in records.values():
            line = lines[record.id]
            assert record.user
            assert (record.user, record.status, record.bytes_in, record.bytes_out, record.reason) == (
                line.user, line.status, line.bytes_in, line.bytes_out, line.reason,
            )  # fmt: skip
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
        assert world.plane.live == set()
        assert len(world.connections) == 0
        for peer in self.upstreams:
            peer.goes_on_reading()
        world.advance(400)
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"
        assert self.upstreams == []
        assert world.sweep.timed == set()
        self.every_exchange_runs_or_has_one_line()
        self.nothing_has_failed()
        world.close()


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(
    max_examples=int(os.environ.get("MACHINE_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
