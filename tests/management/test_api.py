"""What holds for every operation: who may call, what is read, and what refusals look like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from gatekeeper.management.index import OPERATIONS, describe
from tests.management.api_house import TOKEN, House, row
from tests.management.test_management import Client, errors

SERVICE = {"name": "acme", "from": "/acme", "to": "http://127.0.0.1:9", "checkers": ["users"]}
ALICE = {"name": "alice", "password": "wonderland"}
USERS = "/v1/services/acme/users"


@pytest.fixture
def house() -> House:
    house = House()
    assert house.call("POST", "/v1/services", SERVICE).status == 201
    return house


def path_of(operation: Any) -> str:
    path: str = operation.path
    for part in operation.parts:
        path = path.replace(f"{{{part}}}", "x")
    return path


class TestWhoMayCall:
    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.id)
    @pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x"])
    def test_operators_only(self, operation: Any, token: str | None) -> None:
        house = House()
        answer = house.call(operation.method, path_of(operation), {}, token=token)
        assert answer.status == 401
        assert "bearer" in answer.fields["www-authenticate"]
        assert house.store.entries == []

    def test_others_are_not_told_what_there_is(self, house: House) -> None:
        for path in ("/v1", "/v1/nothing", "/nothing", "/services/x/y"):
            assert house.call("GET", path, token=None).status == 401
            assert house.call("GET", path).status == 404

    def test_everybody_may_ask_whether_it_runs(self, house: House) -> None:
        assert house.call("GET", "/healthz", token=None).status == 200
        assert house.call("GET", "/readyz", token=None).status == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:80", "a b"]
    )
    def test_open_is_not_for_other_names(self, host: str) -> None:
        answer = House(actor="nobody").call("GET", "/v1/users", token=None, host=host)
        assert (answer.status, answer.document["reason"]) == (403, "foreign_host")

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:6668", "[::1]:6668", "LOCALHOST:1"])
    def test_open_is_for_addresses(self, host: str) -> None:
        assert House(actor="nobody").call("GET", "/v1/users", token=None, host=host).status == 200

    @pytest.mark.parametrize(
        "field",
        [
            "Origin: http://evil.example",
            "Origin: null",
            "Origin: http://127.0.0.1:8080",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ],
    )
    def test_open_is_not_for_pages_of_elsewhere(self, field: str) -> None:
        house = House(actor="nobody")
        for path in ("/v1/users", "/services", "/nothing", "/api/8/http/keyvals/tokens/"):
            answer = house.call("GET", path, token=None, fields=[field])
            assert answer.status == 403
        assert house.call("POST", "/v1/services", SERVICE, fields=[field]).status == 403
        assert house.store.entries == []

    def test_open_is_for_its_own_pages(self) -> None:
        fields = ["Origin: http://127.0.0.1:6668", "Sec-Fetch-Site: same-origin"]
        answer = House(actor="nobody").call("GET", "/v1/users", token=None, fields=fields)
        assert answer.status == 200

    def test_forms_of_pages_are_refused(self) -> None:
        house = House(actor="nobody")
        for content_type in (None, "text/plain", "application/x-www-form-urlencoded"):
            answer = house.call("POST", "/services", SERVICE, content_type=content_type)
            assert answer.status == 415
        assert house.store.entries == []

    def test_who_it_was_is_noted(self) -> None:
        for actor in ("token", "nobody"):
            house = House(actor=actor)
            house.call("POST", "/v1/services", SERVICE)
            (entry,) = house.store.entries
            assert (entry.actor, entry.source) == (actor, "192.168.1.1")
            assert (entry.action, entry.subject) == ("service.add", "services/acme")


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff{}",
            b"[]",
            b'{"name": "a", "name": "b", "password": "x"}',
            b'{"name": "a", "password": NaN}',
            b'{"name": "a", "password": "\\ud800"}',
            b"[" * 10_000,
            b'{"name": ' + b"[" * 30 + b"]" * 30 + b"}",
            b'{"name": "a"}',
            b'{"name": 1e999, "password": "x"}',
            b'{"name": "a", "password": "x", "admin": true}',
            b'{"name": "a", "password": 1}',
            b'{"name": "a", "password": "x", "disabled": "no"}',
            b'{"name": "a:b", "password": "x"}',
            b'{"name": "a", "password": "x\\u0000"}',
        ],
    )
    def test_what_cannot_be_read(self, house: House, body: bytes) -> None:
        with capturedLogs() as events:
            answer = house.call("POST", USERS, body=body)
        assert answer.status == 400
        assert answer.fields["content-type"] == "application/problem+json"
        assert errors(events) == []
        assert house.state.users == {}

    def test_errors_name_the_fields(self, house: House) -> None:
        answer = house.call("POST", USERS, {"name": "", "groups": ["a", 1], "more": 1})
        named = {error["field"] for error in answer.document["errors"]}
        assert named == {"name", "password", "groups[1]", "more"}

    def test_what_has_the_right_form_and_is_of_no_use(self, house: House) -> None:
        answer = house.call("POST", USERS, ALICE | {"expires": "tomorrow"})
        assert answer.status == 422
        assert answer.document["errors"][0]["field"] == "expires"

    def test_no_secret_is_shown(self, house: House) -> None:
        answer = house.call("POST", USERS, {"name": 1, "password": "hunter2", "groups": "hunter2"})
        assert answer.status == 400
        assert b"hunter2" not in answer.body

    def test_a_whole_number_with_a_point(self, house: House) -> None:
        meter = {**SERVICE, "name": "b", "from": "/b", "meter": {"maximum": 5.0}}
        assert house.call("POST", "/v1/services", meter).document["meter"]["maximum"] == 5
        meter["meter"] = {"maximum": 5.5}
        assert house.call("PUT", "/v1/services/b", meter).status == 400

    def test_another_media_type(self, house: House) -> None:
        for content_type in ("text/plain", "application/json, text/plain", "application/jsonx"):
            assert house.call("POST", USERS, ALICE, content_type=content_type).status == 415
        given = "Application/JSON; charset=utf-8"
        assert house.call("POST", USERS, ALICE, content_type=given).status == 201

    def test_programs_with_a_token_need_not_say_that_it_is_json(self, house: House) -> None:
        assert house.call("POST", USERS, ALICE, content_type=None).status == 201


class TestQueries:
    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=1&limit=2",
            "limit=1e2",
            "more=1",
            "a",
            "=",
            "%",
        ],
    )
    def test_what_cannot_be_read(self, house: House, query: str) -> None:
        assert house.call("GET", f"/v1/users?{query}").status == 400

    def test_parameters_where_there_are_none(self, house: House) -> None:
        assert house.call("GET", "/v1/health?x=1").status == 400

    def test_not_utf8(self, house: House) -> None:
        assert house.call("GET", "/v1/users?after=%ff").status == 400


class TestPaths:
    def test_a_slash_in_a_name(self, house: House) -> None:
        assert house.call("POST", USERS, {"name": "a/b%2F", "password": "x"}).status == 201
        assert house.get(f"{USERS}/a%2Fb%252F")["name"] == "a/b%2F"
        assert house.call("GET", f"{USERS}/a/b%252F").status == 404
        assert house.call("DELETE", f"{USERS}/a%2Fb%252F").status == 204

    @pytest.mark.parametrize("name", ["%00", "%ff", "%C0%AF", "..", "%2e%2e", "\u00e9"])
    def test_what_can_be_no_name(self, house: House, name: str) -> None:
        raw = f"GET {USERS}/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        with capturedLogs() as events:
            answered = Client(house.site).send(raw.encode())
        assert int(answered.split()[1]) in (400, 404)
        assert errors(events) == []

    def test_another_method(self, house: House) -> None:
        answer = house.call("PUT", USERS, ALICE)
        assert (answer.status, answer.fields["allow"]) == (405, "get, head, post")

    @pytest.mark.parametrize(
        "operation", [each for each in OPERATIONS if each.method == "GET"], ids=lambda each: each.id
    )
    def test_head_is_get_without_a_body(self, house: House, operation: Any) -> None:
        get = house.call("GET", path_of(operation))
        head = house.call("HEAD", path_of(operation))
        assert (head.status, head.body) == (get.status, b"")
        assert head.fields["content-length"] == get.fields["content-length"]

    @pytest.mark.parametrize(
        "operation", [each for each in OPERATIONS if each.method == "GET"], ids=lambda each: each.id
    )
    def test_get_changes_nothing(self, house: House, operation: Any) -> None:
        entries = list(house.store.entries)
        house.call("GET", path_of(operation))
        assert (house.store.entries, house.stops, house.reloads) == (entries, 0, 0)


class TestStoreAway:
    def test_nothing_is_changed_and_nothing_told(self, house: House) -> None:
        house.store.away = True
        for method, path, document in (
            ("POST", USERS, ALICE),
            ("GET", "/v1/usage", None),
            ("GET", "/v1/audit", None),
            ("DELETE", "/v1/services/acme", None),
        ):
            answer = house.call(method, path, document)
            assert (answer.status, answer.document["reason"]) == (503, "store_away")
            assert b"hunter2" not in answer.body
        assert house.state.users == {}

    def test_who_has_never_seen_it_says_so(self) -> None:
        house = House()
        house.state.loaded = False
        assert house.call("GET", "/v1/users").status == 503
        assert house.get("/v1/health")["status"] == "ready"

    def test_the_daemon_can_be_stopped_all_the_same(self, house: House) -> None:
        house.store.away = True
        assert house.call("POST", "/control/shutdown").status == 200
        house.clock.advance(0)
        assert house.stops == 1


def test_who_does_not_wait_changes_things_all_the_same() -> None:
    house, flushed = House(), Deferred[bool]()
    house.call("POST", "/v1/services", SERVICE)
    house.flush = lambda urgent: flushed
    client = Client(house.site)
    head = f"DELETE /v1/services/acme HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with capturedLogs() as events:
        assert client.send(head.encode()) == b""
        client.channel.connectionLost()
        assert "acme" in house.state.services
        flushed.callback(True)
    assert "acme" not in house.state.services
    assert errors(events) == []


def test_a_flush_that_hangs_is_not_waited_for(house: House) -> None:
    house.store.usage.append(row("acme", "alice", "/", 2))
    house.flush = lambda urgent: Deferred()
    client = Client(house.site)
    head = f"GET /v1/usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    assert client.send(head.encode()) == b""
    house.clock.advance(3)
    assert client.transport.value().startswith(b"HTTP/1.1 200")


def test_the_description_describes_every_call() -> None:
    document = describe("token")
    described = {(m, p) for p, item in document["paths"].items() for m in item}
    assert described == {(each.method.lower(), each.path) for each in OPERATIONS}
    assert document["openapi"] == "3.1.0"
    assert "security" not in describe("nobody")
    json.dumps(document)
