"""Framing: where a message ends must be beyond doubt."""

from __future__ import annotations

import pytest

from tests.hostile.house import House, Way, trickle
from tests.origin import Conversation, raw

MORE = "[limits]\ndrain = 65536\n"

CHUNKED = "Transfer-Encoding: chunked"


def post(way: Way, *fields: str, body: bytes = b"hello", version: str = "HTTP/1.1") -> bytes:
    return way.request("/hostile", *fields, method="POST", body=body, version=version)


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 5", CHUNKED),
        (CHUNKED, "Content-Length: 5"),
        (CHUNKED, "Content-Length: 0"),
        ("content-length: 5", "tRANSFER-eNCODING: Chunked"),
    ],
)
def test_01_content_length_with_transfer_encoding(
    house: House, way: Way, fields: tuple[str, ...]
) -> None:
    house.refuse(way, post(way, *fields, body=b"0\r\n\r\n"))


@pytest.mark.parametrize("second", ["5", "6", "05", "0"])
def test_02_several_content_lengths(house: House, way: Way, second: str) -> None:
    house.refuse(way, post(way, "Content-Length: 5", f"Content-Length: {second}"))


@pytest.mark.parametrize(
    "length",
    ["1, 1", "+1", "-1", "0x1", "1_0", "", "1 1", "1;", "1.0", "9" * 19, "9" * 400, "\xb2", "\xd9"],
)
def test_03_content_length_that_is_no_number(house: House, way: Way, length: str) -> None:
    house.refuse(way, post(way, f"Content-Length: {length}"))


@pytest.mark.parametrize(
    "coding",
    [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "chunked, identity",
        "xchunked",
        "chunkedx",
        '"chunked"',
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "",
        "\x0bchunked",
    ],
)
def test_04_transfer_encoding_other_than_chunked(house: House, way: Way, coding: str) -> None:
    refused = post(way, f"Transfer-Encoding: {coding}", body=b"0\r\n\r\n")
    house.refuse(way, refused, (400, 501))


def test_04_transfer_encoding_twice(house: House, way: Way) -> None:
    house.refuse(way, post(way, CHUNKED, CHUNKED, body=b"0\r\n\r\n"), (400, 501))


def test_04_transfer_encoding_on_http_1_0(house: House, way: Way) -> None:
    house.refuse(way, post(way, CHUNKED, body=b"0\r\n\r\n", version="HTTP/1.0"))


@pytest.mark.parametrize(
    "field",
    [
        "X-Good : 1",
        "X-Good\t: 1",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "X-Good: 1\r\n folded",
        "X-Good: 1\r\n\tfolded",
        " X-Good: 1",
        "X-Good: a\rb",
        "X-Good: a\r\r\nX-More: 1",
        "X-Good: a\nX-More: 1",
        "X-Good: a\n",
        "X-Good: a\0b",
        "X-Good\0: a",
        ": nameless",
        "no colon",
        "X Good: 1",
        "X(Good): 1",
        "X-G\xf6\xf6d: 1",
        "X-Good: a\x7fb",
        "X-Good: a\x01b",
    ],
)
def test_05_malformed_field(house: House, way: Way, field: str) -> None:
    house.refuse(way, way.request("/hostile", field))


def test_05_bare_line_feeds_everywhere(house: House, way: Way) -> None:
    house.refuse(way, way.request("/hostile").replace(b"\r\n", b"\n"))


def test_05_head_that_ends_in_bare_line_feeds(house: House, way: Way) -> None:
    house.refuse(way, way.request("/hostile")[:-4] + b"\n\n")


@pytest.mark.parametrize(
    "body",
    [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\0\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX-Good: a\n\r\n",
        b"0\r\n" + b"X-Good: a\r\n" * 5000 + b"\r\n",
    ],
)
def test_06_malformed_chunk(house: House, way: Way, body: bytes) -> None:
    """The head may be with the upstream when the chunk comes: but never a whole request."""
    finished = []

    def finish(conversation: Conversation) -> None:
        finished.append(b"".join(conversation.read_body()))

    house.origin.on["/partial"] = finish
    behind = way.request("/smuggled")
    with way.connect() as client:
        client.send(way.request("/partial", CHUNKED, method="POST") + body + behind)
        answer = client.final_answer()
        client.try_to_send(behind)
    assert answer.status == 400
    assert house.seen() == []
    assert finished == []


def test_06_malformed_chunk_after_a_good_one(house: House, way: Way) -> None:
    with way.connect() as client:
        client.send(way.request("/partial", CHUNKED, method="POST") + b"5\r\nhello\r\n")
        client.send(b"0x5\r\nhello\r\n0\r\n\r\n" + way.request("/smuggled"))
        assert client.final_answer().status == 400
    assert house.seen() == []


def test_07_trailers_that_are_none(house: House, way: Way) -> None:
    trailers = [
        "Authorization: Basic eDp5",
        "Proxy-Authorization: Basic eDp5",
        "Content-Length: 7",
        "Transfer-Encoding: chunked",
        "Host: evil.test",
        "X-SF-User-Id: root",
        "x_sf_user_id: root",
        "X-Forwarded-For: 6.6.6.6",
        "Connection: close",
        "Cookie: a=b",
        "Content_Length: 7",
        "X-Checksum: 17",
        "",
        "",
    ]
    body = b"5\r\nhello\r\n0\r\n" + "\r\n".join(trailers).encode()
    with way.connect() as client:
        client.send(way.request("/good", CHUNKED, method="POST") + body + way.request("/next"))
        first, second = client.answer(), client.answer()
    assert (first.status, second.status) == (200, 200)
    assert first.document["body"] == "hello"
    assert first.document["trailers"] == ["x-checksum: 17"]
    assert second.document["trailers"] == []
    names = {name for name, _ in second.document["fields"]}
    assert names.isdisjoint({"x-sf-user-id", "x-checksum", "cookie"})


