from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey
from pydantic import ValidationError
from twisted.internet.defer import Deferred

from gatekeeper.auth.api_key import ApiKeyChecker
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.http_client import HttpClient
from gatekeeper.auth.interfaces import ABSTAIN, Abstain, Deny, Grant, IChecker, Unavailable
from gatekeeper.auth.jwks import FileKeys, UrlKeys
from gatekeeper.auth.jwt import JwtChecker, JwtSettings
from gatekeeper.auth.keyfile import KeyFile
from gatekeeper.errors import ConfigurationError
from tests.auth.http_peers import (
    FakeHttp,
    RealServer,
    Script,
    fixture_in_reactor,
    in_reactor,
    response,
)
from tests.auth.signing import (
    CLAIMS,
    EC,
    EC_384,
    EC_521,
    ED,
    ISSUER,
    OTHER_RSA,
    RSA,
    Key,
    key_set,
    public,
    sign,
)
from tests.auth.support import (
    KEYS,
    NOW,
    Logged,
    base64url,
    basic,
    credentials,
    good_token,
    outcome,
    token,
)

EVERY = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_OF: dict[str, Key] = {"ES256": EC, "ES384": EC_384, "ES512": EC_521, "EdDSA": ED, "Ed25519": ED}


def settings(**changed: Any) -> JwtSettings:
    given = {"jwks": "/none", "issuer": ISSUER, "audience": "acme", **changed}
    return JwtSettings.model_validate(given)


def checker(directory: Path, *members: object, **changed: Any) -> JwtChecker:
    file = directory / "jwks.json"
    everything = [public(key, "1") for key in (RSA, EC, EC_384, EC_521, ED)]
    file.write_bytes(key_set(*(members or everything)))
    return JwtChecker("provider", settings(**changed), FileKeys(file), lambda: NOW)


@pytest.fixture
def jwt(tmp_path: Path) -> JwtChecker:
    return checker(tmp_path, algorithms=EVERY)


def ask(asked: JwtChecker, presented: bytes) -> Any:
    (verdict,) = outcome(asked.check(credentials(presented)))
    return verdict


class TestSignatures:
    @pytest.mark.parametrize("algorithm", [*EVERY, "Ed25519"])
    def test_every_algorithm(self, tmp_path: Path, algorithm: str) -> None:
        jwt = checker(tmp_path, algorithms=[algorithm])
        key = KEY_OF.get(algorithm, RSA)
        assert ask(jwt, sign(key, algorithm)) == Grant(user="alice", expires=NOW + 60)

    @pytest.mark.parametrize("algorithm", EVERY)
    def test_only_those_that_are_listed(self, tmp_path: Path, algorithm: str) -> None:
        jwt = checker(tmp_path)
        verdict = ask(jwt, sign(KEY_OF.get(algorithm, RSA), algorithm))
        known = algorithm in ("RS256", "PS256", "ES256", "EdDSA")
        assert isinstance(verdict, Grant if known else Abstain)

    def test_another_key(self, jwt: JwtChecker) -> None:
        assert ask(jwt, sign(OTHER_RSA, "RS256")).reason == "bad_signature"

    def test_an_unknown_key(self, jwt: JwtChecker) -> None:
        assert ask(jwt, sign(RSA, "RS256", kid="2")).reason == "unknown_key"

    def test_without_a_kid(self, jwt: JwtChecker) -> None:
        assert isinstance(ask(jwt, sign(RSA, "RS256", kid=None)), Grant)

    def test_several_keys_with_one_kid(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, public(OTHER_RSA, "1"), public(RSA, "1"))
        assert isinstance(ask(jwt, sign(RSA, "RS256")), Grant)

    def test_a_changed_byte_anywhere(self, jwt: JwtChecker) -> None:
        good = sign(EC, "ES256")
        for position in range(len(b"Bearer "), len(good)):
            changed = bytearray(good)
            changed[position] = ord("A") if changed[position] != ord("A") else ord("B")
            assert not isinstance(ask(jwt, bytes(changed)), Grant), position

    def test_it_says_bearer(self, jwt: JwtChecker) -> None:
        assert isinstance(ask(jwt, sign(RSA, "RS256").replace(b"Bearer", b"bEARER ")), Grant)

    def test_a_key_for_another_algorithm(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, public(RSA, "1", alg="PS256"))
        assert isinstance(ask(jwt, sign(RSA, "PS256")), Grant)
        assert ask(jwt, sign(RSA, "RS256")).reason == "unknown_key"

    def test_a_key_for_encryption(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, public(RSA, "1", use="enc"), public(EC, "2"))
        assert ask(jwt, sign(RSA, "RS256")).reason == "unknown_key"


