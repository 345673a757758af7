"""Rates and quotas together, over accounts in a real store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from gatekeeper.config.model import Store
from gatekeeper.config.model_selling import Quota, Rate
from gatekeeper.credits.accounts import Accounts
from gatekeeper.credits.admission import Admission, Admitted, Caller
from gatekeeper.credits.balances import Balances
from gatekeeper.credits.buckets import BucketMemory
from gatekeeper.credits.lending import Lending
from gatekeeper.credits.quotas import QuotaLimit
from gatekeeper.credits.rates import RateLimit
from gatekeeper.errors import Refusal
from gatekeeper.store.interface import IStore
from gatekeeper.store.leases import owner_of
from gatekeeper.store.opening import make_store
from gatekeeper.usage.records import Account, Batch, Spent
from tests.credits.callers import Clock, caller
from tests.store.support import in_reactor

NEW_YEARS_EVE = datetime(2024, 12, 31, 23, 59, 0, tzinfo=UTC).timestamp()
TTL = 30.0


def call_soon(function: Callable[[], None]) -> None:
    from twisted.internet import reactor

    IReactorTime(reactor).callLater(0, function)


class Node:
    """A process with accounts of its own, over a store that it may share with others."""

    numbers = count(1)

    def __init__(self, store: IStore, *quotas: Quota, rates: Sequence[Rate] = ()) -> None:
        self.store = store
        self.wall, self.monotonic = Clock(NEW_YEARS_EVE), Clock(1.0)
        self.name = f"node{next(self.numbers)}"
        lending = Lending(store, Balances(store, None, None), TTL, self.monotonic)
        self.accounts = Accounts(lending, TTL, self.monotonic, call_soon)
        self.accounts.open(owner_of(self.name, 0))
        memory = BucketMemory(slots=64)
        self.admission = Admission(
            [
                *(RateLimit("acme", "", rate, self.monotonic, memory) for rate in rates),
                *(QuotaLimit("acme", quota, self.accounts, self.wall) for quota in quotas),
            ]
        )
        self.spent: dict[Account, int] = {}

    async def admit(self, caller: Caller) -> Admitted | Refusal:
        """Let a request through, or say why not."""
        try:
            admitted = self.admission.admit(caller)
            return admitted if isinstance(admitted, Admitted) else await admitted
        except Refusal as refusal:
            return refusal

    async def use(self, caller: Caller, units: int = 1) -> tuple[Spent, ...] | Refusal:
        """A whole request."""
        admitted = await self.admit(caller)
        return self.end(admitted, units) if isinstance(admitted, Admitted) else admitted

    def end(self, admitted: Admitted, units: int) -> tuple[Spent, ...]:
        spent = admitted.settle(200, units)
        for each in spent:
            account = Account(*each[:3])
            self.spent[account] = self.spent.get(account, 0) + each.amount
        return spent

    async def flush(self) -> None:
        """What was used goes into the store."""
        spent, self.spent = self.spent, {}
        await self.store.write_batch(Batch(self.name, 0, next(self.numbers), {}, spent=spent))
        self.accounts.flushed(spent)


def make(path: Path) -> IStore:
    return make_store(Store(url=f"sqlite:///{path / 'usage.sqlite'}"))


@in_reactor
async def test_parallel_requests(tmp_path: Path) -> None:
    """Of 100 at once, so many get in as the quota has room for."""
    store = make(tmp_path)
    await store.open()
    node = Node(store, Quota(units=7, per="month", assumed=2))
    answers = await gatherResults(
        [Deferred.fromCoroutine(node.admit(caller())) for _ in range(100)]
    )
    admitted = [each for each in answers if isinstance(each, Admitted)]
    refused = [each for each in answers if isinstance(each, Refusal)]
    assert (len(admitted), len(refused)) == (3, 97)
    assert {each.reason for each in refused} == {"quota_exceeded"}
    for each in admitted:
        node.end(each, 2)
    await node.flush()
    account = Account("quota", "acme/user/month/2024-12", "alice")
    assert [kept.spent for kept in await store.read_accounts([account])] == [6]
    await store.close()


@in_reactor
async def test_the_year_turns(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.open()
    node = Node(store, *(Quota(units=2, per=per) for per in ("hour", "day", "month")))
    late = await node.admit(caller())
    assert isinstance(late, Admitted)
    assert not isinstance(await node.use(caller()), Refusal)
    refusal = await node.use(caller())
    assert isinstance(refusal, Refusal)
    assert dict(refusal.fields)[b"retry-after"] == b"60"
    node.wall.now += 60
    assert not isinstance(await node.use(caller()), Refusal)
    node.end(late, 1)  # begun in the old year
    await node.flush()
    accounts = await store.list_accounts("quota")
    assert {account.name: kept.spent for account, kept in accounts} == {
        "acme/user/hour/2024-12-31T23": 2,
        "acme/user/day/2024-12-31": 2,
        "acme/user/month/2024-12": 2,
        "acme/user/hour/2025-01-01T00": 1,
        "acme/user/day/2025-01-01": 1,
        "acme/user/month/2025-01": 1,
    }
    await store.close()


@in_reactor
async def test_after_a_restart_and_on_another_node(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.open()
    quota = Quota(units=5, per="day", by="key")
    first = Node(store, quota)
    for user, key in (("alice", "k1"), ("alice", ""), ("k1", "")):
        assert not isinstance(await first.use(caller(user, key), 3), Refusal)
    await first.flush()
    await store.close()
    store = make(tmp_path)
    await store.open()
    other = Node(store, quota)
    for user, key in (("alice", "k1"), ("alice", ""), ("k1", ""), ("bob", "k1")):
        admitted = await other.admit(caller(user, key))
        assert isinstance(admitted, Admitted)
        left = 1 if user != "bob" else 0  # it is the same key
        assert b";r=%d;" % left in admitted.lines[1]
    await store.close()


@in_reactor
async def test_names_of_every_kind(tmp_path: Path) -> None:
    """What is read is what was written, whatever users are called."""
    store = make(tmp_path)
    await store.open()
    names = ["ä" * 3000, "ä" * 2999, "a\0b", "a\ud800b", "a/b", "%", " ", "'", "x" * 1024]
    node = Node(store, Quota(units=1, per="day"))
    again = Node(store, Quota(units=1, per="day"))
    for name in names:
        try:
            somebody = caller(name)
        except (ValueError, UnicodeError):
            continue  # nobody can be called so
        assert not isinstance(await node.use(somebody), Refusal)
        await node.flush()
        assert isinstance(await again.use(somebody), Refusal), name[:5]
    await store.close()


@in_reactor
async def test_rates_and_quotas_together(tmp_path: Path) -> None:
    """A request that one of them refuses counts in neither."""
    store = make(tmp_path)
    await store.open()
    node = Node(store, Quota(units=3, per="day"), rates=[Rate(requests=2)])
    seen = []
    for _ in range(8):
        used = await node.use(caller())
        seen.append(used.reason if isinstance(used, Refusal) else "ok")
        node.monotonic.now += 0.25
    assert seen == [
        *("ok", "ok", "ok"),  # a burst of 2, and half a second after the first one more
        "rate_limited",
        *("quota_exceeded",) * 4,
    ]
    await node.flush()
    accounts = await store.list_accounts("quota")
    assert [kept.spent for _, kept in accounts] == [3]
    await store.close()
