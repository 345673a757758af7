from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gatekeeper.auth.token_cache import LONGEST, REVOKED, MemoryTokenCache, TokenCacheError
from gatekeeper.management.api import ManagementAPI
from gatekeeper.management.health import Readiness
from gatekeeper.management.keyvals import Keyvals
from gatekeeper.management.site import BoundedRequest, BoundedSite
from gatekeeper.management.token import OperatorToken
from tests.auth.support import NOW, outcome
from tests.auth.test_token_exchange import jwt
from tests.management.test_management import Answer, Client

TOKEN = "s3cret-token-of-operators"
ZONE = "/api/8/http/keyvals/tokens/"
ALICE = "alice:192.0.2.7:curl/8"


class House:
    def __init__(self, operators: OperatorToken | None = None, **zones: Any) -> None:
        self.clock = Clock()
        self.cache = MemoryTokenCache(300, monotonic=self.clock.seconds)
        keyvals = Keyvals(
            {"tokens": self.cache, **zones}, operators, lambda: NOW + self.clock.seconds()
        )
        api = ManagementAPI(Readiness({}), Clock(), keyvals)
        self.site = BoundedSite(api.resource(), BoundedRequest, Clock(), most=9, head=4096)

    def call(
        self, method: str, path: str = ZONE, body: object = None, authorization: str = ""
    ) -> Answer:
        data = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}"]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        return Answer(Client(self.site).send("\r\n".join(lines).encode() + b"\r\n\r\n" + data))

    def entries(self) -> Any:
        return outcome(self.cache.items())[0]


@pytest.fixture
def house() -> House:
    return House()


class TestGet:
    def test_all(self, house: House) -> None:
        assert house.call("GET").document == {}
        house.cache.add(ALICE, "tok")
        house.cache.revoke("bob")
        answer = house.call("GET")
        assert (answer.status, answer.document) == (200, {ALICE: "tok", "bob": "0"})
        assert answer.fields["content-type"] == "application/json"
        assert answer.fields["cache-control"] == "no-store"

    @pytest.mark.parametrize("key", [ALICE, "a b&c=d", "\u00e4+%/"])
    def test_one(self, house: House, key: str) -> None:
        house.cache.add("other", "x")
        assert house.call("GET", f"{ZONE}?key={quote(key, safe='')}").status == 404
        house.cache.add(key, "tok")
        assert house.call("GET", f"{ZONE}?key={quote(key, safe='')}").document == {key: "tok"}

    @pytest.mark.parametrize("query", ["key=%ff", "key=a&key=b"])
    def test_malformed(self, house: House, query: str) -> None:
        assert house.call("GET", f"{ZONE}?{query}").status == 400

    def test_without_the_slash(self, house: House) -> None:
        house.cache.add("k", "v")
        assert house.call("GET", ZONE.rstrip("/")).document == {"k": "v"}

    def test_head(self, house: House) -> None:
        answer = house.call("HEAD")
        assert (answer.status, answer.body) == (200, b"")


class TestPost:
    def test_add(self, house: House) -> None:
        answer = house.call("POST", body={ALICE: "tok"})
        assert (answer.status, answer.body) == (201, b"")
        assert house.entries() == {ALICE: "tok"}

    def test_it_exists(self, house: House) -> None:
        house.cache.add("k", "old")
        assert house.call("POST", body={"k": "new"}).status == 409
        assert house.entries() == {"k": "old"}

    def test_it_was_shut_out(self, house: House) -> None:
        house.cache.revoke("k")
        assert house.call("POST", body={"k": "new"}).status == 409
        assert house.entries() == {"k": REVOKED}

    def test_shut_out_who_is_not_known_yet(self, house: House) -> None:
        told: list[str] = []
        house.cache.subscribe(told.append)
        assert house.call("POST", body={"k": "0"}).status == 201
        assert told == ["k"]

    def test_as_the_originals_operators_send_it(self, house: House) -> None:
        raw = (
            f"POST {ZONE} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            'Content-Type: application/x-www-form-urlencoded\r\n\r\n{"k":"v"}'
        )
        assert Answer(Client(house.site).send(raw.encode())).status == 201

    def test_it_lives_as_long_as_the_others(self, house: House) -> None:
        house.call(
            "POST",
            body={
                "k": "v",
            },
        )
        house.call("POST", body={"j": jwt({"exp": NOW + 20})})
        house.clock.advance(20)
        assert house.entries() == {"k": "v"}
        house.clock.advance(280)
        assert house.entries() == {}


class TestPatch:
    def test_change(self, house: House) -> None:
        house.cache.add("k", "tok")
        answer = house.call("PATCH", body={"k": "new"})
        assert (answer.status, answer.body) == (204, b"")
        assert "content-length" not in answer.fields
        assert house.entries() == {"k": "new"}

    def test_shut_out(self, house: House) -> None:
        house.cache.add(ALICE, "tok")
        told: list[str] = []
        house.cache.subscribe(told.append)
        assert house.call("PATCH", body={ALICE: "0"}).status == 204
        assert house.entries() == {ALICE: REVOKED}
        assert told == [ALICE]

    @pytest.mark.parametrize("value", ["0", "new", None])
    def test_it_is_missing(self, house: House, value: str | None) -> None:
        assert house.call("PATCH", body={"k": value}).status == 404
        assert house.entries() == {}

    @pytest.mark.parametrize("value", ["tok", "0"])
    def test_null_deletes(self, house: House, value: str) -> None:
        house.cache.add("k", value)
        assert house.call("PATCH", body={"k": None}).status == 204
        assert house.entries() == {}