class TestConfusion:
    """Items 26 and 27."""

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "rs256", None, 7])
    def test_other_algorithms(self, jwt: JwtChecker, algorithm: object) -> None:
        presented = sign(RSA, "RS256", header={"alg": algorithm, "kid": "1"})
        assert ask(jwt, presented) is ABSTAIN

    def test_none_without_a_signature(self, jwt: JwtChecker) -> None:
        header, payload = (
            base64url(json.dumps(part).encode()) for part in ({"alg": "none", "kid": "1"}, CLAIMS)
        )
        assert ask(jwt, b"Bearer " + header + b"." + payload + b".") is ABSTAIN

    def test_the_public_key_as_a_shared_secret(self, jwt: JwtChecker) -> None:
        secrets = [RSA.as_pem(private=False), RSA.as_der(private=False), b""]
        secrets += [json.dumps(public(RSA, "1")).encode(), public(RSA)["n"].encode()]
        for secret in secrets:
            for algorithm in ("HS256", "RS256"):
                header = base64url(json.dumps({"alg": algorithm, "kid": "1"}).encode())
                signed = header + b"." + base64url(json.dumps(CLAIMS).encode())
                signature = base64url(hmac.digest(secret, signed, "sha256"))
                verdict = ask(jwt, b"Bearer " + signed + b"." + signature)
                assert verdict is ABSTAIN or verdict.reason == "bad_signature"

    def test_a_key_of_another_sort(self, jwt: JwtChecker) -> None:
        presented = sign(ED, "EdDSA", header={"alg": "ES256", "kid": "1"})
        assert ask(jwt, presented).reason == "bad_signature"

    def test_a_jwe(self, jwt: JwtChecker) -> None:
        key = OctKey.generate_key(256)
        encrypted = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, b"{}", key)
        assert ask(jwt, b"Bearer " + encrypted.encode()) is ABSTAIN

    @pytest.mark.parametrize(
        "more",
        [
            {"jku": "http://127.0.0.1:1/jwks"},
            {"x5u": "http://127.0.0.1:1/certificate"},
            {"jwk": public(OTHER_RSA, "1")},
            {"x5c": ["MIIB"]},
            {"crit": ["exp"], "exp": 1},
            {"crit": []},
            {"b64": False, "crit": ["b64"]},
            {"zip": "DEF"},
            {"enc": "A256GCM"},
        ],
    )
    @pytest.mark.parametrize("key", [RSA, OTHER_RSA])
    def test_headers_that_say_where_the_key_is(
        self, jwt: JwtChecker, key: Key, more: dict[str, Any]
    ) -> None:
        assert ask(jwt, sign(key, "RS256", **more)).reason == "malformed_token"

    def test_a_thumbprint_is_no_harm(self, jwt: JwtChecker) -> None:
        assert isinstance(ask(jwt, sign(RSA, "RS256", x5t="abc", nonce="x")), Grant)

    @pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1", "http://127.0.0.1:1/", "\0"])
    def test_a_key_id_is_only_compared(self, jwt: JwtChecker, kid: str) -> None:
        assert ask(jwt, sign(RSA, "RS256", kid=kid)).reason == "unknown_key"

    @pytest.mark.parametrize("kid", [1, ["1"], {}, True])
    def test_a_key_id_that_is_none(self, jwt: JwtChecker, kid: object) -> None:
        verdict = ask(jwt, sign(RSA, "RS256", header={"alg": "RS256", "kid": kid}))
        assert verdict.reason == "malformed_token"

    @pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+JWT"])
    def test_types(self, jwt: JwtChecker, typ: str) -> None:
        assert isinstance(ask(jwt, sign(RSA, "RS256", typ=typ)), Grant)

    @pytest.mark.parametrize(
        "typ", ["dpop+jwt", "logout+jwt", "secevent+jwt", "", 7, None, ["JWT"]]
    )
    def test_tokens_for_something_else(self, jwt: JwtChecker, typ: object) -> None:
        assert ask(jwt, sign(RSA, "RS256", typ=typ)).reason == "not_an_access_token"

    def test_without_a_type(self, jwt: JwtChecker) -> None:
        assert isinstance(ask(jwt, sign(RSA, "RS256", header={"alg": "RS256", "kid": "1"})), Grant)


