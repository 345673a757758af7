from __future__ import annotations

import base64

import pytest

from gatekeeper.auth.secret_keys import Encoding, secret_key

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("encoding", "secret", "expected"),
    [
        ("base64", base64.b64encode(KEY).decode(), KEY),
        ("hex", KEY.hex(), KEY),
        ("hex", KEY.hex().upper(), KEY),
        ("utf8", "k" * 32, b"k" * 32),
        ("utf8", "\u00e9" * 16, b"\xc3\xa9" * 16),
        # Nevermined's nodes: Uint8Array.from(phrase.split('').map(x => parseInt(x)))
        (
            "nevermined-digits",
            "12345678901234567890123456789012",
            bytes(int(x) for x in "12345678901234567890123456789012"),
        ),
        ("nevermined-digits", "abcd-x y" + "7" * 24, bytes(8) + b"\7" * 24),
        ("nevermined-digits", "\u0663" * 8 + "7" * 24, bytes(8) + b"\7" * 24),  # Arabic digits
    ],
)
def test_keys(encoding: Encoding, secret: str, expected: bytes) -> None:
    assert secret_key(secret, encoding) == expected


@pytest.mark.parametrize(
    ("encoding", "secret", "why"),
    [
        ("base64", base64.b64encode(KEY[:31]).decode(), "is 31"),
        ("base64", base64.b64encode(KEY * 2).decode(), "is 64"),
        ("base64", "s3cret!", "is not base64"),
        ("base64", "\u00e9", "is not base64"),
        ("hex", KEY.hex()[:-1], "is not hex"),
        ("hex", "s3cret", "is not hex"),
        ("utf8", "s3cret", "is 6"),
        ("utf8", "\ud800", "is not utf8"),
        ("nevermined-digits", "1" * 31, "is 31"),
        ("nevermined-digits", "1" * 33, "is 33"),
        ("nevermined-digits", "", "is 0"),
        ("nevermined-digits", "s" * 9 + "1" * 23, "has 9 characters that are not digits"),
        ("nevermined-digits", "secret" * 5 + "12", "can be guessed"),
    ],
)
def test_what_is_no_key(encoding: Encoding, secret: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        secret_key(secret, encoding)
    assert not secret or secret not in str(caught.value)
