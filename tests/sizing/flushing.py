"""What PostgreSQL has to do for batches of usage, for leases, and for what operators have made."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, NamedTuple

from gatekeeper.config.model import Store
from gatekeeper.state import Difference, View
from gatekeeper.store.interface import IStore
from gatekeeper.store.leases import Wish
from gatekeeper.store.opening import make_store
from gatekeeper.usage.counters import Counters
from gatekeeper.usage.journal import SEGMENT_RECORDS
from gatekeeper.usage.records import QUOTA, Account, Batch, Spent, UsageRecord
from tests.servers import PostgresServer
from tests.sizing.spies import Cost, PostgresSpy

_BATCHES: Final = 20
_LEASES: Final = 200
_READINGS: Final = 5
_DAY: Final = "shop/user/day/2026-11-23"
_SIZE: Final = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'p')"
_HASH: Final = "$argon2id$v=19$m=65536,t=3,p=4$" + 22 * "x" + "$" + 43 * "y"

_numbers = count()


class Kind(NamedTuple):
    """Requests of so many distinct ``counters``, each a user's.

    ``records``: with `usage.records`; ``drawn``: each draws on a quota; ``new``: on counters that
    nobody has seen yet.
    """

    counters: int
    records: bool = False
    drawn: bool = False
    new: bool = False

    def batch(self) -> Batch:
        """A full one."""
        number = next(_numbers)
        made = []
        for each in range(SEGMENT_RECORDS):
            who = each % self.counters + (number * self.counters if self.new else 0)
            user = f"user-{who:08d}"
            spent = (Spent(QUOTA, _DAY, user, 1),) if self.drawn else ()
            made.append(
                UsageRecord(
                    f"{number * SEGMENT_RECORDS + each:032x}", time.time(), 0.0125, "shop", user,
                    "2f8a41c09be7d356", "GET", f"/shop/items/{who % 1000:04d}", 200, 200, 0, 2048,
                    1, "ok", spent=spent,
                )
            )  # fmt: skip
        sums = Counters()
        sums.add_all(made)
        records = tuple(made) if self.records else ()
        return Batch("node", 0, number, sums.take(), records, sums.take_spent())


class Database:
    """A database of its own, and a store that has it."""

    def __init__(self, server: PostgresServer, url: str, store: IStore) -> None:
        self._server = server
        self._name = url.rpartition("/")[2]
        self.store = store

    @property
    def size(self) -> int:
        """Bytes of its tables."""
        return self.number(_SIZE)

    def number(self, sql: str) -> int:
        """What a statement returns."""
        ((found,),) = self._server.execute(sql, self._name)
        return int(str(found))

    def execute(self, sql: str) -> None:
        """Run a statement."""
        self._server.execute(sql, self._name)


@asynccontextmanager
async def database(server: PostgresServer) -> AsyncIterator[Database]:
    """An empty one."""
    url = server.create_database()
    store: IStore = make_store(Store(url=url))
    try:
        await store.open()
        yield Database(server, url, store)
    finally:
        await store.close()


async def batches(
    server: PostgresServer, spy: PostgresSpy, kind: Kind, times: int = _BATCHES
) -> tuple[Cost, float]:
    """What one batch costs, in the mean of several; and by how many bytes the tables grow."""
    async with database(server) as there:
        # The first one makes tables, and the rows that the others add to.
        await there.store.write_batch(kind.batch())
        size = there.size
        made = [kind.batch() for _ in range(times)]
        with spy.measuring() as cost:
            for each in made:
                await there.store.write_batch(each)
        return cost / times, (there.size - size) / times


async def names_of_batches(server: PostgresServer, rows: int = 20_000) -> float:
    """Bytes that the store keeps of each batch, so as not to take it twice."""
    async with database(server) as there:
        size = there.size
        there.execute(
            "INSERT INTO batch SELECT substr(md5((n % 16)::text), 1, 16), 1, n, 1795400000 + n"
            f" FROM generate_series(1, {rows}) AS n"
        )
        return (there.size - size) / rows


async def leases(
    server: PostgresServer, spy: PostgresSpy, at_once: int, times: int = _LEASES
) -> Cost:
    """What one transaction costs that leases of so many accounts at once."""
    users = [Account(QUOTA, _DAY, f"user-{number:08d}") for number in range(at_once)]
    wishes = [Wish(account, least=1, demand=1, block=4, allowance=10**6) for account in users]
    async with database(server) as there:
        await there.store.lease("node-0", wishes)
        with spy.measuring() as cost:
            for _ in range(times):
                await there.store.lease("node-0", wishes)
        return cost / times


async def statements(server: PostgresServer, spy: PostgresSpy) -> tuple[list[str], list[str]]:
    """The statements of a batch, and of a lease."""
    async with database(server) as there:
        account = Account(QUOTA, _DAY, "user-00000000")
        wish = Wish(account, least=1, demand=1, block=4, allowance=10**6)
        kind = Kind(50, records=True, drawn=True)
        await there.store.write_batch(kind.batch())
        await there.store.lease("node-0", [wish])
        with spy.listening() as batch:
            await there.store.write_batch(kind.batch())
        with spy.listening() as lease:
            await there.store.lease("node-0", [wish])
        return [*batch.elements()], [*lease.elements()]


async def reading(server: PostgresServer, spy: PostgresSpy, users: int) -> tuple[Cost, int]:
    """What it costs to read so many users, as after each change; and their bytes."""
    async with database(server) as there:
        before = View.of(await there.store.snapshot())
        there.execute(
            "INSERT INTO service_user"
            " (service, user_name, password, created, disabled, user_groups)"
            f" SELECT 'shop', 'user-' || n, '{_HASH}', n, 0, '[]'"
            f" FROM generate_series(1, {users}) AS n"
        )
        with spy.measuring() as cost:
            for _ in range(_READINGS):
                after = View.of(await there.store.snapshot())
                assert len(Difference.between(before, after).users) == users
        size = there.number("SELECT sum(length(u::text)) FROM service_user AS u")
        return cost / _READINGS, size
