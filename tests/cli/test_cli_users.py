from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.operating import Operator

USERS = "/v1/services/acme/users"
ALICE = {
    "service": "acme",
    "name": "alice",
    "created": "2026-11-22T10:00:00.000Z",
    "disabled": True,
    "expires": None,
    "groups": ["a", "b"],
}
USED = {
    "service": "acme",
    "user": "alice",
    "path": "/v1",
    "requests": 12345,
    "units": 7,
    "bytes_in": 1,
    "bytes_out": 2,
    "duration": 1.25,
}


def test_list(operator: Operator) -> None:
    operator.api.page(USERS, [ALICE])
    shown = operator.table("user", "list", "acme")
    for text in ("alice", "a, b", "yes", "2026-11-22T10:00:00Z"):
        assert text in shown


def test_list_of_all_services(operator: Operator) -> None:
    operator.api.page("/v1/users", [ALICE])
    assert operator.json("user", "list") == [ALICE]


def test_add(operator: Operator) -> None:
    operator.api.answer("POST", USERS, ALICE, 201)
    added = operator.json(
        *("user", "add", "acme", "alice", "--password-stdin", "--expires", "2031-05-01"),
        *("--group", "a", "--group", "b", "--disabled"),
        stdin="pässword \nnot this\n",
    )
    assert added == ALICE
    assert operator.api.only.body == {
        "name": "alice",
        "password": "pässword ",
        "expires": "2031-05-01T00:00:00Z",
        "groups": ["a", "b"],
        "disabled": True,
    }


def test_passwd(operator: Operator) -> None:
    operator.api.answer("PATCH", USERS + "/alice", ALICE)
    said = operator.table("user", "passwd", "acme", "alice", "--password-stdin", stdin="new\r\n")
    assert operator.api.only.body == {"password": "new"}
    assert said == "User alice of service acme has another password.\n"


@pytest.mark.parametrize("command", ["add", "passwd"])
@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "the password is empty"),
        (b"\n", "the password is empty"),
        (b"\xff\n", "the password is not UTF-8"),
        (b"x" * 65537, "the password is longer than 65536 bytes"),
    ],
)
def test_what_is_no_password(operator: Operator, command: str, stdin: bytes, message: str) -> None:
    result = operator.run(
        "user", command, "acme", "alice", "--password-stdin", stdin=stdin, status=2
    )
    assert message in result.stderr
    assert operator.api.asked == []


@pytest.mark.parametrize("command", ["add", "passwd"])
def test_standard_input_is_not_read_by_chance(operator: Operator, command: str) -> None:
    result = operator.run("user", command, "acme", "alice", stdin="s3cret\n", status=2)
    assert "give --password-stdin" in result.stderr
    assert operator.api.asked == []


def test_a_password_has_no_place_on_a_command_line(operator: Operator) -> None:
    operator.run("user", "add", "acme", "alice", "s3cret", status=2)
    operator.run("user", "add", "acme", "alice", "--password", "s3cret", status=2)
    assert operator.api.asked == []


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_password_is_asked_for_twice(operator: Operator, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    operator.api.answer("POST", USERS, ALICE, 201)
    process = subprocess.Popen(
        [*(sys.executable, "-m", "gatekeeper", "user", "add", "acme", "alice")],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "GATEKEEPER_CONFIG": str(operator.config)},
        start_new_session=True,  # no controlling terminal: the prompt has to use standard input
    )
    os.close(theirs)
    shown = b""
    for times in (1, 2):
        while shown.count(b": ") < times:
            shown += os.read(ours, 1000)
        os.write(ours, b"typed-s3cret\n")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert operator.api.only.body["password"] == "typed-s3cret"
    assert b"s3cret" not in shown


@pytest.mark.parametrize(("command", "disabled"), [("disable", True), ("enable", False)])
def test_disable_and_enable(operator: Operator, command: str, disabled: bool) -> None:
    operator.api.answer("PATCH", USERS + "/alice", ALICE)
    said = operator.table("user", command, "acme", "alice")
    assert operator.api.only.body == {"disabled": disabled}
    assert said == f"User alice of service acme is {command}d.\n"


def test_remove(operator: Operator) -> None:
    operator.api.answer("DELETE", USERS + "/alice", None, 204)
    assert operator.run("user", "remove", "acme", "alice", "--yes").output == ""


def test_stats_of_a_user(operator: Operator) -> None:
    operator.api.page("/v1/usage", [USED])
    shown = operator.table("user", "stats", "acme", "alice", "--since", "7d", "--until", "1h")
    assert "12,345" in shown
    assert "/v1" in shown
    assert "1.2" in shown
    assert operator.api.only.query == {
        "service": "acme",
        "user": "alice",
        "since": "7d",
        "until": "1h",
        "by": "path",
        "limit": "1000",
    }


def test_stats_of_nobody(operator: Operator) -> None:
    operator.api.page("/v1/usage", [])
    operator.api.refuse("GET", f"{USERS}/alice", 404, "There is no such user.")
    assert "no such user" in operator.run("user", "stats", "acme", "alice", status=1).stderr


def test_stats_of_who_has_used_nothing(operator: Operator) -> None:
    operator.api.page("/v1/usage", [])
    operator.api.answer("GET", f"{USERS}/alice", {"name": "alice"})
    assert operator.json("user", "stats", "acme", "alice") == []


def test_stats_of_all_users(operator: Operator) -> None:
    operator.api.page("/v1/usage", [USED], 1000)
    operator.api.page("/v1/usage", [USED])
    assert operator.json("user", "stats", "acme") == [USED, USED]
    first, second = operator.api.asked
    assert first.query == {"service": "acme", "by": "user", "limit": "1000"}
    assert second.query == {**first.query, "offset": "1000"}
