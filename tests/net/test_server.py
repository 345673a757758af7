"""The server's side of HTTP/1.1 (RFC 9112), as a client sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.auth.interfaces import Deny
from tests.memory import HIGH_WATER, Message, Peer
from tests.world import CLIENT, DATE, SERVICE, VIA, World, guarded_world, public_world, worlds

world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
GET_10 = b"GET /a HTTP/1.0\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\n"
POST_CHUNKED = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n"
NOWHERE = b"GET /a HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
FORWARDED = (
    b"x-forwarded-for: 198.51.100.7\r\n"
    b"x-forwarded-proto: http\r\n"
    b"x-forwarded-host: shop.example\r\n"
)


def asked(line: bytes, number: int, *, fields: bytes = b"", framing: bytes = b"") -> bytes:
    """What the upstream gets for a request; ``fields`` come first, ``framing`` last."""
    return (
        b"%b HTTP/1.1\r\nhost: origin.example\r\n%b%b"
        b"x-request-id: %032x\r\ntraceparent: 00-%032x-%016x-00\r\nvia: %b\r\n%b\r\n"
        % (line, fields, FORWARDED, number, number, number, VIA, framing)
    )


def answered(
    body: bytes, number: int, *, framing: bytes | None = None, line: bytes = b"HTTP/1.1 200 OK"
) -> bytes:
    """What the client gets for an upstream's answer that has no fields of its own."""
    if framing is None:
        framing = b"content-length: %d\r\n" % len(body)
    return b"%b\r\nvia: %b\r\nx-request-id: %032x\r\n%b\r\n%b" % (line, VIA, number, framing, body)


def refused(message: Message, status: int, *, closing: bool) -> None:
    assert message.status == status
    assert message.values(b"date") == [DATE]
    assert message.values(b"content-length") == [b"%d" % len(message.body)]
    assert message.values(b"connection") == ([b"close"] if closing else [])


