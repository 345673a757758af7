"""The contract of every token cache, between two workers of one supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from gatekeeper.auth.token_cache import MemoryTokenCache, TokenCacheError
from gatekeeper.process.link import Handler, Link
from gatekeeper.process.zones import WorkerZone, WorkerZones, ZoneDesk
from tests.auth.redis_nodes import on_loop, said, until
from tests.auth.token_cache_contract import Nodes, TokenCacheContractOnLoop

T = TypeVar("T")


class Supervisor:
    """A supervisor with one zone, and workers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.clock = Clock()
        self.zone = MemoryTokenCache(300, monotonic=self.clock.seconds)
        self.zones = {"tokens": self.zone}
        self.links: list[Link] = []
        self.desk = ZoneDesk(self.zones, lambda: self.links)
        self.desk.listen()
        self.others: list[Link] = []

    def worker(self) -> tuple[WorkerZones, Link]:
        ours, its = socket.socketpair()
        zones = WorkerZones()
        self.links.append(Link(ours, self.loop, Clock(), self.desk.handlers, lambda: None))
        handlers: dict[str, Handler] = {"revoked": zones.revoked, "ping": lambda: None}
        link = Link(its, self.loop, Clock(), handlers, lambda: None)
        self.others.append(link)
        return zones, link

    def close(self) -> None:
        for link in (*self.links, *self.others):
            link.close()

    def all_heard(self, result: T) -> Deferred[T]:
        """Fire when all workers have heard what was said so far."""
        asked = [link.ask("ping") for link in self.links]
        return gatherResults(asked).addCallback(lambda _: result)


class Told(WorkerZone):
    """A zone whose changes are done when all workers know them: a moment later."""

    supervisor: Supervisor

    def _ask(self, method: str, *arguments: Any) -> Deferred[Any]:
        return super()._ask(method, *arguments).addCallback(self.supervisor.all_heard)


class TestWorkers(TokenCacheContractOnLoop):
    @pytest.fixture
    def nodes(self, runner: asyncio.Runner) -> Iterator[Nodes]:
        supervisor = Supervisor(runner.get_loop())

        def worker() -> Told:
            zones, link = supervisor.worker()
            told = Told("tokens", 300, link, lambda zone: None)
            told.supervisor = supervisor
            zones.make("tokens", 300, link).subscribe(told.tell)
            return told

        yield Nodes(worker(), worker(), supervisor.clock.advance)
        supervisor.close()


@on_loop
async def test_a_revocation_is_told_to_old_and_new_until_they_are_closed() -> None:
    supervisor = Supervisor(asyncio.get_running_loop())
    zones, link = supervisor.worker()
    told: list[tuple[str, str]] = []
    old, new = (zones.make("tokens", 300, link) for _ in range(2))
    old.subscribe(lambda key: told.append(("old", key)))
    new.subscribe(lambda key: told.append(("new", key)))
    await said(supervisor.zone.revoke("k"))
    await until(lambda: len(told) == 2, "both")
    await said(old.close())
    await said(old.close())
    await said(new.revoke("l"))
    assert told == [("old", "k"), ("new", "k"), ("new", "l")]
    supervisor.close()


@on_loop
async def test_a_zone_that_comes_later_is_heard_too() -> None:
    supervisor = Supervisor(asyncio.get_running_loop())
    zones, link = supervisor.worker()
    told: list[str] = []
    zones.make("tokens", 300, link).subscribe(told.append)
    supervisor.zones["tokens"] = MemoryTokenCache()
    supervisor.desk.listen()
    supervisor.desk.listen()
    await said(supervisor.zones["tokens"].revoke("k"))
    await until(lambda: told, "it is told")
    assert told == ["k"]
    supervisor.close()


@on_loop
async def test_what_cannot_be_asked() -> None:
    supervisor = Supervisor(asyncio.get_running_loop())
    zones, link = supervisor.worker()
    with pytest.raises(TokenCacheError, match="no zone other"):
        await said(zones.make("other", 300, link).get("k"))
    zone = zones.make("tokens", 300, link)
    with pytest.raises(TokenCacheError):
        await said(zone._ask("subscribe", "k"))
    supervisor.close()
    with pytest.raises(TokenCacheError):
        await said(zone.get("k"))
