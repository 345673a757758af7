from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.units.body import BodyReader, Wanted, described
from gatekeeper.usage.units.paths import parse_path
from tests.usage.units.documents import cut

WANTED = Wanted([parse_path("model")], [parse_path("usage.total_tokens")])
PLAIN = b'{"model":"m","usage":{"total_tokens":7}}'
EVENTS = b"data: " + PLAIN + b"\n\ndata: [DONE]\n\n"
LINES = b'{"x":0}\n' + PLAIN + b"\n"
READ = [b'"m"', b"7"]
NOTHING = [None, None]


def read(media_type: str, *pieces: bytes, coding: str = "") -> list[bytes | None]:
    body = BodyReader(WANTED, media_type, coding)
    for piece in pieces:
        body.feed(piece)
    return [*body.values()]


def in_bytes(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/problem+json", "", "text/plain"]
)
@pytest.mark.parametrize(
    "body", [PLAIN, b"\xef\xbb\xbf\r\n " + PLAIN, EVENTS, b"\n\n: hi\n\n" + EVENTS, LINES]
)
def test_what_begins_like_something(media_type: str, body: bytes) -> None:
    """Without a media type that says more, and with one that is wrong."""
    assert read(media_type, body) == READ
    assert read(media_type, *in_bytes(body)) == READ


@pytest.mark.parametrize("first", [b"data:1", b"event: x", b"id: 1", b"retry: 1", b":"])
def test_the_fields_of_events(first: bytes) -> None:
    assert read("", first + b"\n" + EVENTS) == READ
    assert read("", *in_bytes(first + b"\n" + EVENTS)) == READ


def test_events() -> None:
    assert read("text/event-stream", b"unknown: field\n" + EVENTS) == READ
    assert read("text/event-stream", PLAIN) == READ
    assert read("", b"unknown: field\n" + EVENTS) == NOTHING


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl"])
def test_lines(media_type: str) -> None:
    broken = b'{"x": "\n' + LINES
    assert read(media_type, LINES) == READ
    assert read(media_type, broken) == READ  # a line is a document, whatever is in the others
    assert read(media_type, b"once upon a time\n" + broken) == READ
    assert read(media_type, EVENTS) == READ
    assert read("application/json", broken) == NOTHING


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"d", b"dat", b"null", b"<html>" + PLAIN, b"x" + PLAIN, b'"' + PLAIN, b"\x1f\x8b"],
)
def test_nothing_that_can_be_read(body: bytes) -> None:
    assert read("application/json", body) == NOTHING
    assert read("application/json", *in_bytes(body), PLAIN[:0]) == NOTHING


def test_utf_16_is_not_json() -> None:
    """RFC 8259, 8.1."""
    assert read("application/json", PLAIN.decode().encode("utf-16")) == NOTHING


def test_codings() -> None:
    coded = gzip.compress(EVENTS)
    assert read("text/event-stream", coded, coding="gzip") == READ
    assert read("text/event-stream", *in_bytes(coded), coding="gzip") == READ
    assert read("text/event-stream", coded) == NOTHING
    assert read("text/event-stream", EVENTS, coding="gzip") == NOTHING
    assert read("text/event-stream", EVENTS, coding="br") == NOTHING
    assert read("text/event-stream", EVENTS, coding="identity") == READ


@pytest.mark.parametrize("body", [PLAIN, EVENTS, LINES])
@pytest.mark.parametrize(
    "media_type", ["application/json", "text/event-stream", "application/x-ndjson"]
)
def test_cut_short(body: bytes, media_type: str) -> None:
    """What was seen counts."""
    end = body.index(b"7}") + 2
    assert read(media_type, body[:end]) == READ
    assert read(media_type, body[: end - 1]) == [b'"m"', None]


@given(
    st.sampled_from(["", "application/json", "text/event-stream", "application/x-ndjson"]),
    st.sampled_from(["", "gzip", "deflate"]),
    st.sampled_from([b"", b"{", b"data:", b"data: {", b'{"usage":{"total_tokens":']),
    st.binary(),
    st.lists(st.integers(0, 10**6), max_size=6),
)
def test_anything_can_be_fed(
    media_type: str, coding: str, start: bytes, noise: bytes, places: list[int]
) -> None:
    body = start + noise
    whole = read(media_type, body, coding=coding)
    assert read(media_type, *cut(body, places), coding=coding) == whole


def test_described() -> None:
    lines = [b"Server: x", b"CONTENT-Type:  Text/Event-Stream ; charset=utf-8", b"date: now"]
    assert described(lines) == ("text/event-stream", "")
    assert described([*lines, b"content-encoding: gzip", b"Content-Encoding: br"]) == (
        "text/event-stream",
        " gzip, br",
    )
    assert described([*lines, b"content-type: application/json"]) == ("", "")
    assert described([]) == ("", "")
    assert described([b"content-type: \xff", b"nonsense", b""]) == ("ÿ", "")


def test_a_path_may_be_wanted_twice() -> None:
    path = parse_path("usage.total_tokens")
    wanted = Wanted([path, parse_path("model")], [path, path])
    body = BodyReader(wanted, "", "")
    body.feed(PLAIN)
    values = body.values()
    assert values[wanted.slots[path]] == b"7"
    assert len(values) == 2
