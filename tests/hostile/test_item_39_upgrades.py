"""Upgrades: a tunnel only after a 101 that somebody asked for."""

from __future__ import annotations

import pytest

from tests.hostile.house import House, Way
from tests.origin import Conversation, raw

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n"
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket")


def mirror(conversation: Conversation) -> None:
    """Switch protocols, and send back what comes."""
    conversation.send(SWITCHING % b"websocket" + b"hello")
    while piece := conversation.read(4):
        conversation.send(piece)
    conversation.close()


def test_39_upgrade(house: House, way: Way) -> None:
    """What must work, beside what must not; the first bytes may come early from both sides."""
    house.origin.on["/socket"] = mirror
    with way.connect() as client:
        client.send(way.request("/socket", *WEBSOCKET) + b"ping")
        answer = client.answer()
        assert answer.status == 101
        assert answer.values("upgrade") == ["websocket"]
        assert client.read(9) == b"helloping"
        client.send(b"GET ")
        assert client.read(4) == b"GET "
        client.socket.shutdown(1)
        assert client.rest() == b""


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required"])
def test_39_upgrade_that_is_refused(house: House, way: Way, status: str) -> None:
    """What comes behind is a request, and treated as such."""
    house.origin.on["/socket"] = lambda conversation: conversation.answer("no", status)
    with way.connect() as client:
        client.send(way.request("/socket", *WEBSOCKET))
        assert client.answer().status == int(status[:3])
        client.send(way.request("/hostile", credentials=False))
        assert client.answer().status in (401, 407)
        client.send(b"\x81\x05hello" + way.request("/smuggled"))
        assert client.final_answer().status == 400
    assert [request.path for request in house.seen()] == ["/socket"]


def test_39_early_bytes_behind_an_upgrade_that_is_refused(house: House, way: Way) -> None:
    house.origin.on["/socket"] = lambda conversation: conversation.answer("no")
    with way.connect() as client:
        behind = way.request("/hostile", credentials=False)
        client.send(way.request("/socket", *WEBSOCKET) + behind)
        assert client.answer().status == 200
        assert client.answer().status in (401, 407)
    assert [request.path for request in house.seen()] == ["/socket"]


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        ("Connection: Upgrade", "Upgrade: h2c"),
        ("Connection: Upgrade", "Upgrade: H2C"),
        ("Connection: Upgrade", "Upgrade: websocket, h2c"),
        ("Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: keep-alive", "Upgrade: websocket"),
        ("Upgrade: websocket",),
    ],
)
def test_39_upgrade_that_nobody_hears_of(house: House, way: Way, fields: tuple[str, ...]) -> None:
    """It does not go on, and an upstream that switches all the same is refused."""
    answer = house.ask(way, way.request("/good", *fields))
    assert answer.status == 200
    names = {name for name, _ in answer.document["fields"]}
    assert names.isdisjoint({"upgrade", "connection", "http2-settings"})
    house.origin.on["/socket"] = raw(SWITCHING % b"h2c", close=False)
    with way.connect() as client:
        client.send(way.request("/socket", *fields))
        assert client.answer().status == 502
        client.send(way.request("/good"))
        assert client.answer().status == 200


def test_39_upgrade_with_a_body(house: House, way: Way) -> None:
    house.origin.on["/socket"] = raw(SWITCHING % b"websocket", close=False)
    fields = (*WEBSOCKET, "Content-Length: 5")
    answer = house.ask(way, way.request("/socket", *fields, method="POST", body=b"hello"))
    assert answer.status == 502


def test_39_upgrade_on_http_1_0(house: House, way: Way) -> None:
    house.origin.on["/socket"] = raw(SWITCHING % b"websocket", close=False)
    answer = house.ask(way, way.request("/socket", *WEBSOCKET, version="HTTP/1.0"))
    assert answer.status == 502


def test_39_upgrade_without_credentials(house: House, way: Way) -> None:
    house.origin.on["/hostile"] = mirror
    with way.connect() as client:
        client.send(way.request("/hostile", *WEBSOCKET, credentials=False) + b"ping")
        assert client.answer().status in (401, 407)
    assert house.seen() == []
