from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from pydantic import ValidationError
from twisted.internet.defer import Deferred

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.http_client import Answer
from gatekeeper.auth.interfaces import ABSTAIN, Deny, Grant, Unavailable
from gatekeeper.auth.introspection import IntrospectionChecker, IntrospectionSettings
from tests.auth.http_peers import (
    Asked,
    FakeHttp,
    RealServer,
    Script,
    fixture_in_reactor,
    in_reactor,
    json_response,
    response,
)
from tests.auth.support import NOW, Logged, basic, credentials, outcome

URL = "https://login.example.com/introspect"
SECRET = "s3cret+/%:\u00e4 x"
TOKEN = b"Bearer t0k3n-2YotnFZFEjr1zCsicMWpAA"
ACTIVE = {"active": True, "sub": "alice", "exp": int(NOW) + 60}


def settings(**changed: Any) -> IntrospectionSettings:
    given = {"url": URL, "client_id": "gate:keeper", "client_secret": SECRET, **changed}
    return IntrospectionSettings.model_validate(given)


class House:
    def __init__(self, always: Any = None, **changed: Any) -> None:
        self.http = FakeHttp(always)
        self.now = NOW
        self.checker = IntrospectionChecker(
            "oauth", settings(**changed), self.http, lambda: self.now
        )

    def ask(self, presented: bytes = TOKEN) -> list[Any]:
        return outcome(self.checker.check(credentials(presented)))

    def told(self, status: int, body: object) -> Any:
        """The verdict when the server says this."""
        results = self.ask()
        self.http.answer(status, body)
        (verdict,) = results
        return verdict


@pytest.fixture
def house() -> House:
    return House()


class TestRequest:
    def test_the_question(self, house: House) -> None:
        house.ask()
        (asked,) = house.http.asked
        assert (asked.method, asked.url, asked.client) == ("POST", URL, "192.0.2.1")
        assert asked.fields[b"Content-Type"] == b"application/x-www-form-urlencoded"
        assert asked.fields[b"Accept"] == b"application/json"
        assert asked.body is not None
        assert parse_qs(asked.body.decode()) == {
            "token": ["t0k3n-2YotnFZFEjr1zCsicMWpAA"],
            "token_type_hint": ["access_token"],
        }

    def test_we_say_who_we_are(self, house: House) -> None:
        house.ask()
        scheme, _, encoded = house.http.asked[0].fields[b"Authorization"].partition(b" ")
        user, colon, password = base64.b64decode(encoded).decode("ascii").partition(":")
        assert (scheme, colon) == (b"Basic", ":")
        assert unquote_plus(user) == "gate:keeper"
        assert unquote_plus(password) == SECRET

    def test_we_say_so_in_the_form(self) -> None:
        house = House(client_auth="client_secret_post")
        house.ask()
        (asked,) = house.http.asked
        assert b"Authorization" not in asked.fields
        assert asked.body is not None
        form = parse_qs(asked.body.decode())
        assert (form["client_id"], form["client_secret"]) == (["gate:keeper"], [SECRET])

    def test_a_token_cannot_add_to_the_form(self, house: House) -> None:
        house.ask(b"Bearer a&token=b")
        body = house.http.asked[0].body
        assert body is not None
        assert parse_qs(body.decode())["token"] == ["a&token=b"]

    @pytest.mark.parametrize("presented", [b"", basic("alice", "x"), b"bearerx y", b"DPoP abc"])
    def test_another_kind_of_credential(self, house: House, presented: bytes) -> None:
        assert house.ask(presented) == [ABSTAIN]
        assert house.http.asked == []

    @pytest.mark.parametrize(
        "token", [b"", b" ", b"a b", b"\xff", b"a\x00", b"a" * 16385, "\u00e4".encode()]
    )
    def test_malformed(self, house: House, token: bytes) -> None:
        (verdict,) = house.ask(b"Bearer " + token)
        assert isinstance(verdict, Deny)
        assert (verdict.status, verdict.error) == (401, "invalid_token")
        assert house.http.asked == []

    def test_the_longest(self, house: House) -> None:
        house.ask(b"bearer   " + b"a" * 16384)
        assert len(house.http.asked) == 1


