"""Upstreams that break the protocol, hang up, or say nothing."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon import Daemon, free_port
from tests.hostile.house import ALICE, House, Way
from tests.hostile.raw import PATIENCE, BrokenTransferError, Client
from tests.origin import Conversation, Handler, Origin, raw

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
        try:
            assert client.answer().status == 502
        except BrokenTransferError:
            pass


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
        try:
            assert client.answer().status == 502
        except BrokenTransferError:
            pass


@pytest.mark.parametrize("answer", TRUNCATED)
def test_44_truncated_body_for_http_1_0(house: House, way: Way, answer: bytes) -> None:
    """For whom the end of the connection is the end of the body: it must not end cleanly."""
    house.origin.on["/cut"] = raw(answer)
    with way.connect() as client:
        client.send(way.request("/cut", version="HTTP/1.0"))
        wire = b""
        with pytest.raises(ConnectionResetError):
            while piece := client.socket.recv(65536):
                wire += piece
            assert b"content-length: 1000" in wire or wire.startswith(b"HTTP/1.1 502 ")
            raise ConnectionResetError  # it can see that this is not all


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
        try:
            assert client.answer().status == 502
        except BrokenTransferError:
            pass


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
    house.origin.on["/silent"] = lambda conversation: (ended.wait(PATIENCE), None)[1]
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
