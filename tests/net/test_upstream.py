"""What an upstream may say, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.errors import UpstreamError
from tests.memory import HIGH_WATER, Peer
from tests.world import SERVICE, World, public_world, worlds

world = pytest.fixture(public_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
EMPTY = "0 active, 0 idle, 0 connecting, 0 queued"
IDLE = "0 active, 1 idle, 0 connecting, 0 queued"


class TestBadAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi",
            b"HTTP/1.1 200 OK\r\na: b\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\na: b\rc\r\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\na: b\x00\r\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\na : b\r\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 99999 OK\r\n\r\n",
            b"HTTP/1.1 042 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n",
            b"HTTP/1.1 200 OK\r\na: " + b"b" * 33000,
            b"HTTP/1.1 200 OK\r\na: " + b"b" * 33000 + b"\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\nhi\r\n",
        ],
    )
    def test_are_a_bad_gateway(self, world: World, answer: bytes) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(answer)
        assert client.received().startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert client.is_open
        assert upstream.was_aborted
        assert world.entry.reason == "bad_response"
        assert world.pool == EMPTY

    def test_a_bad_end_breaks_what_has_begun(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        assert client.received().endswith(b"2\r\nhi\r\n")
        upstream.sends(b"zz\r\n")
        assert client.was_aborted
        assert client.received() == b""
        assert world.entry.reason == "bad_response"
        assert world.entry.status == 200


class TestTruncation:
    @pytest.mark.parametrize(
        "begun",
        [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        ],
    )
    @pytest.mark.parametrize("how", [Peer.hangs_up, Peer.resets])
    def test_is_never_a_clean_end(
        self, world: World, begun: bytes, how: Callable[[Peer], None]
    ) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(begun)
        how(upstream)
        assert client.was_aborted
        assert not client.received().endswith(b"0\r\n\r\n")
        assert world.entry.reason == "upstream_lost"
        assert world.pool == EMPTY

    def test_a_reset_is_no_end_of_a_body_without_length(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\n\r\nhi")
        upstream.resets()
        assert client.was_aborted
        assert not client.received().endswith(b"0\r\n\r\n")
        assert world.entry.reason == "upstream_lost"

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
    def test_without_a_whole_head_it_is_a_bad_gateway(self, world: World, begun: bytes) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(begun)
        upstream.hangs_up()
        assert client.message().status == 502
        assert world.server.dialed == 1


class TestReuse:
    def exchanged(self, world: World, response: bytes, request: bytes = GET) -> Peer:
        client = world.connect()
        upstream = world.exchange(client, request, response)
        assert world.entry.reason == "ok"
        return upstream

    def test_bytes_behind_a_body_end_it(self, world: World) -> None:
        upstream = self.exchanged(world, OK + b"HTTP/1.1 200 OK\r\n\r\n")
        assert upstream.was_closed
        assert world.pool == EMPTY

    @pytest.mark.parametrize(
        "response",
        [
            b"HTTP/1.1 204 No Content\r\n\r\nsurprise",
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nmore",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\nmore",
        ],
    )
    def test_so_does_a_body_where_none_may_be(self, world: World, response: bytes) -> None:
        assert self.exchanged(world, response).was_closed
        assert world.pool == EMPTY

    def test_so_does_the_body_of_a_head_response(self, world: World) -> None:
        client = world.connect()
        client.sends(b"HEAD /a HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        upstream = world.upstream()
        upstream.sends(OK)
        assert client.message().body == b""
        assert upstream.was_closed

    def test_so_does_one_that_may_still_come(self, world: World) -> None:
        client = world.connect()
        client.sends(b"HEAD /a HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        upstream = world.upstream()
        upstream.sends(OK.partition(b"hi")[0])
        assert client.message().status == 200
        assert upstream.was_closed
        assert world.pool == EMPTY

    def test_unsolicited_bytes_end_an_idle_connection(self, world: World) -> None:
        upstream = self.exchanged(world, OK)
        assert world.pool == IDLE
        upstream.sends(OK)
        assert upstream.was_aborted
        assert world.pool == EMPTY
        assert len(world.log.entries) == 1

    @pytest.mark.parametrize(
        ("line", "kept"),
        [
            (b"HTTP/1.1 200 OK", True),
            (b"HTTP/1.1 200 OK\r\nconnection: close", False),
            (b"HTTP/1.0 200 OK", False),
            (b"HTTP/1.0 200 OK\r\nconnection: keep-alive", True),
        ],
    )
    def test_as_the_upstream_says(self, world: World, line: bytes, kept: bool) -> None:
        upstream = self.exchanged(world, line + b"\r\ncontent-length: 2\r\n\r\nhi")
        assert upstream.is_open is kept
        assert world.pool == (IDLE if kept else EMPTY)

    def test_one_that_closes_while_idle_is_not_used_any_more(self, world: World) -> None:
        client = world.connect()
        world.exchange(client, GET, OK).hangs_up()
        assert world.pool == EMPTY
        client.sends(POST + b"12345")
        assert world.upstream().received().endswith(b"12345")

    def test_not_even_in_the_same_turn(self, world: World) -> None:
        """A POST could not be sent again."""
        client = world.connect()
        upstream = world.exchange(client, GET, OK)
        upstream.shuts_down_at_once()
        client.sends(POST + b"12345")
        assert world.upstream().received().endswith(b"12345")

    def test_one_that_closes_and_never_takes_what_is_written_is_let_go(self, world: World) -> None:
        client = world.connect()
        client.sends(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\n")
        upstream = world.upstream()
        upstream.stops_reading()
        client.sends(b"x" * 99999)
        upstream.sends(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close")
        upstream.sends(b"\r\n\r\n")
        assert client.message().status == 413
        assert not upstream.is_open

    def test_nor_is_one_that_never_did_kept_for_ever(self, world: World) -> None:
        client = world.connect()
        client.sends(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999\r\n\r\n")
        upstream = world.upstream()
        upstream.stops_reading()
        client.sends(b"x" * 99999)
        upstream.sends(OK)
        assert client.message().status == 200
        world.advance(31)
        assert not upstream.is_open


class TestRetry:
    """Sent again only where a kept connection had gone stale and nothing can have been done."""

    def stale(self, world: World, request: bytes) -> tuple[Peer, Peer]:
        """A client, and the used connection that its request has just gone out on."""
        client = world.connect()
        upstream = world.exchange(client, GET, OK)
        client.sends(request)
        assert upstream.received()
        return client, upstream

    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
    @pytest.mark.parametrize("how", [Peer.hangs_up, Peer.resets])
    def test_a_safe_request_is_sent_once_more(
        self, world: World, method: bytes, how: Callable[[Peer], None]
    ) -> None:
        client, stale = self.stale(world, GET.replace(b"GET", method))
        how(stale)
        fresh = world.upstream()
        assert fresh.received().startswith(method + b" /a HTTP/1.1\r\n")
        fresh.sends(OK if method != b"HEAD" else b"HTTP/1.1 200 OK\r\n\r\n")
        assert client.message().status == 200
        assert [entry.reason for entry in world.log.entries] == ["ok", "ok"]
        assert world.pool == IDLE

    def test_but_not_twice(self, world: World) -> None:
        client, stale = self.stale(world, GET)
        stale.hangs_up()
        world.upstream().hangs_up()
        assert client.message().status == 502
        assert world.server.dialed == 2

    def test_not_even_if_another_kept_connection_has_gone_stale_too(self, world: World) -> None:
        one, two = world.connect(), world.connect()
        one.sends(GET)
        two.sends(GET)
        first, second = world.upstream(), world.upstream()
        first.sends(OK)
        second.sends(OK)
        one.received()
        two.received()
        one.sends(GET)
        second.hangs_up()  # the last that came back is the first that is used
        first.hangs_up()
        assert one.message().status == 502
        assert world.server.dialed == 2

    @pytest.mark.parametrize(
        "request_",
        [
            POST + b"12345",
            POST.replace(b"POST", b"PUT") + b"12345",
            GET.replace(b"GET", b"DELETE"),
            GET.replace(b"GET", b"PATCH"),
            POST.replace(b"POST", b"GET") + b"1",  # some of the body is gone
        ],
    )
    def test_others_are_not(self, world: World, request_: bytes) -> None:
        client, stale = self.stale(world, request_)
        stale.hangs_up()
        assert client.message().status == 502
        assert world.server.dialed == 1

    @pytest.mark.parametrize("answer", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
    def test_none_whose_answer_has_begun(self, world: World, answer: bytes) -> None:
        client, stale = self.stale(world, GET)
        stale.sends(answer)
        stale.hangs_up()
        assert b"HTTP/1.1 502 Bad Gateway" in client.received()
        assert world.server.dialed == 1

    def test_none_on_a_new_connection(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        world.upstream().hangs_up()
        assert client.message().status == 502
        assert world.server.dialed == 1

    def test_none_that_has_timed_out(self, world: World) -> None:
        client, _ = self.stale(world, GET)
        world.advance(61)
        assert client.message().status == 504
        assert world.server.dialed == 1

    def test_a_body_that_has_not_begun_follows_the_second_time(self, world: World) -> None:
        client, stale = self.stale(world, POST.replace(b"POST", b"GET"))
        stale.hangs_up()
        client.sends(b"12345")
        fresh = world.upstream()
        assert fresh.received().endswith(b"content-length: 5\r\n\r\n12345")
        fresh.sends(OK)
        assert client.message().status == 200

    def test_where_there_is_no_room_for_it_there_is_none(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1, "queue": 1})
        client, stale = self.stale(world, GET)
        for _ in range(1):
            world.connect().sends(GET)
        world.server.silent = True
        stale.hangs_up()
        assert client.message().status == 503


class TestTimeouts:
    def test_a_silent_upstream(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        world.advance(59)
        assert client.received() == b""
        world.advance(2)
        assert client.message().status == 504
        assert upstream.was_aborted
        assert world.pool == EMPTY
        assert world.entry.reason == "upstream_timeout"

    def test_one_that_is_stuck_in_the_middle(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        for piece in (b"1", b"2"):
            world.advance(29)
            upstream.sends(piece)
        assert client.is_open
        world.advance(31)
        assert client.was_aborted
        assert upstream.was_aborted
        assert world.entry.reason == "upstream_timeout"
        assert (world.entry.status, world.entry.bytes_out) == (200, 2)

    def test_a_client_that_is_stuck_is_named_as_such(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        client.stops_reading()
        world.upstream().sends(
            b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n" + b"x" * 2 * HIGH_WATER
        )
        world.advance(31)
        assert world.entry.reason == "client_stuck"

    def test_a_service_may_have_its_own(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "timeouts": {"response": 2.0}}])
        client = world.connect()
        client.sends(GET)
        world.advance(3)
        assert client.message().status == 504

    def test_an_idle_connection_is_closed(self, world: World) -> None:
        upstream = world.exchange(world.connect(), GET, OK)
        world.advance(29)
        assert upstream.is_open
        world.advance(2)
        assert upstream.was_closed
        assert world.pool == EMPTY


class TestHopByHop:
    def test_fields_of_the_connection_stay_on_it(self, world: World) -> None:
        client = world.connect()
        client.sends(GET)
        world.upstream().sends(
            b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n"
            b"proxy-authenticate: Basic\r\ntrailer: x\r\nx-end: 2\r\ncontent-length: 0\r\n\r\n"
        )
        names = client.message().names()
        assert names == {b"x-end", b"date", b"via", b"x-request-id", b"content-length"}


def test_an_upstream_error_is_a_bad_gateway() -> None:
    assert UpstreamError("x", "y").status == 502
