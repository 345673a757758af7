"""One request and its response: verdicts, grants, usage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.python.failure import Failure

from gatekeeper.auth.interfaces import ABSTAIN, Deny, Grant, Opened, Unavailable, Verdict
from tests.memory import Message, Peer
from tests.world import (
    ALICE,
    CLIENT,
    GATEWAY,
    GUARDED,
    NOW,
    PROXY,
    World,
    guarded_world,
    public_world,
    worlds,
)

world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

EMPTY = "0 active, 0 idle, 0 connecting, 0 queued"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
FIRST = f"{1:032x}"


def request(*fields: bytes, method: bytes = b"GET", target: bytes = b"/a?secret") -> bytes:
    lines = b"".join(field + b"\r\n" for field in (b"host: shop.example", *fields))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)


GET = request()
POST = request(b"content-length: 5", method=b"POST")
CHUNKED = request(b"transfer-encoding: chunked", method=b"POST")


def ask(world: World, data: bytes = GET) -> Peer:
    client = world.connect()
    client.sends(data)
    return client


class TestVerdicts:
    def test_who_is_granted_gets_through(self, guarded: World) -> None:
        client = ask(guarded, request(b"authorization: Bearer t"))
        (asked,) = guarded.gate.asked
        assert asked.presented == b"Bearer t"
        assert (b"authorization", b"Bearer t") in asked.fields
        assert (asked.method, asked.url, asked.service) == (b"GET", b"/a?secret", "shop")
        assert (asked.peer, asked.client, asked.peer_trusted) == (CLIENT, CLIENT, False)
        guarded.upstream().sends(OK)
        assert client.message().body == b"hi"

    def test_who_presents_nothing(self, guarded: World) -> None:
        guarded.gate.answer = ABSTAIN
        answer = ask(guarded).message()
        assert answer.status == 401
        assert answer.values(b"www-authenticate") == [
            b'Basic realm="here"',
            b'Bearer realm="here"',
        ]
        assert guarded.entry.reason == "no_credentials"
        assert guarded.server.dialed == 0

    @pytest.mark.parametrize(
        ("verdict", "status", "reason"),
        [
            (Deny("wrong_password", "No."), 401, "wrong_password"),
            (Deny("not_here", "No.", status=403), 403, "not_here"),
            (Unavailable("backend_down", "Later."), 503, "backend_down"),
        ],
    )
    @pytest.mark.parametrize("late", [False, True])
    def test_others_are_turned_away(
        self, guarded: World, verdict: Verdict, status: int, reason: str, late: bool
    ) -> None:
        guarded.gate.answer = None if late else verdict
        client = ask(guarded)
        if late:
            assert client.received() == b""
            guarded.gate.waiting[0].callback(verdict)
            guarded.loop.settle()
        answer = client.message()
        assert answer.status == status
        assert answer.values(b"retry-after") == ([b"5"] if status == 503 else [])
        assert (b"www-authenticate" in answer.names()) == (status == 401)
        entry = guarded.entry
        assert (entry.status, entry.upstream_status, entry.reason) == (status, 0, reason)
        assert entry.bytes_out == len(answer.body)
        assert guarded.journal.records == []
        assert guarded.server.dialed == 0
        assert client.is_open

    def test_a_late_grant(self, guarded: World) -> None:
        guarded.gate.answer = None
        client = ask(guarded, POST)
        client.sends(b"12345")
        assert not client.is_read
        assert guarded.server.dialed == 0
        guarded.gate.waiting[0].callback(ALICE)
        guarded.loop.settle()
        assert guarded.upstream().message().body == b"12345"
        assert client.is_read

    def test_a_checker_that_breaks_is_not_a_wrong_password(self, guarded: World) -> None:
        guarded.gate.answer = ValueError("quoting a secret")
        assert ask(guarded).message().status == 503
        assert guarded.entry.reason == "checker_failed"
        (problem,) = guarded.problems
        assert "secret" not in str(problem)
        guarded.problems.clear()

    def test_nor_is_one_that_breaks_later(self, guarded: World) -> None:
        guarded.gate.answer = None
        client = ask(guarded)
        guarded.gate.waiting[0].errback(Failure(ValueError("quoting a secret")))
        guarded.loop.settle()
        assert client.message().status == 503
        guarded.problems.clear()

    @pytest.mark.parametrize("how", ["new connection", "kept connection", "late verdict"])
    def test_what_breaks_in_us_is_our_fault(
        self, guarded: World, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """Wherever it breaks, the client is told, and nothing stays."""

        def broken(exchange: object) -> bytes:
            raise ValueError("broken")

        client = guarded.connect()
        if how != "new connection":
            guarded.exchange(client, GET, OK)
            guarded.log.entries.clear()
            guarded.journal.records.clear()
        if how == "late verdict":
            guarded.gate.answer = None
        monkeypatch.setattr("gatekeeper.exchange.upstream_head", broken)
        client.sends(GET)
        for waiting in guarded.gate.waiting:
            waiting.callback(ALICE)
        guarded.loop.settle()
        if how == "kept connection":  # the loop ends what has failed
            assert not client.is_open
            assert len(guarded.loop.errors) == 1
            guarded.loop.errors.clear()
        else:
            assert client.message().status == 500
            assert len(guarded.problems) == 1
            guarded.problems.clear()
        assert guarded.plane.live == set()
        assert guarded.pool == EMPTY
        assert guarded.record.reason in ("internal_error", "client_gone")

    def test_open_methods_need_no_credentials(self, make_world: MakeWorld) -> None:
        world = make_world(services=[GUARDED | {"open_methods": ["OPTIONS"]}])
        world.gate.answer = Deny("x", "y")
        client = ask(world, request(b"authorization: Basic eDp5", method=b"OPTIONS"))
        upstream = world.upstream()
        assert b"authorization" not in upstream.message().names()
        upstream.sends(OK)
        assert client.message().status == 200
        assert world.gate.asked == []
        assert world.journal.records == []
        client.sends(GET)
        assert client.message().status == 401


class TestGrants:
    def forwarded(self, world: World, grant: Grant, *fields: bytes) -> Message:
        world.gate.answer = grant
        ask(world, request(*fields))
        return world.upstream().message()

    def test_authorization_is_for_us(self, guarded: World) -> None:
        sent = self.forwarded(guarded, ALICE, b"authorization: Basic eDp5")
        assert b"authorization" not in sent.names()

    def test_or_is_replaced(self, guarded: World) -> None:
        grant = Grant(user="alice", authorization=b"Bearer upstream")
        sent = self.forwarded(guarded, grant, b"authorization: Basic eDp5")
        assert sent.values(b"authorization") == [b"Bearer upstream"]

    def test_or_added(self, guarded: World) -> None:
        sent = self.forwarded(guarded, Grant(user="alice", authorization=b"Bearer upstream"))
        assert sent.values(b"authorization") == [b"Bearer upstream"]

    def test_or_passed_on(self, guarded: World) -> None:
        grant = Grant(user="alice", consumed=False)
        sent = self.forwarded(guarded, grant, b"authorization: Basic eDp5")
        assert sent.values(b"authorization") == [b"Basic eDp5"]

    def test_of_a_public_service_it_is_none_of_our_business(self, world: World) -> None:
        ask(world, request(b"authorization: Basic eDp5"))
        assert world.upstream().message().values(b"authorization") == [b"Basic eDp5"]

    def test_the_user_is_named(self, guarded: World) -> None:
        sent = self.forwarded(guarded, Grant(user="jürgen"), b"x-forwarded-user: root")
        assert sent.values(b"x-forwarded-user") == ["jürgen".encode()]

    def test_nobody_is_not(self, guarded: World) -> None:
        sent = self.forwarded(guarded, Grant(), b"x-forwarded-user: root")
        assert b"x-forwarded-user" not in sent.names()

    def test_headers_take_the_place_of_the_clients(self, guarded: World) -> None:
        grant = Grant(user="alice", headers=((b"X-Plan", b"gold"), (b"x-plan-id", b"7")))
        sent = self.forwarded(
            guarded, grant, b"x-plan: lead", b"X_Plan: lead", b"X-PLAN-ID: 8", b"x-planet: mars"
        )
        assert [field for field in sent.fields if b"lan" in field[0].lower()] == [
            (b"x-planet", b"mars"),
            (b"X-Plan", b"gold"),
            (b"x-plan-id", b"7"),
        ]

    def test_the_clients_address_where_it_is_asked_for(self, guarded: World) -> None:
        sent = self.forwarded(guarded, Grant(user="alice", real_ip=True), b"x-real-ip: 127.0.0.1")
        assert sent.values(b"x-real-ip") == [CLIENT.encode()]


class TestAuthorization:
    RULES = [
        {"path": "/public/**"},
        {"path": "/spend/**", "methods": ["POST"], "groups": ["spender"]},
    ]

    @pytest.mark.parametrize(
        ("method", "target", "groups", "passes"),
        [
            (b"GET", b"/public/a", (), True),
            (b"POST", b"/spend/a", ("spender",), True),
            (b"POST", b"/spend/a", ("stats",), False),
            (b"GET", b"/spend/a", ("spender",), False),
            (b"POST", b"/spendthrift", ("spender",), False),
            (b"GET", b"/", ("spender",), False),
        ],
    )
    def test_access_rules(
        self,
        make_world: MakeWorld,
        method: bytes,
        target: bytes,
        groups: tuple[str, ...],
        passes: bool,
    ) -> None:
        world = make_world(services=[GUARDED | {"access": self.RULES}])
        world.gate.answer = Grant(user="alice", groups=frozenset(groups))
        client = ask(world, request(method=method, target=target))
        if passes:
            world.upstream().sends(OK)
            assert client.message().status == 200
            assert len(world.journal.records) == 1
        else:
            answer = client.message()
            assert answer.status == 403
            assert answer.values(b"www-authenticate") == [
                b'Bearer realm="here", error="insufficient_scope"'
            ]
            assert world.entry.user == "alice"
            assert world.journal.records == []


class TestGrantsThatOpen:
    """A grant may be limited to some URLs, and say where they lead."""

    class Opens:
        def __init__(self) -> None:
            self.asked: list[tuple[str, int | None, bytes]] = []

        def find(self, host: str, port: int | None, path: bytes) -> Opened | None:
            self.asked.append((host, port, path))
            return Opened("http", "far.example", 8080, b"own") if path == b"/open" else None

    @pytest.fixture
    def opens(self) -> Opens:
        return self.Opens()

    @pytest.fixture
    def led(self, make_world: MakeWorld, opens: Opens) -> World:
        """A service that goes where grants lead, and a proxy for them."""
        listeners = [GATEWAY, PROXY | {"allow": ["*:*"]}]
        world = make_world(listeners=listeners, services=[GUARDED | {"to": "grant"}])
        world.names["far.example"] = ["8.8.4.4"]
        world.server = world.serve("8.8.4.4", 8080)
        world.gate.answer = Grant(user="alice", opens=opens)
        return world

    def test_what_is_open(self, led: World, opens: Opens) -> None:
        client = ask(led, request(b"authorization: Bearer token", target=b"/open?a"))
        upstream = led.upstream()
        sent = upstream.message()
        assert sent.line == b"GET /open?a HTTP/1.1"
        assert sent.values(b"authorization") == [b"own"]
        upstream.sends(OK)
        assert client.message().status == 200
        assert opens.asked == [("shop.example", None, b"/open")]
        assert led.record.service == "shop"

    def test_what_is_not(self, led: World) -> None:
        assert ask(led, request(target=b"/closed")).message().status == 403
        assert led.entry.reason == "not_opened"
        assert led.server.dialed == 0
        assert led.journal.records == []

    def test_through_the_proxy(self, led: World) -> None:
        client = led.connect("proxy")
        client.sends(request(b"authorization: A", target=b"http://far.example/open"))
        assert led.upstream().message().values(b"authorization") == [b"own"]

    def test_a_tunnel_cannot_be_held_to_any(self, led: World) -> None:
        client = led.connect("proxy")
        client.sends(request(method=b"CONNECT", target=b"far.example:8080"))
        assert client.message().status == 403
        assert led.server.dialed == 0


class TestBodiesTooLarge:
    SMALL = GUARDED | {"limits": {"body": 4}}

    def test_a_counted_one_is_refused_at_once(self, make_world: MakeWorld) -> None:
        world = make_world(services=[self.SMALL])
        client = ask(world, POST)
        assert client.message().status == 413
        assert world.server.dialed == 0
        assert world.journal.records == []
        client.sends(b"12345" + request(method=b"POST"))
        assert world.upstream().message().line == b"POST /a?secret HTTP/1.1"

    def test_one_that_just_fits_is_not(self, make_world: MakeWorld) -> None:
        world = make_world(services=[self.SMALL])
        client = ask(world, CHUNKED + b"4\r\n1234\r\n0\r\n\r\n")
        world.upstream().sends(OK)
        assert client.message().status == 200

    def test_a_chunked_one_is_refused_in_the_middle(self, make_world: MakeWorld) -> None:
        world = make_world(services=[self.SMALL])
        client = ask(world, CHUNKED + b"3\r\n123\r\n")
        upstream = world.upstream()
        client.sends(b"3\r\n456\r\n")
        assert client.message().status == 413
        assert upstream.was_aborted
        assert world.pool == EMPTY
        assert (world.record.status, world.record.bytes_in) == (413, 6)
        assert world.record.reason == world.entry.reason == "body_too_large"
        client.sends(b"0\r\n\r\n" + GET)
        assert world.upstream().message().line == b"GET /a?secret HTTP/1.1"

    def test_or_breaks_a_response_that_has_begun(self, make_world: MakeWorld) -> None:
        world = make_world(services=[self.SMALL])
        client = ask(world, CHUNKED)
        world.upstream().sends(b"HTTP/1.1 200 OK\r\n\r\nall day long")
        client.sends(b"5\r\n12345\r\n")
        assert client.was_aborted
        assert world.record.reason == "body_too_large"


class TestUsage:
    def test_a_record(self, guarded: World) -> None:
        client = ask(guarded, POST + b"12")
        guarded.loop.now += 1.5
        client.sends(b"345")
        guarded.upstream().sends(OK)
        record = guarded.record
        assert record == (
            FIRST, NOW - 1.5, 1.5, "shop", "alice", "k1", "POST", "/a", 200, 200, 5, 2, 1, "ok", "",
            "", "", (),
        )  # fmt: skip
        entry = guarded.entry
        assert entry == (
            NOW - 1.5, FIRST, "public", CLIENT, "shop", "alice", "k1", "POST", "shop.example", "/a",
            200, 200, 5, 2, 1.5, "ok",
        )  # fmt: skip

    def test_it_is_there_before_the_last_byte_has_gone(self, guarded: World) -> None:
        client = ask(guarded)
        upstream = guarded.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        assert guarded.log.entries == []
        client.stops_reading()
        upstream.sends(b"cd")
        assert guarded.entry.reason == "ok"
        assert client.received().endswith(b"ab")

    @pytest.mark.parametrize("grant", [Grant(), Grant(key_id="k1")])
    def test_who_is_nobody_uses_nothing(self, guarded: World, grant: Grant) -> None:
        guarded.gate.answer = grant
        client = ask(guarded)
        guarded.upstream().sends(OK)
        assert client.message().status == 200
        assert guarded.journal.records == []
        assert len(guarded.log.entries) == 1

    def test_nor_does_anybody_at_a_public_service(self, world: World) -> None:
        client = ask(world, request(b"authorization: Basic eDp5"))
        world.upstream().sends(OK)
        assert client.message().status == 200
        assert world.journal.records == []

    def test_an_upstreams_failure_counts(self, guarded: World) -> None:
        """What was authorized is counted, whatever became of it."""
        guarded.server.error = ConnectionRefusedError()
        assert ask(guarded).message().status == 502
        assert (guarded.record.status, guarded.record.upstream_status) == (502, 0)
        assert guarded.record.reason == "connect_failed"

    def test_a_destination_where_nobody_may_go_does_not(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[PROXY], services=[])
        world.names["far.example"] = ["10.0.0.1"]
        client = world.connect("proxy")
        client.sends(request(target=b"http://far.example/"))
        assert client.message().status == 403
        assert world.entry.user == "alice"
        assert world.journal.records == []

    def test_a_tunnel(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[PROXY], services=[])
        world.names["far.example"] = ["8.8.4.4"]
        server = world.serve("8.8.4.4", 443)
        client = world.connect("proxy")
        client.sends(b"CONNECT far.example:443 HTTP/1.1\r\nhost: x\r\n\r\n", b"12345")
        server.accepted().sends(b"123")
        assert world.journal.records == []
        client.hangs_up()
        record = world.record
        assert (record.service, record.path, record.method) == (
            "proxy", "far.example:443", "CONNECT",
        )  # fmt: skip
        assert (record.status, record.bytes_in, record.bytes_out) == (200, 5, 3)

    def test_where_nothing_can_be_counted_nothing_is_served(self, guarded: World) -> None:
        guarded.journal.full = True
        answer = ask(guarded).message()
        assert answer.status == 503
        assert answer.values(b"retry-after") == [b"5"]
        assert guarded.entry.reason == "usage_full"
        assert guarded.server.dialed == 0

    def test_nothing_is_counted_where_nothing_is_to_be(self, guarded: World) -> None:
        guarded.plane.meter = guarded.plane.access_log = None
        client = ask(guarded)
        guarded.upstream().sends(OK)
        assert client.message().status == 200

    def test_a_head_response_has_no_bytes(self, guarded: World) -> None:
        ask(guarded, request(method=b"HEAD"))
        guarded.upstream().sends(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
        assert guarded.record.bytes_out == 0

    def test_nor_has_a_refusal_of_one(self, guarded: World) -> None:
        guarded.gate.answer = Deny("x", "y")
        answer = ask(guarded, request(method=b"HEAD")).message()
        assert (answer.status, answer.body) == (401, b"")
        assert int(answer.values(b"content-length")[0]) > 0
        assert guarded.entry.bytes_out == 0
