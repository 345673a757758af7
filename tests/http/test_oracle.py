"""h11 as oracle: what we accept, it accepts too, and reads the same in it.

Messages are made well-formed and then mutated. We refuse more than h11 does; what we accept and
it refuses is the list ``WE_ACCEPT_MORE``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import h11
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gatekeeper.errors import ProtocolError, Refusal
from gatekeeper.http.bodies import Body, ChunkedBody, CountedBody, UnboundedBody
from gatekeeper.http.fields import Fields, may_be_trailer, parse_lines
from gatekeeper.http.heads import HeadLimits, parse_request_head, parse_response_head

LIMITS = HeadLimits()


class Reading(NamedTuple):
    """How somebody reads a message. Names of fields in lower case."""

    start: tuple[object, ...]
    fields: Fields
    payload: bytes
    ended: bool
    rest: bytes
    trailers: Fields


class RefusedError(Exception):
    """It is no HTTP/1.1 message."""


# --- the two readers --------------------------------------------------------------------------


def read_body(body: Body, pieces: list[bytes]) -> tuple[bytes, bool, bytes, Fields]:
    payload = b""
    rest = b""
    for piece in pieces:
        if body.done:
            rest += piece
        else:
            payload += body.feed(piece)
    return payload, body.done, body.rest + rest, body.trailers


def ours_of_request(head: bytes, pieces: list[bytes]) -> Reading:
    request = parse_request_head(head, LIMITS)
    body: Body = ChunkedBody() if request.length is None else CountedBody(request.length)
    start = (request.method, request.target, request.minor)
    return Reading(start, request.fields, *read_body(body, pieces))


def ours_of_response(head: bytes, pieces: list[bytes]) -> Reading:
    response = parse_response_head(head, LIMITS)
    body: Body
    if response.status in (204, 304):
        body = CountedBody(0)
    elif response.chunked:
        body = ChunkedBody()
    elif response.length is not None:
        body = CountedBody(response.length)
    else:
        body = UnboundedBody()
    fields = parse_lines(response.lines)
    return Reading((response.status, response.reason), fields, *read_body(body, pieces))


def h11_body(connection: h11.Connection, pieces: list[bytes]) -> tuple[bytes, bool, bytes, Fields]:
    payload = b""
    trailers: Fields = []
    ended = False
    for piece in [b"", *pieces]:
        if piece:
            connection.receive_data(piece)
        while not ended:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                payload += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                trailers, ended = list(event.headers), True
            else:
                break
    return payload, ended, connection.trailing_data[0] if ended else b"", trailers


def h11_of_request(head: bytes, pieces: list[bytes]) -> Reading:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMITS.head)
    try:
        connection.receive_data(head)
        event = connection.next_event()
        assert isinstance(event, h11.Request)
        start = (event.method, event.target, int(event.http_version[-1:]))
        return Reading(start, list(event.headers), *h11_body(connection, pieces))
    except h11.RemoteProtocolError as error:
        raise RefusedError from error


def h11_of_response(head: bytes, pieces: list[bytes]) -> Reading:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMITS.head)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(head)
        event = connection.next_event()
        assert isinstance(event, h11.Response)
        start = (event.status_code, event.reason)
        return Reading(start, list(event.headers), *h11_body(connection, pieces))
    except h11.RemoteProtocolError as error:
        raise RefusedError from error


Reader: TypeAlias = Callable[[bytes, list[bytes]], Reading]


# --- messages ---------------------------------------------------------------------------------

VALUES = [
    b"a",
    b"",
    b"x y",
    b"5",
    b"chunked",
    b"close",
    b"a, b",
    b"\xe9",
    b"keep-alive",
    b"upgrade",
]
NAMES = [b"X", b"Accept", b"Cookie", b"x-foo", b"X_Foo", b"Connection", b"Via", b"TE", b"Date"]
NAMES += [b"Authorization", b"X-Forwarded-For", b"Content_Length", b"Expect", b"Upgrade"]
FIELD = st.builds(
    lambda name, blank, value, end: name + b":" + blank + value + end,
    st.sampled_from(NAMES),
    st.sampled_from([b" ", b"", b"\t", b"  "]),
    st.sampled_from(VALUES),
    st.sampled_from([b"", b"", b" ", b"\t"]),
)
FIELDS = st.lists(FIELD, max_size=3)
REQUEST_LINES = st.builds(
    lambda method, target, version: method + b" " + target + b" HTTP/1." + version,
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE", b"CONNECT", b"M-SEARCH"]),
    st.sampled_from([b"/", b"/a?b=c", b"*", b"http://a/b", b"a:443", b"/%2e%2e/\\#|"]),
    st.sampled_from([b"1", b"1", b"0"]),
)
STATUS_LINES = st.builds(
    lambda version, status, reason: b"HTTP/1." + version + b" " + status + reason,
    st.sampled_from([b"1", b"1", b"0"]),
    st.sampled_from([b"200", b"404", b"204", b"304", b"500", b"999"]),
    st.sampled_from([b"", b" ", b" OK", b" Not Found", b" \xe9"]),
)
CHUNKED_TAILS = [
    b"3\r\nabc\r\n0\r\n\r\n",
    b"1\r\na\r\n1\r\nb\r\n0\r\nX: y\r\n\r\n",
    b"5;a=b\r\n0\r\n\r\n\r\n0\r\n\r\n",
    b"00a\r\n0123456789\r\n000\r\nX-A:b\r\nX-C: d \r\n\r\n",
    b"0\r\n\r\n",
]
FRAMINGS: list[tuple[bytes, list[bytes]]] = [
    (b"", [b"", b"rest"]),
    (b"Content-Length: 5\r\n", [b"hello", b"hello" + CHUNKED_TAILS[0], b"he"]),
    (b"content-length:\t0\r\n", [b"", b"rest"]),
    (b"Transfer-Encoding: chunked\r\n", CHUNKED_TAILS),
    (b"transfer-encoding:Chunked\r\n", CHUNKED_TAILS),
]
MUTATIONS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\r\n ", b" ", b"\t", b":", b";", b",", b"\0"]
MUTATIONS += [b"\x0b", b"\x1f", b"\x7f", b"\x80", b"\xff", b"0", b"1", b"5", b"a", b"x", b"+", b"-"]
MUTATIONS += [b"_", b"0x", b'"', b"(", b"/", b"%", b"Host: b\r\n", b"Content-Length: 5\r\n"]
MUTATIONS += [b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"identity"]
MUTATIONS += [
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"HTTP/1.1",
    b"X:",
]


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Something good, with pieces put in, taken out, put in place of others, or doubled."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 3)))
        piece = draw(st.sampled_from(MUTATIONS))
        kind = draw(st.sampled_from(["insert", "delete", "replace", "double a line"]))
        if kind == "insert":
            data = data[:start] + piece + data[start:]
        elif kind == "delete":
            data = data[:start] + data[stop:]
        elif kind == "replace":
            data = data[:start] + piece + data[start + len(piece) :]
        else:
            lines = data.split(b"\r\n")
            line = draw(st.sampled_from(lines))
            lines.insert(draw(st.integers(0, len(lines))), line)
            data = b"\r\n".join(lines)
    return data


@st.composite
def messages(draw: st.DrawFn, start_lines: st.SearchStrategy[bytes], host: bytes) -> bytes:
    framing, tails = draw(st.sampled_from(FRAMINGS))
    lines = [line + b"\r\n" for line in draw(FIELDS)]
    lines += [line for line in (host, framing) if line]
    head = b"".join([draw(start_lines), b"\r\n", *draw(st.permutations(lines)), b"\r\n"])
    return head + draw(st.sampled_from(tails))


REQUESTS = mutated(messages(REQUEST_LINES, b"Host: a\r\n"))
RESPONSES = mutated(messages(STATUS_LINES, b""))
CUTS = st.lists(st.integers(0, 60), max_size=4)


def split(message: bytes, cuts: list[int]) -> tuple[bytes, list[bytes]]:
    """The head, as a connection finds it, and what follows in pieces."""
    end = message.find(b"\r\n\r\n")
    assume(end >= 0)
    head, body = message[: end + 4], message[end + 4 :]
    edges = [0, *sorted(min(at, len(body)) for at in cuts), len(body)]
    return head, [body[start:stop] for start, stop in pairwise(edges)]


ACCEPTED_MORE = re.compile(
    rb"[0-9A-Fa-f][ \t]+;|\n(?:content-length|transfer-encoding):", re.IGNORECASE
)


def compare(ours: Reader, theirs: Reader, head: bytes, pieces: list[bytes]) -> None:
    try:
        reading = ours(head, pieces)
    except Refusal:
        return
    try:
        oracle = theirs(head, pieces)
    except RefusedError as refused:
        # A chunked body that is open may have a fault that only h11 has seen: we look at lines
        # when they are complete. For the exceptions see WE_ACCEPT_MORE.
        if reading.ended and not ACCEPTED_MORE.search(b"".join(pieces)):
            raise AssertionError(f"h11 refuses {head!r} {pieces!r}") from refused
        return
    assert reading.start == oracle.start
    assert reading.payload == oracle.payload
    assert reading.ended == oracle.ended
    assert reading.rest == oracle.rest
    if reading.ended:
        assert reading.trailers == [field for field in oracle.trailers if may_be_trailer(field[0])]
    compare_fields(reading, oracle)


def compare_fields(reading: Reading, oracle: Reading) -> None:
    if isinstance(reading.start[0], bytes):  # a request keeps all of them, for the checkers
        normal = [(name, lower_coding(name, value)) for name, value in reading.fields]
        assert normal == oracle.fields
    else:  # a response those that are passed on
        left = list(oracle.fields)
        for field in reading.fields:
            del left[: left.index(field) + 1]  # in their order


def lower_coding(name: bytes, value: bytes) -> bytes:
    return value.lower() if name == b"transfer-encoding" else value  # as h11 has it


@settings(max_examples=500)
@given(REQUESTS, CUTS)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: y \r\n\r\n", [])
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [1])
def test_requests(message: bytes, cuts: list[int]) -> None:
    head, pieces = split(message, cuts)
    compare(ours_of_request, h11_of_request, head, pieces)


@settings(max_examples=500)
@given(RESPONSES, CUTS)
@example(b"HTTP/1.1 200 OK\r\nX: y \r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nConnection: x\r\nX: y\r\nZ: z\r\n\r\n", [])
def test_responses(message: bytes, cuts: list[int]) -> None:
    head, pieces = split(message, cuts)
    assume(re.match(rb"HTTP/1.. 1", head) is None)  # h11 has other events for those
    compare(ours_of_response, h11_of_response, head, pieces)


@settings(max_examples=200)
@given(messages(REQUEST_LINES, b"Host: a\r\n"))
def test_good_requests_are_accepted(message: bytes) -> None:
    """The oracle is worth nothing if we refuse everything."""
    head, pieces = split(message, [])
    method, target, _ = head.split(b" ", 2)
    assume((method == b"CONNECT") == (target == b"a:443"))
    assume(head.count(b"Authorization:") < 2)
    assume(not (b" HTTP/1.0" in head and b"ransfer-" in head))
    reading = ours_of_request(head, pieces)
    assert reading.ended or pieces == [b"he"]
    compare(ours_of_request, h11_of_request, head, pieces)


CHUNKED_BODIES = mutated(
    st.lists(st.sampled_from(CHUNKED_TAILS), min_size=1, max_size=2).map(b"".join)
)


@settings(max_examples=500)
@given(CHUNKED_BODIES, CUTS)
def test_chunked_bodies(body: bytes, cuts: list[int]) -> None:
    message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    head, pieces = split(message, cuts)
    compare(ours_of_request, h11_of_request, head, pieces)


# --- where we differ --------------------------------------------------------------------------

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = REQUEST + b"Transfer-Encoding: chunked\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\n"

#: Requests, each with why it is refused.
WE_REFUSE_MORE = {
    "both framings: one of them was made for somebody else (RFC 9112, 6.3)": (
        REQUEST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two equal lengths: RFC 9112 allows the refusal": (
        REQUEST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na"
    ),
    "a list of equal lengths": REQUEST + b"Content-Length: 1, 1\r\n\r\na",
    "a length that no disk holds": REQUEST + b"Content-Length: 1000000000000000000\r\n\r\n",
    "obs-fold (RFC 9112, 5.2)": REQUEST + b"X: y\r\n z\r\n\r\n",
    "a bare LF behind a field (RFC 9112, 2.2 allows to take it)": REQUEST + b"X: y\n\r\n",
    "a bare LF behind the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "control characters in a value (RFC 9110, 5.5)": REQUEST + b"X: y\x01\r\n\r\n",
    "DEL in a value": REQUEST + b"X: y\x7f\r\n\r\n",
    "transfer codings on HTTP/1.0 (RFC 9112, 6.1)": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "HTTP/2.0 in a request line": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/1.2, that does not exist": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "methods that nobody registered": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target of no form": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "two credentials": REQUEST + b"Authorization: x\r\nAuthorization: y\r\n\r\n",
    "blanks behind a chunk's size": CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
    "control characters in an extension": CHUNKED + b"1;\x01\r\na\r\n0\r\n\r\n",
    "a bare CR in an extension": CHUNKED + b"1;\r\r\na\r\n0\r\n\r\n",
    "a chunk larger than 2**60": CHUNKED + b"1000000000000000\r\n",
    "obs-fold in trailers": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "control characters in trailers": CHUNKED + b"0\r\nX: y\x01\r\n\r\n",
}


@pytest.mark.parametrize("reason", WE_REFUSE_MORE)
def test_we_refuse_more(reason: str) -> None:
    head, pieces = split_for_h11(WE_REFUSE_MORE[reason])
    with pytest.raises(ProtocolError):
        ours_of_request(head, pieces)
    h11_of_request(head, pieces)


def split_for_h11(message: bytes) -> tuple[bytes, list[bytes]]:
    head, end, body = message.partition(b"\r\n\r\n")
    return (head + end, [body]) if end else (message, [])


#: The same of responses.
WE_REFUSE_MORE_OF_UPSTREAMS = {
    "both framings": RESPONSE + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two equal lengths": RESPONSE + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "obs-fold: RFC 9112, 5.2 lets a proxy answer 502": RESPONSE + b"X: y\r\n z\r\n\r\n",
    "a bare LF": RESPONSE + b"X: y\n\r\n",
    "control characters": RESPONSE + b"X: \x01\r\n\r\n",
    "transfer codings on HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/2.0 in a status line": b"HTTP/2.0 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("reason", WE_REFUSE_MORE_OF_UPSTREAMS)
def test_we_refuse_more_of_upstreams(reason: str) -> None:
    head, pieces = split_for_h11(WE_REFUSE_MORE_OF_UPSTREAMS[reason])
    with pytest.raises(Refusal) as refused:
        ours_of_response(head, pieces)
    assert refused.value.status == 502
    h11_of_response(head, pieces)


#: Requests, each with why it is accepted.
WE_ACCEPT_MORE = {
    "blanks before an extension: a recipient must parse BWS (RFC 9110, 5.6.3)": (
        CHUNKED + b"1 \t;a=b\r\na\r\n0\r\n\r\n"
    ),
    "a bad length as a trailer: it is dropped, whatever it says": (
        CHUNKED + b"1\r\na\r\n0\r\nContent-Length: x\r\n\r\n"
    ),
    "a coding as a trailer: it is dropped": (
        CHUNKED + b"1\r\na\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"
    ),
}


@pytest.mark.parametrize("reason", WE_ACCEPT_MORE)
def test_we_accept_more(reason: str) -> None:
    head, pieces = split_for_h11(WE_ACCEPT_MORE[reason])
    reading = ours_of_request(head, pieces)
    assert (reading.payload, reading.ended, reading.trailers) == (b"a", True, [])
    with pytest.raises(RefusedError):
        h11_of_request(head, pieces)


def test_trailers_that_could_be_taken_for_fields_are_dropped() -> None:
    """h11 hands them on."""
    head, pieces = split_for_h11(CHUNKED + b"0\r\nX: y\r\nAuthorization: z\r\n\r\n")
    assert ours_of_request(head, pieces).trailers == [(b"x", b"y")]
    assert h11_of_request(head, pieces).trailers == [(b"x", b"y"), (b"authorization", b"z")]
