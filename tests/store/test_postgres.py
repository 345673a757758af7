"""What a PostgreSQL server can do to us."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

import psycopg2
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from gatekeeper.errors import BatchRejected, ConfigurationError, StoreError
from gatekeeper.store import postgres_link, postgres_records, postgres_usage
from gatekeeper.store.fitting import Column, fit
from gatekeeper.store.interface import RecordQuery, Retention, UsageQuery
from gatekeeper.store.postgres import PostgresStore
from gatekeeper.usage.records import Batch, Counted
from tests.servers import PostgresServer
from tests.store.relay import Relay
from tests.store.support import RECORD, in_reactor

BATCH = Batch("a", 0, 1, {("acme", "alice", "/", "", 0): Counted(1, 2, 3, 4, 0.5)})


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_link, "GRACE", 0.3)
    monkeypatch.setattr(postgres_link, "CONNECT_TIMEOUT", 0.3)


def make(url: str, statement_timeout: float = 10.0) -> PostgresStore:
    return PostgresStore(url, statement_timeout, reactor)


async def requests(store: PostgresStore) -> int:
    (row,) = await store.usage(UsageQuery(by=()))
    return row.requests


async def closed_by_server(store: PostgresStore) -> None:
    """Wait until the store has noticed that the server has hung up."""
    for link in (store._writing, store._reading):
        while link._connection is not None and not link._connection.closed:
            await deferLater(reactor, 0.01)


@in_reactor
async def test_server_that_was_restarted(postgres: PostgresServer, url: str) -> None:
    store = make(url)
    await store.write_batch(BATCH)
    assert await requests(store) == 1
    failures: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    postgres.restart()
    await closed_by_server(store)
    globalLogPublisher.removeObserver(observe)
    assert failures == [], "idle connections go quietly"
    await store.write_batch(BATCH._replace(sequence=2))
    assert await requests(store) == 2
    await store.close()


@in_reactor
async def test_server_that_is_away(postgres: PostgresServer, url: str) -> None:
    store = make(url)
    await store.open()
    postgres.stop()
    try:
        for call in (store.open, store.ping, lambda: store.write_batch(BATCH)):
            with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
                await call()
            assert postgres.password not in str(caught.value)
    finally:
        postgres.start()
    await store.write_batch(BATCH)
    assert await requests(store) == 1
    await store.close()


@pytest.mark.usefixtures("short_limits")
@in_reactor
async def test_server_that_hangs_in_a_write(postgres: PostgresServer, url: str) -> None:
    store = make(url, statement_timeout=0.3)
    await store.open()
    turns: list[None] = []
    ticking = LoopingCall(turns.append, None)
    postgres.pause()
    try:
        ticking.start(0.01)
        with pytest.raises(StoreError, match="no answer within"):
            await store.write_batch(BATCH)
        # Making a new connection to it is no better.
        with pytest.raises(StoreError, match="no answer within"):
            await store.write_batch(BATCH)
    finally:
        ticking.stop()
        postgres.resume()
    assert len(turns) > 10, "the reactor stood still"
    # The statement was sent; whether the server does it when it wakes up makes no difference.
    store = make(url)
    await store.write_batch(BATCH)
    assert await requests(store) == 1
    await store.close()


@pytest.mark.usefixtures("short_limits")
@in_reactor
async def test_close_while_the_server_hangs(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_link, "CLOSE_TIMEOUT", 0.1)
    store = make(url)
    await store.open()
    postgres.pause()
    try:
        writing = store.write_batch(BATCH)
        await store.close()
        with pytest.raises(StoreError):
            await writing
        with pytest.raises(StoreError, match="closed"):
            await store.write_batch(BATCH)
    finally:
        postgres.resume()


@in_reactor
async def test_answer_that_is_lost_after_the_commit(postgres: PostgresServer, url: str) -> None:
    relay = Relay(postgres.port)
    port = await relay.start()
    store = make(url.replace(f":{postgres.port}/", f":{port}/"))
    await store.open()
    relay.cutting = True
    with pytest.raises(StoreError):
        await store.write_batch(BATCH)
    assert relay.cuts == 1
    database = urlsplit(url).path[1:]
    assert postgres.execute("SELECT sequence FROM batch", database) == [(1,)], "it was committed"
    relay.cutting = False
    await store.write_batch(BATCH)
    assert await requests(store) == 1
    await store.close()
    await relay.stop()


@in_reactor
async def test_statement_that_takes_too_long(postgres: PostgresServer, url: str) -> None:
    store = make(url, statement_timeout=0.2)
    await store.write_batch(BATCH)
    lock = LockedTable(postgres.url(urlsplit(url).path[1:]))
    try:
        with pytest.raises(StoreError, match=r"statement_timeout is 0\.2 s"):
            await store.write_batch(BATCH._replace(sequence=2))
    finally:
        lock.release()
    await store.write_batch(BATCH._replace(sequence=2))
    assert await requests(store) == 2
    await store.close()


class LockedTable:
    def __init__(self, url: str) -> None:
        self.connection = psycopg2.connect(url)
        self.connection.cursor().execute("LOCK TABLE usage")

    def release(self) -> None:
        self.connection.close()


@in_reactor
async def test_cancelling_a_call_does_not_cancel_the_query(url: str) -> None:
    store = make(url)
    await store.open()
    writing: Deferred[None] = store.write_batch(BATCH)
    failures: list[object] = []
    writing.addErrback(failures.append)
    writing.cancel()
    assert len(failures) == 1
    await store.write_batch(BATCH._replace(sequence=2))
    assert await requests(store) == 2
    await store.close()


@in_reactor
async def test_wrong_password_is_not_shown(postgres: PostgresServer, url: str) -> None:
    store = make(url.replace(":127", "").replace("gatekeeper:", "gatekeeper:wrong-secret-"))
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        await store.open()
    assert "wrong-secret" not in str(caught.value)
    assert "wrong-secret" not in repr(caught.value.__cause__)
    await store.close()


@in_reactor
async def test_host_that_has_no_address() -> None:
    store = make("postgresql://u:hidden@nowhere.invalid/db")
    with pytest.raises(StoreError, match=r"nowhere\.invalid") as caught:
        await store.open()
    assert "hidden" not in str(caught.value)
    await store.close()


@in_reactor
async def test_name_of_the_host_and_unix_socket(postgres: PostgresServer, url: str) -> None:
    for other in (
        url.replace("@127.0.0.1:", "@localhost:"),
        url.replace("@127.0.0.1:", "@:") + f"?host={postgres.directory}",
    ):
        store = make(other)
        await store.open()
        await store.ping()
        await store.close()


@in_reactor
async def test_store_that_is_newer_than_the_program(postgres: PostgresServer, url: str) -> None:
    store = make(url)
    await store.open()
    await store.close()
    database = urlsplit(url).path[1:]
    postgres.execute("INSERT INTO schema_version VALUES (9999)", database)
    store = make(url)
    with pytest.raises(ConfigurationError, match=r"store\.url: .* schema version 9999") as caught:
        await store.open()
    assert "install the newer gatekeeper" in str(caught.value)
    with pytest.raises(ConfigurationError):
        await store.write_batch(BATCH)
    await store.close()


@in_reactor
async def test_database_in_another_encoding(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    store = make(postgres.url("latin"))
    with pytest.raises(ConfigurationError, match="encoding is LATIN1"):
        await store.open()
    await store.close()


@in_reactor
async def test_batch_that_the_server_rejects(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past what makes it fit, so that the server is asked: it will say the same every time."""
    store = make(url)
    await store.open()
    fitted = fit(BATCH)
    bad: list[tuple[int, Column]] = [(5, [2**70]), (2, ["/" + secrets.token_hex(9000)])]
    for number, column in bad:
        columns = list(fitted.counters)
        columns[number] = column
        wrong = fitted._replace(counters=columns)
        with monkeypatch.context() as patched:
            patched.setattr(postgres_usage, "fit", lambda batch, wrong=wrong: wrong)
            with pytest.raises(BatchRejected, match=r"out of range|maximum size"):
                await store.write_batch(BATCH)
    await store.write_batch(BATCH)
    assert await requests(store) == 1
    await store.close()