class TestClaims:
    """Item 28, and whose token it is."""

    def claims(self, jwt: JwtChecker, **changed: Any) -> Any:
        claims = {**CLAIMS, **changed}
        return ask(jwt, sign(RSA, "RS256", {k: v for k, v in claims.items() if v is not ...}))

    @pytest.mark.parametrize(
        "exp", [..., "1700000060", NOW + 60.5, True, None, -1, 2**53 + 1, [1], {"a": 1}]
    )
    def test_an_end_that_is_none(self, jwt: JwtChecker, exp: object) -> None:
        assert self.claims(jwt, exp=exp).reason == "malformed_token"

    @pytest.mark.parametrize("exp", ["NaN", "Infinity", "1e400", "1e3", "1" * 5000, "01"])
    def test_an_end_that_is_no_json_integer(self, jwt: JwtChecker, exp: str) -> None:
        claims = b'{"iss": "%b", "aud": "acme", "sub": "alice", "exp": %b}'
        presented = sign(RSA, "RS256", claims % (ISSUER.encode(), exp.encode()))
        assert ask(jwt, presented).reason == "malformed_token"

    @pytest.mark.parametrize(("seconds", "good"), [(1, True), (0, False), (-1, False)])
    def test_the_end(self, jwt: JwtChecker, seconds: int, good: bool) -> None:
        verdict = self.claims(jwt, exp=int(NOW) + seconds)
        assert isinstance(verdict, Grant) is good
        assert good or verdict.reason == "expired_token"

    @pytest.mark.parametrize("name", ["nbf", "iat"])
    @pytest.mark.parametrize(("seconds", "good"), [(1, False), (0, True), (-1, True)])
    def test_the_beginning(self, jwt: JwtChecker, name: str, seconds: int, good: bool) -> None:
        verdict = self.claims(jwt, **{name: int(NOW) + seconds})
        assert isinstance(verdict, Grant) is good
        assert good or verdict.reason == "early_token"

    @pytest.mark.parametrize("name", ["nbf", "iat"])
    @pytest.mark.parametrize("value", ["1", 1.5, True, None, -1])
    def test_a_beginning_that_is_none(self, jwt: JwtChecker, name: str, value: object) -> None:
        assert self.claims(jwt, **{name: value}).reason == "malformed_token"

    def test_leeway(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, leeway=30)
        assert self.claims(jwt, exp=int(NOW) - 29).expires == NOW + 1
        assert self.claims(jwt, exp=int(NOW) - 30).reason == "expired_token"
        assert isinstance(self.claims(jwt, nbf=int(NOW) + 30), Grant)
        assert self.claims(jwt, nbf=int(NOW) + 31).reason == "early_token"

    @pytest.mark.parametrize("iss", [..., "", ISSUER + "x", ISSUER[:-1], None, 7, [ISSUER]])
    def test_another_issuer(self, jwt: JwtChecker, iss: object) -> None:
        assert self.claims(jwt, iss=iss).reason == "wrong_issuer"

    @pytest.mark.parametrize("aud", [..., "", "acme2", "ACME", None, 7, [], ["x"], [["acme"]], {}])
    def test_another_audience(self, jwt: JwtChecker, aud: object) -> None:
        assert self.claims(jwt, aud=aud).reason == "wrong_audience"

    @pytest.mark.parametrize("aud", ["acme", ["x", "acme"]])
    def test_our_audience(self, jwt: JwtChecker, aud: object) -> None:
        assert isinstance(self.claims(jwt, aud=aud), Grant)

    def test_several_audiences(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, audience=["a", "b"])
        assert isinstance(self.claims(jwt, aud="b"), Grant)
        assert self.claims(jwt).reason == "wrong_audience"

    def test_no_audience_on_purpose(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, audience=[])
        assert isinstance(self.claims(jwt, aud=...), Grant)

    @pytest.mark.parametrize("sub", ["", " ", "a\r\nX-Admin: 1", "a\u2028b", "\ud800", 7, None, []])
    def test_a_user_that_is_none(self, jwt: JwtChecker, sub: object) -> None:
        assert self.claims(jwt, sub=sub).reason == "malformed_token"

    def test_nobody(self, jwt: JwtChecker) -> None:
        assert self.claims(jwt, sub=...).reason == "unidentified_token"

    def test_groups(self, jwt: JwtChecker) -> None:
        grant = self.claims(jwt, scope="read  write:x", client_id="app")
        assert (grant.groups, grant.key_id) == ({"read", "write:x"}, "app")
        assert self.claims(jwt, azp="app").key_id == "app"
        assert self.claims(jwt, scope=["a b", ""]).groups == {"a b"}

    @pytest.mark.parametrize("scope", [7, {"a": 1}, [1], ["a", None], True])
    def test_groups_that_are_none(self, jwt: JwtChecker, scope: object) -> None:
        assert self.claims(jwt, scope=scope).reason == "malformed_token"

    def test_other_claims(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, user_claim="email", groups_claim="realm_access.roles")
        grant = self.claims(jwt, email="a@example.com", realm_access={"roles": ["x"]})
        assert (grant.user, grant.groups) == ("a@example.com", {"x"})
        assert self.claims(jwt, email="a", realm_access=7).groups == frozenset()

    def test_a_claim_with_dots_in_its_name(self, tmp_path: Path) -> None:
        jwt = checker(tmp_path, groups_claim="https://acme.example/roles")
        assert self.claims(jwt, **{"https://acme.example/roles": ["x"]}).groups == {"x"}

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"x",
            b"[]",
            b"null",
            b'"a"',
            b'{"sub": "alice", "sub": "root", "exp": 1700000060}',
            b"{" + b'"a": {' * 20_000 + b"}" * 20_001,
            b'{"sub": "\xff"}',
        ],
    )
    def test_a_payload_that_is_none(self, jwt: JwtChecker, payload: bytes) -> None:
        presented = sign(RSA, "RS256", payload)
        assert isinstance(ask(jwt, presented), Deny | Abstain)

    def test_deep_nesting_in_a_small_token(self, jwt: JwtChecker) -> None:
        assert ask(jwt, sign(RSA, "RS256", b"[" * 10_000)).reason == "malformed_token"

    def test_duplicate_keys(self, jwt: JwtChecker) -> None:
        payload = b'{"exp": 1, "exp": 1700000060}'
        assert ask(jwt, sign(RSA, "RS256", payload)).reason == "malformed_token"
        header = b'{"alg": "none", "alg": "RS256", "kid": "1"}'
        assert ask(jwt, sign(RSA, "RS256", header=header)) is ABSTAIN


