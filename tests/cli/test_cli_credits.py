from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cli.operating import Operator
from tests.cli.test_cli_completion import complete

ACCOUNTS = "/v1/credits/accounts"
BALANCES = "/v1/credits/balances"
CHARGES = "/v1/credits/charges"
GRANTS = "/v1/credits/grants"
LEDGER = "/v1/credits/ledger"
OWED = "/v1/credits/owed"
RETRY = "/v1/credits/retry"
SETTLEMENTS = "/v1/credits/settlements"

ACCOUNT = {"pool": "default", "user": "alice", "granted": 12345, "spent": 12000, "left": 345}
GRANTED = {**ACCOUNT, "repeated": False}
CONTRACT, HOLDER, TOKEN = "0x" + "c0" * 20, "0x" + "a1" * 20, "0x" + "0d" * 32
BALANCE: dict[str, Any] = {
    "contract": CONTRACT, "token": TOKEN, "holder": HOLDER,
    "balance": 1234567, "owed": 7, "left": 1234560, "problem": None,
}  # fmt: skip
CHARGE: dict[str, Any] = {
    "id": 12, "contract": CONTRACT, "token": TOKEN, "holder": HOLDER, "credits": 1500,
    "state": "pending", "open": True, "settlement": None, "origin": None, "reason": "",
    "created": "2026-11-22T10:00:00.000Z", "updated": "2026-11-22T10:00:00.000Z",
}  # fmt: skip
SINCE = "2026-11-22T10:00:00.000Z"


# --- granted credits ------------------------------------------------------------------------


def test_grant(operator: Operator) -> None:
    operator.api.answer("POST", GRANTS, GRANTED)
    assert operator.json("credits", "grant", "alice", "1000") == GRANTED
    body = operator.api.only.body
    assert re.fullmatch("[0-9a-f]{32}", body.pop("id"))
    assert body == {"user": "alice", "credits": 1000, "pool": "default", "note": ""}
    assert operator.table("credits", "grant", "alice", "1000") == (
        "User alice has 345 credits left in pool default: 12,345 were granted, 12,000 are spent.\n"
    )


@pytest.mark.parametrize("credits", ["-5", "-10", str(2**63 - 1), str(1 - 2**63)])
def test_grant_with_everything(operator: Operator, credits: str) -> None:
    operator.api.answer("POST", GRANTS, GRANTED)
    options = ("--pool", "maps", "--note", "invoice 17", "--id", "A-17", "--format", "json")
    operator.run("credits", "grant", "alice", credits, *options)
    body = {"user": "alice", "credits": int(credits), "pool": "maps", "note": "invoice 17"}
    assert operator.api.only.body == {**body, "id": "A-17"}


def test_every_grant_has_an_id_of_its_own(operator: Operator) -> None:
    operator.api.answer("POST", GRANTS, GRANTED)
    for _ in range(5):
        operator.run("credits", "grant", "alice", "1")
    assert len({asked.body["id"] for asked in operator.api.asked}) == 5


def test_grant_that_was_made_before(operator: Operator) -> None:
    operator.api.answer("POST", GRANTS, {**GRANTED, "repeated": True})
    assert operator.json("credits", "grant", "alice", "5", "--id", "A-17")["repeated"] is True
    assert operator.table("credits", "grant", "alice", "5", "--id", "A-17").startswith(
        "This grant was made before. User alice has 345 credits left "
    )


@pytest.mark.parametrize("options", [[], ["--id", "Invoice-17"]])
def test_grant_without_an_answer(operator: Operator, options: list[str]) -> None:
    """Nobody knows whether it was made; with its id it can be run again."""
    operator.api.answer("POST", GRANTS, b"<html>502</html>", 502)
    result = operator.run("credits", "grant", "alice", "5", *options, status=4)
    name = operator.api.only.body["id"]
    assert name == "Invoice-17" or not options
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    advice = f"It is not known whether the grant was made: run it again with --id {name}"
    assert line.endswith(f". {advice}")
    operator.configure('state_dir = "state"\n[management]\nbind = "127.0.0.1:1"\n')
    result = operator.run("credits", "grant", "alice", "5", "--id", name, status=4)
    assert result.stderr.endswith(f": Connection refused. {advice}\n")


def test_grant_of_which_the_store_does_not_answer(operator: Operator) -> None:
    operator.api.refuse("POST", GRANTS, 503, "The store does not answer; see the log.")
    result = operator.run("credits", "grant", "alice", "5", "--id", "Invoice-17", status=1)
    assert result.stderr == (
        "gatekeeper: The store does not answer; see the log. It is not known whether the grant was "
        "made: run it again with --id Invoice-17\n"
    )