# --- partitions -------------------------------------------------------------------------------


def partitions(postgres: PostgresServer, url: str) -> list[str]:
    rows = postgres.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits "
        "WHERE inhparent = 'usage_record'::regclass ORDER BY 1",
        urlsplit(url).path[1:],
    )
    return [str(name) for (name,) in rows]


@in_reactor
async def test_every_day_of_records_has_a_partition(postgres: PostgresServer, url: str) -> None:
    store = make(url)
    records = tuple(RECORD._replace(start=86400.0 * day - 0.5) for day in (1, 3, 3, 60))
    await store.write_batch(BATCH._replace(records=records))
    await store.write_batch(BATCH._replace(sequence=2, records=records))
    assert partitions(postgres, url) == [
        "usage_record_19700101",
        "usage_record_19700103",
        "usage_record_19700301",
    ]
    await store.maintain(86400.0 * 60, Retention(86400.0, None, None))
    assert partitions(postgres, url) == ["usage_record_19700301"]
    await store.close()


@in_reactor
async def test_partition_that_somebody_has_detached(postgres: PostgresServer, url: str) -> None:
    store = make(url)
    await store.write_batch(BATCH._replace(records=(RECORD,)))
    (name,) = partitions(postgres, url)
    postgres.execute(f"ALTER TABLE usage_record DETACH PARTITION {name}", urlsplit(url).path[1:])
    await store.write_batch(BATCH._replace(sequence=2, records=(RECORD,)))
    assert partitions(postgres, url) == [name]
    assert len(await store.records(RecordQuery())) == 2
    await store.close()


@in_reactor
async def test_long_reading_does_not_let_the_upkeep_hold_up_the_flush(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(url)
    await store.write_batch(BATCH._replace(records=(RECORD._replace(start=0.0),)))
    monkeypatch.setattr(postgres_records, "LOCK_TIMEOUT", "100ms")
    reader = psycopg2.connect(postgres.url(urlsplit(url).path[1:]))
    reader.cursor().execute("SELECT count(*) FROM usage_record")
    try:
        with pytest.raises(StoreError, match="lock timeout"):
            await store.maintain(1e9, Retention(0.0, None, None))
        await store.write_batch(BATCH._replace(sequence=2, records=(RECORD,)))
    finally:
        reader.close()
    done = await store.maintain(1e9, Retention(0.0, None, None))
    assert done.record_days == 1
    await store.close()
