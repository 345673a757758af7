from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.jwk import OctKey
from pydantic import ValidationError
from twisted.logger import LogLevel

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.access_token_settings import AccessTokenSettings
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Credentials,
    Deny,
    Grant,
    Opened,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.jwe import TokenCipher, TokenError
from gatekeeper.auth.metadata import MetadataClient
from gatekeeper.auth.token_claims import Lifetime
from gatekeeper.auth.url_patterns import Backend, OriginUrl
from gatekeeper.errors import ConfigurationError
from tests.auth.http_peers import FakeHttp
from tests.auth.support import NOW, Logged, credentials, good_token, outcome
from tests.auth.test_metadata import document, encode
from tests.npm import installed, run_node

PHRASE = "12345678901234567890123456789012"
KEY = bytes(map(int, PHRASE))
USER, OWNER, DID = "0x" + "Aa" * 20, "0x" + "bB" * 20, "did:nv:" + "c5" * 32
CLAIMS: dict[str, Any] = {
    "did": DID,
    "userId": USER,
    "owner": OWNER,
    "ercType": 721,
    "endpoints": ["https://api.example.com/v1/(.*)", "http://inner:8080/:x"],
    "headers": {"authentication": {"type": "bearer", "token": "upstream-token"}},
    "iat": int(NOW),
    "exp": int(NOW) + 60,
}
ENCODED = encode(int("c5" * 32, 16))
DID_HOST = f"{ENCODED}.gate.example"


def mint(key: bytes = KEY, **changed: Any) -> bytes:
    """A bearer token; ``...`` takes a claim away."""
    claims = {name: value for name, value in (CLAIMS | changed).items() if value is not ...}
    header = {"alg": "dir", "enc": "A128CBC-HS256"}
    return b"Bearer " + jwe.encrypt_compact(
        header, json.dumps(claims), OctKey.import_key(key), algorithms=list(header.values())
    ).encode("ascii")


def ask_at(presented: bytes, url: str = "", host: str = "api.example.com") -> Credentials:
    return replace(credentials(presented), host=host, url=(url or "/v1/x").encode())


class Checking:
    """A checker with a marketplace, or without."""

    def __init__(self, *, marketplace: bool = False, **options: Any) -> None:
        self.now = NOW
        self.http = FakeHttp()
        metadata = MetadataClient("https://m.example", self.http) if marketplace else None
        self.checker = AccessTokenChecker(
            "nvm", TokenCipher(KEY), metadata=metadata, seconds=lambda: self.now, **options
        )

    def start(self, presented: bytes, url: str = "", host: str = "api.example.com") -> list[Any]:
        return outcome(self.checker.check(ask_at(presented, url, host)))

    def ask(self, presented: bytes, url: str = "", host: str = "api.example.com") -> Verdict:
        (verdict,) = self.start(presented, url, host)
        assert not self.http.asked
        return verdict  # type: ignore[no-any-return]

    def reason(self, presented: bytes) -> str:
        verdict = self.ask(presented)
        assert isinstance(verdict, Deny)
        assert (verdict.status, verdict.error) == (401, "invalid_token")
        return verdict.reason


@pytest.fixture
def checking() -> Checking:
    return Checking()


# --- tokens ------------------------------------------------------------------------------------


def test_a_good_token(checking: Checking) -> None:
    grant = checking.ask(mint())
    assert isinstance(grant, Grant)
    assert grant.user == USER
    assert grant.headers == (
        (b"nvm-user-id", USER.encode()),
        (b"nvm-scope", DID.encode()),
        (b"nvm-owner", OWNER.encode()),
    )
    assert grant.expires == NOW + 60
    assert grant.consumed
    assert grant.opens is not None
    assert grant.opens.find("api.example.com", None, b"/v1/x/y") == Opened(
        "https", "api.example.com", 443, b"Bearer upstream-token"
    )
    assert grant.opens.find("inner", 8080, b"/a") == Opened(
        "http", "inner", 8080, b"Bearer upstream-token"
    )
    assert grant.opens.find("api.example.com", None, b"/v2/x") is None
    assert grant.opens.find("evil.example", None, b"/v1/x") is None


