"""Sentences of the contract that belong to one node are named by their numbers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from zope.interface import implementer

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.http_client import Answer
from gatekeeper.auth.interfaces import ABSTAIN, Credentials, Deny, Grant, Unavailable
from gatekeeper.auth.token_cache import REVOKED, IClaims, MemoryTokenCache, TokenCacheError
from gatekeeper.auth.token_exchange import (
    TokenExchangeChecker,
    TokenExchangeSettings,
    fingerprint,
    is_token,
    token_lifetime,
)
from tests.auth.http_peers import (
    FakeHttp,
    RealServer,
    Script,
    fixture_in_reactor,
    in_reactor,
    response,
)
from tests.auth.support import NOW, Logged, base64url, basic, credentials, outcome

URL = "http://127.0.0.1:8000/auth"
ORIGINAL = ("remote-user", "x-forwarded-for", "user-agent")
ALICE = (
    (b"remote-user", b"alice"),
    (b"x-forwarded-for", b"192.0.2.7"),
    (b"user-agent", b"curl/8"),
)


class House:
    """A checker with its clock, its cache and a server that a test answers for."""

    def __init__(self, http: FakeHttp | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.http = http or FakeHttp()
        configured = TokenExchangeSettings(url=URL, **settings)
        self.cache = MemoryTokenCache(configured.ttl, monotonic=self.clock.seconds)
        self.checker = TokenExchangeChecker(
            "tokens", configured, self.http, self.cache, lambda: NOW + self.clock.seconds()
        )

    def ask(self, presented: bytes = b"Bearer abc", fields: Any = (), **more: Any) -> list[Any]:
        return outcome(self.checker.check(credentials(presented, fields, **more)))

    def ask_original(self, fields: Any = ALICE) -> list[Any]:
        return self.ask(b"", fields, peer_trusted=True)


def jwt(claims: object) -> str:
    parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "RS256"}, claims)]
    return b".".join([*parts, b"sig"]).decode()


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def original() -> House:
    return House(credential=ORIGINAL)


class TestCredential:
    """1. The value of the configured fields."""

    def test_authorization_by_default(self, house: House) -> None:
        house.ask(b"Bearer abc")
        (asked,) = house.http.asked
        assert (asked.method, asked.url) == ("GET", URL)
        assert asked.fields == {b"X-Userinfo": b"Bearer abc"}

    def test_nothing_presented(self, house: House) -> None:
        assert house.ask(b"", ALICE, peer_trusted=True) == [ABSTAIN]
        assert house.http.asked == []

    def test_the_fields_of_the_original(self, original: House) -> None:
        original.ask_original()
        assert original.http.asked[0].fields == {b"X-Userinfo": b"alice:192.0.2.7:curl/8"}

    def test_anybody_can_send_those(self, original: House) -> None:
        assert original.ask(b"", ALICE) == [ABSTAIN]
        assert original.http.asked == []

    @pytest.mark.parametrize("credential", [["user-agent"], ["authorization", "user-agent"]])
    def test_any_other_list_needs_trust(self, credential: list[str]) -> None:
        house = House(credential=credential)
        assert house.ask(b"Bearer abc", ALICE) == [ABSTAIN]
        assert house.ask(b"Bearer abc", ALICE, peer_trusted=True) == []

    def test_a_field_that_is_missing(self, original: House) -> None:
        assert original.ask_original(ALICE[1:]) == [ABSTAIN]
        original.ask_original(ALICE[:2])
        assert original.http.asked[0].fields == {b"X-Userinfo": b"alice:192.0.2.7:"}

    def test_a_field_that_comes_twice_is_a_list(self, original: House) -> None:
        original.ask_original((*ALICE, (b"remote-user", b"root")))
        assert original.http.asked[0].fields == {b"X-Userinfo": b"alice, root:192.0.2.7:curl/8"}

    def test_other_spellings_are_other_fields(self, original: House) -> None:
        assert original.ask_original(((b"remote_user", b"alice"), *ALICE[1:])) == [ABSTAIN]

    @pytest.mark.parametrize(
        "user", [b"alice:192.0.2.7", b":", b"al\xffice", b"a\tb", b"a\x7fb", b"a" * 8200]
    )
    def test_malformed(self, original: House, user: bytes) -> None:
        (verdict,) = original.ask_original(((b"remote-user", user), *ALICE[1:]))
        assert verdict == Deny("malformed_credentials", "The credentials are malformed.")
        assert original.http.asked == []

    @pytest.mark.parametrize("presented", [b"Bearer \xff", b"x" * 8193])
    def test_malformed_authorization(self, house: House, presented: bytes) -> None:
        (verdict,) = house.ask(presented)
        assert isinstance(verdict, Deny)
        assert house.http.asked == []

    def test_an_address_of_version_6(self, original: House) -> None:
        original.ask_original((ALICE[0], (b"x-forwarded-for", b"2001:db8::1"), ALICE[2]))
        assert original.http.asked[0].fields == {b"X-Userinfo": b"alice:2001:db8::1:curl/8"}


class TestAsking:
    """2. Not cached: the server is asked."""

    def test_the_token_goes_upstream(self, house: House) -> None:
        results = house.ask()
        house.http.answer(200, b"tok")
        (grant,) = results
        assert isinstance(grant, Grant)
        assert grant.headers == ((b"X-Authkey", b"tok"),)
        assert (grant.authorization, grant.consumed) == (None, True)

    @pytest.mark.parametrize("status", [401, 403])
    def test_refused(self, house: House, status: int) -> None:
        results = house.ask()
        house.http.answer(status, b"tok")
        (verdict,) = results
        assert isinstance(verdict, Deny)
        assert (verdict.status, verdict.reason) == (403, "refused")

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (500, b"tok"),
            (404, b"tok"),
            (302, b"tok"),
            (201, b"tok"),
            (204, b""),
            (200, b""),
            (200, b"to k"),
            (200, b"tok\n"),
            (200, b"tok\r\nX-Admin: 1"),
            (200, b"to\x00k"),
            (200, "t\u00f6k".encode()),
            (200, b"t" * 8193),
            (200, jwt({"exp": int(NOW)}).encode()),
        ],
    )
    def test_anything_else(self, house: House, status: int, body: bytes) -> None:
        results = house.ask()
        house.http.answer(status, body)
        (verdict,) = results
        assert isinstance(verdict, Unavailable)
        assert outcome(house.cache.items()) == [{}]

    def test_no_answer(self, house: House) -> None:
        results = house.ask()
        house.http.fail()
        (verdict,) = results
        assert isinstance(verdict, Unavailable)
        assert house.ask() == []
        assert len(house.http.asked) == 2

    def test_the_largest_token(self, house: House) -> None:
        results = house.ask()
        house.http.answer(200, b"!~" * 4096)
        assert isinstance(results[0], Grant)

    def test_single_flight(self, house: House) -> None:
        results = [house.ask() for _ in range(5)]
        other = house.ask(b"Bearer other")
        assert [asked.fields for asked in house.http.asked] == [
            {b"X-Userinfo": b"Bearer abc"},
            {b"X-Userinfo": b"Bearer other"},
        ]
        house.http.asked.pop().answer.callback(Answer(200, b"other"))
        house.http.answer(200, b"tok")
        assert len({result[0] for result in results}) == 1
        assert other[0].headers == ((b"X-Authkey", b"other"),)

    def test_one_that_gives_up_leaves_the_others(self, house: House) -> None:
        impatient = house.checker.check(credentials(b"Bearer abc"))
        results = house.ask()
        assert isinstance(impatient, Deferred)
        impatient.addErrback(lambda _: None).cancel()
        house.http.answer(200, b"tok")
        assert isinstance(results[0], Grant)

    def test_the_client_is_named_for_its_turn(self, house: House) -> None:
        house.ask(client="192.0.2.9")
        assert house.http.asked[0].client == "192.0.2.9"


class TestCaching:
    """3. Cached for ``ttl``, or until the token's own end."""

    def answer(self, house: House, body: str) -> Grant:
        results = house.ask()
        house.http.answer(200, body.encode())
        (grant,) = results
        assert isinstance(grant, Grant)
        return grant

    def asked_again_after(self, house: House, seconds: float) -> bool:
        house.clock.advance(seconds - house.clock.seconds())
        return house.ask() == []

    def test_for_300_seconds(self, house: House) -> None:
        assert self.answer(house, "tok").expires is None
        assert not self.asked_again_after(house, 299)
        assert self.asked_again_after(house, 300)

    def test_for_the_configured_time(self) -> None:
        house = House(ttl=10.0)
        self.answer(house, "tok")
        assert self.asked_again_after(house, 10)

    def test_until_the_token_ends(self, house: House) -> None:
        grant = self.answer(house, jwt({"exp": int(NOW) + 20}))
        assert grant.expires == NOW + 20
        assert not self.asked_again_after(house, 19)
        assert self.asked_again_after(house, 20)

    def test_a_token_that_ends_later(self, house: House) -> None:
        assert self.answer(house, jwt({"exp": NOW + 2000.5})).expires == NOW + 2000.5
        assert self.asked_again_after(house, 300)

    @pytest.mark.parametrize("exp", [True, "1", None, 10**400, [1]])
    def test_an_end_that_is_none(self, house: House, exp: object) -> None:
        assert self.answer(house, jwt({"exp": exp})).expires is None
        assert self.asked_again_after(house, 300)

    @pytest.mark.parametrize("token", ["a.b.c", "..", "e30.e30", "e30.bm90.x", "e30.W10.x"])
    def test_tokens_of_another_kind(self, house: House, token: str) -> None:
        assert self.answer(house, token).expires is None

    def test_refusals_are_not_kept(self, house: House) -> None:
        house.ask()
        house.http.answer(403)
        assert house.ask() == []

    def test_no_chain_keeps_a_verdict(self, house: House) -> None:
        chain = Chain("acme", [house.checker], VerdictCache(9, 300, 5))
        chain.check(credentials(b"Bearer abc"))
        house.http.answer(200, b"tok")
        assert chain.lookup(b"Bearer abc") is None

    def test_a_cache_that_is_away(self) -> None:
        class Away(MemoryTokenCache):
            def get(self, key: str) -> Any:
                return fail(TokenCacheError())

        house = House()
        house.checker.use(Away())
        (verdict,) = house.ask()
        assert isinstance(verdict, Unavailable)
        assert verdict.reason == "token_cache_away"
        assert house.http.asked == []

    def test_5_another_node_makes_no_call(self, house: House) -> None:
        self.answer(house, "tok")
        other = House()
        other.checker.use(house.cache)
        (grant,) = other.ask()
        assert grant.headers == ((b"X-Authkey", b"tok"),)
        assert other.http.asked == []