class TestShapes:
    @pytest.mark.parametrize(
        "presented",
        [
            b"",
            basic("alice", "wonderland"),
            b"Bearer",
            b"Bearer abc",
            b"Bearer a.b",
            b"Bearer a.b.c.d",
            b"Bearer a.b.c.d.e",
            b"Bearer ..",
            b"Bearer \xff.\xff.\xff",
            b"Bearer e30.e30.e30",
            b"Bearer " + b"a" * 1_000_000,
            b"Bearer " + b"a" * 500_000 + b"." + b"a" * 500_000 + b".a",
            good_token(),
        ],
    )
    def test_not_its_kind(self, jwt: JwtChecker, presented: bytes) -> None:
        assert ask(jwt, presented) is ABSTAIN

    @pytest.mark.parametrize("change", [b"=", b"+", b"\n", b" x", b"%"])
    def test_base64_in_another_spelling(self, jwt: JwtChecker, change: bytes) -> None:
        assert not isinstance(ask(jwt, sign(RSA, "RS256") + change + b"A"), Grant)

    def test_the_largest(self, jwt: JwtChecker) -> None:
        fits = sign(RSA, "RS256", {**CLAIMS, "x": "x" * 11_000})
        assert isinstance(ask(jwt, fits), Grant)
        too_large = sign(RSA, "RS256", {**CLAIMS, "x": "x" * 16_000})
        assert ask(jwt, too_large) is ABSTAIN

    @pytest.mark.parametrize("jwt_first", [True, False])
    def test_beside_api_keys(self, jwt: JwtChecker, tmp_path: Path, jwt_first: bool) -> None:
        (tmp_path / "keys").write_text(KEYS)
        keys = ApiKeyChecker("keys", KeyFile(tmp_path / "keys"), lambda: NOW)
        checkers: list[IChecker] = [jwt, keys] if jwt_first else [keys, jwt]
        chain = Chain("acme", checkers, VerdictCache(9, 300, 5, lambda: NOW))
        users = []
        for presented in (sign(RSA, "RS256"), good_token()):
            (decision,) = outcome(chain.check(credentials(presented)))
            users.append(decision.user)
        assert users == ["alice", "001"]
        (decision,) = outcome(chain.check(credentials(token({}, header={"alg": "none"}))))
        assert (decision.status, decision.error) == (401, "invalid_token")


