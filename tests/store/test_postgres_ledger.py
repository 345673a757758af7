"""Usage that comes in while charges are claimed, on a server with several connections."""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg2
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from gatekeeper.credits.ledger import ChargeState, Mark, SettlementEvent
from gatekeeper.store import ledger_sql, pruning
from gatekeeper.store.dialects import POSTGRES
from gatekeeper.store.fitting import fit
from gatekeeper.store.interface import Retention
from gatekeeper.store.ledger import ChargeQuery, GrantDiffersError, Granted, Kept
from gatekeeper.store.postgres import PostgresStore
from gatekeeper.store.postgres_usage import _statement
from gatekeeper.store.settling_sql import SettlingSql
from gatekeeper.usage.records import PREPAID, Account
from tests.servers import PostgresServer
from tests.store.ledgers import (
    ALICE,
    BOB,
    BURNER,
    ENTRY,
    NOW,
    PREPAID_ALICE,
    batch_of,
    look,
    meter,
    only_group,
    owes,
    own,
)
from tests.store.support import HOUR, ONE, in_reactor

T = TypeVar("T")


class Session:
    """Somebody else's connection, in a transaction that is not over."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.server = server
        self.database = urlsplit(url).path[1:]
        self.connection = psycopg2.connect(url)

    def run(self, steps: Generator[tuple[str, Any], list[Any], T]) -> T:
        cursor = self.connection.cursor()
        try:
            statement = next(steps)
            while True:
                cursor.execute(*statement)
                statement = steps.send(cursor.fetchall() if cursor.description else [])
        except StopIteration as end:
            result: T = end.value
            return result

    def execute(self, sql: str, parameters: Any) -> None:
        self.connection.cursor().execute(sql, parameters)

    async def until_somebody_waits(self) -> None:
        """Wait until somebody waits for what we have locked."""
        while not self.server.execute(
            "SELECT 1 FROM pg_stat_activity "
            f"WHERE datname = '{self.database}' AND wait_event_type = 'Lock'"
        ):
            await deferLater(reactor, 0.01)


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture
def session(postgres: PostgresServer, url: str) -> Iterator[Session]:
    session = Session(postgres, url)
    yield session
    session.connection.close()


def make(url: str) -> PostgresStore:
    return PostgresStore(url, 10.0, reactor)


def pairs(rows: list[Any]) -> list[tuple[str, int, ChargeState]]:
    return [(row.account.holder, row.credits, row.state) for row in rows[::-1]]


@pytest.mark.parametrize("commits", [True, False])
@in_reactor
async def test_usage_that_comes_while_its_charge_is_claimed(
    url: str, session: Session, commits: bool
) -> None:
    """It waits, and then opens a new charge; or, where nothing was claimed, it adds to the old."""
    store = make(url)
    await meter(store, alice=3, bob=1)
    settling = await own(store)
    group = await only_group(settling)
    session.run(SettlingSql(POSTGRES, BURNER).claim(group, NOW))
    writing = store.write_batch(batch_of({owes(ALICE): 4}))
    await session.until_somebody_waits()
    assert not writing.called
    if commits:
        session.connection.commit()
    else:
        session.connection.rollback()
    await writing
    rows = await store.charges(ChargeQuery())
    if commits:
        claimed = ChargeState.CLAIMED
        assert pairs(rows)[:2] == [(ALICE, 3, claimed), (BOB, 1, claimed)]
        assert pairs(rows)[2:] == [(ALICE, 4, ChargeState.PENDING)]
        assert rows[0].open
    else:
        assert pairs(rows)[0] == (ALICE, 7, ChargeState.PENDING)
    # Its birth was logged where there was one.
    events = await store.ledger_events(99, subject=("charge", str(rows[0].id)))
    assert [event.event for _, event in events] == ["meter"]
    await store.close()


@in_reactor
async def test_claim_while_usage_comes(url: str, session: Session) -> None:
    """It waits, and takes what has come by then."""
    store = make(url)
    await meter(store, alice=3, bob=1)
    settling = await own(store)
    group = await only_group(settling)
    session.execute(*_statement(fit(batch_of({owes(BOB): 10}, node="b"))))
    claiming: Deferred[int | None] = settling.claim(group, NOW)
    await session.until_somebody_waits()
    session.connection.commit()
    settlement = await look(settling, await claiming)
    assert [(entry.holder, entry.credits) for entry in settlement.entries] == [
        (ALICE, 3),
        (BOB, 11),
    ]
    assert [row.credits for row in await store.charges(ChargeQuery())] in ([3, 11], [11, 3])
    await store.close()


@pytest.mark.parametrize("what", ["flush", "claim", "prepaid"])
@in_reactor
async def test_rows_are_locked_in_order(url: str, session: Session, what: str) -> None:
    """Whoever waits for a row has none yet that comes later, whatever was there first."""
    store = make(url)
    await meter(store, bob=1)
    await meter(store, alice=3)
    first, second = PREPAID_ALICE, PREPAID_ALICE._replace(holder="bob")
    await store.write_batch(batch_of({second: 1, first: 1}))
    settling = await own(store)
    group = await only_group(settling)
    if what == "prepaid":
        table, holders = "account", ["alice", "bob"]
    else:
        table, holders = "charge", [ALICE, BOB]
    lock = f"SELECT * FROM {table} WHERE holder = %s FOR UPDATE"
    session.execute(lock, (holders[0],))
    doing: Deferred[Any]
    if what == "claim":
        doing = settling.claim(group, NOW)
    elif what == "flush":
        doing = store.write_batch(batch_of({owes(BOB): 1, owes(ALICE): 1}))
    else:
        doing = store.write_batch(batch_of({second: 1, first: 1}))
    await session.until_somebody_waits()
    session.execute(lock + " NOWAIT", (holders[1],))
    session.connection.commit()
    await doing
    await store.close()


@in_reactor
async def test_same_batch_at_the_same_time(url: str, session: Session) -> None:
    """A node whose connection was lost gives it again, while the server is still at it."""
    store = make(url)
    await store.open()
    batch = batch_of({owes(ALICE): 4, Account(PREPAID, "main", "alice"): 5})
    session.execute(*_statement(fit(batch)))
    writing = store.write_batch(batch)
    await session.until_somebody_waits()
    session.connection.commit()
    await writing
    kept = await store.read_accounts([*batch.spent])
    assert [each.spent for each in kept] == [4, 5]
    await store.close()


@pytest.mark.parametrize("account", [PREPAID_ALICE, PREPAID_ALICE._replace(holder="bob")])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("commits", [True, False])
@in_reactor
async def test_same_grant_at_the_same_time(
    url: str, session: Session, account: Account, there: bool, commits: bool
) -> None:
    """Who is second waits until it is known whether the first one was made."""
    store = make(url)
    await store.open()
    if there:
        await store.grant(PREPAID_ALICE, 2, ENTRY)
        await store.grant(account, 2, ENTRY)
    (before,) = await store.read_accounts([account])
    session.run(ledger_sql.grant(POSTGRES, PREPAID_ALICE, 5, ENTRY, "one"))
    granting = store.grant(account, 5, ENTRY, "one")
    await session.until_somebody_waits()
    assert not granting.called
    if not commits:
        session.connection.rollback()
        assert await granting == Granted(Kept(before.granted + 5, 0))
    elif account == PREPAID_ALICE:
        session.connection.commit()
        assert await granting == Granted(Kept(before.granted + 5, 0), repeated=True)
    else:
        session.connection.commit()
        with pytest.raises(GrantDiffersError):
            await granting
        assert await store.read_accounts([account]) == [before]
    in_log = [json.loads(event.detail).get("id") for _, event in await store.ledger_events(9)]
    assert in_log.count("one") == 1
    # The connection is as good as before.
    assert (await store.grant(account, 1, ENTRY, "two")).repeated is False
    await store.close()


@in_reactor
async def test_pruning_and_usage_do_not_wait_for_each_other(url: str, session: Session) -> None:
    store = make(url)
    settling = await own(store)

    async def settle() -> None:
        await meter(store, alice=1, bob=1)
        number = await settling.claim(await only_group(settling), NOW)
        assert number is not None
        await settling.mark(number, Mark(SettlementEvent.NOTHING), NOW)
        await store.retry_charges(None, ENTRY, NOW)

    for _ in range(3):
        await settle()
    keep = Retention(None, None, None, 86400.0)
    session.execute(*_statement(fit(batch_of({owes(ALICE): 4, PREPAID_ALICE: 1}))))
    assert (await store.maintain(1e11, keep)).charges > 0
    session.connection.rollback()
    await settle()
    _, charges, _ = session.run(pruning.prune_settled(POSTGRES, 10**11, pruning.Place()))
    assert charges > 0
    await settle()  # with the other one's rows locked
    await store.grant(PREPAID_ALICE, 1, ENTRY)
    session.connection.commit()
    done = await store.maintain(1e11, keep)
    assert done.charges > 0
    assert done.grants == 1
    await store.close()


@in_reactor
async def test_nodes_and_a_burner_at_once(url: str) -> None:
    """Nobody fails, and nothing gets lost: all take the rows in the same order."""
    nodes = [make(url) for _ in range(3)]
    await nodes[0].open()
    settling = await own(nodes[0])
    chance = random.Random(1)
    accounts = [owes(f"0x{number:040x}", token) for number in range(8) for token in (7, 10)]
    accounts += [Account(PREPAID, "main", str(number)) for number in range(8)]
    total = dict.fromkeys(accounts, 0)
    counters = {("acme", str(number), "/", "", HOUR): ONE for number in range(8)}
    writing: list[Deferred[Any]] = []
    for turn in range(12):
        for node, store in enumerate(nodes):
            some = chance.sample(accounts, 16)  # in any order
            for each in some:
                total[each] += turn
            batch = batch_of(dict.fromkeys(some, turn), turn, str(node))
            writing.append(store.write_batch(batch._replace(counters=counters)))
        if turn % 2:
            await writing[-1]  # The others go on meanwhile.
            writing.append(nodes[1].retry_charges(None, ENTRY, NOW))
            number = await settling.claim(await only_group(settling), NOW)
            assert number is not None
            event = SettlementEvent.NOTHING if turn % 4 == 1 else SettlementEvent.GIVE_UP
            await settling.mark(number, Mark(event), NOW)
    for call in writing:
        await call
    kept = await nodes[0].read_accounts(accounts)
    assert [each.spent for each in kept] == [total[account] for account in accounts]
    for store in nodes:
        await store.close()