@implementer(IClaims)
class Claimed(MemoryTokenCache):
    """A zone whose claims are held back; ``said`` is what it was told of them."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[Deferred[str | None]] = []
        self.said: list[object] = []

    def claim(self, key: str, seconds: float) -> Deferred[str | None]:
        self.said.append(seconds)
        self.claims.append(Deferred())
        return self.claims[-1]

    def release(self, key: str) -> None:
        self.said.append("released")


class TestClaims:
    """A zone of several processes lets one of them ask."""

    @pytest.fixture
    def zone(self, house: House) -> Claimed:
        zone = Claimed()
        house.checker.use(zone)
        return zone

    def test_who_has_waited_need_not_ask(self, house: House, zone: Claimed) -> None:
        results = [house.ask() for _ in range(3)]
        zone.claims[0].callback("tok")
        assert all(isinstance(result[0], Grant) for result in results)
        assert house.http.asked == []
        assert zone.said == [6.0]  # the server's five seconds, and one

    @pytest.mark.parametrize("status", [200, 401, 500])
    def test_who_has_asked_lets_go(self, house: House, zone: Claimed, status: int) -> None:
        results = house.ask()
        zone.claims[0].callback(None)
        assert zone.said == [6.0]
        house.http.answer(status, b"tok")
        assert len(results) == 1
        assert zone.said == [6.0, "released"]

    def test_nobody_knows(self, house: House, zone: Claimed) -> None:
        results = house.ask()
        zone.claims[0].errback(TokenCacheError())
        assert results[0].reason == "token_cache_away"
        assert zone.said == [6.0]


class TestIdentity:
    def grant(self, house: House, body: str, results: list[Any]) -> Grant:
        house.http.answer(200, body.encode())
        (grant,) = results
        assert isinstance(grant, Grant)
        return grant

    def test_the_tokens_subject(self, house: House) -> None:
        grant = self.grant(house, jwt({"sub": "alice"}), house.ask())
        assert (grant.user, grant.key_id) == ("alice", fingerprint(b"Bearer abc"))

    def test_a_fingerprint_of_what_is_secret(self, house: House) -> None:
        grant = self.grant(house, "opaque", house.ask(basic("alice", "wonderland")))
        assert grant.user == grant.key_id == fingerprint(basic("alice", "wonderland"))

    def test_the_first_of_the_fields(self, original: House) -> None:
        grant = self.grant(original, "opaque", original.ask_original())
        assert (grant.user, grant.key_id) == ("alice", fingerprint(b"alice:192.0.2.7:curl/8"))

    @pytest.mark.parametrize("sub", ["", "a\r\nX-Admin: 1", " a", 7, None, "x" * 257, "\ud800"])
    def test_a_subject_that_is_no_name(self, house: House, sub: object) -> None:
        grant = self.grant(house, jwt({"sub": sub}), house.ask())
        assert grant.user == grant.key_id

    def test_a_first_field_that_is_too_long_for_a_name(self, original: House) -> None:
        fields = ((b"remote-user", b"a" * 257), *ALICE[1:])
        grant = self.grant(original, "opaque", original.ask_original(fields))
        assert grant.user == grant.key_id

    def test_a_fingerprint_can_be_made_in_a_shell(self) -> None:
        made = subprocess.run(
            ["sh", "-c", "printf %s 'Bearer abc' | sha256sum | cut -c -32"],
            capture_output=True,
            check=True,
        )
        assert made.stdout.decode().strip() == fingerprint(b"Bearer abc")


class TestHeader:
    """4. The upstream gets the token in the configured header."""

    def test_another_one(self) -> None:
        house = House(header="X-Api-Token")
        results = house.ask()
        house.http.answer(200, b"tok")
        assert results[0].headers == ((b"X-Api-Token", b"tok"),)


class TestRevocation:
    """6. An entry set to "0" answers 403 until it expires or is replaced."""

    KEY = "alice:192.0.2.7:curl/8"

    def test_shut_out(self, original: House) -> None:
        original.ask_original()
        original.http.answer(200, b"tok")
        original.cache.replace(self.KEY, REVOKED)
        (verdict,) = original.ask_original()
        assert isinstance(verdict, Deny)
        assert (verdict.status, verdict.reason) == (403, "revoked")
        assert len(original.http.asked) == 1

    def test_until_it_expires(self, original: House) -> None:
        original.cache.revoke(self.KEY)
        original.clock.advance(299)
        assert isinstance(original.ask_original()[0], Deny)
        original.clock.advance(2)
        assert original.ask_original() == []

    def test_until_it_is_replaced(self, original: House) -> None:
        original.cache.revoke(self.KEY)
        assert isinstance(original.ask_original()[0], Deny)
        original.cache.replace(self.KEY, "new")
        assert original.ask_original()[0].headers == ((b"X-Authkey", b"new"),)

    def test_while_the_server_is_asked(self, original: House) -> None:
        results = original.ask_original()
        original.cache.revoke(self.KEY)
        original.http.answer(200, b"tok")
        assert isinstance(results[0], Deny)
        assert outcome(original.cache.get(self.KEY)) == [REVOKED]

    def test_the_key_of_a_secret_is_its_fingerprint(self, house: House) -> None:
        house.cache.revoke(fingerprint(b"Bearer abc"))
        assert isinstance(house.ask()[0], Deny)

    def test_a_server_that_says_it_itself(self, house: House) -> None:
        results = house.ask()
        house.http.answer(200, b"0")
        assert results[0].reason == "revoked"

    @pytest.mark.parametrize("secret", [False, True])
    def test_it_is_told_which_grants_hold_no_more(self, secret: bool) -> None:
        house = House() if secret else House(credential=ORIGINAL)
        told: list[str] = []
        house.checker.on_revoked(told.append)
        results = house.ask() if secret else house.ask_original()
        house.http.answer(200, b"tok")
        house.cache.revoke(fingerprint(b"Bearer abc") if secret else self.KEY)
        assert told == [results[0].key_id]


class TestSecrets:
    def test_nothing_is_shown(self, house: House, logged: Logged) -> None:
        results = house.ask(b"Bearer s3cret-credential")
        house.http.answer(200, b"s3cret-token")
        shown = f"{house.checker!r} {results!r} {house.cache!r} {logged.text}"
        assert "s3cret" not in shown

    def test_close(self, house: House) -> None:
        house.checker.close()
        assert house.http.closed


class TestSettings:
    def test_defaults(self) -> None:
        settings = TokenExchangeSettings(url=URL)
        assert (settings.header, settings.ttl, settings.zone) == ("X-Authkey", 300, "tokens")
        assert settings.credential == ("authorization",)
        assert not settings.needs_trusted_peers
        assert TokenExchangeSettings(url=URL, credential=ORIGINAL).needs_trusted_peers

    def test_names_of_fields_are_equal_in_any_case(self) -> None:
        settings = TokenExchangeSettings(url=URL, credential=("Remote-User",))
        assert settings.credential == ("remote-user",)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"url": "ftp://auth/"},
            {"url": "http://alice:s3cret@auth/"},
            {"credential": []},
            {"credential": ["a", "A"]},
            {"credential": ["x_a"]},
            {"credential": ["a b"]},
            {"credential": ["h\u00f6"]},
            {"credential": ["host"]},
            {"credential": ["connection"]},
            {"credential": ["content-length"]},
            {"credential": ["proxy-authorization"]},
            {"header": "Authorization"},
            {"header": "Connection"},
            {"header": "Content-Length"},
            {"header": "X_Authkey"},
            {"header": "X:Y"},
            {"header": ""},
            {"ttl": 0},
            {"zone": "a/b"},
            {"timeout": -1},
            {"unknown": 1},
        ],
    )
    def test_wrong(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValidationError) as caught:
            TokenExchangeSettings.model_validate({"url": URL, **wrong})
        assert "s3cret" not in str(caught.value)


def test_tokens() -> None:
    assert is_token("!~")
    for wrong in ("", "a b", "\u00e4", "a\n", "x" * 8193):
        assert not is_token(wrong)


def test_lifetimes() -> None:
    assert token_lifetime("opaque", 300, NOW) == 300
    assert token_lifetime(jwt({"exp": NOW + 5}), 300, NOW) == 5
    assert token_lifetime(jwt({"exp": NOW - 5}), 300, NOW) == -5


class TestRealServer:
    @fixture_in_reactor
    async def server(self) -> AsyncIterator[RealServer]:
        server = RealServer(Script())
        yield server
        await server.stop()

    @in_reactor
    async def test_the_original_question(self, server: RealServer, tmp_path: Path) -> None:
        server.script.answers += [response(b"tok"), response(b"", 403), response(b"", 500)]
        settings = TokenExchangeSettings(url=server.url, credential=ORIGINAL, timeout=30.0)
        checker = TokenExchangeChecker.configured("tokens", settings)

        async def ask(user: bytes) -> object:
            fields = ((b"remote-user", user), *ALICE[1:])
            asked: Credentials = credentials(b"", fields, peer_trusted=True)
            verdict = checker.check(asked)
            return await verdict if isinstance(verdict, Deferred) else verdict

        first, again = await ask(b"alice"), await ask(b"alice")
        assert isinstance(first, Grant)
        assert first == again
        assert isinstance(await ask(b"bob"), Deny)
        assert isinstance(await ask(b"carol"), Unavailable)
        assert [request.values(b"X-Userinfo") for request in server.script.requests] == [
            [b"alice:192.0.2.7:curl/8"],
            [b"bob:192.0.2.7:curl/8"],
            [b"carol:192.0.2.7:curl/8"],
        ]
        assert server.script.connections == 1
        checker.close()
