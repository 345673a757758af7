from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekeeper.golem.definitions import certificate_hash, definition_json, read_definition
from gatekeeper.golem.registration import differences
from tests.golem.test_definitions import SMALL

SERVED = {
    "serverName": ["b.example", "a.example"],
    "bindHttp": ["127.0.0.1:81", "127.0.0.1:80"],
    "requestTimeout": 1000,
}


def test_the_same() -> None:
    definition = read_definition(SMALL | SERVED)
    there = definition_json(definition) | {"createdAt": "2026-01-01T00:00:00Z"}
    assert differences(definition, there) == []
    there["bindHttp"] = ["127.0.0.1:80", "127.0.0.1:81"]
    there["serverName"] = ["a.example", "b.example"]
    there |= dict.fromkeys(["bindHttps", "cert", "responseTimeout", "cpuThreads"])
    assert differences(definition, there) == []


def test_what_is_only_advertised_does_not_count() -> None:
    definition = read_definition(SMALL)
    more = {"description": "x", "cpuThreads": 5, "offerProperties": {"a": 1}}
    assert differences(definition, definition_json(definition) | more) == []


def test_the_proxy_s_default_server_name() -> None:
    definition = read_definition(SMALL)
    assert differences(definition, SMALL | {"serverName": ["a.example"]}) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("serverName", ["a.example"]),
        ("serverName", None),
        ("bindHttp", ["127.0.0.1:80"]),
        ("bindHttp", "127.0.0.1:80"),
        ("bindHttps", ["127.0.0.1:443"]),
        ("from", "/other"),
        ("to", "http://127.0.0.1:10000/"),
        ("requestTimeout", 1001),
        ("requestTimeout", None),
        ("responseTimeout", 1),
    ],
)
def test_a_difference(field: str, value: Any) -> None:
    definition = read_definition(SMALL | SERVED)
    assert differences(definition, definition_json(definition) | {field: value}) == [field]


def test_certificates_by_their_hash(tmp_path: Path) -> None:
    file = tmp_path / "c.pem"
    file.write_text("certificate")
    cert = {"path": str(file), "keyPath": "/k.pem"}
    definition = read_definition(SMALL | {"bindHttps": "1.2.3.4:443", "cert": cert})
    there = definition_json(definition)
    there["cert"] = {"hash": certificate_hash(file), "path": "/elsewhere", "keyPath": "/elsewhere"}
    assert differences(definition, there) == []
    file.write_text("renewed")
    assert differences(definition, there) == ["cert"]
    assert differences(definition, there | {"cert": None}) == ["cert"]
    file.unlink()
    assert differences(definition, there) == ["cert"]
