from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.http import fields as f
from gatekeeper.http.fields import (
    classify,
    encode,
    field_lines,
    list_members,
    may_be_trailer,
    normalize,
    parse_lines,
)

KINDS = [
    (b"Accept", f.KEEP),
    (b"Cookie", f.KEEP),
    (b"Set-Cookie", f.KEEP),
    (b"X-Api-Key", f.KEEP),
    (b"X_Api_Key", f.KEEP),
    (b"Proxy-Status", f.KEEP),
    (b"Host", f.HOST),
    (b"Authorization", f.AUTHORIZATION),
    (b"Proxy-Authorization", f.PROXY_AUTHORIZATION),
    (b"Connection", f.CONNECTION),
    (b"Upgrade", f.UPGRADE),
    (b"Expect", f.EXPECT),
    (b"TE", f.TE),
    (b"Via", f.VIA),
    (b"Traceparent", f.TRACEPARENT),
    (b"X-Request-Id", f.REQUEST_ID),
    (b"Content-Length", f.CONTENT_LENGTH),
    (b"Transfer-Encoding", f.TRANSFER_ENCODING),
    (b"Trailer", f.FRAMING),
    (b"Keep-Alive", f.HOP),
    (b"Proxy-Connection", f.HOP),
    (b"Proxy-Authenticate", f.HOP),
    (b"Proxy-Authentication-Info", f.HOP),
    (b"HTTP2-Settings", f.HOP),
    (b"Proxy", f.HOP),
    (b"Forwarded", f.RESERVED),
    (b"X-Forwarded-For", f.RESERVED),
    (b"X-Forwarded-", f.RESERVED),
    (b"X-Forwarded-Anything", f.RESERVED),
    (b"X-Real-Ip", f.RESERVED),
    (b"X-Trace-Id", f.RESERVED),
    (b"X-Authkey", f.RESERVED),
    (b"X-Userinfo", f.RESERVED),
    (b"X-Sf-User-Id", f.RESERVED),
    (b"Nvm-Did", f.RESERVED),
    (b"Remote-User", f.RESERVED),
    (b"X_Forwarded_For", f.RESERVED),
    (b"X-Forwarded_For", f.RESERVED),
    (b"X_SF-user_id", f.RESERVED),
    (b"Nvm_Did", f.RESERVED),
    (b"Remote_User", f.RESERVED),
    (b"X_Request_Id", f.RESERVED),
    (b"Content_Length", f.RESERVED),
    (b"Transfer_Encoding", f.RESERVED),
    (b"Proxy_Authorization", f.RESERVED),
    (b"Proxy-Authentication_Info", f.RESERVED),
]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_what_a_name_means_in_any_case(name: bytes, kind: int) -> None:
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        assert classify(spelling) == (name.lower(), kind)
        assert classify(spelling) == (name.lower(), kind), "and so it is remembered"


@pytest.mark.parametrize("name", [name for name, kind in KINDS if kind != f.KEEP])
def test_only_one_spelling_of_a_name_with_a_meaning_is_left(name: bytes) -> None:
    """Whatever ``_`` and ``-`` do, a proxy's field is not forwarded as somebody's own."""
    assert classify(name.replace(b"-", b"_"))[1] != f.KEEP


def test_any_number_of_names_can_be_classified() -> None:
    for number in range(10_000):
        assert classify(b"X-Name-%d" % number) == (b"x-name-%d" % number, f.KEEP)
    for name, kind in KINDS:
        assert classify(name) == (name.lower(), kind)


def test_the_table_of_names_is_bounded_in_number_and_in_length() -> None:
    table = f._Table()
    for number in range(10_000):
        assert table[b"X-Name-%d" % number] == (b"x-name-%d" % number, f.KEEP)
        assert len(table) <= 4096
    table.clear()
    long = b"X-Sf-" + b"a" * 10_000
    assert table[long] == (long.lower(), f.RESERVED)
    assert not table


@given(st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}", fullmatch=True))
def test_classify_is_the_same_for_every_case(name: bytes) -> None:
    assert classify(name)[1] == classify(name.lower())[1] == classify(name.upper())[1]
    assert classify(name)[0] == name.lower()


def test_normalize() -> None:
    assert normalize(b"X_Sf-User_ID") == b"x-sf-user-id"


@pytest.mark.parametrize("name", [b"x-checksum", b"digest", b"grpc-status", b"server-timing"])
def test_a_trailer(name: bytes) -> None:
    assert may_be_trailer(name)


@pytest.mark.parametrize(
    "name",
    [
        *(name.lower() for name, kind in KINDS if kind != f.KEEP),
        b"cookie",
        b"set-cookie",
        b"set_cookie",
        b"content-type",
        b"content_type",
        b"content-encoding",
        b"content-range",
        b"cache-control",
        b"www-authenticate",
        b"max-forwards",
        b"if-match",
        b"location",
    ],
)
def test_what_is_no_trailer(name: bytes) -> None:
    assert not may_be_trailer(name)


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([], []),
        ([b""], []),
        ([b" , ,\t"], []),
        ([b"close"], [b"close"]),
        ([b"Keep-Alive ,\tX-Foo"], [b"keep-alive", b"x-foo"]),
        ([b"a,b", b"", b"c"], [b"a", b"b", b"c"]),
    ],
)
def test_list_members(values: list[bytes], members: list[bytes]) -> None:
    assert list_members(values) == members


def test_lines() -> None:
    assert parse_lines([b"A: b", b"C:d\t ", b"E:", b"F: g:h"]) == [
        (b"a", b"b"),
        (b"c", b"d"),
        (b"e", b""),
        (b"f", b"g:h"),
    ]
    assert field_lines([(b"a", b"b"), (b"C", b"")]) == [b"a: b", b"C: "]


def test_encode() -> None:
    assert encode([]) == b""
    assert encode([(b"a", b"1"), (b"B", b""), (b"a", b"2")]) == b"a: 1\r\nB: \r\na: 2\r\n"
