"""Hearing of changes in PostgreSQL: what is told, and what is not lost with a connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gatekeeper.errors import AlreadyThereError, StoreError
from gatekeeper.store import postgres_link, postgres_watch
from gatekeeper.store.interface import Retention
from gatekeeper.store.postgres import PostgresStore
from gatekeeper.store.postgres_watch import PostgresWatch
from gatekeeper.store.state import Add, AuditEntry, IStateWatch, Replace, StoredUser
from tests.daemon import PATIENCE
from tests.servers import PostgresServer
from tests.store.relay import Relay
from tests.store.support import in_reactor

ALICE = StoredUser("acme", "alice", "hash", 1.0)
ENTRY = AuditEntry(1.0, "token", "here", "test", "acme")


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the log says of listening."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        line = formatEvent(event)
        if "that others make" in line or "log_failure" in event:
            lines.append(line)

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who tries again, and asks whether the server is there, several times a second."""
    monkeypatch.setattr(postgres_watch, "RETRY", 0.05)
    monkeypatch.setattr(postgres_watch, "_BEAT", 0.05)
    monkeypatch.setattr(postgres_watch, "_PATIENCE", 0.3)
    monkeypatch.setattr(postgres_link, "GRACE", 0.1)
    monkeypatch.setattr(postgres_link, "CONNECT_TIMEOUT", 0.5)


async def until(condition: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {PATIENCE:g} s: {what}"
        await deferLater(reactor, 0.01)


class Node:
    """Who listens; ``told`` has all that it is told."""

    def __init__(self, url: str) -> None:
        self.store = PostgresStore(url, 10.0, reactor)
        self.told: list[int | None] = []
        self.watch = self.store.watch_state(self.told.append)

    async def listens(self) -> None:
        await until(lambda: self.watch.listening, "it listens")

    async def hears(self, version: int) -> None:
        await until(lambda: version in self.told, f"version {version} is told")


@asynccontextmanager
async def node(url: str) -> AsyncIterator[Node]:
    made = Node(url)
    try:
        yield made
    finally:
        await made.store.close()


def listeners(postgres: PostgresServer, url: str) -> int:
    """How many connections listen, as the server sees it."""
    ((count,),) = postgres.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{urlsplit(url).path[1:]}' "
        "AND query IN ('SELECT 1', 'LISTEN gatekeeper_state')"
    )
    assert isinstance(count, int)
    return count


@in_reactor
async def test_everybody_hears_of_every_change(url: str) -> None:
    async with node(url) as one, node(url) as other:
        assert verifyObject(IStateWatch, one.watch)
        for each in (one, other):
            await each.listens()
            assert each.told == [None], "it may have missed some"
        assert await one.store.change([Add(ALICE)], ENTRY) == 1
        assert await other.store.change([Replace(ALICE)], ENTRY) == 2
        for each in (one, other):
            await each.hears(2)
            assert [version for version in each.told if version is not None] == [1, 2]


@in_reactor
async def test_what_has_not_happened_is_not_told(url: str) -> None:
    async with node(url) as one:
        await one.listens()
        await one.store.change([Add(ALICE)], ENTRY)
        with pytest.raises(AlreadyThereError):
            await one.store.change([Add(ALICE)], ENTRY)
        await one.store.change([Replace(ALICE)], ENTRY)
        await one.hears(2)
        assert one.told.count(2) == 1


@in_reactor
async def test_a_change_without_changes_is_told_too(url: str) -> None:
    async with node(url) as one:
        await one.listens()
        await one.store.change([], ENTRY)
        await one.hears(1)


@in_reactor
async def test_what_makes_no_sense_may_mean_anything(postgres: PostgresServer, url: str) -> None:
    async with node(url) as one:
        await one.listens()
        for payload in ("", "x", "9" * 5000):
            one.told.clear()
            postgres.execute(
                f"SELECT pg_notify('gatekeeper_state', '{payload}')", urlsplit(url).path[1:]
            )
            await until(lambda: None in one.told, "it is told")


@pytest.mark.usefixtures("impatient")
@in_reactor
async def test_now_and_then_it_is_to_be_made_sure(url: str) -> None:
    async with node(url) as one:
        await until(lambda: one.told.count(None) > 3, "it is told")