class TestAnswer:
    def test_active(self, house: House) -> None:
        verdict = house.told(200, {**ACTIVE, "scope": "read write", "client_id": "app-1"})
        assert verdict == Grant(
            user="alice",
            key_id="app-1",
            groups=frozenset({"read", "write"}),
            expires=NOW + 60,
        )

    @pytest.mark.parametrize(
        ("claims", "user", "key_id"),
        [
            ({"username": "bob"}, "bob", ""),
            ({"client_id": "app"}, "app", "app"),
            ({"sub": "s", "username": "bob", "client_id": "app"}, "s", "app"),
        ],
    )
    def test_whom_it_names(
        self, house: House, claims: dict[str, str], user: str, key_id: str
    ) -> None:
        grant = house.told(200, {"active": True, **claims})
        assert (grant.user, grant.key_id, grant.expires) == (user, key_id, None)

    def test_other_claims(self) -> None:
        house = House(user_claim="email", groups_claim="realm_access.roles")
        answer = {**ACTIVE, "email": "a@example.com", "realm_access": {"roles": ["x", "y z"]}}
        grant = house.told(200, answer)
        assert (grant.user, grant.groups) == ("a@example.com", {"x", "y z"})

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"active": False}, "inactive_token"),
            ({"active": False, "sub": "alice", "exp": "x"}, "inactive_token"),
            ({"active": True, "sub": "alice", "exp": int(NOW)}, "expired_token"),
            ({"active": True, "sub": "alice", "nbf": int(NOW) + 1}, "early_token"),
            ({"active": True}, "unidentified_token"),
            ({**ACTIVE, "token_type": "refresh_token"}, "not_an_access_token"),
            ({**ACTIVE, "token_use": "refresh_token"}, "not_an_access_token"),
            ({**ACTIVE, "typ": "Refresh"}, "not_an_access_token"),
        ],
    )
    def test_no_good(self, house: House, answer: dict[str, object], reason: str) -> None:
        verdict = house.told(200, answer)
        assert isinstance(verdict, Deny)
        assert (verdict.reason, verdict.status, verdict.error) == (reason, 401, "invalid_token")

    @pytest.mark.parametrize(
        ("aud", "good"),
        [
            ("acme", True),
            ("other", True),
            (["x", "acme"], True),
            (["x"], False),
            ("acm", False),
            ([], False),
            (None, False),
            ([["acme"]], False),
            ({"acme": 1}, False),
        ],
    )
    def test_audience(self, aud: object, good: bool) -> None:
        verdict = House(audience=["acme", "other"]).told(200, {**ACTIVE, "aud": aud})
        assert isinstance(verdict, Grant) is good
        assert good or verdict.reason == "wrong_audience"

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b"x"),
            (200, b"[]"),
            (200, {}),
            (200, {"active": "true", "sub": "alice"}),
            (200, {"active": 1, "sub": "alice"}),
            (200, {"active": None}),
            (200, b'{"active": true, "active": false, "sub": "alice"}'),
            (200, {**ACTIVE, "exp": "1"}),
            (200, {**ACTIVE, "exp": NOW + 60}),
            (200, {**ACTIVE, "exp": True}),
            (200, b'{"active": true, "sub": "alice", "exp": 1e400}'),
            (200, {**ACTIVE, "sub": 7}),
            (200, {**ACTIVE, "sub": "a\r\nX-Admin: 1"}),
            (200, {**ACTIVE, "sub": ""}),
            (200, {**ACTIVE, "client_id": ["x"]}),
            (200, {**ACTIVE, "scope": 7}),
            (200, {**ACTIVE, "scope": ["a", 1]}),
            (200, b'{"active": true, "a":' + b"[" * 100_000),
            (201, ACTIVE),
            (302, ACTIVE),
            (400, {"error": "invalid_request"}),
            (401, {"error": "invalid_client"}),
            (403, ACTIVE),
            (404, ACTIVE),
            (500, ACTIVE),
            (503, ACTIVE),
        ],
    )
    def test_an_answer_that_is_none(self, house: House, status: int, body: object) -> None:
        """A fault of the server's, or of our configuration, is never a wrong credential."""
        assert isinstance(house.told(status, body), Unavailable)

    def test_no_answer(self, house: House) -> None:
        results = house.ask()
        house.http.fail()
        assert isinstance(results[0], Unavailable)