@pytest.mark.parametrize(
    ("authentication", "expected"),
    [
        ({"type": "none"}, None),
        ({"type": "bearer", "token": "t"}, b"Bearer t"),
        ({"type": "oauth", "token": "t"}, b"Bearer t"),
        ({"type": "basic", "username": "u", "password": "p"}, b"Basic dTpw"),
        ({"type": "basic", "user": "u", "password": "p"}, b"Basic dTpw"),
    ],
)
def test_the_upstreams_credential(
    checking: Checking, authentication: Mapping[str, str], expected: bytes | None
) -> None:
    grant = checking.ask(mint(headers={"authentication": authentication}))
    assert isinstance(grant, Grant)
    assert grant.opens is not None
    opened = grant.opens.find("api.example.com", None, b"/v1/x")
    assert opened is not None
    assert opened.authorization == expected


def test_the_backend_has_its_own() -> None:
    backend = Backend(OriginUrl("https", "api.example.com", 443), b"Bearer backend-token")
    grant = Checking(backend=backend).ask(mint())
    assert isinstance(grant, Grant)
    assert grant.opens is not None
    at_backend = grant.opens.find("api.example.com", None, b"/v1/x")
    elsewhere = grant.opens.find("inner", 8080, b"/x")
    assert at_backend is not None
    assert elsewhere is not None
    assert at_backend.authorization == b"Bearer backend-token"
    assert elsewhere.authorization == b"Bearer upstream-token"


def test_patterns_that_cannot_be_used_open_nothing(checking: Checking) -> None:
    grant = checking.ask(mint(endpoints=["nonsense", "https://h/(", "https://h/a"]))
    assert isinstance(grant, Grant)
    assert grant.opens is not None
    assert grant.opens.find("h", None, b"/a") is not None
    assert grant.opens.find("nonsense", None, b"/a") is None
    none = checking.ask(mint(endpoints=[]))
    assert isinstance(none, Grant)
    assert none.opens is not None
    assert none.opens.find("h", None, b"/a") is None


@pytest.mark.parametrize(
    "presented",
    [
        b"",
        b"Basic dTpw",
        b"Digest a.b.c.d.e",
        b"Bearer",
        b"Bearer ",
        b"Bearer opaque",
        b"Bearer a.b.c",
        b"Bearer a.b.c.d",
        b"Bearer a.b.c.d.e.f",
        good_token(),
        b"Bearer " + b"a." * 8000 + b"a",
        b"Bearer " + b"A" * 1_000_000,
        b"Bearer " + b"." * 4 + b"A" * 1_000_000,
    ],
)
def test_what_is_not_its_kind(checking: Checking, presented: bytes) -> None:
    assert checking.ask(presented) is ABSTAIN


def test_the_schemes_case_and_blanks_do_not_matter(checking: Checking) -> None:
    token = mint()[7:]
    for scheme in (b"bearer ", b"BEARER ", b"Bearer   "):
        assert isinstance(checking.ask(scheme + token), Grant)


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        (b"Bearer a.b.c.d.e", "malformed_token"),
        (b"Bearer ....", "malformed_token"),
        (mint(b"k" * 32), "forged_token"),
        (mint(exp=int(NOW)), "expired_token"),
        (mint(exp=int(NOW) - 3600), "expired_token"),
        (mint(exp=...), "malformed_token"),
        (mint(exp="9999999999"), "malformed_token"),
        (mint(exp=9999999999.0), "malformed_token"),
        (mint(exp=float("nan")), "malformed_token"),
        (mint(exp=float("inf")), "malformed_token"),
        (mint(exp=True), "malformed_token"),
        (mint(exp=None), "malformed_token"),
        (mint(nbf=int(NOW) + 1), "early_token"),
        (mint(userId=...), "malformed_token"),
        (mint(userId="a\r\nb"), "malformed_token"),
        (mint(endpoints="x"), "malformed_token"),
        (mint(headers={"authentication": {"type": "digest"}}), "malformed_token"),
    ],
)
def test_what_is_refused(checking: Checking, presented: bytes, reason: str) -> None:
    assert checking.reason(presented) == reason


def test_a_signed_token_with_the_same_key_is_none(checking: Checking) -> None:
    signed = jws.serialize_compact({"alg": "HS256"}, json.dumps(CLAIMS), OctKey.import_key(KEY))
    assert checking.ask(b"Bearer " + signed.encode()) is ABSTAIN


