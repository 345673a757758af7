"""Upstreams whose answers are none, or more than one."""

from __future__ import annotations

import threading

import pytest

from tests.hostile.house import House, Way
from tests.hostile.raw import PATIENCE
from tests.origin import Conversation, raw

# --- 40 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"hello, I am no HTTP at all\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 5000 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 1_000_000,
        b"x" * 1_000_000,
    ],
)
def test_40_answer_that_is_none(house: House, way: Way, answer: bytes) -> None:
    house.origin.on["/broken"] = raw(answer)
    with way.connect() as client:
        client.send(way.request("/broken"))
        refused = client.answer()
        assert refused.status == 502
        assert b"hello" not in refused.body
        client.send(way.request("/good"))
        assert client.answer().status == 200


@pytest.mark.parametrize(
    "chunks",
    [b"0x5\r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"5\nhello\r\n", b"5\r\nhello!\r\n", b"g\r\n"],
)
def test_40_malformed_chunk(house: House, way: Way, chunks: bytes) -> None:
    """The answer's head may be with the client by then: he must see that it is not whole."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    house.origin.on["/broken"] = raw(head + chunks)
    with way.connect() as client:
        client.send(way.request("/broken"))
        answered = client.answer_or_break()
    assert answered is None or answered.status == 502


def test_40_nothing_of_one_hop_goes_on_to_the_next(house: House, way: Way) -> None:
    house.origin.on["/hop"] = raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n"
        b"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n"
        b"Connection: keep-alive, x-hop\r\nTrailer: x\r\nX-End: 2\r\n\r\n"
    )
    answer = house.ask(way, way.request("/hop"))
    names = {name for name, _ in answer.fields}
    assert answer.values("x-end") == ["2"]
    assert names <= {"x-end", "content-length", "via", "x-request-id", "date"}


# --- 41 -----------------------------------------------------------------------------------


def test_41_informational_answers_before_the_final_one(house: House, way: Way) -> None:
    house.origin.on["/early"] = raw(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    )
    with way.connect() as client:
        client.send(way.request("/early"))
        assert client.answer().status == 102
        hints = client.answer()
        assert (hints.status, hints.values("link")) == (103, ["</x>"])
        assert client.answer().body == b"hello"


def test_41_informational_answers_are_nothing_for_http_1_0(house: House, way: Way) -> None:
    house.origin.on["/early"] = raw(
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    )
    answer = house.ask(way, way.request("/early", version="HTTP/1.0"))
    assert (answer.status, answer.body) == (200, b"hello")


def test_41_endless_informational_answers(house: House, way: Way) -> None:
    house.origin.on["/early"] = raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000)
    with way.connect() as client:
        client.send(way.request("/early"))
        count = 0
        while (answer := client.answer()).status == 103:
            count += 1
        assert answer.status == 502
        assert count < 100


def test_41_switching_protocols_that_nobody_asked_for(house: House, way: Way) -> None:
    house.origin.on["/switch"] = raw(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
        close=False,
    )
    with way.connect() as client:
        client.send(way.request("/switch"))
        assert client.answer().status == 502
        client.send(way.request("/good"))
        assert client.answer().status == 200


# --- 42, 43 -------------------------------------------------------------------------------

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + EVIL),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_42_body_where_none_may_be(house: House, way: Way, method: str, answer: bytes) -> None:
    house.origin.on["/bodiless"] = raw(answer, close=False)
    with way.connect() as client:
        client.send(way.request("/bodiless", method=method) + way.request("/good"))
        assert client.answer(method).body == b""
        good = client.answer()
    assert good.document["target"].endswith("/good")


def test_42_length_of_what_is_not_there(house: House, way: Way) -> None:
    """A HEAD's Content-Length is passed on, and is not waited for."""
    house.origin.on["/large"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", close=False)
    with way.connect() as client:
        client.send(way.request("/large", method="HEAD") + way.request("/good"))
        assert client.answer("HEAD").values("content-length") == ["5000"]
        assert client.answer().status == 200


def test_42_body_that_comes_late(house: House, way: Way) -> None:
    """Behind the head of an answer to HEAD, when the connection is idle already."""
    sent, answered = threading.Event(), threading.Event()

    def late(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EVIL))
        assert answered.wait(PATIENCE)
        conversation.send(EVIL)
        sent.set()

    house.origin.on["/late"] = late
    with way.connect() as client:
        client.send(way.request("/late", method="HEAD"))
        client.answer("HEAD")
        answered.set()
        assert sent.wait(PATIENCE)
        # The bytes are with the daemon's kernel already, before the next request comes.
        client.send(way.request("/good"))
        assert client.answer().document["target"].endswith("/good")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + EVIL,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + EVIL,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + EVIL,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\n",
    ],
)
def test_43_bytes_behind_the_body(house: House, way: Way, answer: bytes) -> None:
    connections = []

    def handle(conversation: Conversation) -> None:
        connections.append(conversation.number)
        conversation.send(answer)

    house.origin.on["/more"] = handle
    with way.connect() as client:
        client.send(way.request("/more") + way.request("/good"))
        assert b"evil" not in client.answer().body
        good = client.answer()
    assert good.document["target"].endswith("/good")
    assert good.document["connection"] not in connections


def test_43_good_connections_are_reused(house: House, way: Way) -> None:
    with way.connect() as client:
        client.send(way.request("/good") * 5)
        used = {client.answer().document["connection"] for _ in range(5)}
    assert len(used) == 1


def test_43_answer_before_the_request_has_ended(house: House, way: Way) -> None:
    """The rest of the request must not be in front of the next one on that connection."""

    def early(conversation: Conversation) -> None:
        conversation.answer("enough")

    house.origin.on["/early"] = early
    body = way.request("/smuggled")
    with way.connect() as client:
        client.send(way.request("/early", f"Content-Length: {len(body)}", method="POST"))
        assert client.answer().status == 200
        client.send(body + way.request("/good"))
        assert client.answer().document["target"].endswith("/good")
    assert "/smuggled" not in house.origin.paths