def test_grant_that_nobody_waited_for(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gatekeeper.management_client.Client.call", interrupted)
    result = operator.run("credits", "grant", "alice", "5", "--id", "Invoice-17", status=1)
    assert "whether the grant was made: run it again with --id Invoice-17" in result.stderr


def test_grant_that_nobody_was_asked_for(operator: Operator) -> None:
    operator.token_file.unlink()
    result = operator.run("credits", "grant", "alice", "5", status=4)
    assert "--id" not in result.stderr
    assert operator.api.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["5"],
        ["1.5"],
        ["many"],
        [str(2**63)],
        ["-" + str(2**63)],
        ["5", "6"],
        ["5", "--pol", "x"],
    ],
)
def test_grant_of_what(operator: Operator, arguments: list[str]) -> None:
    user = [] if arguments == ["5"] else ["alice"]
    operator.run("credits", "grant", *user, *arguments, status=2)
    assert operator.api.asked == []


def test_a_grant_that_is_refused(operator: Operator) -> None:
    why = "of 3 granted credits 5 cannot be taken back"
    operator.api.refuse("POST", GRANTS, 422, f"credits: {why}", credits=why)
    result = operator.run("credits", "grant", "alice", "-5", status=1)
    assert result.stderr == f"gatekeeper: credits: {why}\n"


def test_balance_of_everybody(operator: Operator) -> None:
    operator.api.page(ACCOUNTS, [ACCOUNT], "default/alice")
    operator.api.page(ACCOUNTS, [{**ACCOUNT, "user": "bob", "left": -3}])
    assert [each["user"] for each in operator.json("credits", "balance")] == ["alice", "bob"]
    assert operator.api.asked[1].query == {"limit": "1000", "after": "default/alice"}
    shown = operator.table("credits", "balance")
    for text in ("bob", "12,345", "12,000", "-3"):
        assert text in shown


def test_balance_of_a_user(operator: Operator) -> None:
    operator.api.page(ACCOUNTS, [ACCOUNT])
    assert operator.json("credits", "balance", "alice", "--pool", "default") == [ACCOUNT]
    assert operator.api.only.query == {"user": "alice", "pool": "default", "limit": "1000"}


def test_an_address_may_be_a_users_name(operator: Operator) -> None:
    operator.api.page(ACCOUNTS, [])
    assert operator.json("credits", "balance", HOLDER, "--pool", "default") == []


# --- on a chain -----------------------------------------------------------------------------


def test_balance_of_an_address(operator: Operator) -> None:
    operator.api.answer("GET", BALANCES, {"items": [BALANCE]})
    assert operator.json("credits", "balance", HOLDER) == [BALANCE]
    assert operator.api.only.query == {"holder": HOLDER}
    shown = operator.table("credits", "balance", HOLDER, "--contract", CONTRACT, "--token", TOKEN)
    assert "1,234,560" in shown
    query = {"holder": HOLDER, "contract": CONTRACT, "token": TOKEN}
    assert operator.api.asked[1].query == query


def test_balance_that_cannot_be_read(operator: Operator) -> None:
    unread = dict.fromkeys(("balance", "owed", "left"))
    problem = {**BALANCE, **unread, "problem": "the chain's node: refused"}
    operator.api.answer("GET", BALANCES, {"items": [BALANCE, problem]})
    assert operator.json("credits", "balance", HOLDER, status=1) == [BALANCE, problem]
    result = operator.run("credits", "balance", HOLDER, "--format", "table", status=1)
    assert "the chain's node: refused" in result.stdout
    assert "cannot be read" in result.stderr


@pytest.mark.parametrize(
    "options",
    [["--token", TOKEN], ["--contract", CONTRACT], [HOLDER, "--pool", "a", "--token", "1"]],
)
def test_balance_of_what(operator: Operator, options: list[str]) -> None:
    result = operator.run("credits", "balance", *options, status=2)
    assert "go with an ADDRESS" in result.stderr
    assert operator.api.asked == []


@pytest.mark.parametrize(("command", "state"), [("pending", "claimed"), ("uncollected", "error")])
def test_charges(operator: Operator, command: str, state: str) -> None:
    operator.api.page(CHARGES, [CHARGE], 12)
    operator.api.page(CHARGES, [{**CHARGE, "id": 9, "state": state}])
    found = operator.json("credits", command, "--holder", HOLDER)
    assert [each["id"] for each in found] == [12, 9]
    # Of what stands there twice, a stand-in sees the last.
    query = {"state": state, "holder": HOLDER, "limit": "1000"}
    assert [asked.query for asked in operator.api.asked] == [query, {**query, "before": "12"}]


