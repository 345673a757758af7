"""From every schema that was released to the one of today, with data in it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest
from twisted.internet.defer import DeferredList

from gatekeeper.config.model import Store
from gatekeeper.errors import ConfigurationError, StoreError
from gatekeeper.store import schema, sqlite_schema
from gatekeeper.store.interface import (
    IStore,
    RecordQuery,
    Retention,
    SchemaVersion,
    UsageQuery,
    UsageRow,
)
from gatekeeper.store.ledger import Granted, Kept
from gatekeeper.store.opening import make_store
from gatekeeper.store.schema import Dialect
from gatekeeper.store.state import Add, AuditEntry, Snapshot, StoredService
from tests.servers import PostgresServer
from tests.store.ledgers import ALICE, ENTRY, PREPAID_ALICE, claim, meter, own, unburned
from tests.store.support import HOUR, ONE, RECORD, batch, in_reactor

DIALECTS: list[Dialect] = ["sqlite", "postgres"]
RELEASED = range(1, schema.newest("sqlite"))


_ONE_GRANT = (
    "INSERT INTO account VALUES ('prepaid', 'main', 'alice', 5, 0, 1.5)",
    "INSERT INTO ledger_event (time, kind, subject, event, before, after, detail) VALUES "
    "(1.5, 'prepaid', 'main/alice', 'grant', '0', '5', '{}')",
)


class Old:
    """A database with an old schema, made and looked at without the code that is tested."""

    def __init__(self, dialect: Dialect, path: Path, server: PostgresServer | None) -> None:
        self.dialect = dialect
        self.path = path
        self.server = server
        self.url = server.create_database() if server else f"sqlite:///{path}"

    def execute(self, *scripts: str) -> None:
        if self.dialect == "sqlite":
            with closing(sqlite3.connect(self.path)) as connection:
                for script in scripts:
                    connection.executescript(script)
        else:
            with closing(psycopg2.connect(self.url)) as connection:
                with connection.cursor() as cursor:
                    for script in scripts:
                        cursor.execute(script)
                connection.commit()

    def make(self, version: int) -> None:
        """Give it the schema of ``version``, and some data."""
        scripts = [sql for number, sql in schema.upgrades(self.dialect, 0) if number <= version]
        self.execute(
            "CREATE TABLE schema_version (version integer NOT NULL)",
            *scripts,
            *(f"INSERT INTO schema_version VALUES ({number})" for number in range(1, version + 1)),
            *(
                "INSERT INTO usage (service, user_name, path, hour, requests, bytes_in, "
                "bytes_out, units, duration) "
                f"VALUES ('acme', '{user}', '/v0', {HOUR}, {number}, 2, 3, 4, 0.5)"
                for number, user in enumerate(("alice", "bob", "zürich ☃"), 1)
            ),
            "INSERT INTO batch VALUES ('a', 0, 7, 1700000000)",
        )
        if version >= 2:
            self.execute(*self._one_record())
        if version >= 4:
            self.execute(*_ONE_GRANT)

    def _one_record(self) -> list[str]:
        """A single record of the day before, as it was kept before there were credits."""
        day = HOUR // 86400 * 86400 - 86400
        partition = (
            f"CREATE TABLE usage_record_{datetime.fromtimestamp(day, UTC):%Y%m%d} "
            f"PARTITION OF usage_record FOR VALUES FROM ({day}) TO ({day + 86400})"
        )
        insert = (
            "INSERT INTO usage_record (id, start, duration, service, user_name, key_id, method, "
            "path, status, upstream_status, bytes_in, bytes_out, units, reason, model) VALUES "
            f"('old', {day + 0.5}, 0.5, 'acme', 'alice', 'key', 'GET', '/a', 200, 201, 1, 2, 3, "
            "'ok', 'tiny')"
        )
        return [insert] if self.dialect == "sqlite" else [partition, insert]

    def store(self) -> IStore:
        return make_store(Store(url=self.url, statement_timeout=10), create=False)


@pytest.fixture(params=DIALECTS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    server = request.getfixturevalue("postgres") if request.param == "postgres" else None
    return Old(request.param, tmp_path / "u.sqlite", server)


KEPT = [
    UsageRow("acme", "alice", "/v0", "", HOUR, 1, 2, 3, 4, 0.5),
    UsageRow("acme", "bob", "/v0", "", HOUR, 2, 2, 3, 4, 0.5),
    UsageRow("acme", "zürich ☃", "/v0", "", HOUR, 3, 2, 3, 4, 0.5),
]
EVERY = ("service", "user", "path", "model", "hour")


def test_both_dialects_have_the_same_versions() -> None:
    numbers = [[number for number, _ in schema.upgrades(dialect, 0)] for dialect in DIALECTS]
    assert numbers[0] == numbers[1] == list(range(1, len(numbers[0]) + 1))


@pytest.mark.parametrize("version", RELEASED)
@in_reactor
async def test_upgrade_keeps_everything(old: Old, version: int) -> None:
    old.make(version)
    store = old.store()
    newest = schema.newest(old.dialect)
    assert await store.version() == SchemaVersion(version, newest)
    told: list[str] = []
    await store.upgrade(told.append)
    assert f"schema version is {newest}" in told
    assert await store.version() == SchemaVersion(newest, newest)
    assert await store.usage(UsageQuery(by=EVERY)) == KEPT
    # A batch that it had counts no second time, new ones add up with what was there.
    counters = {("acme", "alice", "/v0", "", HOUR): ONE}
    await store.write_batch(batch(counters, 7))
    await store.write_batch(batch(counters, 8, records=(RECORD,)))
    (row,) = await store.usage(UsageQuery(user="alice", by=EVERY))
    assert row == UsageRow(*KEPT[0][:5], 2, 12, 103, 5, 1.0)
    old_record = RECORD._replace(
        id="old", start=HOUR // 86400 * 86400 - 86400 + 0.5, did="", owner="", spent=()
    )
    assert await store.records(RecordQuery()) == [RECORD, old_record][: 1 + (version >= 2)]
    assert (await store.maintain(HOUR + 9e6, Retention(None, 0.0, None))).rolled_up == 3
    # What operators make has its place.
    service = StoredService("acme", "v1", "{}", 1.5)
    await store.change([Add(service)], AuditEntry(1.5, "token", "127.0.0.1", "add", "acme"))
    assert await store.snapshot() == Snapshot(1, (service,))
    # And so has what they sell.
    await meter(store, alice=5)
    assert await unburned(store, ALICE) == [5]
    settlement = await claim(await own(store))
    assert [entry.credits for entry in settlement.entries] == [5]
    there = version >= 4
    for repeated in (False, True):
        granted = await store.grant(PREPAID_ALICE, 7, ENTRY, "one")
        assert granted == Granted(Kept(7 + 5 * there, 0), repeated)
    assert (await store.maintain(HOUR + 9e6, Retention(None, None, None, 0.0))).grants == 1 + there
    await store.close()


@in_reactor
async def test_upgraded_store_is_like_a_new_one(old: Old, tmp_path: Path) -> None:
    """The same columns, and the same indexes."""
    old.make(1)
    store = old.store()
    await store.upgrade(lambda text: None)
    await store.close()
    new = Old(old.dialect, tmp_path / "new.sqlite", old.server)
    store = make_store(Store(url=new.url))
    await store.open()
    await store.close()
    assert shape(old) == shape(new)


def shape(database: Old) -> list[object]:
    if database.dialect == "sqlite":
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2"
        with closing(sqlite3.connect(database.path)) as file:
            return [(*row[:3], str(row[3]).lower()) for row in file.execute(query)]
    columns = (
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        cursor.execute(columns)
        found: list[object] = [*cursor.fetchall()]
        cursor.execute(indexes)
        return [*found, *cursor.fetchall()]


@pytest.mark.parametrize("call", ["open", "ping", "write", "usage", "records", "maintain"])
@in_reactor
async def test_store_that_is_older_is_refused(old: Old, call: str) -> None:
    old.make(1)
    store = old.store()
    calls: dict[str, Callable[[], object]] = {
        "open": store.open,
        "ping": store.ping,
        "write": lambda: store.write_batch(batch({})),
        "usage": lambda: store.usage(UsageQuery()),
        "records": lambda: store.records(RecordQuery()),
        "maintain": lambda: store.maintain(1e9, Retention(None, None, None)),
    }
    with pytest.raises(ConfigurationError, match=r"store\.url: .* schema version 1") as caught:
        await calls[call]()  # type: ignore[misc]
    assert "gatekeeper store upgrade --config FILE" in str(caught.value)
    assert (await store.version()).found == 1, "nothing was changed"
    await store.close()


@in_reactor
async def test_store_that_is_newer_is_refused(old: Old) -> None:
    old.make(schema.newest(old.dialect))
    old.execute("INSERT INTO schema_version VALUES (9999)")
    store = old.store()
    for call in (store.open, lambda: store.upgrade(lambda text: None)):
        with pytest.raises(ConfigurationError, match="schema version 9999") as caught:
            await call()
        assert "install the newer gatekeeper" in str(caught.value)
    assert (await store.version()).found == 9999
    await store.close()


@in_reactor
async def test_upgrade_that_was_done_already(old: Old) -> None:
    old.make(1)
    store = old.store()
    await store.upgrade(lambda text: None)
    told: list[str] = []
    await store.upgrade(told.append)
    assert told == []
    assert await store.usage(UsageQuery(by=EVERY)) == KEPT
    await store.close()


@in_reactor
async def test_two_upgrades_at_once(old: Old) -> None:
    old.make(1)
    stores = [old.store() for _ in range(4)]
    told: list[str] = []
    results = await DeferredList(
        [store.upgrade(told.append) for store in stores], consumeErrors=True
    )
    assert all(succeeded for succeeded, _ in results), results
    for version in range(2, schema.newest(old.dialect) + 1):
        assert told.count(f"schema version is {version}") == 1
    assert await stores[0].usage(UsageQuery(by=EVERY)) == KEPT
    for store in stores:
        await store.close()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The newest version's script fails at its end."""
    schema._files.cache_clear()
    files = schema._files

    def bad(dialect: Dialect) -> dict[int, str]:
        found = dict(files(dialect))
        found[max(found)] += "\nINSERT INTO nowhere VALUES (1);\n"
        return found

    monkeypatch.setattr(schema, "_files", bad)
    yield
    monkeypatch.undo()


