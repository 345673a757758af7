"""Bodies: whole, byte by byte, split everywhere, and with what comes behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatekeeper.errors import ProtocolError
from gatekeeper.http.bodies import (
    Body,
    ChunkedBody,
    CountedBody,
    UnboundedBody,
    _plain_size,
    chunk,
    last_chunk,
)
from gatekeeper.http.fields import Fields

BEHIND = b"GET /next HTTP/1.1\r\n"


def read(body: Body, pieces: Iterable[bytes]) -> bytes:
    """Feed a body as a connection does, until it has ended; ``rest`` takes what is left."""
    payload = []
    waiting = iter(pieces)
    for piece in waiting:
        payload.append(body.feed(piece))
        if body.done:
            break
        assert body.rest == b""
    body.rest += b"".join(waiting)
    return b"".join(payload)


def in_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def check_every_split(
    make: Callable[[], Body], data: bytes, payload: bytes, trailers: Fields
) -> None:
    """``data`` and what comes behind it, in any two pieces, and byte by byte."""
    everything = data + BEHIND
    splits = [[everything[:at], everything[at:]] for at in range(len(everything) + 1)]
    for pieces in [*splits, in_bytes(everything)]:
        body = make()
        assert read(body, pieces) == payload
        assert (body.done, body.rest, body.trailers) == (True, BEHIND, trailers)
    for length in range(len(data)):
        body = make()
        assert payload.startswith(read(body, [data[:length]]))
        assert (body.done, body.rest) == (False, b"")


# --- counted and unbounded --------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_a_counted_body(length: int) -> None:
    payload = bytes(range(length))
    check_every_split(lambda: CountedBody(length), payload, payload, [])


def test_an_empty_counted_body() -> None:
    body = CountedBody(0)
    assert body.done
    assert body.feed(b"") == b""
    assert body.feed(BEHIND) == b""
    assert body.rest == BEHIND


def test_a_counted_body_hands_on_what_it_gets() -> None:
    """No copy is made of a piece that is payload from end to end."""
    body = CountedBody(10)
    piece = b"12345"
    assert body.feed(piece) is piece
    assert body.feed(piece) is piece
    assert body.done


def test_a_huge_counted_body() -> None:
    body = CountedBody(10**18 - 1)
    assert body.feed(b"x") == b"x"
    assert not body.done


def test_an_unbounded_body() -> None:
    body = UnboundedBody()
    for piece in (b"", b"0\r\n\r\n", b"x"):
        assert body.feed(piece) == piece
        assert (body.done, body.rest, body.trailers) == (False, b"", [])


# --- chunked ----------------------------------------------------------------------------------

CHUNKED: list[tuple[bytes, bytes, Fields]] = [
    (b"0\r\n\r\n", b"", []),
    (b"000000000000000\r\n\r\n", b"", []),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc", []),
    (b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", b"abc", []),
    (b"000000000000003\r\nabc\r\n0\r\n\r\n", b"abc", []),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, []),
    (
        b"1F\r\n" + b"x" * 31 + b"\r\n1f\r\n" + b"y" * 31 + b"\r\n00\r\n\r\n",
        b"x" * 31 + b"y" * 31,
        [],
    ),
    (b"100\r\n" + b"x" * 256 + b"\r\n0\r\n\r\n", b"x" * 256, []),
    # payload that looks like framing
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", []),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", []),
    (b"1\r\n\n\r\n1\r\n\r\r\n0\r\n\r\n", b"\n\r", []),
    (b"4\r\n\x00\xff\r\n\r\n0\r\n\r\n", b"\x00\xff\r\n", []),
    # extensions
    (b"3;a\r\nabc\r\n0;b=c\r\n\r\n", b"abc", []),
    (b'3;a="b;c, d";e\r\nabc\r\n0\r\n\r\n', b"abc", []),
    (b"3 ;a\r\nabc\r\n0\t;\r\n\r\n", b"abc", []),
    (b"3;\r\nabc\r\n0\r\n\r\n", b"abc", []),
    (b"3;\xe9\r\nabc\r\n0\r\n\r\n", b"abc", []),
    # trailers
    (b"0\r\nX-Checksum: 1\r\n\r\n", b"", [(b"x-checksum", b"1")]),
    (
        b"1\r\na\r\n0\r\nA:b\r\nC:\t d e \t\r\nF:\r\nA: g\r\n\r\n",
        b"a",
        [(b"a", b"b"), (b"c", b"d e"), (b"f", b""), (b"a", b"g")],
    ),
]


@pytest.mark.parametrize(("data", "payload", "trailers"), CHUNKED)
def test_a_chunked_body(data: bytes, payload: bytes, trailers: Fields) -> None:
    check_every_split(ChunkedBody, data, payload, trailers)


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: x",
        b"Proxy-Authorization: x",
        b"Content-Length: 3",
        b"content_length: 3",
        b"Transfer-Encoding: chunked",
        b"Host: evil",
        b"Trailer: x",
        b"Connection: close",
        b"TE: trailers",
        b"Upgrade: x",
        b"Expect: 100-continue",
        b"Cookie: x",
        b"Set-Cookie: x",
        b"Content-Type: x",
        b"Content-Encoding: gzip",
        b"Cache-Control: public",
        b"X-Forwarded-For: 1",
        b"X_Forwarded_For: 1",
        b"X-Sf-User-Id: root",
        b"X_SF_User_Id: root",
        b"Remote-User: root",
        b"X-Authkey: k",
        b"NVM-Did: d",
        b"Via: 1.1 x",
        b"Traceparent: x",
        b"X-Request-Id: x",
    ],
)
def test_a_trailer_of_a_bad_name_is_dropped(line: bytes) -> None:
    for spelling in (line, line.lower(), line.upper()):
        data = b"0\r\nA: 1\r\n" + spelling + b"\r\nB: 2\r\n\r\n"
        check_every_split(ChunkedBody, data, b"", [(b"a", b"1"), (b"b", b"2")])


BAD_CHUNKED = [
    # sizes
    b"\r\n",
    b"\r\n0\r\n\r\n",
    b" 1\r\na\r\n",
    b"1 \r\na\r\n",
    b"1\t\r\na\r\n",
    b"+1\r\na\r\n",
    b"-1\r\na\r\n",
    b"-0\r\n\r\n",
    b"0x1\r\na\r\n",
    b"0X1\r\na\r\n",
    b"x1\r\na\r\n",
    b"1_0\r\na\r\n",
    b"1,0\r\na\r\n",
    b"1.0\r\na\r\n",
    b"g\r\na\r\n",
    b"1h\r\na\r\n",
    b"\xb2\r\nab\r\n",
    b"\xef\xbc\x91\r\na\r\n",
    b"\x001\r\na\r\n",
    b"1\x00\r\na\r\n",
    b";a=b\r\n",
    b'"1"\r\na\r\n',
    b"1000000000000000\r\na\r\n",
    b"0000000000000001\r\na\r\n",
    b"10000000000000001\r\na\r\n",
    b"fffffffffffffffff\r\na\r\n",
    b"8000000000000000\r\na\r\n",
    # ends of lines
    b"1\na\r\n",
    b"1\n\r\na\r\n",
    b"1\r\r\na\r\n",
    b"1\r\na\n0\r\n\r\n",
    b"1;a\nb\r\na\r\n",
    b"1;a\rb\r\na\r\n",
    b"1;\n\r\na\r\n",
    b"1;\r\r\na\r\n",
    b"1;a\x00\r\na\r\n",
    b"1;a\x7f\r\na\r\n",
    b"1;a\x0b\r\na\r\n",
    b"1 a\r\na\r\n",
    # chunks longer or shorter than they say
    b"1\r\nab\r\n0\r\n\r\n",
    b"3\r\nab\r\n0\r\n\r\n",
    b"1\r\na0\r\n\r\n",
    b"1\r\na\r\r\n0\r\n\r\n",
    b"1\r\na\n\r\n0\r\n\r\n",
    b"1\r\na\r\n\r\n0\r\n\r\n",
    # trailers
    b"0\r\n\n",
    b"0\r\n\r\r\n",
    b"0\r\n \r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\n: a\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\nA: b\n\r\n",
    b"0\r\nA: b\rC: d\r\n\r\n",
    b"0\r\nA: b\x00\r\n\r\n",
    b"0\r\nA: b\x01\r\n\r\n",
    b"0\r\nA\xe9: b\r\n\r\n",
    b"0\r\nGET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_CHUNKED)
@pytest.mark.parametrize("before", [b"", b"2\r\nok\r\n", b"10;a\r\n0123456789abcdef\r\n"])
def test_a_malformed_chunked_body(before: bytes, data: bytes) -> None:
    everything = before + data + BEHIND
    splits = [[everything[:at], everything[at:]] for at in range(len(everything) + 1)]
    for pieces in [*splits, in_bytes(everything)]:
        body = ChunkedBody()
        with pytest.raises(ProtocolError) as refused:
            read(body, pieces)
        assert refused.value.status == 400
        assert refused.value.close
        assert not body.done


@pytest.mark.parametrize(
    "endless",
    [
        b"0" * 100_000,
        b"1;" + b"a" * 100_000,
        b"0\r\nA: " + b"a" * 100_000,
        b"0\r\n" + b"A: b\r\n" * 20_000,
        b"0\r\n" + b"Cookie: b\r\n" * 20_000,
        b"1;ab\r\nx\r\n" * 20_000,
        b"2;\r\nxy\r\n" * 20_000,
        b"1\r\nx\r\n1;abcdefgh\r\nx\r\n" * 20_000,
    ],
)
def test_nothing_but_payload_is_unbounded(endless: bytes) -> None:
    for pieces in ([endless], in_bytes(endless)):
        with pytest.raises(ProtocolError) as refused:
            read(ChunkedBody(), pieces)
        assert refused.value.status == 400


def test_the_limits_of_lines_and_trailers() -> None:
    longest = b"5;" + b"a" * 4092 + b"\r\n"
    assert read(ChunkedBody(), [longest, b"hello\r\n0\r\n\r\n"]) == b"hello"
    with pytest.raises(ProtocolError):
        read(ChunkedBody(), [b"5;a" + longest[2:]])
    body = ChunkedBody()
    read(body, [b"0\r\n" + b"A: b\r\n" * 100 + b"\r\n"])
    assert body.trailers == [(b"a", b"b")] * 100
    with pytest.raises(ProtocolError):
        read(ChunkedBody(), [b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n"])


def test_no_long_line_is_remembered() -> None:
    _plain_size.cache_clear()
    assert read(ChunkedBody(), [b"5;" + b"a" * 1000 + b"\r\nhello\r\n0\r\n\r\n"]) == b"hello"
    assert _plain_size.cache_info().currsize == 1  # that of the last chunk


def test_extensions_that_are_small_beside_their_chunks_may_go_on_for_ever() -> None:
    body = ChunkedBody()
    data = b"2000;signature=0123456789abcdef\r\n" + b"x" * 0x2000 + b"\r\n"
    for _ in range(1000):
        assert len(body.feed(data)) == 0x2000
    assert not body.done


def test_very_many_very_small_chunks_are_a_legitimate_body() -> None:
    body = ChunkedBody()
    assert read(body, [b"1\r\nx\r\n" * 43_000, b"0\r\n\r\n"]) == b"x" * 43_000
    assert body.done


PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
CUTS = st.lists(st.integers(0, 400), max_size=6)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@given(PAYLOADS, CUTS, st.booleans(), st.integers(0, 5))
def test_what_is_written_is_read(
    payloads: list[bytes], cuts: list[int], upper: bool, zeros: int
) -> None:
    trailers = [(b"x", b"y"), (b"z", b"")]
    data = b""
    for payload in payloads:
        size, end, rest = chunk(payload).partition(b"\r\n")
        data += b"0" * zeros + (size.upper() if upper else size) + end + rest
    data += last_chunk(trailers)
    body = ChunkedBody()
    assert read(body, cut(data + BEHIND, cuts)) == b"".join(payloads)
    assert (body.done, body.rest, body.trailers) == (True, BEHIND, trailers)


def test_chunks_on_the_wire() -> None:
    assert chunk(b"") == b""  # an empty chunk would end the body
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert last_chunk([]) == b"0\r\n\r\n"
    assert last_chunk([(b"a", b"b"), (b"c", b"")]) == b"0\r\na: b\r\nc: \r\n\r\n"


def outcome(pieces: list[bytes]) -> tuple[str, bytes, bytes, Fields]:
    """What a body of these pieces comes to; of one that is refused, only that."""
    body = ChunkedBody()
    try:
        payload = read(body, pieces)
    except ProtocolError:
        return "refused", b"", b"", []
    return "ended" if body.done else "open", payload, body.rest, body.trailers


PIECES = [b"0", b"1", b"2", b"a", b"F", b"10", b"\r\n", b"\r\n", b"\r", b"\n", b";", b"=", b" "]
PIECES += [b"x", b"0\r\n\r\n", b"1\r\nx\r\n", b"A: b", b":", b"\0", b"\xff", b"3\r\n\r\n\r\r\n"]


@settings(max_examples=500)
@given(st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), CUTS)
@example(b"1\r\nx\r\n0\r\n\r\n", [1, 2, 3, 4, 5, 6])
def test_splits_change_nothing(data: bytes, cuts: list[int]) -> None:
    assert outcome(cut(data, cuts)) == outcome([data]) == outcome(in_bytes(data))
