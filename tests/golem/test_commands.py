from __future__ import annotations

from typing import Any

import pytest

from gatekeeper.golem.account import Account
from gatekeeper.golem.commands import UsageError, parse_command, public_service
from gatekeeper.management_client import Client, Refused, Unreachable, parse_address
from tests.golem.standin import StandIn

SERVICE: dict[str, Any] = {
    "name": "acme",
    "bindHttp": ["127.0.0.1:80"],
    "serverName": ["acme.com"],
    "from": "/",
    "to": "http://127.0.0.1:1",
}


@pytest.fixture
def account(standin: StandIn) -> Account:
    api = Client(parse_address(standin.url))
    api.call("POST", ("services",), body=SERVICE)
    return Account(api, "acme")


def run(account: Account, *words: str, program: str | None = None) -> Any:
    return parse_command(words[0] if program is None else program, words)(account)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("user", ["user", "add", "alice", "pw"]),
        ("/bin/user", ["user", "add", "alice", "pw"]),
        ("user", ["add", "alice", "pw"]),
        ("", ["user", "add", "alice", "pw"]),
        ("user", ["user", "add", "alice", "pw", "--auth", "basic"]),
        ("user", ["user", "add", "--auth", "basic", "alice", "pw"]),
        ("user", ["user", "add", "--auth=basic", "alice", "pw"]),
        ("user", ["user", "add", "-a", "basic", "alice", "pw"]),
        ("user", ["user", "add", "alice", "--pw"]),
        ("user", ["user", "add", "alice", ""]),
    ],
)
def test_spellings(account: Account, standin: StandIn, program: str, words: list[str]) -> None:
    parse_command(program, words)(account)
    assert standin.users("acme") == ["alice"]


@pytest.mark.parametrize(
    "words",
    [
        [""],
        ["user"],
        ["user", "add"],
        ["user", "add", "alice"],
        ["user", "add", "alice", "s3cret", "more"],
        ["user", "add", "", "s3cret"],
        ["user", "add", ".", "s3cret"],
        ["user", "remove", ".."],
        ["user", "stats", ""],
        ["user", "list", "alice"],
        ["USER", "list"],
        ["service"],
        ["service", "remove"],
        ["user", "add", "alice", "s3cret", "--auth", "digest"],
        ["user", "add", "alice", "s3cret", "--auth"],
        ["user", "add", "alice", "s3cret", "--auth="],
        ["sh", "-c", "id"],
    ],
)
def test_what_is_no_command(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command(words[0], words)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "ä ö", "%2e", "?x", "a;b", "stats"])
def test_names_that_are_hard_to_write_into_a_url(
    account: Account, standin: StandIn, name: str
) -> None:
    run(account, "user", "add", name, "pw")
    standin.request("acme", name, "/x")
    assert run(account, "user", "stats", name) == {"/x": 1}
    run(account, "user", "remove", name)
    assert standin.users("acme") == []


class TestTheService:
    def test_with_everything(self) -> None:
        shown = public_service(
            SERVICE
            | {
                "createdAt": "2026-01-01T00:00:00Z",
                "bindHttps": ["0.0.0.0:443", "[::]:443", "1.2.3.4:8443"],
                "bindHttp": "0.0.0.0:80",
                "cert": {"hash": "sha3:00", "path": "/c", "keyPath": "/k"},
                "responseTimeout": 1000,
                "cpuThreads": 2,
                "description": "not shown",
            }
        )
        assert shown == {
            "name": "acme",
            "serverName": ["acme.com"],
            "createdAt": "2026-01-01T00:00:00Z",
            "portHttps": [443, 8443],
            "portHttp": [80],
            "certHash": "sha3:00",
            "timeouts": {"responseTimeout": 1000},
            "cpuThreads": 2,
        }

    def test_with_nulls(self) -> None:
        """As a program answers that fills in every field."""
        empty = ("bindHttps", "cert", "requestTimeout", "responseTimeout", "cpuThreads")
        service = SERVICE | dict.fromkeys(empty) | {"createdAt": "2026-01-01T00:00:00Z"}
        assert public_service(service) == {
            "name": "acme",
            "serverName": ["acme.com"],
            "createdAt": "2026-01-01T00:00:00Z",
            "portHttps": [],
            "portHttp": [80],
        }

    @pytest.mark.parametrize(
        "answer", [None, [], {}, "x", SERVICE, SERVICE | {"createdAt": "", "bindHttp": ["x"]}]
    )
    def test_that_is_none(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, answer: Any
    ) -> None:
        monkeypatch.setattr(Client, "call", lambda *_, **__: answer)
        with pytest.raises(Unreachable, match="no service"):
            run(account, "service", "info")

    def test_that_is_gone(self, account: Account, standin: StandIn) -> None:
        standin.services.clear()
        with pytest.raises(Refused, match="no such service"):
            run(account, "service", "info")
