"""Response heads: an upstream is believed no more than a client."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.errors import UpstreamError
from gatekeeper.http.fields import Fields, parse_lines
from gatekeeper.http.heads import HeadLimits, ResponseHead, parse_response_head

LIMITS = HeadLimits()


def understand(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response_head(b"\r\n".join([start, *lines, b"", b""]), LIMITS)


def refusal(data: bytes, limits: HeadLimits = LIMITS) -> UpstreamError:
    end = data.index(b"\r\n\r\n") + 4
    with pytest.raises(UpstreamError) as refused:
        parse_response_head(data[:end], limits)
    assert refused.value.status == 502
    return refused.value


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found"),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 500  x\ty ", 500, b" x\ty "),
        (b"HTTP/1.1 200 tr\xc3\xa8s bien", 200, b"tr\xc3\xa8s bien"),
        (b"HTTP/1.1 100 Continue", 100, b"Continue"),
        (b"HTTP/1.1 103 Early Hints", 103, b"Early Hints"),
        (b"HTTP/1.1 204 No Content", 204, b"No Content"),
        (b"HTTP/1.1 304 Not Modified", 304, b"Not Modified"),
        (b"HTTP/1.1 799 x", 799, b"x"),
    ],
)
def test_a_status_line(line: bytes, status: int, reason: bytes) -> None:
    head = understand(b"A: b", start=line)
    assert (head.status, head.reason, head.lines) == (status, reason, [b"A: b"])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 99",
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 000 x",
        b"HTTP/1.1 2000 x",
        b"HTTP/1.1 99999 x",
        b"HTTP/1.1 -200 x",
        b"HTTP/1.1 +20 x",
        b"HTTP/1.1 2.0 x",
        b"HTTP/1.1 20\xb2 x",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200OK",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200",
        b"HTTP/1.2 200 OK",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"<html>",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 O\x1b[0mK",
        b"HTTP/1.1 200 O\x7fK",
        b"GET / HTTP/1.1",
    ],
)
def test_a_bad_status_line(line: bytes) -> None:
    refusal(line + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ([], None, False),
        ([b"Content-Length: 0"], 0, False),
        ([b"Content-Length: 5 "], 5, False),
        ([b"Transfer-Encoding: chunked"], None, True),
        ([b"Transfer-Encoding: Chunked "], None, True),
        ([b"Content_Length: 3"], None, False),
        ([b"Connection: content-length", b"Content-Length: 3"], 3, False),
        ([b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"], None, True),
        ([b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 3"], 3, False),
    ],
)
def test_where_the_body_ends(lines: list[bytes], length: int | None, chunked: bool) -> None:
    head = understand(*lines)
    assert (head.length, head.chunked) == (length, chunked)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 3", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 3"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
        [b"Content-Length: 3", b"Content-Length: 3"],
        [b"Content-Length: 3", b"Content-Length: 4"],
        [b"Content-Length: 3, 3"],
        [b"Content-Length:"],
        [b"Content-Length: +3"],
        [b"Content-Length: -3"],
        [b"Content-Length: 0x3"],
        [b"Content-Length: 3_0"],
        [b"Content-Length: 9223372036854775808"],
        [b"Content-Length: 1000000000000000000"],
        [b"Content-Length: " + b"9" * 400],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, gzip"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: identity", b"Content-Length: 3"],
        [b"Transfer-Encoding:"],
    ],
)
@pytest.mark.parametrize("status", [100, 200, 204, 304, 502])
def test_bad_framing(status: int, lines: list[bytes]) -> None:
    refusal(b"\r\n".join([b"HTTP/1.1 %d x" % status, *lines, b"", b"rest"]))


def test_http_1_0_has_no_transfer_codings() -> None:
    refusal(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"X : y",
        b" X: y",
        b": y",
        b"X",
        b"X: y\r\n z",
        b"X: y\rz",
        b"X: y\nZ: z",
        b"X: y\n",
        b"X: y\x00",
        b"X: y\x01",
        b"X: y\x7f",
        b"X\xe9: y",
        b"X\x00: y",
    ],
)
def test_a_malformed_field(line: bytes) -> None:
    refusal(b"HTTP/1.1 200 OK\r\nA: b\r\n" + line + b"\r\n\r\n")


def test_values_are_stripped() -> None:
    lines = understand(b"A:b ", b"B: \tc\t ", b"C:  ").lines
    assert parse_lines(lines) == [(b"a", b"b"), (b"b", b"c"), (b"c", b"")]


def test_what_is_passed_on() -> None:
    """All that is no hop's business. Forwarding and identity fields mean nothing in a response."""
    passed = [
        b"Set-Cookie",
        b"set-cookie",
        b"WWW-Authenticate",
        b"Authentication-Info",
        b"Proxy-Status",
        b"Via",
        b"X-Forwarded-For",
        b"X-Sf-User-Id",
        b"X_Forwarded_For",
        b"Host",
        b"Authorization",
        b"Traceparent",
    ]
    dropped = [
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authentication-Info",
        b"Proxy-Authorization",
        b"Trailer",
        b"TE",
        b"Upgrade",
        b"X-Request-Id",
    ]
    lines = [name + b": x" for pair in zip(passed, dropped, strict=False) for name in pair]
    lines += [name + b": x" for name in passed[len(dropped) :]]
    assert parse_lines(understand(*lines).lines) == [(name.lower(), b"x") for name in passed]


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ([b"Connection: x-foo", b"X-Foo: 1", b"X-Bar: 2"], [(b"X-Bar", b"2")]),
        ([b"X-Foo: 1", b"Connection: X-FOO, close", b"X-Bar: 2"], [(b"X-Bar", b"2")]),
        ([b"X-Foo: 1", b"X-Bar: 2", b"Connection: x-foo"], [(b"X-Bar", b"2")]),
        ([b"X-Bar: 2", b"Connection: close", b"Connection: x-foo"], [(b"X-Bar", b"2")]),
        ([b"Connection: close", b"X-Bar: 2", b"X-Foo: 1"], [(b"X-Bar", b"2"), (b"X-Foo", b"1")]),
    ],
)
def test_connection_names_fields_that_are_not_passed_on(lines: list[bytes], fields: Fields) -> None:
    passed = parse_lines(understand(*lines).lines)
    assert passed == [(name.lower(), value) for name, value in fields]