def test_no_detail_says_more_than_it_should(checking: Checking) -> None:
    """What is wrong with a token is for the log, except that it is too old or too new."""
    details = {
        verdict.detail
        for token in (mint(b"k" * 32), mint(userId=...), mint(exp=0), mint(nbf=int(NOW) + 9))
        if isinstance(verdict := checking.ask(token), Deny)
    }
    assert details == {
        "The access token is not valid.",
        "The access token has expired.",
        "The access token is not valid yet.",
    }


def test_tokens_that_need_not_end() -> None:
    grant = Checking(lifetime=Lifetime(required=False)).ask(mint(exp=...))
    assert isinstance(grant, Grant)
    assert grant.expires is None


def test_the_longest_lifetime() -> None:
    checking = Checking(lifetime=Lifetime(longest=60))
    assert isinstance(checking.ask(mint()), Grant)
    assert checking.reason(mint(exp=int(NOW) + 61)) == "long_token"


def test_a_cached_token_ends_in_time(checking: Checking) -> None:
    cache = VerdictCache(9, 300, 5, wall=lambda: checking.now)
    chain = Chain("acme", [checking.checker], cache)
    token = mint()
    assert isinstance(chain.check(ask_at(token)), Grant)
    assert chain.lookup(token) is not None
    checking.now = NOW + 59.9
    assert chain.lookup(token) is not None
    checking.now = NOW + 60
    assert chain.lookup(token) is None
    denied = chain.check(ask_at(token))
    assert isinstance(denied, Deny)
    assert denied.reason == "expired_token"


def test_minting(checking: Checking) -> None:
    token = checking.checker.mint(CLAIMS)
    assert isinstance(checking.ask(b"Bearer " + token.encode()), Grant)
    for wrong in ({"exp": int(NOW)}, {"userId": ""}, {"pad": "x" * 20_000}):
        with pytest.raises(TokenError):
            checking.checker.mint(CLAIMS | wrong)


def test_tokens_by_the_npm_package() -> None:
    """Made as a Nevermined node makes them."""
    made = run_node(
        installed("jose@4.15.9"),
        """
        const { EncryptJWT } = require('jose');
        const key = Uint8Array.from(given.phrase.split('').map(x => parseInt(x)));
        const make = async (claims, enc, expires) => {
            let token = new EncryptJWT(claims)
                .setProtectedHeader({ alg: 'dir', enc })
                .setIssuedAt();
            if (expires) token = token.setExpirationTime(expires);
            return token.encrypt(enc === 'A128CBC-HS256' ? key : new Uint8Array(32));
        };
        answer({
            good: await make(given.claims, 'A128CBC-HS256', '1h'),
            two_years: await make(given.claims, 'A128CBC-HS256', '2 years'),
            expired: await make(given.claims, 'A128CBC-HS256', given.past),
            endless: await make(given.claims, 'A128CBC-HS256'),
            other: await make(given.claims, 'A256GCM', '1h'),
        });
        """,
        {
            "phrase": "nevermin" + PHRASE[8:],
            "claims": {name: CLAIMS[name] for name in CLAIMS.keys() - {"iat", "exp"}},
            "past": 1_000_000_000,
        },
    )
    settings = AccessTokenSettings.model_validate({"secret": "nevermin" + PHRASE[8:]})
    checker = AccessTokenChecker.configured("nvm", settings)

    def verdict(name: str) -> Verdict:
        (found,) = outcome(checker.check(ask_at(b"Bearer " + made[name].encode())))
        return found  # type: ignore[no-any-return]

    grant = verdict("good")
    assert isinstance(grant, Grant)
    assert grant.user == USER
    assert isinstance(verdict("two_years"), Grant)
    for name, reason in (
        ("expired", "expired_token"),
        ("endless", "malformed_token"),
        ("other", "unsupported_token"),
    ):
        denied = verdict(name)
        assert isinstance(denied, Deny)
        assert denied.reason == reason


