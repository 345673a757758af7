"""What can happen to an SQLite file."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest
from twisted.internet import reactor

from gatekeeper.errors import BatchRejected, ConfigurationError, StoreError
from gatekeeper.store import sqlite_file, sqlite_usage
from gatekeeper.store.fitting import Fitted
from gatekeeper.store.interface import UsageQuery
from gatekeeper.store.sqlite import SqliteStore
from gatekeeper.usage.records import Batch, Counted
from tests.store.support import in_reactor

BATCH = Batch("a", 0, 1, {("acme", "alice", "/", "", 0): Counted(1, 2, 3, 4, 0.5)})


def make(path: Path, *, create: bool = True) -> SqliteStore:
    return SqliteStore(path, reactor, create=create)  # type: ignore[arg-type]


@in_reactor
async def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    store = make(tmp_path / "u.sqlite")
    await store.write_batch(BATCH)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
    assert modes.keys() >= {"u.sqlite", "u.sqlite-wal"}
    assert set(modes.values()) == {0o600}
    await store.close()


@in_reactor
async def test_committed_batches_are_on_the_disk(tmp_path: Path) -> None:
    store = make(tmp_path / "u.sqlite")
    modes = await store._writing.run(
        lambda connection: [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
    )
    assert modes == ["wal", 2]
    await store.close()


@pytest.mark.parametrize("kind", ["missing directory", "directory", "not a database", "missing"])
@in_reactor
async def test_file_that_cannot_be_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "u.sqlite"
    if kind == "missing directory":
        path = tmp_path / "nowhere" / "u.sqlite"
    elif kind == "directory":
        path.mkdir()
    elif kind == "not a database":
        path.write_bytes(b"something else entirely" * 100)
    store = make(path, create=kind != "missing")
    for call in (store.open, store.ping, lambda: store.write_batch(BATCH)):
        with pytest.raises(StoreError, match=r"store\.url: .*u\.sqlite"):
            await call()
    await store.close()


@in_reactor
async def test_opening_again_when_the_cause_is_gone(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    store = make(directory / "u.sqlite")
    with pytest.raises(StoreError):
        await store.open()
    directory.mkdir()
    await store.write_batch(BATCH)
    assert len(await store.usage(UsageQuery())) == 1
    await store.close()


@in_reactor
async def test_file_that_another_process_has_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.01)
    store = make(tmp_path / "u.sqlite")
    await store.open()
    other = sqlite3.connect(tmp_path / "u.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        await store.write_batch(BATCH)
    assert await store.usage(UsageQuery()) == [], "readers do not wait for a writer"
    other.execute("ROLLBACK")
    other.close()
    await store.write_batch(BATCH)
    assert len(await store.usage(UsageQuery())) == 1
    await store.close()


@in_reactor
async def test_failure_in_the_middle_of_a_batch_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "u.sqlite")
    await store.open()
    # Past what makes it fit, so that SQLite itself is asked.
    too_big = Fitted(("a", 0, 1), [*[["x", "x"]] * 4, [0, 3600], *[[0, 2**63]] * 10], [()] * 15)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_usage, "fit", lambda batch: too_big)
        with pytest.raises(BatchRejected, match="too large"):
            await store.write_batch(BATCH)
    assert await store.usage(UsageQuery()) == []
    await store.write_batch(BATCH)
    assert len(await store.usage(UsageQuery())) == 1
    await store.close()


@in_reactor
async def test_store_that_is_newer_than_the_program(tmp_path: Path) -> None:
    path = tmp_path / "u.sqlite"
    store = make(path)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_version VALUES (9999)")
    connection.close()
    store = make(path)
    with pytest.raises(ConfigurationError, match=r"store\.url: .* schema version 9999"):
        await store.open()
    await store.close()