class TestKeepingTheConnection:
    def test_a_request_and_its_response(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        assert upstream.received() == asked(b"GET /a", 1)
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 1)
        assert client.is_open

    def test_both_connections_are_used_again(self, world: World) -> None:
        client = world.connect()
        upstream = world.exchange(client, GET, OK)
        client.sends(GET)
        assert upstream.received() == asked(b"GET /a", 2)
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 2)
        assert world.server.dialed == 1

    def test_a_client_that_wants_to_close_is_told_so(self, world: World) -> None:
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        upstream = world.upstream()
        assert upstream.received() == asked(b"GET /a", 1)
        upstream.sends(OK)
        framing = b"content-length: 2\r\nconnection: close\r\n"
        assert client.received() == answered(b"hi", 1, framing=framing)
        assert client.saw_end
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"

    def test_nothing_is_read_as_a_request_after_the_last_one(self, world: World) -> None:
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + GET)
        upstream = world.upstream()
        upstream.sends(OK)
        client.sends(GET)
        assert upstream.received() == asked(b"GET /a", 1)
        assert len(world.log.entries) == 1

    def test_everything_may_come_byte_by_byte(self, world: World) -> None:
        client = world.connect()
        client.sends_bytewise(b"\r\n" + POST + b"12345")
        upstream = world.upstream()
        assert upstream.received() == (
            asked(b"POST /a", 1, framing=b"content-length: 5\r\n") + b"12345"
        )
        upstream.sends_bytewise(OK)
        assert client.received() == answered(b"hi", 1)
        client.sends_bytewise(GET)
        upstream.sends_bytewise(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        upstream.sends_bytewise(b"2\r\nhi\r\n0\r\n\r\n")
        assert client.received() == answered(
            b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", 2, framing=b"transfer-encoding: chunked\r\n"
        )

    def test_one_empty_line_before_a_request_is_forgiven(self, world: World) -> None:
        client = world.connect()
        client.sends(b"\r\n" + GET)
        assert world.upstream().received() == asked(b"GET /a", 1)

    def test_two_empty_lines_are_not(self, world: World) -> None:
        client = world.connect()
        client.sends(b"\r\n\r\n" + GET)
        refused(client.message(), 400, closing=True)

    def test_a_client_of_many_idle_seconds_is_hung_up_on(self, world: World) -> None:
        client = world.connect()
        world.exchange(client, GET, OK)
        world.advance(74)
        assert client.is_open
        world.advance(2)
        assert client.was_closed
        assert client.received() == b""

    def test_a_client_that_never_says_a_word(self, world: World) -> None:
        client = world.connect()
        world.advance(76)
        assert client.was_closed
        assert world.log.entries == []


class TestPipelining:
    def test_answers_come_in_order(self, world: World) -> None:
        client = world.connect()
        client.sends(GET + GET.replace(b"/a", b"/b") + GET.replace(b"/a", b"/c"))
        upstream = world.upstream()
        for number, path in enumerate((b"/a", b"/b", b"/c"), 1):
            assert upstream.received() == asked(b"GET " + path, number)
            assert client.received() == b""
            upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + path)
            assert client.received() == answered(path, number)
        assert world.server.dialed == 1

    def test_the_good_one_is_answered_then_the_bad_one_refused(self, world: World) -> None:
        client = world.connect()
        client.sends(GET + b"GET /b HTTP/1.1\r\nbad header: x\r\n\r\n" + GET)
        upstream = world.upstream()
        upstream.sends(OK)
        good = answered(b"hi", 1)
        arrived = client.received()
        assert arrived.startswith(good)
        refused(Message.parse(arrived[len(good) :]), 400, closing=True)
        assert client.saw_end
        client.sends(GET)
        assert upstream.received() == asked(b"GET /a", 1)
        assert [entry.reason for entry in world.log.entries] == ["ok", "bad_request"]

    def test_a_pipelined_request_waits_behind_a_body(self, world: World) -> None:
        client = world.connect()
        client.sends(POST + b"12345" + GET)
        upstream = world.upstream()
        assert upstream.received().endswith(b"\r\n\r\n12345")
        upstream.sends(OK)
        assert upstream.received() == asked(b"GET /a", 2)

    def test_while_an_exchange_is_under_way_no_more_is_read(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        client.sends(GET)
        assert not client.is_read
        upstream = world.upstream()
        upstream.sends(OK)
        assert client.is_read
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 1) + answered(b"hi", 2)

    def test_many_refusals_take_turns_with_others(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends_at_once(NOWHERE * 100)
        assert len(world.log.entries) == 32
        world.loop.settle()
        assert len(world.log.entries) == 100
        assert client.received().count(b"HTTP/1.1 421 ") == 100

    def test_a_body_after_many_refusals_is_read(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        upstream = world.exchange(world.connect(), GET, OK)
        client = world.connect()
        client.sends(NOWHERE * 31 + POST + b"12")
        client.sends(b"345")
        assert upstream.received().endswith(b"\r\n\r\n12345")

    def test_who_does_not_read_answers_gets_no_more(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.stops_reading()
        client.sends(NOWHERE * 1000)
        answered_so_far = len(world.log.entries)
        assert answered_so_far < 1000
        assert HIGH_WATER < client.unsent < 2 * HIGH_WATER
        assert not client.is_read
        client.goes_on_reading()
        assert len(world.log.entries) == 1000
        assert client.is_read
        assert client.received().count(b"HTTP/1.1 421 ") == 1000

    def test_who_never_reads_them_is_cut(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.stops_reading()
        client.sends(NOWHERE * 1000)
        world.advance(76)
        assert client.was_aborted
        assert len(world.connections) == 0


class TestRequestBodies:
    def test_a_counted_body_goes_on_piece_by_piece(self, world: World) -> None:
        client = world.connect()
        client.sends(POST)
        upstream = world.upstream()
        assert upstream.received() == asked(b"POST /a", 1, framing=b"content-length: 5\r\n")
        client.sends(b"12")
        assert upstream.received() == b"12"
        client.sends(b"345")
        assert upstream.received() == b"345"

    def test_a_chunked_body_is_framed_anew(self, world: World) -> None:
        client = world.connect()
        client.sends(POST_CHUNKED + b"3;x=y\r\nabc\r\n0002\r\nd")
        upstream = world.upstream()
        head = asked(b"POST /a", 1, framing=b"transfer-encoding: chunked\r\n")
        assert upstream.received() == head + b"4\r\nabcd\r\n"
        client.sends(b"e\r\n", b"0\r\n\r\n")
        assert upstream.received() == b"1\r\ne\r\n0\r\n\r\n"
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 1)

    def test_trailers_go_on_but_those_that_must_not(self, world: World) -> None:
        client = world.connect()
        client.sends(POST_CHUNKED)
        upstream = world.upstream()
        upstream.received()
        client.sends(
            b"1\r\nx\r\n0\r\nChecksum: abc\r\nAuthorization: Basic eA==\r\nX_Forwarded_User: root\r\n"
            b"Content-Length: 7\r\nHost: evil\r\n\r\n"
        )
        assert upstream.received() == b"1\r\nx\r\n0\r\nchecksum: abc\r\n\r\n"

    def test_a_post_without_a_body_says_so(self, world: World) -> None:
        client = world.connect()
        client.sends(b"POST /a HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        framing = b"content-length: 0\r\n"
        assert world.upstream().received() == asked(b"POST /a", 1, framing=framing)

    def test_a_malformed_chunk_is_refused_and_breaks_the_upstreams_request(
        self, world: World
    ) -> None:
        client = world.connect()
        client.sends(POST_CHUNKED + b"1\r\nx\r\n")
        upstream = world.upstream()
        client.sends(b"-1\r\n" + GET)
        refused(client.message(), 400, closing=True)
        assert upstream.was_aborted
        assert world.entry.reason == "bad_chunk"
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"

    def test_an_answer_before_the_body_is_there(self, world: World) -> None:
        client = world.connect()
        client.sends(POST + b"12")
        upstream = world.upstream()
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 1)
        assert upstream.was_closed  # it would take the rest of the body for a request
        client.sends(b"345" + GET)
        assert world.upstream().received() == asked(b"GET /a", 2)

    def test_an_upstream_that_takes_no_more_stops_the_client(self, world: World) -> None:
        client = world.connect()
        length = 10 * HIGH_WATER
        client.sends(
            b"PUT /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: %d\r\n\r\n" % length
        )
        upstream = world.upstream()
        upstream.received()
        upstream.stops_reading()
        client.sends(b"x" * (HIGH_WATER + 1))
        assert not client.is_read
        client.sends(b"y" * HIGH_WATER)
        assert upstream.unsent == HIGH_WATER + 1
        upstream.goes_on_reading()
        assert client.is_read
        assert upstream.received() == b"x" * (HIGH_WATER + 1) + b"y" * HIGH_WATER

    def test_so_does_one_that_is_still_full_of_the_last_request(self, world: World) -> None:
        upstream = self.full_and_idle(world)
        client = world.connect()
        client.sends(b"PUT /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: %d\r\n\r\n" % 10**9)
        client.sends(*[b"y" * HIGH_WATER] * 20)
        waiting = max(upstream.unsent, *(peer.unsent for peer in world.server.peers), 0)
        assert waiting < 4 * HIGH_WATER

    def full_and_idle(self, world: World) -> Peer:
        """An upstream that has answered before it took the request's body."""
        client = world.connect()
        length = 2 * HIGH_WATER
        client.sends(
            b"PUT /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: %d\r\n\r\n" % length
        )
        upstream = world.upstream()
        upstream.stops_reading()
        client.sends(b"x" * length)
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 1)
        assert upstream.unsent
        world.server.peers.append(upstream)
        return upstream


class TestResponseBodies:
    def test_a_counted_body(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        assert client.received() == answered(b"", 1, framing=b"content-length: 5\r\n")
        upstream.sends(b"12", b"345")
        assert client.received() == b"12345"

    def test_a_chunked_body_is_framed_anew(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        framing = b"transfer-encoding: chunked\r\n"
        assert client.received() == answered(b"1\r\na\r\n", 1, framing=framing)
        upstream.sends(b"1\r\nb\r\n1\r\nc\r\n", b"0;x\r\n\r\n")
        assert client.received() == b"2\r\nbc\r\n0\r\n\r\n"

    def test_one_that_ends_with_the_connection_is_chunked_for_the_client(
        self, world: World
    ) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\n\r\nabc")
        framing = b"transfer-encoding: chunked\r\n"
        assert client.received() == answered(b"3\r\nabc\r\n", 1, framing=framing)
        upstream.hangs_up()
        assert client.received() == b"0\r\n\r\n"
        assert client.is_open
        assert world.entry.reason == "ok"
        assert world.pool == "0 active, 0 idle, 0 connecting, 0 queued"

    @pytest.mark.parametrize("whole", [True, False])
    def test_trailers_for_a_client_that_takes_them(self, world: World, whole: bool) -> None:
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nconnection: te\r\nte: trailers\r\n\r\n"))
        upstream = world.upstream()
        assert upstream.received() == asked(
            b"GET /a", 1, framing=b"connection: te\r\nte: trailers\r\n"
        )
        response = (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n0\r\nChecksum: abc\r\nSet-Cookie: a=b\r\n\r\n",
        )
        upstream.sends(*([b"".join(response)] if whole else response))
        framing = b"transfer-encoding: chunked\r\n"
        body = b"1\r\nx\r\n0\r\nchecksum: abc\r\n\r\n"
        assert client.received() == answered(body, 1, framing=framing)
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"

    def test_trailers_are_dropped_for_others(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        client.received()
        upstream.sends(b"0\r\nchecksum: abc\r\n\r\n")
        assert client.received() == b"0\r\n\r\n"

    @pytest.mark.parametrize(
        ("request_line", "response", "framing", "reused"),
        [
            (b"HEAD /a", b"200 OK", b"", True),
            (b"HEAD /a", b"200 OK\r\ncontent-length: 5", b"content-length: 5\r\n", False),
            (b"HEAD /a", b"200 OK\r\ntransfer-encoding: chunked", b"", False),
            (b"GET /a", b"204 No Content", b"", True),
            (b"GET /a", b"204 No Content\r\ncontent-length: 0", b"", True),
            (b"GET /a", b"304 Not Modified", b"", True),
            (b"GET /a", b"304 Not Modified\r\ncontent-length: 5", b"content-length: 5\r\n", False),
        ],
    )
    def test_responses_without_a_body(
        self, world: World, request_line: bytes, response: bytes, framing: bytes, reused: bool
    ) -> None:
        """The connection is not used again where a body was spoken of: it might still come."""
        client = world.connect()
        client.sends(request_line + b" HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 " + response + b"\r\n\r\n")
        line = b"HTTP/1.1 " + response.partition(b"\r\n")[0]
        assert client.received() == answered(b"", 1, framing=framing, line=line)
        client.sends(GET)
        (upstream if reused else world.upstream()).sends(OK)
        assert client.received() == answered(b"hi", 2)

    def test_a_client_that_takes_no_more_stops_the_upstream(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (4 * HIGH_WATER))
        client.stops_reading()
        upstream.sends(b"x" * (2 * HIGH_WATER))
        assert not upstream.is_read
        upstream.sends(b"y" * (2 * HIGH_WATER))
        assert client.unsent == 2 * HIGH_WATER
        client.goes_on_reading()
        assert upstream.is_read
        assert client.received().endswith(b"y" * (2 * HIGH_WATER))
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"

    def test_a_client_that_never_takes_more_is_cut(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        client.stops_reading()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n" + b"x" * 99999)
        world.advance(31)
        assert client.was_aborted
        assert upstream.was_aborted
        assert world.plane.live == set()
        assert world.entry.reason != "ok"

    @pytest.mark.parametrize("with_trailers", [True, False])
    def test_a_connection_given_back_is_never_left_paused(
        self, world: World, with_trailers: bool
    ) -> None:
        client = world.connect()
        client.stops_reading()
        client.sends(GET)
        upstream = world.upstream()
        trailers = b"checksum: abc\r\n" if with_trailers else b""
        upstream.sends(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n"
            % (2 * HIGH_WATER, b"x" * 2 * HIGH_WATER, trailers)
        )
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"
        assert upstream.is_read
        upstream.received()
        other = world.connect()
        other.sends(GET)
        assert upstream.received() == asked(b"GET /a", 2)
        upstream.sends(OK)
        assert other.received() == answered(b"hi", 2)

    def test_nor_is_one_whose_last_bytes_fill_the_client(self, world: World) -> None:
        client = world.connect()
        client.stops_reading()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * HIGH_WATER))
        upstream.sends(b"x" * (HIGH_WATER - 1000), b"x" * (HIGH_WATER + 1000))
        assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"
        assert upstream.is_read


class TestHTTP10:
    def test_the_response_ends_with_the_connection(self, world: World) -> None:
        client = world.connect()
        client.sends(GET_10)
        upstream = world.upstream()
        assert upstream.received() == asked(b"GET /a", 1).replace(b"shop.example", b"")
        upstream.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        assert client.received() == answered(b"hi", 1, framing=b"connection: close\r\n")
        upstream.sends(b"1\r\n!\r\n0\r\na: b\r\n\r\n")
        assert client.received() == b"!"
        assert client.saw_end

    def test_it_is_kept_where_the_client_asks_and_the_length_is_known(self, world: World) -> None:
        client = world.connect()
        client.sends(GET_10.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n"))
        upstream = world.upstream()
        upstream.sends(OK)
        framing = b"content-length: 2\r\nconnection: keep-alive\r\n"
        assert client.received() == answered(b"hi", 1, framing=framing)
        client.sends(GET_10)
        upstream.sends(OK)
        framing = b"content-length: 2\r\nconnection: close\r\n"
        assert client.received() == answered(b"hi", 2, framing=framing)
        assert client.saw_end

    def test_it_gets_no_informational_responses(self, world: World) -> None:
        client = world.connect()
        client.sends(GET_10)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        assert client.received() == b""

    def test_its_expectations_are_not_passed_on(self, world: World) -> None:
        client = world.connect()
        client.sends(
            b"POST /a HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n", b"ab"
        )
        assert b"expect" not in world.upstream().message().names()


class TestContinue:
    HEAD = POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n")

    def test_it_is_the_upstream_that_says_go_on(self, world: World) -> None:
        client = world.connect()
        client.sends(self.HEAD)
        upstream = world.upstream()
        framing = b"content-length: 5\r\nexpect: 100-continue\r\n"
        assert upstream.received() == asked(b"POST /a", 1, framing=framing)
        assert client.received() == b""
        upstream.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.received() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sends(b"12345")
        assert upstream.received() == b"12345"
        upstream.sends(OK)
        assert client.received() == answered(b"hi", 1)

    def test_without_credentials_nobody_says_it(self, guarded: World) -> None:
        guarded.gate.answer = None
        client = guarded.connect()
        client.sends(self.HEAD)
        assert client.received() == b""
        assert guarded.server.dialed == 0

    def test_a_refusal_comes_at_once_and_closes(self, guarded: World) -> None:
        guarded.gate.answer = Deny("no_credentials", "Credentials are required.")
        client = guarded.connect()
        client.sends(self.HEAD)
        refused(client.message(), 401, closing=True)
        assert client.saw_end

    def test_an_answer_in_its_stead_closes(self, world: World) -> None:
        """Whether the client sends the body then is for it to say: nobody can tell from here."""
        client = world.connect()
        client.sends(self.HEAD)
        world.upstream().sends(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        assert client.message().values(b"connection") == [b"close"]
        client.sends(GET)
        assert world.server.peers == []

    def test_another_expectation_is_not_met(self, world: World) -> None:
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nexpect: wonders\r\n\r\n"))
        refused(client.message(), 417, closing=False)
        assert world.server.dialed == 0


class TestInformational:
    def test_they_are_passed_on(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        upstream.sends(hints + hints)
        assert client.received() == hints + hints
        upstream.sends(hints + OK)
        assert client.received() == hints + answered(b"hi", 1)

    def test_but_not_without_end(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        upstream.sends(hints * 16)
        assert client.received() == hints * 16
        upstream.sends(hints)
        refused(client.message(), 502, closing=False)
        assert upstream.was_aborted

    def test_the_bound_is_for_one_response(self, world: World) -> None:
        client = world.connect()
        hints = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10
        upstream = world.exchange(client, GET, hints + OK)
        client.sends(GET)
        upstream.sends(hints + OK)
        assert client.received() == hints + answered(b"hi", 2)


class TestRefusals:
    """Answers of ours to requests with a body: drained up to a bound, then closed."""

    def test_a_body_behind_a_refusal_is_skipped(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends(POST.replace(b"shop", b"else") + b"123")
        refused(client.message(), 421, closing=False)
        client.sends(b"45" + GET)
        assert world.upstream().received() == asked(b"GET /a", 2)

    def test_a_chunked_body_too(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends(POST_CHUNKED.replace(b"shop", b"else"))
        client.sends_bytewise(b"3\r\nabc\r\n0\r\nx: y\r\n\r\n" + GET)
        refused(Message.parse(client.received()), 421, closing=False)
        assert world.upstream().received() == asked(b"GET /a", 2)

    def test_a_malformed_one_ends_the_connection(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends(POST_CHUNKED.replace(b"shop", b"else"))
        client.received()
        client.sends(b"x\r\n" + GET)
        assert client.saw_end
        assert client.received() == b""
        assert len(world.log.entries) == 1

    def test_a_body_too_long_to_skip_ends_the_connection(self, make_world: MakeWorld) -> None:
        world = make_world(
            services=[{**SERVICE, "hosts": ["shop.example"]}], limits={"drain": 1000}
        )
        client = world.connect()
        client.sends(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n", b"x" * 999)
        assert not client.saw_end
        client.sends(b"xx")
        assert client.saw_end
        assert client.is_open  # so that it can still read the answer
        client.sends(b"x" * 1001)
        assert client.was_aborted

    def test_who_lingers_is_cut(self, make_world: MakeWorld) -> None:
        world = make_world()
        client = world.connect()
        client.sends(b"nonsense\r\n\r\n")
        refused(client.message(), 400, closing=True)
        assert client.saw_end
        assert client.is_open
        world.advance(3)
        assert client.was_aborted

    def test_without_half_closing_the_connection_is_closed(self, world: World) -> None:
        client = world.connect(can_half_close=False)
        client.sends(b"nonsense\r\n\r\n")
        refused(client.message(), 400, closing=True)
        assert client.was_closed

    def test_a_slow_reader_has_time_for_the_last_response(self, world: World) -> None:
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        client.stops_reading()
        body = b"x" * (2 * HIGH_WATER)
        world.upstream().sends(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        world.advance(10)
        client.goes_on_reading()
        assert client.received().endswith(body)
        assert not client.was_aborted

    def test_but_not_for_ever(self, world: World) -> None:
        client = world.connect()
        client.sends(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        client.stops_reading()
        world.upstream().sends(OK)
        world.advance(100)
        assert client.was_aborted

    def test_what_never_became_a_request_is_logged(self, world: World) -> None:
        client = world.connect()
        client.sends(b"GET /a HTTP/3.0\r\n\r\n")
        refused(client.message(), 505, closing=True)
        entry = world.entry
        assert (entry.status, entry.reason, entry.listener) == (505, "bad_version", "public")
        assert (entry.client, entry.method, entry.path) == (CLIENT, "", "")
        assert world.counters.records == []

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET /" + b"a" * 9000, 414),
            (b"GET / HTTP/1.1\r\nx: " + b"a" * 33000, 431),
            (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
            (b"GET / HTTP/1.1\nhost: a\n\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        ],
    )
    def test_hopeless_heads_are_refused_before_they_end(
        self, world: World, head: bytes, status: int
    ) -> None:
        client = world.connect()
        client.sends(head)
        refused(client.message(), status, closing=True)


class TestTimeouts:
    def test_a_slow_head(self, world: World) -> None:
        client = world.connect()
        client.sends(b"GET / HT")
        world.advance(10)
        client.sends(b"TP/1.1\r\n")  # more bytes do not wind this clock up
        world.advance(6)
        refused(client.message(), 408, closing=True)
        assert world.entry.reason == "slow_head"

    def test_an_empty_line_does_not_begin_a_head(self, world: World) -> None:
        client = world.connect()
        client.sends_bytewise(b"\r\n")
        world.advance(20)
        assert client.received() == b""

    def test_a_slow_body(self, world: World) -> None:
        client = world.connect()
        client.sends(POST)
        upstream = world.upstream()
        for piece in (b"1", b"2"):
            world.advance(29)
            client.sends(piece)
        assert client.received() == b""
        world.advance(31)
        refused(client.message(), 408, closing=True)
        assert upstream.was_aborted
        assert world.entry.reason == "slow_body"

    def test_an_upstream_that_stops_reading(self, world: World) -> None:
        client = world.connect()
        client.sends(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 999999\r\n\r\n")
        world.upstream().stops_reading()
        client.sends(b"x" * 99999)
        world.advance(31)
        refused(client.message(), 504, closing=True)
        assert world.entry.reason == "upstream_timeout"

    def test_a_slow_body_in_a_streamed_exchange_breaks_it(self, world: World) -> None:
        client = world.connect()
        client.sends(POST)
        world.upstream().sends(b"HTTP/1.1 200 OK\r\n\r\nabc")
        world.advance(31)
        assert client.was_aborted
        assert world.plane.live == set()

    def test_a_slow_body_behind_a_refusal(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends(POST.replace(b"shop", b"else"))
        world.advance(31)
        assert client.was_aborted


class TestBounds:
    def test_connections_of_one_peer(self, make_world: MakeWorld) -> None:
        world = make_world(limits={"connections_per_peer": 2})
        first, second, third = (world.connect() for _ in range(3))
        assert third.was_aborted
        assert first.is_open
        assert second.is_open
        assert world.connect(peer="198.51.100.8").is_open
        first.hangs_up()
        assert world.connect().is_open

    def test_connections_in_all(self, make_world: MakeWorld) -> None:
        world = make_world(limits={"connections": 2})
        first = world.connect(peer="198.51.100.1")
        assert world.connect(peer="198.51.100.2").is_open
        assert world.connect(peer="198.51.100.3").was_aborted
        assert len(world.connections) == 2
        first.resets()
        assert world.connect(peer="198.51.100.3").is_open

    def test_the_same_peer_by_two_families_is_one(self, make_world: MakeWorld) -> None:
        world = make_world(limits={"connections_per_peer": 1})
        assert world.connect(peer="::ffff:198.51.100.7").is_open
        assert world.connect().was_aborted


class TestDraining:
    def test_idle_clients_are_hung_up_on_others_finish(self, world: World) -> None:
        idle, busy = world.connect(), world.connect()
        busy.sends(GET)
        left: list[bool] = []
        world.plane.draining = True
        world.connections.drain(lambda: left.append(True))
        world.loop.settle()
        assert idle.was_closed
        assert left == []
        world.upstream().sends(OK)
        framing = b"content-length: 2\r\nconnection: close\r\n"
        assert busy.received() == answered(b"hi", 1, framing=framing)
        busy.hangs_up()
        assert left == [True]

    def test_without_clients_it_is_done_at_once(self, world: World) -> None:
        left: list[bool] = []
        world.connections.drain(lambda: left.append(True))
        assert left == [True]

    def test_a_request_that_is_just_coming_is_the_last_one(self, world: World) -> None:
        client = world.connect()
        client.sends(GET[:10])
        world.plane.draining = True
        world.connections.drain(lambda: None)
        client.sends(GET[10:])
        world.upstream().sends(OK)
        assert client.message().values(b"connection") == [b"close"]
        assert client.saw_end

    def test_a_refused_client_is_not_waited_for(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends(POST.replace(b"shop", b"else") + b"123")
        client.received()
        world.plane.draining = True
        world.connections.drain(lambda: None)
        client.sends(b"45")
        assert client.saw_end