def test_07_trailers_of_an_answer(house: House, way: Way) -> None:
    house.origin.on["/trailers"] = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
        b"Content-Length: 7\r\nSet-Cookie: a=b\r\nX-Checksum: 17\r\nConnection: close\r\n\r\n"
    )
    with way.connect() as client:
        client.send(way.request("/trailers", "TE: trailers", "Connection: te, close"))
        wire = client.rest()
    assert wire.endswith(b"5\r\nhello\r\n0\r\nx-checksum: 17\r\n\r\n")
    with way.connect() as client:
        client.send(way.request("/trailers", "Connection: close"))
        wire = client.rest()
    assert wire.endswith(b"5\r\nhello\r\n0\r\n\r\n")


def test_08_pipelined_requests_in_order(house: House, way: Way) -> None:
    count = 50
    with way.connect() as client:
        client.send(b"".join(way.request(f"/good/{number}") for number in range(count)))
        for number in range(count):
            answer = client.answer()
            assert answer.status == 200
            assert answer.document["target"].endswith(f"/good/{number}")


def test_08_pipelined_requests_byte_by_byte(house: House, way: Way) -> None:
    body = b"5\r\nhello\r\n0\r\nX-Checksum: 17\r\n\r\n"
    with way.connect() as client:
        trickle(client, way.request("/one", CHUNKED, method="POST") + body + way.request("/two"))
        first, second = client.answer(), client.answer()
    assert first.document["body"] == "hello"
    assert second.document["target"].endswith("/two")


def test_08_good_then_bad(house: House, way: Way) -> None:
    bad = way.request("/hostile", "Content-Length: 5", CHUNKED)
    with way.connect() as client:
        client.send(way.request("/good") + bad + way.request("/smuggled"))
        good = client.answer()
        refused = client.final_answer()
    assert good.status == 200
    assert not good.closes
    assert refused.status == 400
    assert [request.path for request in house.seen()] == ["/good"]


def test_09_body_behind_a_denied_request_is_drained(house: House, way: Way) -> None:
    """What is in it is never a request."""
    body = way.request("/smuggled")
    length = f"Content-Length: {len(body)}"
    denied = way.request("/hostile", length, method="POST", body=body, credentials=False)
    with way.connect() as client:
        client.send(denied + way.request("/good"))
        assert client.answer().status in (401, 407)
        assert client.answer().status == 200
    assert [request.path for request in house.seen()] == ["/good"]


def test_09_chunked_body_behind_a_denied_request_is_drained(house: House, way: Way) -> None:
    piece = way.request("/smuggled")
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece)
    denied = way.request("/hostile", CHUNKED, method="POST", body=body, credentials=False)
    with way.connect() as client:
        client.send(denied)
        assert client.answer().status in (401, 407)
        client.send(way.request("/good"))
        assert client.answer().status == 200
    assert [request.path for request in house.seen()] == ["/good"]


def test_09_malformed_body_behind_a_denied_request(house: House, way: Way) -> None:
    denied = way.request("/hostile", CHUNKED, method="POST", credentials=False)
    with way.connect() as client:
        client.send(denied + b"0x5\r\n" + way.request("/smuggled"))
        assert client.answer().status in (401, 407)
        client.try_to_send(way.request("/smuggled"))
        assert client.rest() == b""
    assert house.seen() == []


def test_09_endless_body_behind_a_denied_request(house: House, way: Way) -> None:
    denied = way.request("/hostile", "Content-Length: 1000000000", method="POST", credentials=False)
    with way.connect() as client:
        client.send(denied)
        assert client.answer().status in (401, 407)
        client.send_until_it_breaks(b"x" * 65536, 100_000_000)
    assert house.seen() == []


def test_10_unknown_expectation(house: House, way: Way) -> None:
    with way.connect() as client:
        client.send(way.request("/hostile", "Expect: 200-maybe"))
        assert client.answer().status == 417
        client.send(way.request("/good"))
        assert client.answer().status == 200
    assert [request.path for request in house.seen()] == ["/good"]


@pytest.mark.parametrize("expect", ["Expect: 200-maybe", "Expect: 100-continue, x"])
def test_10_unknown_expectation_with_a_body(house: House, way: Way, expect: str) -> None:
    body = way.request("/smuggled")
    with way.connect() as client:
        client.send(way.request("/hostile", expect, f"Content-Length: {len(body)}", method="POST"))
        assert client.answer().status == 417
        client.try_to_send(body)
    assert house.seen() == []


def test_10_continue_without_credentials(house: House, way: Way) -> None:
    fields = ("Expect: 100-continue", "Content-Length: 5")
    with way.connect() as client:
        client.send(way.request("/hostile", *fields, method="POST", credentials=False))
        assert client.final_answer().status in (401, 407)
    assert house.seen() == []


def test_10_continue_with_credentials(house: House, way: Way) -> None:
    fields = ("Expect: 100-continue", "Content-Length: 5")
    with way.connect() as client:
        client.send(way.request("/good", *fields, method="POST"))
        assert client.answer().status == 100
        client.send(b"hello")
        answer = client.answer()
    assert answer.status == 200
    assert answer.document["body"] == "hello"
