"""Request heads: what is refused with which status, and what the proxy learns from the rest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.errors import ProtocolError
from gatekeeper.http.fields import parse_lines
from gatekeeper.http.heads import HeadLimits, RequestHead, check_beginning, parse_request_head

LIMITS = HeadLimits()
SMALL = HeadLimits(target=20, head=200, fields=3)


def parse(data: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    """As a connection does it: the head goes up to the empty line, the rest is no part of it."""
    end = data.index(b"\r\n\r\n") + 4
    return parse_request_head(data[:end], limits)


def understand(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bool = True) -> RequestHead:
    hosts = [b"Host: a"] if host else []
    return parse(b"\r\n".join([start, *hosts, *lines, b"", b""]))


def refusal(data: bytes, limits: HeadLimits = LIMITS) -> ProtocolError:
    with pytest.raises(ProtocolError) as refused:
        parse(data, limits)
    assert refused.value.close
    return refused.value


# --- the request line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"HEAD /a?b HTTP/1.1",
        b"POST /a HTTP/1.0",
        b"PATCH http://a/b HTTP/1.1",
        b"CONNECT a:443 HTTP/1.1",
        b"CONNECT [::1]:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"PROPFIND / HTTP/1.1",
        b"M-SEARCH * HTTP/1.1",
    ],
)
def test_a_request_line(line: bytes) -> None:
    method, target, version = line.split(b" ")
    head = understand(start=line)
    assert (head.method, head.target) == (method, target)
    assert head.minor == int(version[-1:])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", 400),  # HTTP/0.9
        (b"GET / HTTP/0.9", 400),
        (b"GET / HTTP/0.0", 400),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/9.9", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/2", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/1.", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/01.1", 400),
        (b"GET / HTTP/1.1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTPS/1.1", 400),
        (b"GET / ICY/1.1", 400),
        (b"GET / HTTP/1,1", 400),
        (b"GET / HTTP/1.\xb2", 400),
        (b"get / HTTP/1.1", 501),
        (b"Get / HTTP/1.1", 501),
        (b"GETX / HTTP/1.1", 501),
        (b"G / HTTP/1.1", 501),
        (b"BREW / HTTP/1.1", 501),
        (b"PRI * HTTP/1.1", 400),
        (b"GE(T / HTTP/1.1", 400),
        (b"G\x00T / HTTP/1.1", 400),
        (b"G\xc9T / HTTP/1.1", 400),
        (b"A" * 65 + b" / HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"\tGET / HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / HTTP/1.1\t", 400),
        (b"GET  HTTP/1.1", 400),
        (b"GET HTTP/1.1", 400),
        (b"/ HTTP/1.1", 400),
        (b"GET / a HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\x1f HTTP/1.1", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"GET /caf\xc3\xa9 HTTP/1.1", 400),
        (b"GET /\r HTTP/1.1", 400),
        (b"GET /\rHTTP/1.1", 400),
        (b"GET /\n HTTP/1.1", 400),
        (b"GET /\x0b HTTP/1.1", 400),
        (b"GET\r\n / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"SSH-2.0-OpenSSH_9.2", 400),
    ],
)
def test_a_bad_request_line(line: bytes, status: int) -> None:
    assert refusal(line + b"\r\nHost: a\r\n\r\n").status == status


@pytest.mark.parametrize("method", [b"GET", b"POST", b"CONNECT", b"PROPFIND"])
@pytest.mark.parametrize("target", [b"/%b", b"/a%bb", b"/?%bb", b"/#%b", b"http://a%b/", b"%b"])
def test_a_target_is_visible_ascii(method: bytes, target: bytes) -> None:
    """Whoever reads it: of common methods, that is left to llhttp."""
    for byte in range(256):
        line = method + b" " + target % bytes((byte,)) + b" HTTP/1.1"
        try:
            head = understand(start=line)
        except ProtocolError:
            continue
        assert 0x21 <= byte <= 0x7E
        assert head.target == line.split(b" ")[1]


# --- framing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], 0),
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length: 5"], 5),
        ([b"CONTENT-LENGTH:5"], 5),
        ([b"Content-Length:\t5 \t"], 5),
        ([b"Content-Length: 005"], 5),
        ([b"Content-Length: 999999999999999999"], 999999999999999999),
        ([b"Transfer-Encoding: chunked"], None),
        ([b"transfer-encoding:CHUNKED "], None),
        ([b"Content_Length: 7"], 0),
        ([b"Transfer_Encoding: chunked", b"Content-Length: 3"], 3),
        ([b"Connection: content-length", b"Content-Length: 3"], 3),
        ([b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 3"], 3),
        ([b"Content-Length: 3", b"Upgrade: websocket", b"Connection: upgrade"], 3),
        ([b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked"], None),
    ],
)
@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"HEAD / HTTP/1.1", b"CONNECT a:1 HTTP/1.1"]
)
def test_where_the_body_ends(start: bytes, lines: list[bytes], length: int | None) -> None:
    head = understand(*lines, start=start)
    assert head.length == length
    assert head.has_body == (length != 0)
    assert head.upgrade is None or length == 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        # both
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 0"], 400),
        ([b"Transfer-Encoding: chunked", b"X: y", b"Content-Length: 5"], 400),
        (
            [b"Content-Length: 5", b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"],
            400,
        ),
        # more than one length
        ([b"Content-Length: 5", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5", b"Content-Length: 6"], 400),
        ([b"Content-Length: 0", b"Content-Length: 0"], 400),
        ([b"Content-Length: 5", b"content-length: 5"], 400),
        ([b"Content-Length: 1, 1"], 400),
        ([b"Content-Length: 1,1"], 400),
        ([b"Content-Length: 1,"], 400),
        ([b"Content-Length: 1 1"], 400),
        # no length
        ([b"Content-Length:"], 400),
        ([b"Content-Length: \t "], 400),
        ([b"Content-Length: +1"], 400),
        ([b"Content-Length: -1"], 400),
        ([b"Content-Length: -0"], 400),
        ([b"Content-Length: 0x1"], 400),
        ([b"Content-Length: 1_0"], 400),
        ([b"Content-Length: 1.0"], 400),
        ([b"Content-Length: 1e1"], 400),
        ([b"Content-Length: a"], 400),
        ([b"Content-Length: 1;"], 400),
        ([b"Content-Length: \xb2"], 400),
        ([b'Content-Length: "1"'], 400),
        ([b"Content-Length: \x0b1"], 400),
        ([b"Content-Length: 1000000000000000000"], 400),
        ([b"Content-Length: 9223372036854775808"], 400),
        ([b"Content-Length: 18446744073709551616"], 400),
        ([b"Content-Length: 18446744073709551621"], 400),
        ([b"Content-Length: " + b"9" * 400], 400),
        ([b"Content-Length: " + b"0" * 30], 400),
        # other codings
        ([b"Transfer-Encoding: gzip"], 501),
        ([b"Transfer-Encoding: identity"], 501),
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: chunkedx"], 501),
        ([b"Transfer-Encoding: xchunked"], 501),
        ([b"Transfer-Encoding: x chunked"], 501),
        ([b"Transfer-Encoding: chunked;q=1"], 501),
        ([b'Transfer-Encoding: "chunked"'], 501),
        ([b"Transfer-Encoding: 'chunked'"], 501),
        ([b"Transfer-Encoding: chunked, identity"], 400),
        ([b"Transfer-Encoding: chunked, chunked"], 400),
        ([b"Transfer-Encoding: chunked,"], 400),
        ([b"Transfer-Encoding: ,chunked"], 501),
        ([b"Transfer-Encoding:"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"], 501),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501),
        ([b"Transfer-Encoding: \x0bchunked"], 400),
        ([b"Transfer-Encoding: chunked\x00"], 400),
        ([b"Transfer-Encoding : chunked"], 400),
        ([b"Transfer-Encoding\t: chunked"], 400),
        ([b" Transfer-Encoding: chunked"], 400),
        ([b"X: y", b" Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding:", b" chunked"], 400),
        ([b"X: y\rTransfer-Encoding: chunked"], 400),
        ([b"X: y\nTransfer-Encoding: chunked"], 400),
        ([b"Transfer\xadEncoding: chunked"], 400),
    ],
)
@pytest.mark.parametrize("start", [b"POST / HTTP/1.1", b"GET / HTTP/1.1", b"CONNECT a:1 HTTP/1.1"])
def test_bad_framing(start: bytes, lines: list[bytes], status: int) -> None:
    data = b"\r\n".join([start, b"Host: a", *lines, b"", b"GET /smuggled HTTP/1.1"])
    assert refusal(data).status == status


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked"]
)
def test_http_1_0_has_no_transfer_codings(line: bytes) -> None:
    refused = refusal(b"POST / HTTP/1.0\r\n" + line + b"\r\n\r\n")
    assert refused.status in (400, 501)


# --- fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X: y", b"y"),
        (b"X:y", b"y"),
        (b"X: \t y", b"y"),
        (b"X: y ", b"y"),
        (b"X: y\t \t", b"y"),
        (b"X:", b""),
        (b"X: \t", b""),
        (b"X: y z\tz", b"y z\tz"),
        (b"X: \xe9\xff", b"\xe9\xff"),
        (b"X: \x85y\xa0", b"\x85y\xa0"),  # not white space, whatever Unicode says
        (b"X: a:b", b"a:b"),
        (b"x: y", b"y"),
    ],
)
def test_a_field(line: bytes, value: bytes) -> None:
    head = understand(line)
    assert parse_lines(head.forwarded) == [(b"x", value)]
    assert head.fields == [(b"host", b"a"), (b"x", value)]
    assert head.values(b"x") == [value]


@pytest.mark.parametrize(
    "line",
    [
        b"X : y",
        b"X\t: y",
        b" X: y",
        b"\tX: y",
        b": y",
        b":",
        b"X",
        b"X y",
        b" ",
        b"X: y\r\n z",
        b"X: y\r\n\tz",
        b"X: y\r\n ",
        b"X:\r\n y",
        b"X: y\rz",
        b"X: y\r",
        b"X: y\r\r",
        b"X: \ry",
        b"X: y\nZ: z",
        b"X: y\n",
        b"X: \ny",
        b"\nX: y",
        b"X\n: y",
        b"\rX: y",
        b"X: y\x00",
        b"X: \x00y",
        b"X: y\x01z",
        b"X: y\x0b",
        b"X: y\x0cz",
        b"X: y\x1b[0m",
        b"X: y\x7f",
        b"X\x00: y",
        b"X\xff: y",
        b"X(: y",
        b"X/Y: y",
        b"X@: y",
        b"X\xc2\xa0: y",
        b'"X": y',
        b"X;Y: y",
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_malformed_field(line: bytes, before: bool) -> None:
    lines = [line, b"Host: a"] if before else [b"Host: a", line]
    assert refusal(b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])).status == 400


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Host: a", b"Host: a"],
        [b"Host: a", b"Host: b"],
        [b"Host: a", b"host: a"],
        [b"Host:", b"Host: a"],
        [b"Host : a"],
        [b"Host: a", b" b"],
        [b"X-Host: a"],
        [b"Ho_st: a"],
        [b"Authorization: x", b"Authorization: x", b"Host: a"],
        [b"Host: a", b"Authorization: x", b"authorization: y"],
        [b"Host: a", b"Authorization:", b"Authorization: y"],
        [b"Host: a", b"Proxy-Authorization: x", b"Proxy-Authorization: y"],
    ],
)
def test_host_and_credentials_come_once(lines: list[bytes]) -> None:
    assert refusal(b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])).status == 400


def test_http_1_0_needs_no_host() -> None:
    assert understand(start=b"GET / HTTP/1.0", host=False).host is None
    assert understand(start=b"GET / HTTP/1.0").host == b"a"
    assert refusal(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").status == 400


def test_an_empty_host_is_left_to_who_reads_authorities() -> None:
    assert understand(b"Host:", host=False).host == b""


def test_credentials() -> None:
    head = understand(b"Authorization: Bearer x ", b"Proxy-Authorization: Basic\ty")
    assert head.authorization == b"Bearer x"
    assert head.proxy_authorization == b"Basic\ty"
    assert parse_lines(head.forwarded) == []
    assert "Bearer" not in repr(head)


IDENTITY = [
    b"X-Forwarded-For: 1",
    b"X-Forwarded-User: root",
    b"x_forwarded_for: 1",
    b"X-Forwarded_Proto: https",
    b"Forwarded: for=1",
    b"X-Real-IP: 1",
    b"X_Real_IP: 1",
    b"X-Sf-User-Id: root",
    b"X_SF_USER_ID: root",
    b"X-Authkey: k",
    b"X-Userinfo: u",
    b"Remote-User: root",
    b"Remote_User: root",
    b"NVM-Did: d",
    b"X-Request-Id: i",
    b"X_Request_Id: i",
    b"X-Trace-Id: t",
    b"Proxy: http://evil/",
    b"Proxy_Authorization: x",
    b"Content_Length: 3",
]
HOP_BY_HOP = [
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authenticate: Basic",
    b"Proxy-Authentication-Info: x",
    b"Proxy-Authorization: x",
    b"TE: trailers",
    b"Trailer: x",
    b"Upgrade: x",
    b"HTTP2-Settings: x",
    b"Expect: x",
]


@pytest.mark.parametrize("line", [*IDENTITY, *HOP_BY_HOP])
@pytest.mark.parametrize("connection", [b"keep-alive", b"x-y", b"x-sf-user-id, authorization, te"])
def test_what_is_never_forwarded(line: bytes, connection: bytes) -> None:
    head = understand(b"A: 1", line, b"B: 2", b"Connection: " + connection)
    assert parse_lines(head.forwarded) == [(b"a", b"1"), (b"b", b"2")]
    assert line.split(b":")[0].lower() in [name for name, _ in head.fields]


def test_fields_keep_their_order_and_their_number() -> None:
    head = understand(b"B: 1", b"a: 2", b"Cookie: x", b"B: 3", b"Cookie: y")
    assert parse_lines(head.forwarded) == [
        (b"b", b"1"),
        (b"a", b"2"),
        (b"cookie", b"x"),
        (b"b", b"3"),
        (b"cookie", b"y"),
    ]


def test_via_and_traceparent() -> None:
    head = understand(b"Via: 1.1 a", b"Via: 1.1 b", b"Traceparent: 00-x")
    assert head.via == b"1.1 a, 1.1 b"
    assert parse_lines(head.forwarded) == [(b"via", b"1.1 a"), (b"via", b"1.1 b")]
    assert head.traceparent == b"00-x"
    assert understand().traceparent is None
    assert understand(b"Traceparent: a", b"Traceparent: b").traceparent == b"", "two are none"


# --- Connection -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minor", "lines", "keep_alive"),
    [
        (1, [], True),
        (1, [b"Connection: keep-alive"], True),
        (1, [b"Connection: close"], False),
        (1, [b"Connection: Close"], False),
        (1, [b"Connection: close, x-foo"], False),
        (1, [b"Connection: x-foo ,\tCLOSE"], False),
        (1, [b"Connection: keep-alive, close"], False),
        (1, [b"Connection: close", b"Connection: keep-alive"], False),
        (1, [b"Connection: keep-alive", b"Connection: close"], False),
        (1, [b"Connection: closed"], True),
        (1, [b"Connection:"], True),
        (1, [b"Proxy-Connection: close"], True),
        (0, [], False),
        (0, [b"Connection: keep-alive"], True),
        (0, [b"Connection: Keep-Alive"], True),
        (0, [b"Connection: x-foo, keep-alive"], True),
        (0, [b"Connection: keep-alive, close"], False),
        (0, [b"Connection: x-foo"], False),
        (0, [b"Proxy-Connection: keep-alive"], False),
    ],
)
def test_whether_the_connection_stays(minor: int, lines: list[bytes], keep_alive: bool) -> None:
    assert understand(*lines, start=b"GET / HTTP/1.%d" % minor).keep_alive is keep_alive


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: close, x-foo", b"X-Foo: 1", b"X-Bar: 2"],
        [b"X-Foo: 1", b"X-Bar: 2", b"Connection: X-Foo"],
        [b"X-Foo: 1", b"Connection: keep-alive", b"x-foo: 3", b"X-Bar: 2", b"Connection: x-foo"],
    ],
)
def test_connection_names_fields_that_are_not_forwarded(lines: list[bytes]) -> None:
    assert parse_lines(understand(*lines).forwarded) == [(b"x-bar", b"2")]


def test_connection_takes_nothing_away_that_we_look_at() -> None:
    head = understand(
        b"Connection: host, authorization, proxy-authorization, content-length, expect, via,"
        b" traceparent, x-sf-user-id, close",
        b"Authorization: Bearer x",
        b"Proxy-Authorization: Basic y",
        b"Content-Length: 3",
        b"Expect: 100-continue",
        b"Via: 1.1 us",
        b"Traceparent: 00",
        b"X-Sf-User-Id: root",
        b"X: y",
    )
    assert head.host == b"a"
    assert head.authorization == b"Bearer x"
    assert head.proxy_authorization == b"Basic y"
    assert head.length == 3
    assert head.expects_continue
    assert head.via == b"1.1 us"
    assert head.traceparent == b"00"
    assert head.values(b"x-sf-user-id") == [b"root"]
    assert parse_lines(head.forwarded) == [(b"x", b"y")]


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ([b"Connection: upgrade", b"Upgrade: websocket"], b"websocket"),
        ([b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade"], b"WebSocket"),
        ([b"Connection: upgrade", b"Upgrade: a/1", b"Upgrade: b"], b"a/1, b"),
        ([b"Connection: upgrade", b"Upgrade: SPDY/3.1"], b"SPDY/3.1"),
        ([b"Upgrade: websocket"], None),
        ([b"Connection: keep-alive", b"Upgrade: websocket"], None),
        ([b"Connection: upgrade"], None),
        ([b"Connection: upgrade", b"Upgrade:"], None),
        ([b"Connection: upgrade", b"Upgrade: ,"], None),
        ([b"Connection: upgrade, http2-settings", b"Upgrade: h2c"], None),
        ([b"Connection: upgrade", b"Upgrade: H2C"], None),
        ([b"Connection: upgrade", b"Upgrade: h2c-14"], None),
        ([b"Connection: upgrade", b"Upgrade: h2"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket, h2c"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c"], None),
        ([b"Connection: upgrade", b"Upgrade: HTTP/2.0"], None),
        ([b"Connection: upgrade", b"Upgrade: HTTP/1.1"], None),
        ([b"Connection: upgrade", b"Upgrade: TLS/1.2"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 1"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 0"], b"websocket"),
    ],
)
def test_upgrade(lines: list[bytes], upgrade: bytes | None) -> None:
    assert understand(*lines).upgrade == upgrade
    assert parse_lines(understand(*lines).forwarded) == []


def test_http_1_0_cannot_upgrade() -> None:
    lines = [b"Connection: upgrade", b"Upgrade: websocket"]
    assert understand(*lines, start=b"GET / HTTP/1.0").upgrade is None


@pytest.mark.parametrize(
    ("lines", "accepts"),
    [
        ([b"TE: trailers", b"Connection: te"], True),
        ([b"TE: gzip, Trailers", b"Connection: TE, close"], True),
        ([b"TE: trailers", b"TE: gzip", b"Connection: te"], True),
        ([b"TE: trailers"], False),  # it came from somebody else's hop
        ([b"TE: trailers", b"Connection: close"], False),
        ([b"TE: gzip", b"Connection: te"], False),
        ([b"Connection: te"], False),
        ([], False),
    ],
)
def test_trailers_are_accepted(lines: list[bytes], accepts: bool) -> None:
    assert understand(*lines).accepts_trailers is accepts


@pytest.mark.parametrize(
    ("start", "lines", "continues", "unknown"),
    [
        (b"PUT / HTTP/1.1", [b"Expect: 100-continue", b"Content-Length: 1"], True, False),
        (b"PUT / HTTP/1.1", [b"Expect: 100-Continue ", b"Transfer-Encoding: chunked"], True, False),
        (b"PUT / HTTP/1.1", [b"Expect: 100-continue"], False, False),
        (b"PUT / HTTP/1.1", [b"Expect: 100-continue", b"Content-Length: 0"], False, False),
        (b"PUT / HTTP/1.0", [b"Expect: 100-continue", b"Content-Length: 1"], False, False),
        (b"PUT / HTTP/1.1", [b"Expect: 200-ok", b"Content-Length: 1"], False, True),
        (b"PUT / HTTP/1.1", [b"Expect:", b"Content-Length: 1"], False, True),
        (b"PUT / HTTP/1.1", [b"Expect: 100-continue, x", b"Content-Length: 1"], False, True),
        (
            b"PUT / HTTP/1.1",
            [b"Expect: 100-continue", b"Expect: x", b"Content-Length: 1"],
            True,
            True,
        ),
        (
            b"PUT / HTTP/1.1",
            [b"Content-Length: 1", b"Expect: x", b"Expect: 100-continue"],
            True,
            True,
        ),
    ],
)
def test_expect(start: bytes, lines: list[bytes], continues: bool, unknown: bool) -> None:
    head = understand(*lines, start=start)
    assert (head.expects_continue, head.unknown_expectation) == (continues, unknown)


# --- limits -----------------------------------------------------------------------------------


def test_the_target_is_bounded() -> None:
    assert parse(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 19), SMALL).target
    assert refusal(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 20), SMALL).status == 414
    assert refusal(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 8192)).status == 414


def test_the_number_of_fields_is_bounded() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"
    assert parse(head % (b"X:\r\n" * 2), SMALL).fields
    assert refusal(head % (b"X:\r\n" * 3), SMALL).status == 431
    assert refusal(head % (b"X:\r\n" * 5000)).status == 431


def test_the_head_is_bounded() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"
    room = SMALL.head - len(head % b"")
    assert parse(head % (b"x" * room), SMALL).values(b"x") == [b"x" * room]
    assert refusal(head % (b"x" * (room + 1)), SMALL).status == 431
    assert refusal(head % (b"x" * 1_000_000)).status == 431


# --- a head that is not complete yet ----------------------------------------------------------


def beginning(data: bytes, limits: HeadLimits = LIMITS) -> int:
    """The status that a beginning gets, 0 for none."""
    try:
        check_beginning(data, limits)
    except ProtocolError as refused:
        return refused.status
    return 0


HEADS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"M-SEARCH * HTTP/1.0\r\n\r\n",
    b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nX: \xe9\r\nY:\r\n\r\n",
    b"POST http://a/b?c=/../%00 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nX: y \r\n\r\n",
    b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 8191),
    b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 8192),
]


@pytest.mark.parametrize("head", HEADS)
def test_the_beginning_of_a_good_head_is_good(head: bytes) -> None:
    assert parse(head)
    assert [length for length in range(1, len(head)) if beginning(head[:length])] == []


def test_an_empty_line_before_the_head_may_have_begun() -> None:
    assert beginning(b"\r") == 0
    assert beginning(b"\r\r") == 400
    assert beginning(b"\rG") == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\n", 400),
        (b"\x16", 400),
        (b"\x16\x03\x01", 400),
        (b" ", 400),
        (b"G\x00", 400),
        (b"G\xe9", 400),
        (b"GET  ", 400),
        (b"GET / a", 400),
        (b"GET /\t", 400),
        (b"GET /\x80", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / HTTP/1.1\r ", 400),
        (b"A" * 65, 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET / HTTP/0.9\r\n", 400),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n", 414),
        (b"GET /" + b"a" * 8300, 414),
        (b"GET /" + b"a" * 1_000_000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 32768, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 32768, 431),
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(data: bytes, status: int) -> None:
    assert beginning(data) == status


# --- arbitrary bytes --------------------------------------------------------------------------

TOKENS = [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host", b": ", b"a", b"\r", b"\n", b"\t"]
TOKENS += [b"Content-Length", b"Transfer-Encoding", b"chunked", b"1", b",", b"Upgrade", b"Expect"]
TOKENS += [b"Connection", b"CONNECT", b"\0", b"\xff", b"HTTP/1.0", b"close", b"TE", b"Via"]


@settings(max_examples=500)
@given(st.binary(max_size=80) | st.lists(st.sampled_from(TOKENS), max_size=40).map(b"".join))
def test_nothing_but_a_refusal_is_ever_raised(data: bytes) -> None:
    refused = beginning(data)
    try:
        head = parse(data + b"\r\n\r\n")
    except ProtocolError:
        return
    assert not refused
    assert head.host is not None or head.minor == 0
    for line in head.forwarded:  # they go on as they came
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*", line)


# --- the same again ---------------------------------------------------------------------------

REST = b"\r\nHost: a\r\nX: y\r\nAuthorization: z\r\n\r\n"


def again(line: bytes, rest: bytes = REST, limits: HeadLimits = LIMITS) -> RequestHead:
    """A head that comes after ``GET /a HTTP/1.1`` with :data:`REST`."""
    last = parse_request_head(b"GET /a HTTP/1.1" + REST, LIMITS)
    head = parse_request_head(line + rest, limits, last)
    assert last.target == b"/a"
    return head


def outcome(data: bytes, last: RequestHead | None) -> object:
    try:
        head = parse_request_head(data, LIMITS, last)
    except ProtocolError as refused:
        return refused.reason, refused.status, refused.detail
    return {name: getattr(head, name) for name in RequestHead.__slots__}


def test_the_same_head_is_read_once() -> None:
    last = parse_request_head(b"GET /a HTTP/1.1" + REST, LIMITS)
    assert parse_request_head(b"GET /a HTTP/1.1" + REST, LIMITS, last) is last


def test_another_path_with_the_same_fields() -> None:
    head = again(b"GET /b?c HTTP/1.1")
    assert (head.target, head.authorization, head.forwarded) == (b"/b?c", b"z", [b"X: y"])
    assert head.fields == parse(b"GET /a HTTP/1.1" + REST).fields


@pytest.mark.parametrize(
    "line", [b"GET /%b HTTP/1.1" % (b"x" * 8192), b"GET /\xff HTTP/1.1", b"GET /a  HTTP/1.1"]
)
def test_another_path_is_held_to_the_same_rules(line: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        again(line)
    assert refused.value.status == refusal(line + REST).status


def test_limits_that_have_changed_are_kept_to() -> None:
    assert again(b"GET /a HTTP/1.1", limits=SMALL).limits is SMALL
    with pytest.raises(ProtocolError) as refused:
        again(b"GET /a HTTP/1.1", limits=HeadLimits(fields=2))
    assert refused.value.status == 431


METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b""])
TARGETS = st.sampled_from(
    [
        b"/",
        b"/a?b",
        b"*",
        b"http://a/b",
        b"https://a",
        b"a:443",
        b"a",
        b"/a b",
        b"",
        b"/\xe4",
        b"/#",
    ]
) | st.binary(max_size=9)
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.1 ", b"http/1.1", b""])
REQUEST_LINES = st.builds(lambda *words: b" ".join(words), METHODS, TARGETS, VERSIONS)
RESTS = st.sampled_from(
    [
        b"\r\n\r\n",
        REST,
        b"\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        b"\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        b"\r\nHost: a\r\nConnection: close, x\r\nX: y\r\nVia: z\r\n\r\n",
        b"\r\nHost: a\r\nConnection: upgrade, te\r\nUpgrade: x\r\nTE: trailers\r\n\r\n",
        b"\r\nHost: a\r\nExpect: y\r\nProxy-Authorization: x\r\nTraceparent: y\r\n\r\n",
    ]
)


@settings(max_examples=500)
@given(REQUEST_LINES, RESTS, REQUEST_LINES, RESTS)
def test_what_came_before_changes_nothing(
    first: bytes, first_rest: bytes, second: bytes, second_rest: bytes
) -> None:
    try:
        last = parse_request_head(first + first_rest, LIMITS)
    except ProtocolError:
        return
    for rest in (first_rest, second_rest):
        assert outcome(second + rest, last) == outcome(second + rest, None)
