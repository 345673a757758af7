"""One client's connection: one request after the other (RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.memory import HIGH_WATER, Message
from tests.net.messages import (
    GET,
    GET_10,
    NOWHERE,
    OK,
    POST,
    answered,
    asked,
    refused,
)
from tests.world import SERVICE, World, public_world, worlds

world = pytest.fixture(public_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]


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

    def test_a_door_that_is_closed_lets_everybody_make_a_last_request(self, world: World) -> None:
        """Who has been told nothing may be about to send one."""
        idle, silent, busy = world.connect(), world.connect(), world.connect()
        busy.sends(GET)
        upstream = world.upstream()
        world.connections.wind_down(world.door("public"))
        world.advance(4)
        idle.sends(GET)
        world.upstream().sends(OK)
        assert idle.message().values(b"connection") == [b"close"]
        assert idle.saw_end
        upstream.sends(OK)
        assert busy.message().values(b"connection") == [b"close"]
        assert busy.saw_end
        assert silent.is_open
        world.advance(2)
        assert silent.was_closed

    def test_a_response_that_has_begun_is_not_the_last_one(self, world: World) -> None:
        """Its head has said nothing of an end."""
        client = world.connect()
        client.sends(GET)
        upstream = world.upstream()
        upstream.sends(OK[:-1])
        assert client.received()
        world.connections.wind_down(world.door("public"))
        upstream.sends(OK[-1:])
        assert client.is_open
        client.received()
        client.sends(GET)
        upstream.sends(OK)
        assert client.message().values(b"connection") == [b"close"]
        assert client.saw_end

    def test_who_comes_in_through_a_closed_door(self, world: World) -> None:
        """A TLS handshake may have taken until now."""
        world.connections.wind_down(world.door("public"))
        client, silent = world.connect(), world.connect()
        client.sends(GET)
        world.upstream().sends(OK)
        assert client.message().values(b"connection") == [b"close"]
        world.advance(6)
        assert silent.was_closed

    def test_other_doors_are_not_concerned(self, world: World) -> None:
        other = world.connect("proxy")
        world.connections.wind_down(world.door("public"))
        world.advance(6)
        assert other.is_open

    def test_a_refused_client_is_not_waited_for(self, make_world: MakeWorld) -> None:
        world = make_world(services=[{**SERVICE, "hosts": ["shop.example"]}])
        client = world.connect()
        client.sends(POST.replace(b"shop", b"else") + b"123")
        client.received()
        world.plane.draining = True
        world.connections.drain(lambda: None)
        client.sends(b"45")
        assert client.saw_end
