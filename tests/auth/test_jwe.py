from __future__ import annotations

import json
import os
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.jwk import OctKey, RSAKey

from gatekeeper.auth.jwe import MAX_SIZE, TokenCipher, TokenError
from tests.auth.support import base64url

KEY = bytes(range(32))
HEADER = {"alg": "dir", "enc": "A128CBC-HS256"}
CIPHER = TokenCipher(KEY)


def encrypt(header: dict[str, Any], key: Any = KEY, plaintext: bytes = b"{}") -> bytes:
    """By the library, whatever the algorithm."""
    registry = jwe.JWERegistry(
        algorithms=[header["alg"], header["enc"], "DEF"], strict_check_header=False
    )
    key = OctKey.import_key(key) if isinstance(key, bytes) else key
    return jwe.encrypt_compact(header, plaintext, key, registry=registry).encode()


def reason(token: bytes, cipher: TokenCipher = CIPHER) -> str:
    with pytest.raises(TokenError) as caught:
        cipher.decrypt(token)
    assert caught.value.detail
    return caught.value.reason


class Untouched(TokenCipher):
    """Fails where the key is used."""

    def __init__(self) -> None:
        self._key = None  # type: ignore[assignment]


def test_there_and_back() -> None:
    assert CIPHER.decrypt(CIPHER.encrypt(b"text").encode()) == b"text"
    assert CIPHER.encrypt(b"text") != CIPHER.encrypt(b"text")


def test_tokens_of_the_library() -> None:
    assert CIPHER.decrypt(encrypt(HEADER, plaintext=b"text")) == b"text"
    swapped = dict(reversed(HEADER.items()))
    assert CIPHER.decrypt(encrypt(swapped, plaintext=b"text")) == b"text"


def test_another_key() -> None:
    assert reason(encrypt(HEADER), TokenCipher(bytes(32))) == "forged_token"


def test_changed_anywhere() -> None:
    parts = encrypt(HEADER, plaintext=b"0123456789" * 3).split(b".")
    for number in (2, 3, 4):
        for place in (0, len(parts[number]) // 2):
            changed = list(parts)
            old = changed[number][place : place + 1]
            new = b"B" if old == b"A" else b"A"
            changed[number] = changed[number][:place] + new + changed[number][place + 1 :]
            assert reason(b".".join(changed)) == "forged_token"


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"alg": "dir"},
        {"enc": "A128CBC-HS256"},
        {"alg": "none", "enc": "A128CBC-HS256"},
        {"alg": "DIR", "enc": "A128CBC-HS256"},
        {"alg": ["dir"], "enc": "A128CBC-HS256"},
        {"alg": "dir", "enc": "A256GCM"},
        {"alg": "dir", "enc": "A128GCM"},
        {"alg": "dir", "enc": "A256CBC-HS512"},
        {"alg": "A128KW", "enc": "A128CBC-HS256"},
        {"alg": "RSA-OAEP", "enc": "A128CBC-HS256"},
        {"alg": "PBES2-HS256+A128KW", "enc": "A128CBC-HS256", "p2c": 2**31, "p2s": "AAAA"},
        {**HEADER, "zip": "DEF"},
        {**HEADER, "kid": "../../etc/passwd"},
        {**HEADER, "jku": "http://127.0.0.1:1/"},
        {**HEADER, "x5u": "http://127.0.0.1:1/"},
        {**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}},
        {**HEADER, "x5c": []},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "crit": []},
        {**HEADER, "typ": "JWT"},
        {**HEADER, "cty": "JWT"},
        {**HEADER, "b64": False},
    ],
)
def test_another_header_is_refused_before_the_key_is_used(header: dict[str, Any]) -> None:
    parts = encrypt(HEADER).split(b".")
    token = b".".join([base64url(json.dumps(header).encode()), *parts[1:]])
    assert reason(token, Untouched()) == "unsupported_token"


def test_real_tokens_of_other_algorithms() -> None:
    password = b"a password of some length"
    for header, key in (
        ({"alg": "dir", "enc": "A256GCM"}, KEY),
        ({"alg": "A128KW", "enc": "A128CBC-HS256"}, os.urandom(16)),
        ({"alg": "PBES2-HS256+A128KW", "enc": "A128CBC-HS256", "p2c": 1000}, password),
        ({"alg": "RSA-OAEP", "enc": "A128CBC-HS256"}, RSAKey.generate_key(2048)),
        ({**HEADER, "zip": "DEF"}, KEY),
    ):
        token = encrypt(header, key, b"x" * 100)
        assert reason(token, Untouched()) == "unsupported_token"


def test_a_signed_token_is_none() -> None:
    key = OctKey.import_key(KEY)
    assert reason(jws.serialize_compact({"alg": "HS256"}, b"{}", key).encode()) == "malformed_token"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"dir","alg":"dir","enc":"A128CBC-HS256"}',
        b'{"alg":"dir","enc":"A256GCM","enc":"A128CBC-HS256"}',
        b'["dir","A128CBC-HS256"]',
        b'"dir"',
        b"",
        b"null",
        b"{",
        b"\xff",
        b'{"alg":"dir","enc":"A128CBC-HS256","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
)
def test_a_header_that_is_no_header(header: bytes) -> None:
    parts = encrypt(HEADER).split(b".")
    assert reason(b".".join([base64url(header), *parts[1:]]), Untouched()) == "malformed_token"


def test_parts_of_other_sizes() -> None:
    header, key, vector, text, tag = encrypt(HEADER).split(b".")
    for parts in (
        (header, b"AAAA", vector, text, tag),
        (header, key, b"", text, tag),
        (header, key, vector[:-2], text, tag),
        (header, key, vector, b"", tag),
        (header, key, vector, text[:-1], tag),
        (header, key, vector, text + b"AAAA", tag),
        (header, key, vector, text, b""),
        (header, key, vector, text, tag + tag),
        (header, key, vector, text, tag + b"="),
        (header + b"=", key, vector, text, tag),
        (header, key, vector, text),
        (header, key, vector, text, tag, tag),
        (b"", b"", b"", b"", b""),
    ):
        assert reason(b".".join(parts), Untouched()) == "malformed_token"


def test_too_long() -> None:
    fits = CIPHER.encrypt(b"x" * (MAX_SIZE * 3 // 4 - 200)).encode()
    assert len(fits) <= MAX_SIZE
    assert CIPHER.decrypt(fits)
    assert reason(CIPHER.encrypt(b"x" * MAX_SIZE).encode(), Untouched()) == "malformed_token"


def test_nothing_is_shown() -> None:
    assert repr(CIPHER) == "<TokenCipher>"
