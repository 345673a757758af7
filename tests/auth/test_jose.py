from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.auth.jose import decode_part, load_object, time_claim
from tests.auth.support import base64url


@given(st.binary(max_size=100))
def test_one_spelling_for_every_value(raw: bytes) -> None:
    part = base64url(raw)
    assert decode_part(part) == raw
    for other in (
        part + b"=",
        part + b"==",
        part + b"\n",
        b" " + part,
        part + b"!",
        part[:1] + b"." + part[1:],
    ):
        with pytest.raises(ValueError, match=r"base64url|padding|data"):
            decode_part(other)


@pytest.mark.parametrize(
    "part", [b"A", b"AAAAA", b"AB", b"AAB", b"+/+/", b"A A", b"A\nAA", b"\xff\xff"]
)
def test_other_spellings(part: bytes) -> None:
    with pytest.raises(ValueError, match=r"base64url|padding|data"):
        decode_part(part)


@given(st.binary(max_size=40))
def test_decoding_is_the_inverse_or_an_error(part: bytes) -> None:
    try:
        raw = decode_part(part)
    except ValueError:
        return
    assert base64.urlsafe_b64encode(raw).rstrip(b"=") == part


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{",
        b"{}x",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"x":{"a":1,"a":2}}',
        b'{"x":[{"a":1,"a":2}]}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":Infinity}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":"\n"}',
    ],
)
def test_no_object(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load_object(text)


def test_an_object() -> None:
    assert load_object('{"a": [1, 2.5, null, {"b": "ö"}]}'.encode()) == {
        "a": [1, 2.5, None, {"b": "ö"}]
    }


@pytest.mark.parametrize(
    "value", [True, False, "1", 1.0, 1e400, None, -1, [1], {}, 2**53 + 1, 10**400]
)
def test_no_time(value: object) -> None:
    with pytest.raises(ValueError, match="exp"):
        time_claim({"exp": value}, "exp")


def test_times() -> None:
    assert time_claim({"exp": 2**53}, "exp") == 2**53
    assert time_claim({"exp": 0}, "exp") == 0
    assert time_claim({"nbf": 1}, "exp") is None
