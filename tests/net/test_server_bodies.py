"""Bodies both ways, framed anew, with back-pressure (RFC 9112, 6 and 7)."""

from __future__ import annotations

import pytest

from tests.memory import HIGH_WATER, Peer
from tests.net.messages import (
    GET,
    OK,
    POST,
    POST_CHUNKED,
    answered,
    asked,
    refused,
)
from tests.world import World, public_world

world = pytest.fixture(public_world)


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
            b"1\r\nx\r\n0\r\nChecksum: abc\r\nAuthorization: Basic eA==\r\n"
            b"X_Forwarded_User: root\r\nContent-Length: 7\r\nHost: evil\r\n\r\n"
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
