"""Upstreams that hang up, say nothing, or are not there."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon import Daemon, free_port
from tests.hostile.house import ALICE, House, Way
from tests.hostile.raw import BrokenTransferError, Client
from tests.origin import Conversation, Handler, Origin, raw, silent

NOWHERE = free_port()

MORE = f"""
[[listeners]]
name = "anywhere"
role = "forward"
bind = "@anywhere@"
checkers = ["users"]
allow = ["127.0.0.1:*"]

[[services]]
name = "hasty"
from = "/hasty"
to = "http://@origin@"
checkers = ["users"]
listeners = ["gateway"]
timeouts = {{ response = 0.5, body = 0.5 }}

[[services]]
name = "refused"
from = "/refused"
to = "http://127.0.0.1:{NOWHERE}"
checkers = ["users"]
listeners = ["gateway"]

[[services]]
name = "unresolvable"
from = "/unresolvable"
to = "http://nowhere.invalid"
checkers = ["users"]
listeners = ["gateway"]
"""


def hasty(house: House) -> Way:
    return Way(house.gateway.address, "/hasty", "gateway.test", "Authorization")


def to(house: House, prefix: str) -> Way:
    return Way(house.gateway.address, prefix, "gateway.test", "Authorization")


# --- 44 -----------------------------------------------------------------------------------

TRUNCATED = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checks",
]


@pytest.mark.parametrize("answer", TRUNCATED)
@pytest.mark.parametrize("rudely", [False, True])
def test_44_truncated_body(house: House, way: Way, answer: bytes, rudely: bool) -> None:
    def cut(conversation: Conversation) -> None:
        conversation.send(answer)
        (conversation.reset if rudely else conversation.close)()

    house.origin.on["/cut"] = cut
    with way.connect() as client:
        client.send(way.request("/cut"))
        answered = client.answer_or_break()
    assert answered is None or answered.status == 502


@pytest.mark.parametrize("answer", TRUNCATED)
def test_44_truncated_body_for_http_1_0(house: House, way: Way, answer: bytes) -> None:
    """For whom the end of the connection is the end of the body: it must not end cleanly."""
    house.origin.on["/cut"] = raw(answer)
    with way.connect() as client:
        client.send(way.request("/cut", version="HTTP/1.0"))
        wire, reset = b"", False
        try:
            while piece := client.socket.recv(65536):
                wire += piece
        except ConnectionResetError:
            reset = True
    # Or it sees by itself that this is not all.
    assert reset or b"content-length: 1000" in wire or wire.startswith(b"HTTP/1.1 502 ")


def test_44_body_that_ends_with_the_connection(house: House, way: Way) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    house.origin.on["/unbounded"] = raw(head + b"hello")
    assert house.ask(way, way.request("/unbounded")).body == b"hello"

    def cut(conversation: Conversation) -> None:
        conversation.send(head + b"hello")
        conversation.reset()

    house.origin.on["/unbounded"] = cut
    with way.connect() as client:
        client.send(way.request("/unbounded"))
        answered = client.answer_or_break()
    assert answered is None or answered.status == 502


def test_44_truncated_in_a_tunnel(house: House) -> None:
    def cut(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        assert conversation.read(1) == b"!"  # the client has it all
        conversation.reset()

    house.origin.on["/cut"] = cut
    authority = house.proxy.host
    with house.proxy.connect() as client:
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        client.send(f"{head}Proxy-Authorization: {ALICE}\r\n\r\n".encode())
        assert client.answer("CONNECT").status == 200
        client.send(b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read(24)[-5:] == b"hello"
        client.send(b"!")
        with pytest.raises(ConnectionResetError):
            assert client.socket.recv(1) == b"!"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_44_body_that_tls_does_not_end(authority: Authority, tmp_path: Path) -> None:
    """Without a close_notify anybody on the way may have cut it (RFC 8446, 6.1)."""
    certificate = authority.issue("127.0.0.1")
    configuration = f"""
