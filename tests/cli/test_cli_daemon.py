"""Exchanges, status, reload and the audit log."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.operating import Operator

EXCHANGES = "/v1/exchanges"


def exchange(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-{number}",
        "service": "acme",
        "user": "alice",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/slow",
        "status": 0,
        "bytes_in": 0,
        "bytes_out": 12345,
        "start": "2026-11-22T10:00:00.000Z",
        "tunnel": False,
        **fields,
    }


@pytest.mark.parametrize("command", [["exchanges"], ["exchanges", "list"]])
def test_exchanges(operator: Operator, command: list[str]) -> None:
    operator.api.page(EXCHANGES, [exchange(1)])
    assert operator.json(*command, "--user", "alice", "--service", "acme") == [exchange(1)]
    assert operator.api.only.query == {"service": "acme", "user": "alice", "limit": "1000"}
    assert "12,345" in operator.table(*command)


def test_help_of_exchanges_is_of_the_group(operator: Operator) -> None:
    assert "Cut requests that run" in operator.run("exchanges", "--help").output


def test_cut_by_id(operator: Operator) -> None:
    for number in (1, 2):
        operator.api.answer("DELETE", f"{EXCHANGES}/id-{number}", None, 204)
    assert operator.json("exchanges", "cut", "id-1", "id-2") == {"cut": ["id-1", "id-2"]}


def test_cut_what_is_not_there(operator: Operator) -> None:
    operator.api.refuse("DELETE", f"{EXCHANGES}/id-1", 404, "There is no such exchange.")
    result = operator.run("exchanges", "cut", "id-1", status=1)
    assert result.stderr == "gatekeeper: There is no such exchange.\n"


def test_cut_all_of_a_user(operator: Operator) -> None:
    """Those that have ended by themselves meanwhile are no error."""
    operator.api.page(EXCHANGES, [exchange(1), exchange(2)])
    operator.api.refuse("DELETE", f"{EXCHANGES}/id-1", 404, "There is no such exchange.")
    operator.api.answer("DELETE", f"{EXCHANGES}/id-2", None, 204)
    assert operator.json("exchanges", "cut", "--user", "alice", "--yes") == {"cut": ["id-2"]}
    assert operator.api.asked[0].query == {"user": "alice", "limit": "1000"}


def test_cut_of_several_needs_a_yes(operator: Operator) -> None:
    operator.api.page(EXCHANGES, [exchange(1)])
    result = operator.run("exchanges", "cut", "--service", "acme", status=2)
    assert "--yes" in result.stderr
    assert operator.api.only.method == "GET"


def test_nothing_to_cut(operator: Operator) -> None:
    operator.api.page(EXCHANGES, [])
    assert operator.table("exchanges", "cut", "--service", "acme") == "0 cut.\n"


@pytest.mark.parametrize("arguments", [[], ["id-1", "--user", "alice"]])
def test_cut_of_what(operator: Operator, arguments: list[str]) -> None:
    result = operator.run("exchanges", "cut", *arguments, "--yes", status=2)
    assert "give either IDs" in result.stderr
    assert operator.api.asked == []


HEALTH: dict[str, Any] = {
    "status": "ready",
    "version": "1.0",
    "started": "2026-11-22T10:00:00.000Z",
    "uptime": 12.5,
    "connections": 3,
    "exchanges": 2,
    "services": 1,
    "users": 0,
    "listeners": [{"name": "public", "role": "gateway", "address": "0.0.0.0:443"}],
    "checks": [{"name": "store", "problem": None}],
    "journal": {"records": 1234, "bytes": 5, "limit": 10, "full": False, "failing": False},
    "flusher": {"lag": 0.5, "failing": False, "written": 7, "failures": 0, "rejected": 0},
}


def test_status(operator: Operator) -> None:
    operator.api.answer("GET", "/v1/health", HEALTH)
    assert operator.json("status") == HEALTH
    lines = [
        [part.strip() for part in line.strip("│").split("│")]
        for line in operator.table("status").splitlines()
    ]
    assert ["users", "0"] in lines
    assert ["listener public", "gateway on 0.0.0.0:443"] in lines
    assert ["check store", "ok"] in lines
    assert ["journal", "1,234 records, 5 of 10 bytes"] in lines
    assert [
        "flushing",
        "0.5 s behind, 7 batches written, 0 attempts failed, 0 segments set aside",
    ] in lines


def test_status_of_a_daemon_that_is_not_ready(operator: Operator) -> None:
    journal = {**HEALTH["journal"], "full": True, "failing": True}
    flusher = {**HEALTH["flusher"], "failing": True}
    checks = [{"name": "store", "problem": "does not answer"}]
    health = {
        **HEALTH,
        "status": "unavailable",
        "checks": checks,
        "journal": journal,
        "flusher": flusher,
    }
    operator.api.answer("GET", "/v1/health", health)
    assert operator.json("status", status=3) == health
    shown = operator.table("status", status=3)
    for text in ("does not answer", "it is full; it cannot be written", "it fails now"):
        assert text in shown


def test_status_where_nothing_is_counted(operator: Operator) -> None:
    operator.api.answer("GET", "/v1/health", {**HEALTH, "journal": None, "flusher": None})
    assert "usage is not counted" in operator.table("status")


def test_reload(operator: Operator) -> None:
    answer = {"status": "reloaded", "needs_restart": []}
    operator.api.answer("POST", "/v1/reload", answer)
    assert operator.json("reload") == answer
    assert operator.api.only.body is None
    assert operator.table("reload") == "The configuration is reloaded.\n"


def test_what_a_reload_cannot_change(operator: Operator) -> None:
    keys = ["state_dir", "store.url"]
    operator.api.answer("POST", "/v1/reload", {"status": "reloaded", "needs_restart": keys})
    assert "need a restart: state_dir, store.url." in operator.table("reload")


def change(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "time": "2026-11-22T10:00:00.000Z",
        "actor": "token",
        "source": "127.0.0.1",
        "action": "user.add",
        "subject": "services/acme/users/alice",
        "detail": {"groups": ["a"]} if number > 1 else {},
    }


def test_audit(operator: Operator) -> None:
    operator.api.page("/v1/audit", [change(3), change(2)], 2)
    operator.api.page("/v1/audit", [change(1)])
    assert operator.json("audit") == [change(3), change(2), change(1)]
    assert [asked.query for asked in operator.api.asked] == [
        {"limit": "100"},
        {"limit": "98", "before": "2"},
    ]


def test_audit_as_a_table(operator: Operator) -> None:
    operator.api.page("/v1/audit", [change(2), change(1)])
    shown = operator.table("audit")
    for text in (
        "token",
        "127.0.0.1",
        "user.add",
        "services/acme/users/alice",
        '{"groups": ["a"]}',
    ):
        assert text in shown
