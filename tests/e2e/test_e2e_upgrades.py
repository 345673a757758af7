"""A WebSocket through both doors, with the handshake and frames of RFC 6455."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.e2e.plain import PLAIN
from tests.hostile.raw import Client
from tests.origin import Conversation, Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CREDENTIALS = "Basic YWxpY2U6d29uZGVybGFuZA=="


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + _MAGIC).encode()).digest()).decode()


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """A binary message in one frame; clients mask theirs."""
    head = b"\x82" + bytes([(0x80 if mask else 0) | 127]) + struct.pack(">Q", len(payload))
    return head + mask + (masked(payload, mask) if mask else payload)


def masked(payload: bytes, mask: bytes) -> bytes:
    repeated = mask * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return number.to_bytes(len(payload), "big")


def answer_messages(conversation: Conversation) -> None:
    """Accept the handshake, and send every message back."""
    (key,) = conversation.request.values("sec-websocket-key")
    conversation.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_for(key).encode() + b"\r\n\r\n"
    )
    while head := conversation.read(14):
        length = struct.unpack(">Q", head[2:10])[0]
        conversation.send(frame(masked(conversation.read(length), head[10:14])))
    conversation.close()


@pytest.fixture
def daemon(origin: Origin, tmp_path: Path) -> Iterator[Daemon]:
    origin.on["/socket"] = answer_messages
    with Daemon(tmp_path, PLAIN, ports={"origin": origin.port}) as daemon:
        yield daemon


@pytest.mark.parametrize("door", ["gateway", "proxy"])
def test_websocket(daemon: Daemon, origin: Origin, door: str) -> None:
    target, field = {
        "gateway": ("/echo/socket", "Authorization"),
        "proxy": (f"{origin.url}/socket", "Proxy-Authorization"),
    }[door]
    key = base64.b64encode(os.urandom(16)).decode()
    with Client(daemon.address(door)) as client:
        client.send(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{field}: {CREDENTIALS}\r\n\r\n".encode()
        )
        answer = client.answer()
        assert answer.status == 101
        assert answer.values("upgrade") == ["websocket"]
        assert answer.values("connection") == ["upgrade"]
        assert answer.values("sec-websocket-accept") == [accept_for(key)]
        for size in (0, 1, 1000, 300_000):
            message = os.urandom(size)
            client.send(frame(message, mask=b"\x01\x02\x03\x04"))
            assert client.read(10 + size) == frame(message)
        client.socket.shutdown(1)
        assert client.rest() == b""
    line = daemon.logged(*answer.values("x-request-id"))
    assert (line["status"], line["reason"]) == (101, "ok")
    assert line["bytes_in"] == 4 * 14 + 301_001
    assert line["bytes_out"] == 4 * 10 + 301_001