class TestKeys:
    """The keys of a URL."""

    class House:
        def __init__(self) -> None:
            self.http = FakeHttp()
            self.seconds = 0.0
            keys = UrlKeys("http://h/jwks", self.http, 300, 86400, lambda: self.seconds)
            self.jwt = JwtChecker("provider", settings(), keys, lambda: NOW)

        def ask(self, kid: str = "1") -> list[Any]:
            return outcome(self.jwt.check(credentials(sign(RSA, "RS256", kid=kid))))

        def answer(self, *kids: str) -> None:
            self.http.answer(200, {"keys": [public(RSA, kid) for kid in kids]})

    def test_rotation(self) -> None:
        house = self.House()
        waiting = house.ask()
        house.answer("1")
        assert isinstance(waiting[0], Grant)
        assert house.ask("2")[0].reason == "unknown_key"
        house.seconds = 30
        waiting = house.ask("2")
        assert waiting == []
        house.answer("1", "2")
        assert isinstance(waiting[0], Grant)
        assert house.jwt.reload() is True
        assert house.jwt.reload() is False

    def test_away_before_there_were_any(self) -> None:
        house = self.House()
        waiting = house.ask()
        house.http.fail()
        assert isinstance(waiting[0], Unavailable)
        assert isinstance(house.ask()[0], Unavailable)

    def test_away_when_a_new_key_is_used(self) -> None:
        house = self.House()
        house.ask()
        house.answer("1")
        house.seconds = 30
        waiting = house.ask("2")
        house.http.fail()
        assert isinstance(waiting[0], Unavailable)
        assert isinstance(house.ask()[0], Grant)

    def test_nobody_waits_for_other_tokens(self) -> None:
        house = self.House()
        outcome(house.jwt.check(credentials(good_token())))
        outcome(house.jwt.check(credentials(sign(RSA, "RS256", b"x"))))
        assert house.http.asked == []

    def test_close(self) -> None:
        house = self.House()
        house.jwt.close()
        assert house.http.closed

    @fixture_in_reactor
    async def server(self) -> AsyncIterator[RealServer]:
        server = RealServer(Script(always=response(key_set(public(RSA, "1")))))
        yield server
        await server.stop()

    @in_reactor
    async def test_a_real_server(self, server: RealServer) -> None:
        http = HttpClient("test", timeout=30.0, max_body=65536)
        keys = UrlKeys(server.url, http, 300, 86400)
        jwt = JwtChecker("provider", settings(), keys, lambda: NOW)
        verdict = jwt.check(credentials(sign(RSA, "RS256")))
        assert isinstance(verdict, Deferred)
        assert isinstance(await verdict, Grant)
        assert isinstance(jwt.check(credentials(sign(RSA, "RS256"))), Grant)
        assert len(server.script.requests) == 1
        jwt.close()


class TestSettings:
    def test_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "jwks.json"
        file.write_bytes(key_set(public(RSA, "1")))
        jwt = JwtChecker.configured("provider", settings(jwks=str(file)))
        assert jwt.reload() is False
        jwt.close()

    def test_a_url(self) -> None:
        JwtChecker.configured("provider", settings(jwks="https://login.example.com/jwks")).close()

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(ConfigurationError, match="jwks: /none cannot be read"):
            JwtChecker.configured("provider", settings())

    @pytest.mark.parametrize(
        "wrong",
        [
            {"jwks": "ftp://login.example.com/jwks"},
            {"jwks": "https://user:s3cret@login.example.com/jwks"},
            {"jwks": 7},
            {"issuer": ""},
            {"audience": None},
            {"audience": [7]},
            {"algorithms": []},
            {"algorithms": ["HS256"]},
            {"algorithms": ["none"]},
            {"algorithms": ["RS256", "HS512"]},
            {"leeway": -1},
            {"leeway": 61},
            {"leeway": True},
            {"refresh": 0},
            {"unknown": 1},
        ],
    )
    def test_wrong(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValidationError) as caught:
            settings(**wrong)
        assert "s3cret" not in str(caught.value)


def test_nothing_is_shown(jwt: JwtChecker, logged: Logged) -> None:
    presented = sign(RSA, "RS256", {**CLAIMS, "sub": 7})
    verdict = ask(jwt, presented)
    assert presented[20:40].decode() not in f"{jwt!r} {verdict!r} {logged.text}"
