"""Clients that are slow on purpose, or too many."""

from __future__ import annotations

import contextlib
import threading

import pytest

from tests.daemon import wait_until
from tests.hostile.house import House, Way
from tests.hostile.raw import PATIENCE, BrokenTransferError, Client
from tests.origin import Conversation, silent

PER_PEER = 5
IN_ALL = 8

#: Far less than what the clients and upstreams here would have us keep.
MOST_MEMORY = 32 * 1024 * 1024

MORE = f"""
[timeouts]
head = 0.5
body = 0.5
idle = 0.5
response = 0.5

[limits]
connections_per_peer = {PER_PEER}
connections = {IN_ALL}
"""


@pytest.fixture(autouse=True)
def _nobody_is_left(house: House) -> None:
    """All the connections that a test has made have ended before the next one begins."""
    wait_until(lambda: can_connect(house.gateway, PER_PEER), "the connections end")


def can_connect(way: Way, count: int, source: str = "") -> bool:
    """Whether so many connections can be had at once."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(way.address, source=source)) for _ in range(count)]
        return all(is_served(way, client) for client in clients)


def is_served(way: Way, client: Client) -> bool:
    client.try_to_send(way.request("/good"))
    answer = client.answer_or_break()
    return answer is not None and answer.status == 200


@pytest.mark.parametrize(
    "beginning", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "]
)
def test_36_slow_head(house: House, way: Way, beginning: bytes) -> None:
    with way.connect() as client:
        client.send(beginning)
        assert client.final_answer().status == 408


def test_36_head_byte_by_byte(house: House, way: Way) -> None:
    """More bytes do not win more time."""
    with way.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nX-Slow: ")
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(0.05):
                client.try_to_send(b"x")

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            assert client.final_answer().status == 408
        finally:
            ended.set()
            thread.join()


def test_36_silent_client(house: House, way: Way) -> None:
    """Who asks for nothing gets nothing, not even a 408."""
    with way.connect() as client:
        assert client.rest() == b""


def test_36_silent_client_after_a_request(house: House, way: Way) -> None:
    with way.connect() as client:
        client.send(way.request("/good"))
        assert client.answer().status == 200
        assert client.rest() == b""


@pytest.mark.parametrize("field", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_36_slow_body(house: House, way: Way, field: str) -> None:
    with way.connect() as client:
        client.send(way.request("/good", field, method="POST"))
        assert client.final_answer().status == 408


def test_36_body_that_stops(house: House, way: Way) -> None:
    with way.connect() as client:
        client.send(way.request("/good", "Content-Length: 5", method="POST") + b"hel")
        assert client.final_answer().status == 408


def test_36_slow_body_behind_a_denied_request(house: House, way: Way) -> None:
    data = way.request("/hostile", "Content-Length: 5", method="POST", credentials=False)
    with way.connect() as client:
        client.send(data)
        assert client.answer().status in (401, 407)
        assert client.rest() == b""


def test_36_slow_reader(house: House, way: Way) -> None:
    """The upstream is not kept busy by a client that takes nothing, and nothing piles up."""
    cut = threading.Event()

    def endless(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                conversation.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        finally:
            cut.set()

    house.origin.on["/endless"] = endless
    before = house.daemon.peak_memory
    with way.connect() as client:
        client.send(way.request("/endless"))
        assert cut.wait(PATIENCE)
        with pytest.raises(BrokenTransferError):
            client.answer()
    assert house.daemon.peak_memory - before < MOST_MEMORY


def test_36_reader_of_no_answers(house: House, way: Way) -> None:
    """Who asks and asks and reads nothing is not read any more, and cut in the end."""
    house.origin.on["/long"] = lambda conversation: conversation.answer("x" * 100_000)
    before = house.daemon.peak_memory
    with way.connect() as client:
        client.send_until_it_breaks(way.request("/long") * 10, 1_000_000_000)
    assert house.daemon.peak_memory - before < MOST_MEMORY


def test_36_silent_upstream_that_reads_nothing(house: House, way: Way) -> None:
    """A large body that the upstream does not take."""
    ended = threading.Event()
    house.origin.on["/stuck"] = silent(ended)
    before = house.daemon.peak_memory
    try:
        with way.connect() as client:
            client.send(way.request("/stuck", "Content-Length: 1000000000", method="POST"))

            def send() -> None:
                while not ended.is_set():
                    client.try_to_send(b"x" * 65536)

            thread = threading.Thread(target=send)
            thread.start()
            assert client.answer().status == 504
            ended.set()
            thread.join()
    finally:
        ended.set()
    assert house.daemon.peak_memory - before < MOST_MEMORY


def test_36_connections_of_one_peer(house: House) -> None:
    """All doors together; what is too many is hung up on, the others go on."""
    with contextlib.ExitStack() as stack:
        ways = [house.gateway, house.proxy] * PER_PEER
        first = [(way, stack.enter_context(way.connect())) for way in ways[:PER_PEER]]
        assert all(is_served(way, client) for way, client in first)
        with house.gateway.connect() as one_more:
            assert not is_served(house.gateway, one_more)
        assert can_connect(house.gateway, 1, source="127.0.0.2")
        assert is_served(*first[0])
    wait_until(lambda: can_connect(house.gateway, 1), "there is room again")


def test_36_connections_in_all(house: House) -> None:
    with contextlib.ExitStack() as stack:
        sources = [f"127.0.0.{2 + number // PER_PEER}" for number in range(IN_ALL)]
        clients = [
            stack.enter_context(Client(house.gateway.address, source=source)) for source in sources
        ]
        assert all(is_served(house.gateway, client) for client in clients)
        assert not can_connect(house.gateway, 1, source="127.0.0.9")
    wait_until(lambda: can_connect(house.gateway, 1, "127.0.0.9"), "there is room again")
