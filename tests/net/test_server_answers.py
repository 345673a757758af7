"""Answers beside the final response, answers of our own, and patience that ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.auth.interfaces import Deny
from tests.memory import HIGH_WATER, Message
from tests.net.messages import (
    GET,
    OK,
    POST,
    POST_CHUNKED,
    answered,
    asked,
    refused,
)
from tests.world import CLIENT, SERVICE, World, guarded_world, public_world, worlds

world = pytest.fixture(public_world)
guarded = pytest.fixture(guarded_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]


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
        assert world.journal.records == []

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
