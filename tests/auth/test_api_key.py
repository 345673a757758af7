from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from gatekeeper.auth.api_key import ApiKeyChecker, ApiKeySettings
from gatekeeper.auth.interfaces import ABSTAIN, Deny, Grant, Verdict
from gatekeeper.auth.keyfile import KeyFile
from gatekeeper.errors import ConfigurationError
from tests.auth.support import KEY, KEYS, NOW, OTHER_KEY, base64url, credentials, good_token, token

EXP = int(NOW) + 60
HEADER = {"alg": "HS256", "typ": "JWT"}
GRANT = Grant(user="001", key_id="001", expires=float(EXP))


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> ApiKeyChecker:
    path = tmp_path_factory.mktemp("keys") / "keys.properties"
    path.write_text(KEYS)
    return ApiKeyChecker("keys", KeyFile(path), lambda: NOW)


def ask(checker: ApiKeyChecker, presented: bytes) -> Verdict:
    return checker.check(credentials(presented))


def reason(verdict: Verdict) -> str:
    assert isinstance(verdict, Deny)
    assert (verdict.status, verdict.error) == (401, "invalid_token")
    return verdict.reason


def test_good_tokens(checker: ApiKeyChecker) -> None:
    assert ask(checker, good_token()) == GRANT
    assert ask(checker, good_token(key_id="003", key=OTHER_KEY)) == Grant(
        user="003", key_id="003", groups=frozenset({"stats", "spender"}), expires=float(EXP)
    )
    assert ask(checker, b"bEARER  " + good_token()[7:] + b" ") == GRANT


def test_a_token_of_another_maker(checker: ApiKeyChecker) -> None:
    payload = json.dumps({"id": "001", "exp": EXP, "more": {"a": [1]}})
    made = jws.serialize_compact({"alg": "HS256"}, payload, OctKey.import_key(KEY))
    assert ask(checker, b"Bearer " + made.encode()) == GRANT


def test_the_key_is_the_text_of_its_digits(checker: ApiKeyChecker) -> None:
    signed = b".".join(
        base64url(json.dumps(part).encode()) for part in (HEADER, {"id": "001", "exp": EXP})
    )
    forged = base64url(hmac.digest(bytes.fromhex(KEY), signed, "sha256"))
    assert reason(ask(checker, b"Bearer " + signed + b"." + forged)) == "bad_signature"


@pytest.mark.parametrize(
    "presented",
    [
        b"",
        b"Basic YTpi",
        b"Bearer",
        b"Bearer ",
        b"Bearer opaque",
        b"Bearer a.b",
        b"Bearer a.b.c.d.e",
        b"Bearer a.b.c",
        b"Bearer ..",
        good_token()[7:],
        b"Bearer " + b"." * 5000,
        b"Bearer " + b"x" * 1_000_000,
        b"Bearer a.b." + b"x" * 1_000_000,
        # Another algorithm: the next checker's business, and nobody's in the end.
        token({"id": "001", "exp": EXP}, header={"alg": "none"}),
        token({"id": "001", "exp": EXP}, header={"alg": "NONE"}),
        token({"id": "001", "exp": EXP}, header={"alg": "hs256"}),
        token({"id": "001", "exp": EXP}, header={"alg": "HS512"}, algorithm="sha512"),
        token({"id": "001", "exp": EXP}, header={"alg": "HS384"}),
        token({"id": "001", "exp": EXP}, header={"alg": "RS256"}),
        token({"id": "001", "exp": EXP}, header={"alg": "ES256"}),
        token({"id": "001", "exp": EXP}, header={"alg": "dir", "enc": "A128CBC-HS256"}),
        token({"id": "001", "exp": EXP}, header={"alg": ["HS256"]}),
        token({"id": "001", "exp": EXP}, header={"alg": None}),
        token({"id": "001", "exp": EXP}, header={"typ": "JWT"}),
        token({"id": "001", "exp": EXP}, header=b'{"alg":"none","alg":"HS256"}'),
        token({"id": "001", "exp": EXP}, header=b'{"alg":"HS256","alg":"HS256"}'),
        token({"id": "001", "exp": EXP}, header=b"HS256"),
        token({"id": "001", "exp": EXP}, header=b'["HS256"]'),
        token(
            {"id": "001", "exp": EXP},
            header=b'{"alg":"HS256","x":' + b"[" * 2500 + b"]" * 2500 + b"}",
        ),
    ],
)
def test_other_kinds_are_left_to_others(checker: ApiKeyChecker, presented: bytes) -> None:
    assert ask(checker, presented) is ABSTAIN


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"kid": "../../../dev/null"},
        {"kid": "001"},
        {"x5c": []},
        {"b64": False},
        {"zip": "DEF"},
        {"enc": "A128CBC-HS256"},
    ],
)
def test_headers_that_ask_for_something_else(checker: ApiKeyChecker, more: dict[str, Any]) -> None:
    presented = token({"id": "001", "exp": EXP}, header=HEADER | more)
    assert reason(ask(checker, presented)) == "malformed_token"


