"""Golem's calls, at Golem's paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.golem.definitions import certificate_hash, read_definition
from gatekeeper.golem.registration import differences
from tests.management.api_house import House, certificate, row

SERVICE = {
    "name": "acme",
    "serverName": "provider.example",
    "bindHttp": "127.0.0.1:5001",
    "from": "/acme",
    "to": "http://127.0.0.1:9",
}
ALICE = {"username": "alice", "password": "wonderland"}


@pytest.fixture
def house() -> House:
    return House()


def call(house: House, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    answer = house.call(method, path, document)
    assert answer.fields["content-type"] == "application/json"
    return answer.status, answer.document


def test_services(house: House) -> None:
    status, made = call(house, "POST", "/services", SERVICE)
    assert status == 200
    assert made["createdAt"] == "2023-11-14T22:13:20.000Z"
    assert made["bindHttp"] == ["127.0.0.1:5001"]
    assert call(house, "GET", "/services/acme") == (200, made)
    assert [each["name"] for each in call(house, "GET", "/services")[1]] == ["fixed", "acme"]
    assert call(house, "DELETE", "/services/acme") == (200, None)
    assert call(house, "GET", "/services/acme") == (404, {"message": "There is no such service."})
    assert call(house, "DELETE", "/services/acme")[0] == 404


def test_what_is_there_is_seen_as_the_same(house: House, tmp_path: Path) -> None:
    """The runtime compares what is there with its own definition after a 409."""
    cert = {"path": str(certificate(tmp_path)), "keyPath": str(tmp_path / "key")}
    service = {**SERVICE, "bindHttps": "127.0.0.1:5002", "cert": cert, "requestTimeout": 1000}
    assert call(house, "POST", "/services", service)[0] == 200
    assert call(house, "POST", "/services", service)[0] == 409
    shown = call(house, "GET", "/services/acme")[1]
    assert shown["cert"]["hash"] == certificate_hash(cert["path"])
    assert differences(read_definition(service), shown) == []


def test_a_name_is_made_up(house: House) -> None:
    unnamed = {key: value for key, value in SERVICE.items() if key != "name"}
    names = [
        call(house, "POST", "/services", {**unnamed, "from": f"/{n}"})[1]["name"] for n in range(2)
    ]
    assert names == ["service-0", "service-1"]


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"name": "b", "from": "/acme/x"},
        {"name": "b", "from": "/"},
        {"name": "fixed"},
    ],
)
def test_conflicts(house: House, other: dict[str, Any]) -> None:
    assert call(house, "POST", "/services", SERVICE)[0] == 200
    status, problem = call(house, "POST", "/services", {**SERVICE, **other})
    assert (status, list(problem)) == (409, ["message"])
    assert len(house.state.services) == 1


def test_whole_segments_do_not_conflict(house: House) -> None:
    assert call(house, "POST", "/services", SERVICE)[0] == 200
    other = {**SERVICE, "name": "b", "from": "/acmeevil"}
    assert call(house, "POST", "/services", other)[0] == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": "x"}, "to"),
        ({"from": None}, "from"),
        ({"bindHttp": None}, "bindHttps"),
        ({"bindHttps": "127.0.0.1:5002"}, "cert"),
        ({"cert": {"path": "/nowhere/cert", "keyPath": "/k"}}, "cert.path"),
        ({"serverName": None}, "serverName"),
        ({"tls": True}, "tls"),
    ],
)
def test_fields_that_cannot_be_used(house: House, change: dict[str, Any], field: str) -> None:
    status, problem = call(house, "POST", "/services", {**SERVICE, **change})
    assert status == 400
    assert problem["message"].startswith(f"{field}: ")


def test_users(house: House) -> None:
    call(house, "POST", "/services", SERVICE)
    created = {"username": "alice", "createdAt": "2023-11-14T22:13:20.000Z"}
    assert call(house, "POST", "/services/acme/users", ALICE) == (200, created)
    assert call(house, "POST", "/services/acme/users", ALICE)[0] == 409
    assert call(house, "GET", "/services/acme/users") == (200, [created])
    assert call(house, "GET", "/services/acme/users/alice") == (200, created)
    assert call(house, "DELETE", "/services/acme/users/alice") == (200, None)
    for method in ("GET", "DELETE"):
        assert call(house, method, "/services/acme/users/alice")[0] == 404
    assert call(house, "POST", "/services/nobody/users", ALICE)[0] == 404
    assert "wonderland" not in repr(house.store.entries)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "alice"}, "password"),
        ({"password": "x"}, "username"),
        ({"username": "a:b", "password": "x"}, "username"),
        ({"username": "..", "password": "x"}, "username"),
        ({"username": 1, "password": "x"}, "username"),
    ],
)
def test_a_user_that_cannot_be(house: House, body: Any, field: str) -> None:
    call(house, "POST", "/services", SERVICE)
    status, problem = call(house, "POST", "/services/acme/users", body)
    assert status == 400
    assert field in problem["message"]


def test_bad_json(house: House) -> None:
    answer = house.call("POST", "/services", body=b"{")
    assert (answer.status, list(answer.document)) == (400, ["message"])


def test_stats(house: House) -> None:
    call(house, "POST", "/services", SERVICE)
    call(house, "POST", "/services/acme/users", ALICE)
    house.store.usage += [
        row("acme", "alice", "/acme/x", 3),
        row("acme", "alice", "/acme/y", 4),
        row("acme", "bob", "/acme/y", 1),
    ]
    stats = "/services/acme/users/alice"
    assert call(house, "GET", f"{stats}/stats") == (200, {"requests": 7})
    paths = {"/acme/x": 3, "/acme/y": 4}
    assert call(house, "GET", f"{stats}/endpoints/stats") == (200, paths)
    totals = {"users": 1, "services": 2, "requests": {"requests": 8}}
    assert call(house, "GET", "/stats") == (200, totals)
    assert call(house, "GET", "/services/acme/users/bob/stats")[0] == 404


def test_shutdown(house: House) -> None:
    assert call(house, "POST", "/control/shutdown") == (200, None)
    assert house.stops == 0  # the answer goes out first
    house.clock.advance(0)
    assert house.stops == 1
    assert house.store.entries[-1].action == "daemon.stop"


def test_those_made_under_v1_are_seen(house: House) -> None:
    service = {"name": "b", "from": "/b", "to": "http://127.0.0.1:9", "checkers": []}
    assert house.call("POST", "/v1/services", service).status == 201
    shown = call(house, "GET", "/services/b")[1]
    assert (shown["from"], shown["bindHttp"]) == ("/b", ["127.0.0.1:4000"])
    call(house, "POST", "/services", SERVICE)
    assert house.get("/v1/services/acme")["dialect"] == "golem"
    assert json.loads(house.state.services["acme"].definition)["from"] == "/acme"
