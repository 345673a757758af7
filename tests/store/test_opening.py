from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gatekeeper.config.model import Store
from gatekeeper.errors import ConfigurationError
from gatekeeper.store.opening import make_store
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
