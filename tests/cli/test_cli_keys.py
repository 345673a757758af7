from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.operating import Operator

KEYS = "/v1/keys"
KEY = {
    "id": "5f0c1e",
    "user": "alice",
    "service": "acme",
    "label": "build server",
    "created": "2026-11-22T10:00:00.000Z",
    "disabled": False,
    "expires": "2031-05-01T00:00:00.000Z",
    "groups": [],
}
CREATED = {**KEY, "secret": "gk_s3cret"}


def test_the_secret_stands_alone_where_it_is_piped(operator: Operator) -> None:
    operator.api.answer("POST", KEYS, CREATED, 201)
    result = operator.run("key", "create", "alice")
    assert result.stdout == "gk_s3cret\n"
    assert result.stderr == "Key 5f0c1e of alice.\n"
    assert operator.api.only.body == {
        "user": "alice",
        "service": None,
        "label": "",
        "expires": None,
        "groups": [],
        "disabled": False,
    }


def test_the_secret_in_a_table_and_in_json(operator: Operator) -> None:
    operator.api.answer("POST", KEYS, CREATED, 201)
    shown = operator.table("key", "create", "alice")
    assert shown.splitlines()[-1] == "gk_s3cret"
    assert "5f0c1e" in shown
    assert operator.json("key", "create", "alice", "--format", "json") == CREATED


def test_create_with_everything(operator: Operator) -> None:
    operator.api.answer("POST", KEYS, CREATED, 201)
    before = datetime.now(UTC)
    operator.run(
        *("key", "create", "alice", "--service", "acme", "--label", "build server"),
        *("--expires", "30d", "--group", "a", "--disabled"),
    )
    body = operator.api.only.body
    expires = datetime.fromisoformat(body.pop("expires"))
    days = timedelta(days=30)
    assert before + days - timedelta(seconds=1) <= expires <= datetime.now(UTC) + days
    assert body == {
        "user": "alice",
        "service": "acme",
        "label": "build server",
        "groups": ["a"],
        "disabled": True,
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2031-05-01", "2031-05-01T00:00:00Z"),
        ("2031-05-01T10:00:00Z", "2031-05-01T10:00:00Z"),
        ("2031-05-01T10:00:00+02:00", "2031-05-01T10:00:00+02:00"),
        ("999999999w", "9998-12-31T23:59:59Z"),
    ],
)
def test_when_it_expires(operator: Operator, given: str, sent: str) -> None:
    operator.api.answer("POST", KEYS, CREATED, 201)
    operator.run("key", "create", "alice", "--expires", given)
    assert operator.api.only.body["expires"] == sent


@pytest.mark.parametrize("given", ["", "0d", "30", "-1d", "tomorrow", "2031-05-01T10:00", "31d12h"])
def test_what_is_no_time(operator: Operator, given: str) -> None:
    result = operator.run("key", "create", "alice", "--expires", given, status=2)
    assert "must be a span such as 30d" in result.stderr
    assert operator.api.asked == []


def test_list(operator: Operator) -> None:
    operator.api.page(KEYS, [KEY])
    shown = operator.table("key", "list", "--user", "alice", "--service", "acme")
    for text in ("5f0c1e", "alice", "acme", "build server", "2031-05-01T00:00:00Z"):
        assert text in shown
    assert operator.api.only.query == {"user": "alice", "service": "acme", "limit": "1000"}


@pytest.mark.parametrize(("command", "disabled"), [("disable", True), ("enable", False)])
def test_disable_and_enable(operator: Operator, command: str, disabled: bool) -> None:
    operator.api.answer("PATCH", KEYS + "/5f0c1e", KEY)
    assert operator.table("key", command, "5f0c1e") == f"Key 5f0c1e is {command}d.\n"
    assert operator.api.only.body == {"disabled": disabled}


def test_revoke(operator: Operator) -> None:
    operator.api.answer("DELETE", KEYS + "/5f0c1e", None, 204)
    assert operator.run("key", "revoke", "5f0c1e", "--yes").output == ""


# --- tokens -----------------------------------------------------------------------------------

REVOCATIONS = "/v1/revocations"
REVOKED = {"digest": "ab" * 32, "until": "2031-05-01T00:00:00.000Z", "created": "2026-11-22"}


@pytest.mark.parametrize("given", ["tok.en\n", "Bearer tok.en\r\n", "  tok.en"])
def test_a_token_is_revoked(operator: Operator, given: str) -> None:
    operator.api.answer("POST", REVOCATIONS, REVOKED, 201)
    assert operator.json("token", "revoke", stdin=given) == REVOKED
    assert operator.api.only.body == {"token": "tok.en", "until": None}


def test_tokens_are_revoked_by_their_id(operator: Operator) -> None:
    operator.api.answer("POST", REVOCATIONS, REVOKED, 201)
    said = operator.table("token", "revoke", "--jti", "5f", "--until", "2031-05-01")
    assert operator.api.only.body == {"jti": "5f", "until": "2031-05-01T00:00:00Z"}
    assert said == f"Revoked until 2031-05-01T00:00:00.000Z; SHA-256 {'ab' * 32}.\n"


def test_a_token_has_no_place_on_a_command_line(operator: Operator) -> None:
    operator.run("token", "revoke", "tok.en", status=2)
    assert "the token is empty" in operator.run("token", "revoke", status=2).stderr
    assert operator.api.asked == []


def test_revocations(operator: Operator) -> None:
    operator.api.page(REVOCATIONS, [REVOKED])
    assert operator.json("token", "revocations") == [REVOKED]
    assert "ab" * 32 in operator.table("token", "revocations")
