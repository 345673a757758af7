from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gatekeeper.auth.jwe import TokenError
from gatekeeper.auth.token_claims import (
    AccessToken,
    Lifetime,
    UpstreamCredential,
    identity_headers,
    load_claims,
    read_claims,
)
from gatekeeper.auth.url_patterns import MAX_PATTERNS
from tests.auth.support import NOW

DID = "did:nv:" + "0b" * 32
CLAIMS: dict[str, Any] = {
    "did": DID,
    "subscriptionDid": "did:nv:" + "AB" * 32,
    "userId": "0x" + "Aa" * 20,
    "owner": "0x" + "bB" * 20,
    "ercType": 1155,
    "endpoints": ["https://api.example.com/v1/(.*)"],
    "headers": {"authentication": {"type": "bearer", "token": "upstream-token"}},
    "iat": int(NOW),
    "exp": int(NOW) + 60,
}


def read(**changed: Any) -> AccessToken:
    """What the claims say, some of them changed; ``...`` takes one away."""
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not ...}
    return read_claims(load_claims(json.dumps(claims).encode()))


def test_all_of_them() -> None:
    assert read() == AccessToken(
        user="0x" + "Aa" * 20,
        urls=("https://api.example.com/v1/(.*)",),
        did=DID,
        owner="0x" + "bB" * 20,
        subscription="ab" * 32,
        erc_type=1155,
        credential=UpstreamCredential("bearer", "upstream-token"),
        issued=int(NOW),
        begins=None,
        expires=int(NOW) + 60,
    )
    assert "upstream-token" not in repr(read())


def test_the_fewest() -> None:
    found = read_claims({"userId": "u", "endpoints": []})
    assert found == AccessToken(user="u", urls=())
    assert found.headers == ((b"nvm-user-id", b"u"),)


def test_what_the_upstream_is_told() -> None:
    assert read().headers == (
        (b"nvm-user-id", b"0x" + b"Aa" * 20),
        (b"nvm-scope", DID.encode()),
        (b"nvm-owner", b"0x" + b"bB" * 20),
    )
    assert identity_headers("", DID, "") == ((b"nvm-scope", DID.encode()),)


@pytest.mark.parametrize(
    "changed",
    [
        {"userId": ...},
        {"userId": None},
        {"userId": ""},
        {"userId": 7},
        {"userId": "a b"},
        {"userId": "a\r\nX-Sf-User-Id: root"},
        {"userId": "\u00e9"},
        {"userId": "u" * 200},
        {"owner": "a\nb"},
        {"owner": ["a"]},
        {"did": "did:nv:" + "0b" * 31},
        {"did": "did:op:" + "0b" * 32},
        {"did": "0b" * 32},
        {"did": DID + "\n"},
        {"subscriptionDid": "0b" * 31},
        {"subscriptionDid": "did:nv:0x" + "0b" * 32},
        {"ercType": 20},
        {"ercType": "721"},
        {"ercType": 721.0},
        {"ercType": True},
        {"endpoints": ...},
        {"endpoints": "https://h/"},
        {"endpoints": {"0": "https://h/"}},
        {"endpoints": ["https://h/", 7]},
        {"endpoints": ["https://h/"] * (MAX_PATTERNS + 1)},
        {"headers": []},
        {"headers": [{"authorization": "Bearer x"}]},
        {"headers": "x"},
        {"headers": {"authentication": "bearer"}},
        {"headers": {"authentication": {"type": "digest"}}},
        {"headers": {"authentication": {"type": "Bearer", "token": "x"}}},
        {"headers": {"authentication": {"type": None}}},
        {"headers": {"authentication": {"type": "bearer"}}},
        {"headers": {"authentication": {"type": "bearer", "token": ""}}},
        {"headers": {"authentication": {"type": "bearer", "token": 7}}},
        {"headers": {"authentication": {"type": "bearer", "token": "x\r\nHost: y"}}},
        {"headers": {"authentication": {"type": "oauth", "token": "x y"}}},
        {"headers": {"authentication": {"type": "basic", "username": "u"}}},
        {"headers": {"authentication": {"type": "basic", "password": "p"}}},
        {"headers": {"authentication": {"type": "basic", "username": 1, "password": "p"}}},
        {"headers": {"authentication": {"type": "basic", "user": "u", "password": "\ud800"}}},
        {"exp": "1700000060"},
        {"exp": 1700000060.0},
        {"exp": True},
        {"exp": -1},
        {"exp": 2**70},
        {"exp": None},
        {"iat": "now"},
        {"iat": 1.5},
        {"nbf": "now"},
        {"nbf": [1]},
    ],
)
def test_malformed(changed: dict[str, Any]) -> None:
    with pytest.raises(TokenError) as caught:
        read(**changed)
    assert caught.value.reason == "malformed_token"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b'{"exp": NaN}',
        b'{"exp": Infinity}',
        b'{"exp": 1, "exp": 2}',
        b'{"headers": {"authentication": {"type": "none", "type": "basic"}}}',
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_malformed_json(text: bytes) -> None:
    with pytest.raises(TokenError) as caught:
        load_claims(text)
    assert caught.value.reason == "malformed_token"


