"""The contract of every token cache, between two nodes with two processes each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from redis import Redis
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from gatekeeper.auth.interfaces import IReadiness
from gatekeeper.auth.redis_cache import RedisTokenCache
from gatekeeper.auth.redis_copy import RedisCopy
from gatekeeper.auth.redis_link import RedisLink
from gatekeeper.auth.redis_mark import Mark
from gatekeeper.auth.redis_scripts import Keys
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_entries import Entries
from tests.auth.redis_nodes import said, until
from tests.auth.redis_server import RedisServer, running_redis
from tests.auth.token_cache_contract import Nodes, TokenCacheContractOnLoop

T = TypeVar("T")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    yield from running_redis()


class Everywhere(RedisTokenCache):
    """A zone whose changes are done when all of ``copies`` know them: a moment later."""

    copies: list[RedisCopy]
    redis: Redis

    def add(self, key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        return super().add(key, value, ttl).addCallback(self._told)

    def replace(self, key: str, value: str, ttl: float | None = None) -> Deferred[bool]:
        return super().replace(key, value, ttl).addCallback(self._told)

    def revoke(self, key: str, ttl: float | None = None) -> Deferred[None]:
        return super().revoke(key, ttl).addCallback(self._told)

    def delete(self, key: str) -> Deferred[bool]:
        return super().delete(key).addCallback(self._told)

    def clear(self) -> Deferred[None]:
        return super().clear().addCallback(self._told)

    def _told(self, result: T) -> Deferred[T]:
        return Deferred.fromFuture(asyncio.ensure_future(self._wait(result)))

    async def _wait(self, result: T) -> T:
        change = int(str(self.redis.hget(Keys.of("tokens").history, "n") or 0))
        await until(lambda: all(each.position[1] == change for each in self.copies), "all know")
        return result


class Advance:
    """Time goes by, for the copies and for Redis, whose clock cannot be set: lives get shorter."""

    def __init__(self, clock: Clock, redis: Redis) -> None:
        self._clock = clock
        self._redis = redis

    def __call__(self, seconds: float) -> None:
        self._clock.advance(seconds)
        keys, redis = Keys.of("tokens"), self._redis
        for name in list(redis.scan_iter(f"{keys.tokens}*")):
            redis.pexpire(name, int(str(redis.pttl(name))) - int(seconds * 1000))
        for key in list(redis.zrange(keys.revoked, 0, -1)):
            redis.zincrby(keys.revoked, -seconds * 1000, str(key))


class TestRedis(TokenCacheContractOnLoop):
    @pytest.fixture
    def nodes(self, server: RedisServer, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Nodes]:
        server.fresh()
        clock = Clock()

        def process(node: str) -> Everywhere:
            entries = Entries(
                300,
                monotonic=clock.seconds,
                file=RevocationFile(tmp_path / node / "revoked.jsonl"),
            )
            (tmp_path / node).mkdir(exist_ok=True)
            mark = Mark(tmp_path / node / "revoked.mark")
            copy = RedisCopy("tokens", RedisLink(server.url), entries, mark)
            return Everywhere(copy, serve=False)

        processes = [process(node) for node in ("here", "here", "there", "there")]

        async def start() -> None:
            for each in processes:
                await said(each.start())

        async def stop() -> None:
            for each in processes:
                await said(each.close())

        with server.client() as redis:
            for each in processes:
                each.redis, each.copies = redis, [other._copy for other in processes]
            runner.run(start())
            yield Nodes(processes[0], processes[3], Advance(clock, redis))
            runner.run(stop())

    def test_it_can_say_that_it_is_ready(self, nodes: Nodes) -> None:
        assert verifyObject(IReadiness, nodes.here)
        assert isinstance(nodes.here, RedisTokenCache)
        assert nodes.here.ready() is None