@pytest.mark.parametrize(
    ("minor", "lines", "keep_alive"),
    [
        (1, [], True),
        (1, [b"Connection: keep-alive"], True),
        (1, [b"Connection: close"], False),
        (1, [b"Connection: x-foo, Close"], False),
        (1, [b"Connection: close", b"Connection: keep-alive"], False),
        (1, [b"Connection: keep-alive", b"Connection: close"], False),
        (1, [b"Connection: keep-alive, close"], False),
        (0, [], False),
        (0, [b"Connection: Keep-Alive"], True),
        (0, [b"Connection: keep-alive, close"], False),
        (0, [b"Proxy-Connection: keep-alive"], False),
    ],
)
def test_whether_the_connection_stays(minor: int, lines: list[bytes], keep_alive: bool) -> None:
    head = understand(*lines, b"Content-Length: 0", start=b"HTTP/1.%d 200 OK" % minor)
    assert head.keep_alive is keep_alive


@pytest.mark.parametrize(
    ("line", "keep_alive"),
    [
        (b"Content-Length: 0", True),
        (b"Content-Length: 5", False),
        (b"Transfer-Encoding: chunked", False),
    ],
)
def test_a_204_with_a_body_is_the_last_on_its_connection(line: bytes, keep_alive: bool) -> None:
    assert understand(line, start=b"HTTP/1.1 204 No Content").keep_alive is keep_alive
    assert understand(line, start=b"HTTP/1.1 304 Not Modified").keep_alive


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_informational_response_has_no_body(status: int) -> None:
    start = b"HTTP/1.1 %d x" % status
    assert understand(b"Content-Length: 0", start=start).status == status
    refusal(start + b"\r\nContent-Length: 5\r\n\r\n")
    refusal(start + b"\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_switching_protocols() -> None:
    start = b"HTTP/1.1 101 Switching Protocols"
    head = understand(b"Connection: Upgrade", b"Upgrade: websocket", b"X: y", start=start)
    assert (head.status, head.upgrade, head.lines) == (101, b"websocket", [b"X: y"])
    head = understand(b"Upgrade: a", b"Upgrade: b", b"Connection: upgrade", start=start)
    assert head.upgrade == b"a, b"


@pytest.mark.parametrize("lines", [[], [b"Connection: upgrade"], [b"Upgrade: websocket"]])
def test_a_101_says_to_what(lines: list[bytes]) -> None:
    refusal(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""]))


def test_limits() -> None:
    small = HeadLimits(target=10, head=100, fields=2)
    head = b"HTTP/1.1 200 OK\r\n%b\r\n"
    assert parse_response_head(head % (b"X:\r\n" * 2), small).lines
    assert "fields" in refusal(head % (b"X:\r\n" * 3), small).detail
    assert "fields" in refusal(head % (b"X:\r\n" * 5000)).detail
    room = small.head - len(head % b"X: \r\n")
    assert parse_response_head(head % (b"X: %b\r\n" % (b"x" * room)), small).lines
    assert "large" in refusal(head % (b"X: %b\r\n" % (b"x" * (room + 1))), small).detail
    assert "large" in refusal(head % (b"X: %b\r\n" % (b"x" * 1_000_000))).detail


def test_its_repr_has_no_values() -> None:
    assert repr(understand(b"Set-Cookie: secret")) == "<ResponseHead 200 1 fields>"


TOKENS = [b"HTTP/1.1", b" ", b"200", b"OK", b"\r\n", b"A", b": ", b"b", b"\r", b"\n", b"\t", b","]
TOKENS += [b"Content-Length", b"Transfer-Encoding", b"chunked", b"1", b"Upgrade", b"101", b"204"]
TOKENS += [b"Connection", b"close", b"\0", b"\xff", b"HTTP/1.0", b"100"]


@settings(max_examples=500)
@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from(TOKENS), max_size=40).map(
        lambda tokens: b"HTTP/1.1 200 OK\r\n" + b"".join(tokens)
    )
)
def test_nothing_but_a_refusal_is_ever_raised(data: bytes) -> None:
    data += b"\r\n\r\n"
    try:
        head = parse_response_head(data[: data.index(b"\r\n\r\n") + 4], LIMITS)
    except UpstreamError:
        return
    assert not (head.chunked and head.length is not None)
    for line in head.lines:  # they go on as they came
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*", line)


def test_the_same_head_is_read_once() -> None:
    data = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    last = parse_response_head(data, LIMITS)
    assert parse_response_head(bytes(bytearray(data)), LIMITS, last) is last
    other = parse_response_head(data.replace(b"y", b"z"), LIMITS, last)
    assert other.lines == [b"X: z"]
    assert parse_response_head(data, HeadLimits(), last) is not last, "limits may have changed"