def test_tokens_for_the_npm_package(checking: Checking) -> None:
    """Ours, as the original's introspection server reads them."""
    found = run_node(
        installed("jose@4.15.9"),
        """
        const { jwtDecrypt } = require('jose');
        const key = Uint8Array.from(given.phrase.split('').map(x => parseInt(x)));
        const options = { currentDate: new Date(given.now * 1000) };
        answer(await jwtDecrypt(given.token, key, options));
        """,
        {"phrase": PHRASE, "token": checking.checker.mint(CLAIMS), "now": NOW},
    )
    assert found["payload"] == CLAIMS
    assert found["protectedHeader"] == {"alg": "dir", "enc": "A128CBC-HS256"}


# --- what is open to everybody -----------------------------------------------------------------


@pytest.fixture
def market() -> Checking:
    return Checking(marketplace=True)


def is_anonymous(verdict: object) -> bool:
    return isinstance(verdict, Grant) and not verdict.user


@pytest.mark.parametrize(
    "presented",
    [
        b"",
        mint(exp=int(NOW)),
        mint(b"k" * 32),
        b"Bearer opaque",
        # A token for other URLs is of no use here.
        mint(),
    ],
)
def test_an_open_url(market: Checking, presented: bytes) -> None:
    found = market.start(presented, "/open/x?y=z", DID_HOST)
    (asked,) = market.http.asked
    assert asked.url == f"https://m.example/api/v1/metadata/assets/ddo/{DID}"
    assert asked.client == "192.0.2.1"
    market.http.answer(200, document())
    (grant,) = found
    assert isinstance(grant, Grant)
    assert grant.user == grant.key_id == ""
    assert grant.headers == ((b"nvm-scope", DID.encode()), (b"nvm-owner", b"0x" + b"22" * 20))
    assert grant.consumed, "whatever was presented is not the upstream's"
    assert grant.opens is not None
    assert grant.opens.find(DID_HOST, None, b"/open/x") == Opened("https", "up.example", 443, None)
    assert grant.opens.find(DID_HOST, None, b"/closed") is None


def test_a_url_that_is_not_open(market: Checking) -> None:
    found = market.start(b"", "/closed", DID_HOST)
    market.http.answer(200, document())
    assert found == [ABSTAIN]
    assert market.start(b"", "/openly", DID_HOST) == [ABSTAIN]
    assert market.start(b"Bearer opaque", "/closed", DID_HOST) == [ABSTAIN]
    (denied,) = market.start(mint(exp=int(NOW)), "/closed", DID_HOST)
    assert isinstance(denied, Deny)
    assert denied.reason == "expired_token"
    (grant,) = market.start(mint(), "/closed", DID_HOST)
    assert isinstance(grant, Grant)
    assert grant.user == USER, "what it opens is another's to say"
    assert len(market.http.asked) == 1


def test_a_service_that_is_not_known(market: Checking) -> None:
    found = market.start(b"", "/open/x", DID_HOST)
    market.http.answer(404)
    assert found == [ABSTAIN]


@pytest.mark.parametrize("status", [0, 500, 302])
def test_an_outage_is_no_401(market: Checking, status: int) -> None:
    found = [market.start(presented, "/open/x", DID_HOST) for presented in (b"", mint(exp=0))]
    assert len(market.http.asked) == 1
    if status:
        market.http.answer(status)
    else:
        market.http.fail()
    for (verdict,) in found:
        assert isinstance(verdict, Unavailable)
        assert verdict.reason == "metadata_unavailable"
    # It is asked again when the next request comes.
    again = market.start(b"", "/open/x", DID_HOST)
    market.http.answer(200, document())
    assert is_anonymous(again[0])


def test_who_is_not_asked_about(market: Checking) -> None:
    """Neither hosts without a DID, nor where the token does, nor credentials of another kind."""
    assert market.ask(b"", "/open/x", "www.example.com") is ABSTAIN
    assert market.ask(b"", "/open/x", "") is ABSTAIN
    assert market.ask(b"", "/open/x", f"www.{ENCODED}.example") is ABSTAIN
    assert market.ask(b"Basic dTpw", "/open/x", DID_HOST) is ABSTAIN
    token = mint(endpoints=[f"https://{DID_HOST}/(.*)"])
    grant = market.ask(token, "/open/x", DID_HOST)
    assert isinstance(grant, Grant)
    assert grant.user == USER


def test_nothing_is_open_without_a_marketplace(checking: Checking) -> None:
    assert checking.ask(b"", "/open/x", DID_HOST) is ABSTAIN