@in_reactor
async def test_a_connection_that_breaks_off(
    postgres: PostgresServer, url: str, said: list[str]
) -> None:
    relay = Relay(postgres.port)
    port = await relay.start()
    async with (
        node(url.replace(f":{postgres.port}/", f":{port}/")) as one,
        node(url) as other,
    ):
        await one.listens()
        await other.listens()
        relay.cutting = True
        await other.store.change([Add(ALICE)], ENTRY)  # Telling it of this cuts the line.
        await until(lambda: not one.watch.listening, "it is noticed")
        assert one.told == [None]
        await until(lambda: relay.cuts > 3, "it is tried again")
        relay.cutting = False
        await one.listens()
        assert one.told == [None, None], "it may have missed some"
        await other.store.change([Replace(ALICE)], ENTRY)
        await one.hears(2)
        assert other.told == [None, 1, 2]
    await relay.stop()
    lost, there = said
    assert "not heard of, but looked for every second: " in lost
    assert "Changes that others make are heard of at once again" in there


@in_reactor
async def test_a_server_that_is_restarted(
    postgres: PostgresServer, url: str, said: list[str]
) -> None:
    async with node(url) as one:
        await one.listens()
        postgres.stop()
        await until(lambda: not one.watch.listening, "it is noticed")
        postgres.start()
        await one.listens()
        assert one.told == [None, None]
        await one.store.change([Add(ALICE)], ENTRY)
        await one.hears(1)
    assert len(said) == 2


@pytest.mark.usefixtures("impatient")
@in_reactor
async def test_a_line_that_falls_silent(
    postgres: PostgresServer, url: str, said: list[str]
) -> None:
    async with node(url) as one:
        await one.listens()
        postgres.pause()
        try:
            await until(lambda: not one.watch.listening, "it is noticed")
            await until(lambda: said, "it is said")
        finally:
            postgres.resume()
        await one.listens()
        await one.store.change([Add(ALICE)], ENTRY)
        await one.hears(1)
    assert len(said) == 2


@in_reactor
async def test_a_server_that_is_away_at_first(
    postgres: PostgresServer, url: str, said: list[str]
) -> None:
    postgres.stop()
    try:
        async with node(url) as one:
            await until(lambda: said, "it is said")
            postgres.start()
            await one.listens()
    finally:
        postgres.start_again()
    assert len(said) == 2


@pytest.mark.usefixtures("impatient")
@in_reactor
async def test_a_fault_of_ours_is_logged_and_nothing_ends(
    url: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(postgres_watch, "_ask", lambda _: 1 / 0)
        one = Node(url)
        await until(lambda: len(said) > 2, "it is said")
    await one.listens()
    await one.store.close()
    assert "a fault of ours" in said[1]
    assert said[-1].endswith("heard of at once again")


@in_reactor
async def test_nothing_listens_after_the_end(
    postgres: PostgresServer, url: str, said: list[str]
) -> None:
    async with node(url) as one, node(url) as other:
        await one.listens()
        await other.listens()
        assert listeners(postgres, url) == 2
        one.watch.stop()
        one.watch.stop()
        await until(lambda: listeners(postgres, url) == 1, "the connection is gone")
        await other.store.change([Add(ALICE)], ENTRY)
        await other.hears(1)
        assert (one.told, one.watch.listening) == ([None], False)
    await until(lambda: listeners(postgres, url) == 0, "the store takes its watches along")
    assert said == []


@in_reactor
async def test_nothing_is_connected_after_the_end(postgres: PostgresServer, url: str) -> None:
    """Not by one who is still looking for the address, nor by the upkeep."""
    one = Node(url)
    assert isinstance(one.watch, PostgresWatch)
    one.watch.stop()
    await one.store.close()
    with pytest.raises(StoreError, match="closed"):
        await one.store.maintain(1.0, Retention(None, None, None))
    with pytest.raises(StoreError, match="closed"):
        await one.store.version()
    pool = reactor.getThreadPool()  # type: ignore[attr-defined]
    await until(lambda: not pool.working, "the address is found")
    await deferLater(reactor, 0)
    assert one.watch._link._connection is None
    assert one.told == []
