"""What the tests of the stores share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec

import pytest_twisted

from gatekeeper.store.interface import IStore
from gatekeeper.usage.records import Batch, Counted, CounterKey, Spent, UsageRecord

P = ParamSpec("P")

#: Runs a coroutine function as a test, in the reactor. pytest-twisted itself has no types.
in_reactor: Callable[[Callable[P, Awaitable[None]]], Callable[P, None]]
in_reactor = pytest_twisted.ensureDeferred

#: Makes stores that share one database.
NewStore = Callable[[], IStore]

HOUR = 1_700_000_000 // 3600 * 3600
DAY = HOUR // 86400 * 86400
ONE = Counted(1, 10, 100, 1, 0.5)

RECORD = UsageRecord(
    id="0123456789abcdef",
    start=HOUR + 0.25,
    duration=0.5,
    service="acme",
    user="alice",
    key_id="key",
    method="GET",
    path="/a",
    status=200,
    upstream_status=201,
    bytes_in=1,
    bytes_out=2,
    units=3,
    reason="ok",
    model="tiny",
    did="did:nv:" + "0a" * 32,
    owner="0x" + "b" * 40,
    spent=(Spent("prepaid", "main", "alice", 3),),
)


def batch(
    counters: dict[CounterKey, Counted],
    sequence: int = 1,
    node: str = "a",
    records: tuple[UsageRecord, ...] = (),
) -> Batch:
    return Batch(node, 0, sequence, counters, records)
