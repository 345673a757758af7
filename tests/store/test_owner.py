"""One process burns from an account: the one that has the lock in the store."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from gatekeeper.config.model import Store
from gatekeeper.errors import StoreError
from gatekeeper.store.interface import IStore
from gatekeeper.store.ledger import ChargeQuery, ISettling, SettlementQuery
from gatekeeper.store.opening import make_store
from tests.servers import PostgresServer
from tests.store.ledgers import BURNER, NOW, claim, meter, only_group, own
from tests.store.support import NewStore, in_reactor

OTHER = "0x" + "ff" * 20


async def soon_own(store: IStore) -> ISettling:
    """Own it as soon as the store has noticed that the owner is gone."""
    give_up_at = time.monotonic() + 30
    while (settling := await store.own_burning(BURNER)) is None:
        assert time.monotonic() < give_up_at
        await deferLater(reactor, 0.02)
    return settling


@in_reactor
async def test_there_is_one_owner(new_store: NewStore) -> None:
    stores = [new_store(), new_store()]
    settling = await own(stores[0], BURNER.upper().replace("X", "x"))
    assert verifyObject(ISettling, settling)
    assert settling.account == BURNER
    for store in stores:
        assert await store.own_burning(BURNER) is None
    other = await own(stores[1], OTHER)
    await other.close()
    await meter(stores[1], alice=3)
    settlement = await claim(settling)

    await settling.close()
    settling = await own(stores[1])
    assert await settling.under_way() == [settlement]
    # A store that is closed lets go of everything.
    await stores[1].close()
    settling = await soon_own(stores[0])
    assert await settling.under_way() == [settlement]
    await stores[0].close()


@in_reactor
async def test_nothing_is_written_after_the_end(new_store: NewStore) -> None:
    store = new_store()
    await meter(store, alice=3)
    settling = await own(store)
    group = await only_group(settling)
    await settling.close()
    for _ in range(2):
        with pytest.raises(StoreError):
            await settling.claim(group, NOW)
        with pytest.raises(StoreError):
            await settling.under_way()
    await settling.close()
    assert await store.settlements(SettlementQuery()) == []
    assert [row.open for row in await store.charges(ChargeQuery())] == [True]
    await store.close()
    with pytest.raises(StoreError):
        await store.own_burning(BURNER)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'usage.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database()


OWNER = """
import sys
from twisted.internet import reactor
from gatekeeper.config.model import Store
from gatekeeper.store.opening import make_store

def owned(settling):
    print("owner" if settling else "not the owner", flush=True)

store = make_store(Store(url=sys.argv[1], statement_timeout=10), reactor)
reactor.callWhenRunning(lambda: store.own_burning(sys.argv[2]).addCallback(owned))
reactor.run()
"""


@contextmanager
def another_process(url: str) -> Iterator[None]:
    """Another process is the owner, until it is killed."""
    command = [sys.executable, "-c", OWNER, url, BURNER]
    cwd = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "owner\n"
            yield
        finally:
            process.kill()


@in_reactor
async def test_owner_that_is_killed(url: str) -> None:
    store = make_store(Store(url=url))
    await store.open()
    with another_process(url):
        assert await store.own_burning(BURNER) is None
        assert (await own(store, OTHER)).account == OTHER
    await soon_own(store)
    await store.close()


# --- SQLite -----------------------------------------------------------------------------------


@in_reactor
async def test_file_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    store = make_store(Store(url=f"sqlite:///{path}"))
    settling = await own(store)
    file = tmp_path / f"usage.sqlite.burner-{BURNER}"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    # Whoever removes the file, or puts another one there, lets somebody else in.
    file.unlink()
    with pytest.raises(StoreError, match="another process"):
        await settling.under_way()
    file.touch()
    with pytest.raises(StoreError, match="another process"):
        await settling.under_way()
    second = await own(store)
    await settling.close()
    assert await store.own_burning(BURNER) is None
    await second.close()
    # A name from elsewhere is not a path.
    await own(store, "../../x")
    locks = [name for name in os.listdir(tmp_path) if "burner" in name]
    assert sorted(locks) == ["usage.sqlite.burner-..%2F..%2Fx", file.name]
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await second.under_way()


# --- PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return urlsplit(postgres.create_database()).path[1:]


def make(postgres: PostgresServer, database: str) -> IStore:
    return make_store(Store(url=postgres.url(database), statement_timeout=10))


def owners(postgres: PostgresServer, database: str) -> list[tuple[object, ...]]:
    return postgres.execute(
        "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        f"WHERE locktype = 'advisory' AND datname = '{database}'"
    )


def terminate(postgres: PostgresServer, database: str) -> None:
    ((pid,),) = owners(postgres, database)
    postgres.execute(f"SELECT pg_terminate_backend({pid}, 10000)")


@in_reactor
async def test_connection_that_is_lost(postgres: PostgresServer, database: str) -> None:
    """It is not made anew behind our back, for somebody else may be the owner by then."""
    store, second = make(postgres, database), make(postgres, database)
    await meter(store, alice=3)
    settling = await own(store)
    group = await only_group(settling)
    terminate(postgres, database)
    for _ in range(3):
        with pytest.raises(StoreError):
            await settling.claim(group, NOW)
    assert owners(postgres, database) == []
    new = await own(second)
    with pytest.raises(StoreError, match=f"{BURNER} burned was lost"):
        await settling.claim(group, NOW)
    await settling.close()
    assert await second.own_burning(BURNER) is None, "closing the old one does not hurt the new"
    assert await new.claim(group, NOW) is not None
    assert len(await store.settlements(SettlementQuery())) == 1
    for each in (store, second):
        await each.close()
    assert owners(postgres, database) == []


@in_reactor
async def test_connection_that_is_lost_unnoticed(postgres: PostgresServer, database: str) -> None:
    """Time goes by before the next call: then there is no connection at all."""
    store = make(postgres, database)
    await meter(store, alice=3)
    settling = await own(store)
    terminate(postgres, database)
    await deferLater(reactor, 0.1)
    with pytest.raises(StoreError, match="was lost"):
        await settling.under_way()
    assert owners(postgres, database) == []
    await (await own(store)).close()
    await store.close()


@in_reactor
async def test_server_that_was_restarted(postgres: PostgresServer, database: str) -> None:
    store = make(postgres, database)
    await meter(store, alice=3)
    settling = await own(store)
    postgres.restart()
    with pytest.raises(StoreError):
        await settling.pending(1)
    settling = await soon_own(store)
    assert len(await settling.pending(1)) == 1
    postgres.stop()
    try:
        with pytest.raises(StoreError):
            await store.own_burning(BURNER)
    finally:
        postgres.start()
    await store.close()


@in_reactor
async def test_owner_who_stands_still_in_a_transaction(
    postgres: PostgresServer, database: str
) -> None:
    """The server does not wait for it: it would hold up the flush of everybody."""
    store = make(postgres, database)
    await own(store)
    ((pid,),) = owners(postgres, database)
    link = next(iter(store._apart))  # type: ignore[attr-defined]
    settings: dict[str, str] = {}

    async def ask(connection: Callable[..., object]) -> None:
        for name in ("idle_in_transaction_session_timeout", "tcp_keepalives_idle"):
            ((settings[name],),) = await connection.query(f"SHOW {name}")  # type: ignore[attr-defined]

    await link.run(ask)
    assert settings == {"idle_in_transaction_session_timeout": "30s", "tcp_keepalives_idle": "30"}
    assert owners(postgres, database) == [(pid,)]
    await store.close()
