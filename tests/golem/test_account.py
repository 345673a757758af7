from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatekeeper.golem.account import Account
from gatekeeper.management_client import Refused, Unreachable

NAMES = st.sampled_from("abc")


class API:
    """A management API in memory, of one service; ``away``: it does not answer."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.away = False

    def call(self, method: str, path: Sequence[str], body: Any = None, timeout: float = 1.0) -> Any:
        if self.away:
            raise Unreachable("away")
        if method == "POST":
            name = body["username"]
            if name in self.users:
                raise Refused(409, "there already")
            self.users[name] = 0
            return {"username": name, "createdAt": "now"}
        name = path[3]
        if name not in self.users:
            raise Refused(404, "not there")
        if method == "DELETE":
            return self.users.pop(name) and None
        return {"requests": self.users[name]}


class Accounts(RuleBasedStateMachine):
    """Whatever happens: the count never goes down, and never above what there was."""

    def __init__(self) -> None:
        super().__init__()
        self.api = API()
        self.account = Account(self.api, "acme")  # type: ignore[arg-type]
        self.own: set[str] = set()
        self.told = 0
        self.true = 0  # requests of the own users, in all

    @rule(name=NAMES)
    def add(self, name: str) -> None:
        try:
            self.account.add(name, "pw")
        except (Refused, Unreachable):
            assert self.api.away or name in self.api.users
        else:
            self.own.add(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        try:
            self.account.remove(name)
        except (Refused, Unreachable):
            assert self.api.away or name not in self.api.users
        else:
            self.own.discard(name)

    @rule(name=NAMES)
    def somebody_else_adds(self, name: str) -> None:
        if name not in self.own:
            self.api.users.setdefault(name, 7)

    @rule(name=NAMES, times=st.integers(1, 5))
    def request(self, name: str, times: int) -> None:
        if name in self.api.users:
            self.api.users[name] += times
            self.true += times if name in self.own else 0

    @rule()
    def go_away_or_come_back(self) -> None:
        self.api.away = not self.api.away

    @rule()
    def refresh(self) -> None:
        self.account.refresh(1.0)
        if not self.api.away:
            assert self.account.requests == self.true

    @invariant()
    def only_up(self) -> None:
        assert self.told <= self.account.requests <= self.true
        self.told = self.account.requests

    def teardown(self) -> None:
        self.api.away = False
        others = self.api.users.keys() - self.own
        assert self.account.close() == []
        assert self.api.users.keys() == others
        assert self.account.requests == self.true


TestAccounts = Accounts.TestCase


@pytest.mark.parametrize("answer", [None, [], {}, {"requests": "x"}, {"requests": None}])
def test_answers_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    api = API()
    account = Account(api, "acme")  # type: ignore[arg-type]
    account.add("alice", "pw")
    api.users["alice"] = 3
    account.refresh(1.0)
    monkeypatch.setattr(api, "call", lambda *_, **__: answer)
    account.refresh(1.0)
    assert account.requests == 3


def test_users_that_somebody_else_has_removed() -> None:
    api = API()
    account = Account(api, "acme")  # type: ignore[arg-type]
    account.add("alice", "pw")
    account.add("bob", "pw")
    api.users |= {"alice": 3, "bob": 4}
    account.refresh(1.0)
    del api.users["alice"]
    account.refresh(1.0)
    assert account.requests == 7
    assert account.close() == []
    assert account.requests == 7
    assert api.users == {}