def test_delete_empties_the_zone(house: House) -> None:
    house.cache.add("k", "tok")
    house.cache.revoke("l")
    answer = house.call("DELETE")
    assert (answer.status, answer.body) == (204, b"")
    assert house.entries() == {}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"x",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"k": "v", "k": "0"}',
        b'{"a": "v", "b": "v"}',
        b'{"k": 0}',
        b'{"k": true}',
        b'{"k": ["v"]}',
        b'{"k": {"value": "v"}}',
        b'{"k": ""}',
        b'{"k": "a b"}',
        b'{"k": "a\\r\\nX-Admin: 1"}',
        b'{"k": "\\u00e4"}',
        b'{"": "v"}',
        b'{"a\\n": "v"}',
        b'{"\\ud800": "v"}',
        b"[" * 50_000,
        json.dumps({"k": "v" * (LONGEST + 1)}).encode(),
        json.dumps({"k" * (LONGEST + 1): "v"}).encode(),
        json.dumps({"k": jwt({"exp": NOW})}).encode(),
    ],
)
def test_malformed_entries(house: House, method: str, body: bytes | None) -> None:
    house.cache.add("k", "tok")
    answer = house.call(method, body=body)
    assert answer.status == 400
    assert answer.document["reason"] == "malformed_entry"
    assert house.entries() == {"k": "tok"}


def test_post_does_not_delete(house: House) -> None:
    house.cache.add("k", "tok")
    assert house.call("POST", body={"k": None}).status == 400
    assert house.entries() == {"k": "tok"}


class TestOperators:
    @pytest.fixture
    def house(self) -> House:
        return House(OperatorToken(TOKEN))

    @pytest.mark.parametrize("authorization", ["", "Bearer x", f"Basic {TOKEN}"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"])
    def test_others_see_and_change_nothing(
        self, house: House, method: str, authorization: str
    ) -> None:
        house.cache.add("k", "value-of-k")
        for path in (ZONE, ZONE + "?key=k", "/api/8/http/keyvals/other/", ZONE + "x"):
            answer = house.call(method, path, {"k": "0"}, authorization)
            assert answer.status == 401
            assert answer.fields["www-authenticate"] == 'bearer realm="management"'
            assert b"value-of-k" not in answer.body
        assert house.entries() == {"k": "value-of-k"}

    def test_operators_do(self, house: House) -> None:
        statuses = [
            house.call(method, ZONE, body, f"Bearer {TOKEN}").status
            for method, body in (
                ("POST", {"k": "v"}),
                ("GET", None),
                ("PATCH", {"k": "0"}),
                ("DELETE", None),
            )
        ]
        assert statuses == [201, 200, 204, 204]


class TestRest:
    def test_other_zones(self) -> None:
        other = MemoryTokenCache()
        house = House(other=other)
        house.call("POST", "/api/8/http/keyvals/other/", {"k": "v"})
        assert house.entries() == {}
        assert outcome(other.items()) == [{"k": "v"}]

    @pytest.mark.parametrize(
        "path", ["/api/8/http/keyvals/none/", "/api/8/http/keyvals/", ZONE + "k", "/api/9/http"]
    )
    def test_nothing_there(self, house: House, path: str) -> None:
        answer = house.call("GET", path)
        assert (answer.status, answer.document["reason"]) == (404, "not_found")

    def test_another_method(self, house: House) -> None:
        answer = house.call("PUT")
        assert answer.status == 405
        assert answer.fields["allow"] == "delete, get, head, patch, post"

    def test_without_any_zone(self) -> None:
        api = ManagementAPI(Readiness({}), Clock())
        site = BoundedSite(api.resource(), BoundedRequest, Clock(), most=9, head=4096)
        assert Client(site).get(ZONE.encode()).status == 404

    def test_a_cache_that_is_away(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*_: object) -> Deferred[None]:
            return fail(TokenCacheError("s3cret"))

        for name in ("items", "add", "replace", "clear"):
            monkeypatch.setattr(house.cache, name, away)
        for method, body in (("GET", None), ("POST", {"k": "0"}), ("PATCH", {"k": "0"})):
            answer = house.call(method, body=body)
            assert (answer.status, answer.document["reason"]) == (503, "token_cache_away")
            assert b"s3cret" not in answer.body

    def test_an_error_of_ours(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise ValueError("s3cret")

        monkeypatch.setattr(house.cache, "items", broken)
        with capturedLogs() as events:
            answer = house.call("GET")
        assert answer.status == 500
        assert "s3cret" not in f"{answer.body!r} {events!r}"
        assert len(events) == 1

    def test_nothing_is_logged(self, house: House) -> None:
        with capturedLogs() as events:
            house.call("POST", body={ALICE: "s3cret"})
            house.call("GET")
            house.call("PATCH", body={ALICE: "s3cret\n"})
        assert list(events) == []

    def test_a_body_that_is_too_large(self, house: House) -> None:
        assert house.call("POST", body=b" " * 65537).status == 413