def test_an_end_that_is_too_large_for_a_number() -> None:
    claims = load_claims(b'{"userId": "u", "endpoints": [], "exp": 1e400}')
    with pytest.raises(TokenError, match="malformed_token"):
        read_claims(claims)


@pytest.mark.parametrize("form", ["{}", "did:nv:{}", "0x{}"])
def test_the_spellings_of_a_subscription(form: str) -> None:
    assert read(subscriptionDid=form.format("Cd" * 32)).subscription == "cd" * 32


@pytest.mark.parametrize("erc_type", [721, 1155])
def test_the_kinds_of_a_subscription(erc_type: int) -> None:
    assert read(ercType=erc_type).erc_type == erc_type


BASIC = b"Basic " + base64.b64encode("\u00fcser:pa:ss".encode())


@pytest.mark.parametrize(
    ("authentication", "expected"),
    [
        ({"type": "none"}, None),
        ({"type": "none", "token": "x"}, None),
        ({}, None),
        (None, None),
        ({"type": "bearer", "token": "sk-1"}, b"Bearer sk-1"),
        ({"type": "oauth", "token": "sk-1"}, b"Bearer sk-1"),
        ({"type": "basic", "username": "\u00fcser", "password": "pa:ss"}, BASIC),
        ({"type": "basic", "user": "\u00fcser", "password": "pa:ss"}, BASIC),
        ({"type": "basic", "user": "x", "username": "\u00fcser", "password": "pa:ss"}, BASIC),
        ({"type": "basic", "username": "u", "password": ""}, b"Basic dTo="),
    ],
)
def test_the_upstreams_credential(authentication: object, expected: bytes | None) -> None:
    found = read(headers={"authentication": authentication}).credential
    assert found.authorization == expected
    assert not found.token or found.token not in repr(found)


def test_no_credential_at_all() -> None:
    assert read(headers=...).credential.authorization is None
    assert read(headers={}).credential.authorization is None


def reason(lifetime: Lifetime, now: float = NOW, **changed: Any) -> str:
    try:
        lifetime.check(read(**changed), now)
    except TokenError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"exp": int(NOW) + 1}, ""),
        ({"exp": int(NOW)}, "expired_token"),
        ({"exp": int(NOW) - 1}, "expired_token"),
        ({"exp": 0}, "expired_token"),
        ({"exp": ...}, "malformed_token"),
        ({"nbf": int(NOW)}, ""),
        ({"nbf": int(NOW) + 1}, "early_token"),
        ({"iat": ...}, ""),
    ],
)
def test_times(changed: dict[str, Any], expected: str) -> None:
    assert reason(Lifetime(), **changed) == expected


def test_a_token_need_not_end_where_that_is_allowed() -> None:
    assert reason(Lifetime(required=False), exp=...) == ""
    assert reason(Lifetime(required=False), exp=int(NOW)) == "expired_token"
    assert reason(Lifetime(required=False, longest=60), exp=...) == "malformed_token"


@pytest.mark.parametrize(
    ("issued", "expires", "expected"),
    [
        (NOW, NOW + 3600, ""),
        (NOW, NOW + 3601, "long_token"),
        (NOW - 3000, NOW + 601, "long_token"),
        (NOW - 3000, NOW + 600, ""),
        (..., NOW + 3600, ""),
        (..., NOW + 3601, "long_token"),
        # Whoever says that it is not made yet does not make it live longer.
        (NOW + 9999, NOW + 9999, "long_token"),
    ],
)
def test_the_longest_lifetime(issued: Any, expires: float, expected: str) -> None:
    issued = issued if issued is ... else int(issued)
    assert reason(Lifetime(longest=3600), iat=issued, exp=int(expires)) == expected