def test_what_the_verdict_depends_on(checking: Checking, market: Checking) -> None:
    assert checking.checker.varies == frozenset()
    assert market.checker.varies is None


def test_what_the_token_says_is_remembered(market: Checking) -> None:
    token = mint()
    first = market.ask(token)
    assert isinstance(first, Grant)
    assert market.ask(token) is first
    denied = market.ask(mint(b"k" * 32))
    assert isinstance(denied, Deny)
    market.now = NOW + 60
    late = market.ask(token)
    assert isinstance(late, Deny)
    assert late.reason == "expired_token"


def test_closing(market: Checking, checking: Checking) -> None:
    market.checker.close()
    assert market.http.closed
    checking.checker.close()


# --- configuration -----------------------------------------------------------------------------


def configured(**table: Any) -> AccessTokenChecker:
    return AccessTokenChecker.configured("nvm", AccessTokenSettings.model_validate(table))


def test_the_warning_about_a_weak_key(logged: Logged) -> None:
    configured(secret=PHRASE)
    (event,) = logged
    assert event["log_level"] is LogLevel.warn
    assert "checkers.nvm" in logged.text
    assert "53 bits" in logged.text
    assert PHRASE not in logged.text
    configured(secret="00" * 32, secret_encoding="hex")
    assert len(logged) == 1


def test_there_is_no_default_secret() -> None:
    with pytest.raises(ValidationError, match="secret"):
        AccessTokenSettings.model_validate({})


@pytest.mark.parametrize(
    ("table", "paths"),
    [
        ({"secret": "s3cretsecret"}, ["secret"]),
        ({"secret": "s3cret", "secret_encoding": "base64"}, ["secret"]),
        ({"backend_url": "https://h"}, ["backend_token"]),
        ({"backend_token": "s3cret"}, ["backend_url"]),
        ({"backend_url": "https://h/path", "backend_token": "s3cret"}, ["backend_url"]),
        ({"backend_url": "https://h", "backend_token": "s3cret x"}, ["backend_token"]),
        ({"backend_url": "https://h", "backend_token": ""}, ["backend_token"]),
        (
            {
                "secret": "s3cret",
                "backend_url": "https://h/p",
                "backend_token": "s3cret\n",
                "marketplace_url": "https://h",
                "ca_file": "/nowhere",
            },
            ["secret", "backend_url", "backend_token", "ca_file"],
        ),
    ],
)
def test_all_that_is_wrong_is_told(table: dict[str, str], paths: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(**{"secret": PHRASE} | table)
    assert [problem.path for problem in caught.value.problems] == paths
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {"secret_encoding": "base32"},
        {"require_exp": 1},
        {"max_lifetime": 0},
        {"backend_url": "h"},
        {"marketplace_url": "ftp://h"},
        {"marketplace_url": "https://u:s3cret@h"},
        {"metadata_ttl": -1},
        {"unknown": 1},
    ],
)
def test_wrong_settings(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        AccessTokenSettings.model_validate({"secret": PHRASE} | table)
    assert "s3cret" not in str(caught.value)


def test_all_settings() -> None:
    checker = configured(
        secret=PHRASE,
        max_lifetime=3600.0,
        require_exp=False,
        backend_url="https://api.example.com/",
        backend_token="backend-token",
        marketplace_url="https://m.example",
        metadata_ttl=60.0,
    )
    assert checker.varies is None
    opened = checker.opened_by(checker.read(mint()[7:])).find("api.example.com", None, b"/v1/x")
    assert opened is not None
    assert opened.authorization == b"Bearer backend-token"
    checker.close()


def test_nothing_secret_is_shown(logged: Logged) -> None:
    settings = AccessTokenSettings.model_validate(
        {"secret": PHRASE, "backend_url": "https://h", "backend_token": "backend-token"}
    )
    checker = AccessTokenChecker.configured("nvm", settings)
    (grant,) = outcome(checker.check(ask_at(mint(exp=2**40))))
    assert isinstance(grant, Grant)
    shown = f"{settings!r} {settings} {checker!r} {grant!r} {grant.opens!r} {logged.text}"
    for secret in (PHRASE, "backend-token", "upstream-token"):
        assert secret not in shown