class TestChain:
    """What the chain's cache makes of it."""

    def chain(self, house: House) -> Chain:
        cache = VerdictCache(9, 300, 5, lambda: house.now, lambda: house.now)
        return Chain("acme", [house.checker], cache)

    def ask(self, house: House, chain: Chain) -> Any:
        known = chain.lookup(TOKEN)
        return outcome(chain.check(credentials(TOKEN)))[0] if known is None else known

    def test_a_good_answer_is_believed_until_the_token_ends(self) -> None:
        house = House(lambda _: Answer(200, b'{"active": true, "sub": "a", "exp": 1700000010}'))
        chain = self.chain(house)
        for advance, asked in ((0, 1), (9.5, 1), (1, 2)):
            house.now += advance
            self.ask(house, chain)
            assert len(house.http.asked) == asked

    def test_a_bad_one_briefly(self) -> None:
        house = House(lambda _: Answer(200, b'{"active": false}'))
        chain = self.chain(house)
        for advance, asked in ((0, 1), (4, 1), (2, 2)):
            house.now += advance
            assert isinstance(self.ask(house, chain), Deny)
            assert len(house.http.asked) == asked

    def test_an_outage_never(self) -> None:
        def broken(_: Asked) -> Answer:
            return Answer(500, b"")

        house = House(broken)
        chain = self.chain(house)
        for asked in (1, 2):
            assert isinstance(self.ask(house, chain), Unavailable)
            assert len(house.http.asked) == asked

    def test_single_flight(self, house: House) -> None:
        chain = self.chain(house)
        results = [outcome(chain.check(credentials(TOKEN))) for _ in range(3)]
        house.http.answer(200, ACTIVE)
        assert len(house.http.asked) == 1
        assert [result[0].user for result in results] == ["alice"] * 3


class TestSecrets:
    def test_nothing_is_shown(self, house: House, logged: Logged) -> None:
        verdict = house.told(200, b"t0k3n is not JSON")
        shown = f"{house.checker!r} {verdict!r} {settings()!r} {logged.text}"
        assert "t0k3n" not in shown
        assert SECRET not in shown

    def test_close(self, house: House) -> None:
        house.checker.close()
        assert house.http.closed


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "login.example.com"},
        {"client_id": ""},
        {"client_secret": ""},
        {"client_secret": None},
        {"client_auth": "none"},
        {"audience": "acme"},
        {"user_claim": ""},
        {"unknown": 1},
    ],
)
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


class TestRealServer:
    @fixture_in_reactor
    async def server(self) -> AsyncIterator[RealServer]:
        server = RealServer(Script())
        yield server
        await server.stop()

    @in_reactor
    async def test_it_is_asked(self, server: RealServer, logged: Logged) -> None:
        server.script.answers += [
            json_response({"active": True, "sub": "alice"}),
            json_response({"active": False}),
            json_response({"error": "invalid_client"}, 401),
            response(b"x" * 70_000),
        ]
        checker = IntrospectionChecker.configured("oauth", settings(url=server.url, timeout=30.0))
        verdicts = []
        for _ in range(4):
            verdict = checker.check(credentials(TOKEN))
            assert isinstance(verdict, Deferred)
            verdicts.append(await verdict)
        assert [type(verdict) for verdict in verdicts] == [Grant, Deny, Unavailable, Unavailable]
        assert server.script.requests[0].line == b"POST /auth HTTP/1.1"
        assert b"token=t0k3n" in server.script.requests[0].body
        assert "are `client_id` and `client_secret` right" in logged.text
        assert "t0k3n" not in logged.text
        assert SECRET not in logged.text
        checker.close()
