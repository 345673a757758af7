from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from gatekeeper.config.model import Store
from gatekeeper.errors import ConfigurationError, Problem, StoreError
from gatekeeper.store.opening import make_store, open_store
from gatekeeper.store.postgres import PostgresStore
from gatekeeper.store.sqlite import SqliteStore


def test_sqlite(tmp_path: Path) -> None:
    store = make_store(Store(url=f"sqlite:///{tmp_path}/u.sqlite"))
    assert isinstance(store, SqliteStore)
    assert store._path == tmp_path / "u.sqlite"


def test_postgres() -> None:
    store = make_store(Store(url="postgresql://me@db/x", statement_timeout=7))
    assert isinstance(store, PostgresStore)


def test_wrong_options_of_postgres() -> None:
    with pytest.raises(ConfigurationError, match=r"store\.url: unknown options"):
        make_store(Store(url="postgresql://me@db/x?sslmod=require"))


@pytest.mark.parametrize("missing", ["psycopg2", "txpostgres"])
def test_postgres_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    loaded = [name for name in sys.modules if name.startswith("gatekeeper.store.postgres")]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"pip install gatekeeper\[postgres\]"):
        make_store(Store(url="postgresql://localhost/x"))


# --- until it is there ------------------------------------------------------------------------


class Opening:
    """A store that can be opened after some failures; ``result`` is what comes of it."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.attempts = 0
        self.given_up = False
        self.clock = Clock()
        self.result: list[Any] = []

    def open(self) -> Deferred[None]:
        self.attempts += 1
        return fail(self.failures.pop(0)) if self.failures else succeed(None)

    def start(self) -> Callable[[float], None]:
        opening = open_store(self, self.clock, lambda: self.given_up)  # type: ignore[arg-type]
        Deferred.fromCoroutine(opening).addBoth(self.result.append)
        return self.clock.advance


def test_a_store_that_is_there() -> None:
    store = Opening()
    store.start()
    assert (store.result, store.attempts) == ([True], 1)


def test_a_store_that_is_away_is_tried_again() -> None:
    store = Opening(StoreError("no route"), StoreError("refused"))
    with capturedLogs() as logs:
        wait = store.start()
        wait(4.9)
        assert (store.result, store.attempts) == ([], 1)
        wait(0.1)
        assert (store.result, store.attempts) == ([], 2)
        wait(5.0)
    assert (store.result, store.attempts) == ([True], 3)
    assert [(log["log_level"], str(log["error"])) for log in logs] == [
        (LogLevel.error, "no route"),
        (LogLevel.error, "refused"),
    ]


def test_a_store_that_nobody_wants_any_more() -> None:
    store = Opening(StoreError("no route"))
    wait = store.start()
    store.given_up = True
    wait(5.0)
    assert (store.result, store.attempts) == ([False], 1)


def test_a_store_that_cannot_be_used() -> None:
    store = Opening(ConfigurationError([Problem("store.url", "is too new")]))
    store.start()
    assert store.result[0].check(ConfigurationError)
    assert store.attempts == 1