def test_charges_as_a_table(operator: Operator) -> None:
    operator.api.page(CHARGES, [CHARGE])
    sums = [("pending", 2**70, 1200), ("uncollected", 5, 1)]
    owed = [
        {"state": state, "credits": credits, "charges": number, "since": SINCE}
        for state, credits, number in sums
    ]
    operator.api.answer("GET", OWED, {"items": owed})
    shown = operator.table("credits", "pending")
    assert "1,500" in shown
    assert shown.splitlines()[-1] == f"In all {2**70:,d} credits of 1,200 charges are pending."
    assert operator.table("credits", "uncollected").splitlines()[-1] == (
        "In all 5 credits of 1 charges are uncollected."
    )
    assert "In all" not in operator.table("credits", "pending", "--holder", HOLDER)


def test_ledger(operator: Operator) -> None:
    entry = {
        "number": 7, "time": SINCE, "subject": "charge/12", "event": "claim",
        "before": "pending", "after": "claimed", "detail": {"credits": 5},
    }  # fmt: skip
    operator.api.page(LEDGER, [entry])
    assert operator.json("credits", "ledger", "charge/12", "--limit", "3") == [entry]
    assert operator.api.only.query == {"subject": "charge/12", "limit": "3"}
    shown = operator.table("credits", "ledger")
    for text in ("charge/12", "claim", "2026-11-22T10:00:00Z", '{"credits": 5}'):
        assert text in shown


def transaction(salt: str, block: int | None) -> dict[str, Any]:
    return {"hash": "0x" + salt * 64, "block": block}


@pytest.mark.parametrize(
    ("transactions", "shown"),
    [
        ([], None),
        ([transaction("1", None), transaction("2", None)], "0x" + "2" * 64),
        ([transaction("1", 1234), transaction("2", None)], "0x" + "1" * 64),
    ],
)
def test_settlements(
    operator: Operator, transactions: list[dict[str, Any]], shown: str | None
) -> None:
    entries = [{"credits": 1000, "burn": 900}, {"credits": 500, "burn": 500}]
    settlement = {
        "id": 3, "state": "sent", "reason": "", "updated": SINCE,
        "entries": entries, "transactions": transactions,
    }  # fmt: skip
    operator.api.page(SETTLEMENTS, [settlement])
    assert operator.json("credits", "settlements", "--state", "sent") == [settlement]
    assert operator.api.only.query == {"state": "sent", "limit": "1000"}
    table = operator.table("credits", "settlements")
    for text in ("sent", "1,500", "1,400"):
        assert text in table
    assert ("0x" in table) == (shown is not None)
    assert (shown or "") in table
    assert ("1,234" in table) == any(each["block"] for each in transactions)


def test_retry(operator: Operator) -> None:
    operator.api.answer("POST", RETRY, {"retried": 1})
    assert operator.json("credits", "retry", "12", "17") == {"retried": 1}
    assert operator.api.only.body == {"ids": [12, 17]}
    assert operator.table("credits", "retry", "12", "17") == (
        "1 will be tried again. 1 are neither uncollected nor in error.\n"
    )
    assert operator.table("credits", "retry", "--all") == "1 will be tried again.\n"
    assert operator.api.asked[-1].body == {"ids": None}


@pytest.mark.parametrize("arguments", [[], ["12", "--all"], ["0"], ["x"], [str(2**63)]])
def test_retry_of_what(operator: Operator, arguments: list[str]) -> None:
    operator.run("credits", "retry", *arguments, status=2)
    assert operator.api.asked == []


# --- completion -----------------------------------------------------------------------------


def test_completion(operator: Operator) -> None:
    operator.api.page("/v1/users", [{"name": "alice"}, {"name": "bob"}, {"name": "alice"}])
    operator.api.page(ACCOUNTS, [ACCOUNT, {**ACCOUNT, "user": "adam", "pool": "maps"}])
    operator.api.page(CHARGES, [CHARGE, {**CHARGE, "id": 17}])
    assert complete(operator, "gatekeeper credits grant a") == ["alice"]
    assert complete(operator, "gatekeeper credits balance a") == ["alice", "adam"]
    assert complete(operator, "gatekeeper credits balance --pool ") == ["default", "maps"]
    assert complete(operator, "gatekeeper credits retry 1") == ["12", "17"]
    assert operator.api.asked[-1].query == {"state": "error", "limit": "1000"}
