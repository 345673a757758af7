"""The operations under ``/v1``, one kind of thing after the other."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from gatekeeper.auth.passwords import verify_password
from gatekeeper.auth.revoked import jti_digest, token_digest
from gatekeeper.auth.token_cache import MemoryTokenCache, TokenCacheError
from gatekeeper.auth.token_exchange import fingerprint
from gatekeeper.errors import Problem
from gatekeeper.net.balancing_attempt import UpstreamState
from gatekeeper.net.balancing_health import State
from gatekeeper.store.interface import UsageQuery
from gatekeeper.usage.records import Spent, UsageRecord
from tests.management.api_house import NOW, House, row

SERVICE = {"name": "acme", "from": "/acme", "to": "http://127.0.0.1:9", "checkers": ["users"]}
ALICE = {"name": "alice", "password": "wonderland"}
USERS = "/v1/services/acme/users"


@pytest.fixture
def house() -> House:
    house = House()
    assert house.call("POST", "/v1/services", SERVICE).status == 201
    return house


class TestServices:
    def test_those_of_the_configuration_are_read_only(self, house: House) -> None:
        shown = house.get("/v1/services/fixed")
        assert (shown["origin"], shown["checkers"]) == ("configuration", ["secret://***"])
        fixed = {**SERVICE, "name": "fixed"}
        for method, path, body in (
            ("PUT", "/v1/services/fixed", fixed),
            ("POST", "/v1/services", fixed),
            ("DELETE", "/v1/services/fixed", None),
        ):
            answer = house.call(method, path, body)
            assert (answer.status, answer.document["reason"]) == (409, "read_only")

    def test_add_show_replace_remove(self, house: House) -> None:
        shown = house.get("/v1/services/acme")
        assert shown["origin"] == "api"
        assert shown["created"] == "2023-11-14T22:13:20.000Z"
        assert {key: shown[key] for key in SERVICE} == SERVICE
        assert house.call("POST", "/v1/services", SERVICE).status == 409
        changed = {**SERVICE, "to": "http://127.0.0.1:10", "meter": {"units": "bytes"}}
        answer = house.call("PUT", "/v1/services/acme", changed)
        assert (answer.status, answer.document["meter"]["units"]) == (200, "bytes")
        assert house.call("PUT", "/v1/services/other", changed).status == 404
        other_name = {**changed, "name": "other"}
        assert house.call("PUT", "/v1/services/acme", other_name).status == 422
        assert house.call("DELETE", "/v1/services/acme").status == 204
        assert house.call("DELETE", "/v1/services/acme").status == 404

    def test_how_several_upstreams_are(self, house: House) -> None:
        assert house.get("/v1/services/acme")["upstreams"] == []
        one, two = urls = ["http://127.0.0.1:9", "http://127.0.0.2:9"]
        several = {**SERVICE, "to": urls, "health": {"path": "/healthz"}}
        states = {
            "acme": (UpstreamState(one, State.UP, 3, 0), UpstreamState(two, State.EJECTED, 0, 2))
        }

        async def upstreams() -> Any:
            return states

        house.managed.upstreams = upstreams
        shown = house.call("PUT", "/v1/services/acme", several).document
        assert (shown["to"], shown["health"]["path"]) == (urls, "/healthz")
        assert house.get("/v1/services/acme")["upstreams"] == [
            {"url": one, "state": "up", "outstanding": 3, "ejections": 0},
            {"url": two, "state": "ejected", "outstanding": 0, "ejections": 2},
        ]

    def test_what_is_shown_of_a_secret_is_not_taken_for_it(self, house: House) -> None:
        answer = house.call("PUT", "/v1/services/acme", {**SERVICE, "checkers": ["secret://***"]})
        assert answer.status == 422
        assert answer.document["errors"][0]["field"] == "checkers[0]"

    def test_pages(self, house: House) -> None:
        for name in ("a", "b", "c"):
            house.call("POST", "/v1/services", {**SERVICE, "name": name, "from": f"/{name}"})
        seen, after = [], ""
        while after is not None:
            page = house.get("/v1/services", limit=2, after=after)
            seen += [each["name"] for each in page["items"]]
            after = page["next"]
        assert seen == ["a", "acme", "b", "c", "fixed"]


class TestUsers:
    def test_a_password_is_only_a_hash(self, house: House) -> None:
        answer = house.call("POST", USERS, ALICE)
        assert answer.status == 201
        assert answer.fields["location"] == f"{USERS}/alice"
        stored = house.state.users["acme", "alice"]
        assert verify_password("wonderland", stored.password)
        seen = answer.body + repr(house.store.entries).encode()
        assert b"wonderland" not in seen
        assert b"argon2" not in seen
        assert house.call("POST", USERS, ALICE).status == 409

    def test_nobody_is_added_before_the_store_has_what_was_used(self, house: House) -> None:
        """It may have been used by a removed user of the same name."""
        asked: list[bool] = []
        flushed = Deferred[bool]()

        def flush(urgent: bool) -> Deferred[bool]:
            asked.append(urgent)
            return flushed if len(asked) == 1 else succeed(False)

        house.flush = flush
        assert house.send("POST", USERS, ALICE) == b"", "no answer yet"
        assert not house.state.users
        flushed.callback(True)
        assert house.state.users
        answer = house.call("POST", USERS, {**ALICE, "name": "bob"})
        assert (answer.status, answer.document["reason"]) == (503, "store_away")
        assert asked == [True, True]

    def test_change(self, house: House) -> None:
        house.call("POST", USERS, ALICE)
        change = {"password": "new", "groups": ["a"], "expires": "2031-05-01T10:00:00+02:00"}
        changed = house.call("PATCH", f"{USERS}/alice", change).document
        assert changed["expires"] == "2031-05-01T08:00:00.000Z"
        assert verify_password("new", house.state.users["acme", "alice"].password)
        assert '"password": "changed"' in house.store.entries[-1].detail
        house.call("PATCH", f"{USERS}/alice", {"disabled": True})
        user = house.state.users["acme", "alice"]
        assert (user.disabled, user.groups, user.expires is None) == (True, ("a",), False)
        house.call("PATCH", f"{USERS}/alice", {"expires": None})
        assert house.state.users["acme", "alice"].expires is None

    def test_a_service_of_the_configuration_may_have_users(self, house: House) -> None:
        assert house.call("POST", "/v1/services/fixed/users", ALICE).status == 201
        found = house.get("/v1/users", service="fixed")["items"]
        assert [user["name"] for user in found] == ["alice"]
        assert house.get("/v1/users", service="acme")["items"] == []

    def test_names_are_normalized(self, house: House) -> None:
        house.call("POST", USERS, {"name": "e\u0301", "password": "x"})
        assert house.get(f"{USERS}/%C3%A9")["name"] == "\u00e9"

    def test_no_such_service(self, house: House) -> None:
        assert house.call("POST", "/v1/services/nobody/users", ALICE).status == 404
        assert house.call("GET", "/v1/services/nobody/users").status == 404


class TestKeys:
    def test_a_secret_is_shown_once(self, house: House) -> None:
        house.call("POST", USERS, ALICE)
        made = house.call("POST", "/v1/keys", {"user": "alice", "service": "acme"}).document
        stored = house.state.keys[made["id"]]
        prefix, key_id, secret = made["secret"].split("_", 2)
        assert (prefix, key_id) == ("gk", made["id"])
        assert stored.digest == sha256(secret.encode()).hexdigest()
        assert "secret" not in house.get(f"/v1/keys/{made['id']}")
        assert made["secret"] not in repr(house.store.entries)
        other = house.call("POST", "/v1/keys", {"user": "alice", "service": "acme"}).document
        assert other["secret"] != made["secret"]
        assert len(house.get("/v1/keys", user="alice")["items"]) == 2
        changed = house.call("PATCH", f"/v1/keys/{made['id']}", {"disabled": True, "label": "x"})
        assert (changed.document["disabled"], changed.document["label"]) == (True, "x")
        assert house.call("DELETE", f"/v1/keys/{made['id']}").status == 204
        assert house.call("GET", f"/v1/keys/{made['id']}").status == 404

    def test_a_key_for_all_services(self, house: House) -> None:
        made = house.call("POST", "/v1/keys", {"user": "alice"}).document
        assert made["service"] is None
        assert house.state.keys[made["id"]].service == ""

    def test_no_such_service(self, house: House) -> None:
        assert house.call("POST", "/v1/keys", {"user": "a", "service": "nobody"}).status == 404


class TestRevocations:
    def test_a_token(self, house: House) -> None:
        answer = house.call("POST", "/v1/revocations", {"token": "e.y.z"})
        digest = token_digest(b"e.y.z")
        assert (answer.status, answer.document["digest"]) == (201, digest)
        assert house.state.revocations[digest].until == NOW + 366 * 86400
        assert "e.y.z" not in repr(house.store.entries)
        assert [each["digest"] for each in house.get("/v1/revocations")["items"]] == [digest]

    def test_an_id(self, house: House) -> None:
        answer = house.call("POST", "/v1/revocations", {"jti": "x"})
        assert answer.document["digest"] == jti_digest("x")

    def test_again_is_not_for_less_long(self, house: House) -> None:
        house.call("POST", "/v1/revocations", {"jti": "x"})
        answer = house.call(
            "POST", "/v1/revocations", {"jti": "x", "until": "2023-12-01T00:00:00Z"}
        )
        assert answer.document["until"] == "2024-11-14T22:13:20.000Z"

    @pytest.mark.parametrize(
        "body", [{}, {"token": "a", "jti": "b"}, {"jti": "x", "until": "2020-01-01T00:00:00Z"}]
    )
    def test_what_is_of_no_use(self, house: House, body: Any) -> None:
        assert house.call("POST", "/v1/revocations", body).status == 422
        assert house.state.revocations == {}


class Away(MemoryTokenCache):
    """A token cache that cannot be reached."""

    def items(self) -> Deferred[Mapping[str, str]]:
        return fail(TokenCacheError("away"))


class TestCachedTokens:
    def test_list_and_revoke(self, house: House) -> None:
        told: list[str] = []
        house.tokens.subscribe(told.append)
        house.tokens.add("alice:192.0.2.7", "a-token")
        house.tokens.add(fingerprint(b"bob"), "another")
        found = house.get("/v1/tokens")["items"]
        alice = {
            "zone": "tokens",
            "id": fingerprint(b"alice:192.0.2.7"),
            "key": "alice:192.0.2.7",
            "revoked": False,
        }
        key = fingerprint(b"bob")
        bob = {"zone": "tokens", "id": key, "key": key, "revoked": False}
        assert sorted(found, key=str) == sorted([alice, bob], key=str)
        path = f"/v1/tokens/tokens/{alice['id']}"
        assert house.call("DELETE", path).status == 204
        assert told == ["alice:192.0.2.7"]
        assert alice | {"revoked": True} in house.get("/v1/tokens", zone="tokens")["items"]
        assert house.get("/v1/tokens", zone="other")["items"] == []
        (entry,) = [each for each in house.store.entries if each.subject.startswith("tokens/")]
        assert (entry.action, entry.subject) == ("cached-token.revoke", path[4:])

    @pytest.mark.parametrize("path", ["tokens/nobody", "other/alice"])
    def test_no_such_token(self, house: House, path: str) -> None:
        assert house.call("DELETE", f"/v1/tokens/{path}").status == 404

    def test_a_cache_that_is_away(self, house: House) -> None:
        house.managed.zones = {"tokens": Away(300)}
        answer = house.call("GET", "/v1/tokens")
        assert (answer.status, answer.document["reason"]) == (503, "token_cache_away")

    def test_key_value_calls_are_in_the_audit_log(self, house: House) -> None:
        zone = "/api/8/http/keyvals/tokens"
        for method, body in (
            ("POST", {"alice": "a-token"}),
            ("POST", {"alice": "again"}),  # 409
            ("PATCH", {"alice": "new"}),
            ("PATCH", {"alice": "0"}),
            ("PATCH", {"alice": None}),
            ("PATCH", {"alice": None}),  # 404
            ("POST", {"bob": "0"}),
            ("GET", None),
            ("DELETE", None),
        ):
            house.call(method, zone, body)
        alice, bob = (f"tokens/tokens/{fingerprint(name)}" for name in (b"alice", b"bob"))
        entries = house.store.entries[1:]  # the first is of the service
        assert [(entry.action, entry.subject) for entry in entries] == [
            ("cached-token.add", alice),
            ("cached-token.change", alice),
            ("cached-token.revoke", alice),
            ("cached-token.remove", alice),
            ("cached-token.revoke", bob),
            ("cached-token.empty", "tokens/tokens"),
        ]
        assert {(entry.actor, entry.source) for entry in entries} == {("token", "192.168.1.1")}
        assert "a-token" not in repr(entries)

    def test_while_the_store_is_away_they_work_all_the_same(self, house: House) -> None:
        house.store.away = True
        assert house.call("POST", "/api/8/http/keyvals/tokens", {"alice": "0"}).status == 201


class TestUsage:
    def test_sums(self, house: House) -> None:
        house.store.usage += [row("acme", "alice", "/x", 3), row("acme", "bob", "/x", 1)]
        (found,) = house.get("/v1/usage", user="bob", by=["user", "day"], since="24h")["items"]
        assert (found["user"], found["requests"], found["day"]) == ("bob", 1, "1970-01-01")
        (query,) = house.store.queries
        assert isinstance(query, UsageQuery)
        assert (query.by, query.user) == (("user", "day"), "bob")
        assert query.since == int((NOW - 86400) // 3600) * 3600

    def test_pages(self, house: House) -> None:
        house.store.usage += [row("acme", "alice", f"/{n}", 1) for n in range(5)]
        first = house.get("/v1/usage", limit=2)
        assert ([each["path"] for each in first["items"]], first["next"]) == (["/0", "/1"], 2)
        last = house.get("/v1/usage", limit=2, offset=4)
        assert ([each["path"] for each in last["items"]], last["next"]) == (["/4"], None)

    def test_csv(self, house: House) -> None:
        house.store.usage += [row("acme", "alice", f"/{n}", 1) for n in range(2)]
        answer = house.call("GET", "/v1/usage?limit=1&by=path", fields=["Accept: text/csv"])
        assert answer.fields["content-type"] == "text/csv; charset=utf-8"
        assert answer.body.splitlines()[1].startswith(b"acme,alice,/0,1,")
        assert answer.fields["link"] == '</v1/usage?limit=1&by=path&offset=1>; rel="next"'

    @pytest.mark.parametrize(
        ("name", "value"), [("since", "x"), ("until", "0001-01-01"), ("timezone", "Mars/Olympus")]
    )
    def test_what_is_no_time(self, house: House, name: str, value: str) -> None:
        answer = house.call("GET", f"/v1/usage?{name}={value}")
        assert answer.status == 422
        assert [error["field"] for error in answer.document["errors"]] == [name]

    def test_records(self, house: House) -> None:
        record = UsageRecord(
            "1" * 32, NOW, 0.5, "acme", "alice", "", "GET", "/x", 200, 200, 1, 2, 3, "ok"
        )
        house.store.records.append(record._replace(spent=(Spent("prepaid", "main", "alice", 3),)))
        (found,) = house.get("/v1/records", service="acme")["items"]
        assert (found["start"], found["units"]) == ("2023-11-14T22:13:20Z", 3)
        drawn = {"source": "prepaid", "name": "main", "holder": "alice", "amount": 3}
        assert found["spent"] == [drawn]
        answer = house.call("GET", "/v1/records", fields=["Accept: text/csv"])
        (row,) = csv.DictReader(answer.body.decode().splitlines())
        assert json.loads(row["spent"]) == [drawn]


class Exchange:
    def __init__(self, name: str, user: str = "alice") -> None:
        self.id = name.encode()
        self.request: Any = SimpleNamespace(route=SimpleNamespace(name="acme"), label="/acme/x")
        self.grant = SimpleNamespace(user=user, key_id="")
        door = SimpleNamespace(name="public")
        self.client = SimpleNamespace(door=door, peer="192.0.2.7")
        self.head = SimpleNamespace(method=b"GET", target=b"/acme/x?secret=1")
        self.start = 90.0
        self.status = self.bytes_in = self.bytes_out = 0
        self.tunnel = None
        self.cuts: list[str] = []

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)


class TestExchanges:
    def test_list_and_cut(self, house: House) -> None:
        mine, early = Exchange("a" * 32), Exchange("b" * 32, "bob")
        early.request = None
        house.live |= {mine, early}
        first, second = house.get("/v1/exchanges")["items"]
        assert (first["start"], first["service"]) == ("2023-11-14T22:13:10.000Z", "acme")
        assert (second["path"], second["service"]) == ("/acme/x", "")
        assert len(house.get("/v1/exchanges", user="bob")["items"]) == 1
        assert house.call("DELETE", f"/v1/exchanges/{'a' * 32}").status == 204
        assert (mine.cuts, early.cuts) == (["operator"], [])
        assert house.store.entries[-1].action == "exchange.cut"
        assert house.call("DELETE", "/v1/exchanges/nothing").status == 404


class TestDaemon:
    def test_no_secret_in_the_configuration(self, house: House) -> None:
        answer = house.call("GET", "/v1/configuration")
        assert b"hunter2" not in answer.body
        assert answer.document["store"]["url"] == "***"
        assert answer.document["services"][0]["checkers"] == ["secret://***"]

    def test_a_reload_of_what_cannot_be_used(self, house: House) -> None:
        house.wrong = [Problem("services[2].to", "must be a URL"), Problem("", "is torn")]
        answer = house.call("POST", "/v1/reload")
        assert answer.status == 422
        assert answer.document["errors"] == [
            {"field": "services[2].to", "detail": "must be a URL"},
            {"field": "", "detail": "is torn"},
        ]
        assert [entry.action for entry in house.store.entries] == ["service.add"]

    def test_reload(self, house: House) -> None:
        answer = house.call("POST", "/v1/reload")
        assert answer.document == {"status": "reloaded", "needs_restart": ["store.url"]}
        assert house.reloads == 1
        assert house.store.entries[-1].action == "daemon.reload"

    def test_audit(self, house: House) -> None:
        for _ in range(3):
            house.call("POST", "/v1/reload")
        page = house.get("/v1/audit", limit=2)
        assert [each["number"] for each in page["items"]] == [4, 3]
        rest = house.get("/v1/audit", before=page["next"])
        assert [each["action"] for each in rest["items"]] == ["daemon.reload", "service.add"]
        assert rest["next"] is None