def test_other_header_parameters_mean_nothing(checker: ApiKeyChecker) -> None:
    assert ask(checker, token({"id": "001", "exp": EXP}, header=HEADER | {"x": "y"})) == GRANT


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"001",
        b"[]",
        b"{",
        b"\xff",
        {"exp": EXP},
        {"id": 1, "exp": EXP},
        {"id": None, "exp": EXP},
        {"id": ["001"], "exp": EXP},
        {"id": {}, "exp": EXP},
        {"id": "001"},
        {"id": "001", "exp": None},
        {"id": "001", "exp": str(EXP)},
        {"id": "001", "exp": float(EXP)},
        {"id": "001", "exp": True},
        {"id": "001", "exp": -1},
        {"id": "001", "exp": 10**400},
        {"id": "001", "exp": EXP, "nbf": "0"},
        {"id": "001", "exp": EXP, "nbf": None},
        b'{"id":"001","exp":NaN}',
        b'{"id":"001","exp":1e400}',
        b'{"id":"001","exp":Infinity}',
        b'{"id":"003","id":"001","exp":%d}' % EXP,
        b'{"id":"001","exp":1,"exp":%d}' % EXP,
        b'{"id":"001","exp":%d,"x":{"a":1,"a":1}}' % EXP,
        b'{"id":"001","exp":%d,"x":' % EXP + b"[" * 2500 + b"]" * 2500 + b"}",
    ],
)
def test_malformed_payloads(checker: ApiKeyChecker, payload: Any) -> None:
    assert reason(ask(checker, token(payload))) == "malformed_token"


@pytest.mark.parametrize("key_id", ["002", "", "1", "001 ", "key001", "\N{FULLWIDTH DIGIT ZERO}01"])
def test_unknown_keys(checker: ApiKeyChecker, key_id: str) -> None:
    assert reason(ask(checker, token({"id": key_id, "exp": EXP}))) == "unknown_key"


def test_unknown_key_and_bad_signature_are_one_answer_to_the_client(checker: ApiKeyChecker) -> None:
    unknown = ask(checker, token({"id": "002", "exp": EXP}))
    forged = ask(checker, token({"id": "003", "exp": EXP}))
    assert isinstance(unknown, Deny)
    assert isinstance(forged, Deny)
    assert replace(unknown, reason=unknown.told, told="") == forged


@pytest.mark.parametrize("seconds", [0, -1, -int(NOW)])
def test_expired(checker: ApiKeyChecker, seconds: int) -> None:
    assert reason(ask(checker, good_token(seconds))) == "expired_token"


def test_not_yet_valid(checker: ApiKeyChecker) -> None:
    early = token({"id": "001", "exp": EXP, "nbf": int(NOW) + 1})
    assert reason(ask(checker, early)) == "early_token"
    assert ask(checker, token({"id": "001", "exp": EXP, "nbf": int(NOW)})) == GRANT


def test_an_expired_forgery_is_a_forgery(checker: ApiKeyChecker) -> None:
    assert reason(ask(checker, token({"id": "003", "exp": 1}))) == "bad_signature"


def parts() -> list[bytes]:
    return good_token()[7:].split(b".")


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (b"", "bad_signature"),
        (parts()[2] + b"=", "malformed_token"),
        (parts()[2][:-1], "malformed_token"),
        (base64url(b"x" * 32), "bad_signature"),
        (base64url(b"x" * 31), "bad_signature"),
        (base64.b64encode(b"\xff" * 32).rstrip(b"="), "malformed_token"),
        (
            hmac.new(KEY.encode(), b".".join(parts()[:2]), "sha256").hexdigest().encode(),
            "bad_signature",
        ),
        (b"!", "malformed_token"),
        (b"A", "malformed_token"),
    ],
)
def test_bad_signatures(checker: ApiKeyChecker, signature: bytes, expected: str) -> None:
    presented = b"Bearer " + b".".join([*parts()[:2], signature])
    assert reason(ask(checker, presented)) == expected


@given(st.data())
def test_any_changed_byte_spoils_a_token(checker: ApiKeyChecker, data: st.DataObject) -> None:
    good = good_token()
    position = data.draw(st.integers(7, len(good) - 1))
    byte = data.draw(st.integers(33, 126).filter(lambda byte: byte != good[position]))
    changed = good[:position] + bytes((byte,)) + good[position + 1 :]
    assert not isinstance(ask(checker, changed), Grant)


# --- the file ----------------------------------------------------------------------------


def test_reloading(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEYS)
    checker = ApiKeyChecker("keys", KeyFile(path), lambda: NOW)
    assert not checker.reload()
    path.write_text(f"key003={OTHER_KEY}\n")
    assert checker.reload()
    assert reason(ask(checker, good_token())) == "unknown_key"
    grant = ask(checker, good_token(key_id="003", key=OTHER_KEY))
    assert isinstance(grant, Grant)
    assert grant.groups == frozenset()


def test_all_wrong_lines_are_problems_of_the_key_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("wrong\nworse\n")
    with pytest.raises(ConfigurationError) as caught:
        ApiKeyChecker.configured("keys", ApiKeySettings(file=path))
    assert [problem.path for problem in caught.value.problems] == ["file", "file"]
    assert f"{path}:2:" in str(caught.value)


def test_the_clock_is_the_wall_clock_by_default(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEYS)
    checker = ApiKeyChecker.configured("keys", ApiKeySettings(file=path))
    far = token({"id": "001", "exp": 2**40})
    assert isinstance(ask(checker, far), Grant)
    assert reason(ask(checker, good_token())) == "expired_token"