state_dir = "state"
management = {{ bind = "none" }}
listeners = [ {{ name = "gateway", role = "gateway", bind = "@gateway@" }} ]
services = [
    {{ name = "tls", to = "https://@origin@", checkers = [], ca_file = "{authority.file}" }}
]
"""
    head = b"HTTP/1.1 200 OK\r\n\r\n"

    def cut(conversation: Conversation) -> None:
        conversation.send(head + b"hello")
        conversation.close()

    def end(conversation: Conversation) -> None:
        conversation.send(head + b"hello")
        assert isinstance(conversation.socket, ssl.SSLSocket)
        conversation.socket.unwrap()
        conversation.close()

    with Origin(certificate.server_context()) as origin:
        origin.on.update({"/cut": cut, "/end": end})
        with Daemon(tmp_path, configuration, ports={"origin": origin.port}) as daemon:
            for path, whole in (("/end", True), ("/cut", False)):
                with Client(daemon.address("gateway")) as client:
                    client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
                    if whole:
                        assert client.answer().body == b"hello"
                    else:
                        with pytest.raises(BrokenTransferError):
                            client.answer()


def test_44_body_that_stops(house: House) -> None:
    way = hasty(house)
    house.origin.on["/stops"] = raw(TRUNCATED[0], close=False)
    with way.connect() as client:
        client.send(way.request("/stops"))
        with pytest.raises(BrokenTransferError):
            client.answer()


# --- 45 -----------------------------------------------------------------------------------


def test_45_refused(house: House) -> None:
    way = to(house, "/refused")
    assert house.ask(way, way.request("/x")).status == 502


def test_45_unresolvable(house: House) -> None:
    way = to(house, "/unresolvable")
    assert house.ask(way, way.request("/x")).status == 502


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("rudely", [False, True])
def test_45_hang_up_on_a_new_connection(house: House, method: str, rudely: bool) -> None:
    """It may have been executed: it is not sent again."""
    with Origin() as origin:
        origin.on["/cut"] = lambda conversation: (
            conversation.reset() if rudely else conversation.close()
        )
        authority = f"127.0.0.1:{origin.port}"
        address = house.daemon.address("anywhere")
        way = Way(address, f"http://{authority}", authority, "Proxy-Authorization")
        assert house.ask(way, way.request("/cut", method=method)).status == 502
        assert origin.paths == ["/cut"]


def stale_after_one() -> Handler:
    """Make a handler that hangs up on the second request of a connection."""
    used: set[int] = set()

    def handle(conversation: Conversation) -> None:
        if conversation.number in used:
            conversation.close()
        else:
            used.add(conversation.number)
            conversation.answer("first", "200 OK")

    return handle


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_45_stale_connection_and_a_safe_request(house: House, way: Way, method: str) -> None:
    """It is sent again, once, on a new connection."""
    house.origin.on["/stale"] = stale_after_one()
    assert house.ask(way, way.request("/stale")).status == 200
    assert house.ask(way, way.request("/stale", method=method), method).status == 200
    assert [request.method for request in house.origin.requests] == ["GET", method, method]


@pytest.mark.parametrize(
    ("method", "body"), [("POST", b""), ("PUT", b"hello"), ("DELETE", b""), ("GET", b"hello")]
)
def test_45_stale_connection_and_what_may_have_been_executed(
    house: House, way: Way, method: str, body: bytes
) -> None:
    house.origin.on["/stale"] = stale_after_one()
    assert house.ask(way, way.request("/stale")).status == 200
    length = f"Content-Length: {len(body)}"
    assert house.ask(way, way.request("/stale", length, method=method, body=body)).status == 502
    assert [request.method for request in house.origin.requests] == ["GET", method]


def test_45_no_second_try_after_a_piece_of_an_answer(house: House, way: Way) -> None:
    used: set[int] = set()

    def handle(conversation: Conversation) -> None:
        if conversation.number in used:
            conversation.send(b"HTTP/1.1 2")
            conversation.close()
        else:
            used.add(conversation.number)
            conversation.answer("first")

    house.origin.on["/piece"] = handle
    assert house.ask(way, way.request("/piece")).status == 200
    assert house.ask(way, way.request("/piece")).status == 502
    assert house.origin.paths == ["/piece", "/piece"]


def test_45_silent(house: House) -> None:
    ended = threading.Event()
    house.origin.on["/silent"] = silent(ended)
    way = hasty(house)
    try:
        with way.connect() as client:
            client.send(way.request("/silent"))
            assert client.answer().status == 504
            client.send(way.request("/good"))
            assert client.answer().status == 200
        assert house.origin.paths.count("/silent") == 1
    finally:
        ended.set()


def test_45_half_an_answer(house: House) -> None:
    house.origin.on["/half"] = raw(b"HTTP/1.1 200 OK\r\nContent-", close=False)
    way = hasty(house)
    assert house.ask(way, way.request("/half")).status == 504
    assert house.origin.paths == ["/half"]