@in_reactor
async def test_upgrade_that_fails_changes_nothing(
    old: Old, broken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema.newest(old.dialect) - 1
    old.make(before)
    store = old.store()
    with pytest.raises(StoreError, match="nowhere"):
        await store.upgrade(lambda text: None)
    assert (await store.version()).found == before
    monkeypatch.undo()
    await store.upgrade(lambda text: None)
    assert await store.usage(UsageQuery(by=EVERY)) == KEPT
    await store.close()


@in_reactor
async def test_upgrade_of_nothing(old: Old) -> None:
    """An empty database gets the schema; a file that is not there is not made."""
    store = old.store()
    if old.dialect == "sqlite":
        for call in (store.version, lambda: store.upgrade(lambda text: None)):
            with pytest.raises(StoreError, match="No such file"):
                await call()
        assert not old.path.exists()
        old.path.touch(0o600)
    assert (await store.version()).found == 0
    await store.upgrade(lambda text: None)
    assert (await store.version()).found == schema.newest(old.dialect)
    assert not list(old.path.parent.glob("*.backup"))
    await store.close()


# --- the backup of SQLite ---------------------------------------------------------------------


@pytest.fixture
def old_file(tmp_path: Path) -> Old:
    old = Old("sqlite", tmp_path / "u.sqlite", None)
    old.make(1)
    return old


@in_reactor
async def test_backup(old_file: Old) -> None:
    # It has to have what is in the write-ahead log only, too.
    with closing(sqlite3.connect(old_file.path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE usage SET units = 77")
        connection.commit()
        store = old_file.store()
        told: list[str] = []
        await store.upgrade(told.append)
        await store.close()
    backup = old_file.path.with_name("u.sqlite.v1.backup")
    assert told[0] == f"backup: {backup}"
    assert stat.S_IMODE(os.stat(backup).st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as connection:
        assert sqlite_schema.found_version(connection) == 1
        query = "SELECT user_name, units FROM usage ORDER BY 1"
        rows = connection.execute(query).fetchall()
    assert rows == [("alice", 77), ("bob", 77), ("zürich ☃", 77)]


@in_reactor
async def test_no_upgrade_without_a_backup(old_file: Old) -> None:
    backup = old_file.path.with_name("u.sqlite.v1.backup")
    backup.mkdir()
    store = old_file.store()
    with pytest.raises(StoreError, match="directory"):
        await store.upgrade(lambda text: None)
    assert (await store.version()).found == 1
    assert not list(old_file.path.parent.glob("*.unfinished"))
    backup.rmdir()
    await store.upgrade(lambda text: None)
    assert backup.is_file()
    await store.close()
