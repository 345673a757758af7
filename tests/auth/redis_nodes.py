"""Processes that share a zone over Redis, on one loop like the daemon's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import uvloop
from twisted.internet.defer import Deferred

from gatekeeper.auth.redis_cache import RedisTokenCache
from gatekeeper.auth.redis_copy import RedisCopy
from gatekeeper.auth.redis_link import RedisLink
from gatekeeper.auth.redis_mark import Mark
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.auth.token_entries import Entries

PATIENCE = 30.0

P = ParamSpec("P")
T = TypeVar("T")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is one of asyncio's coroutines."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE))

    del run.__wrapped__  # or pytest sees a coroutine
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run


async def said(answer: Deferred[T]) -> T:
    """What a cache says."""
    return await answer.asFuture(asyncio.get_running_loop())


async def shown(cache: ITokenCache) -> dict[str, str]:
    """All entries."""
    entries = await said(cache.items())
    return dict(entries)


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is true; fail with ``what`` where it does not become so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - it is other tasks that make it true
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:g} s: {what}") from None


def make_zone(
    url: str,
    directory: Path,
    *,
    serve: bool = False,
    zone: str = "tokens",
    link: RedisLink | None = None,
) -> RedisTokenCache:
    """A zone of a process that has its files in ``directory``."""
    entries = Entries(300, file=RevocationFile(directory / f"revoked-{zone}.jsonl"))
    mark = Mark(directory / f"revoked-{zone}.mark")
    return RedisTokenCache(RedisCopy(zone, link or RedisLink(url), entries, mark), serve=serve)


@asynccontextmanager
async def node(
    url: str, directory: Path, *, serve: bool = False, zone: str = "tokens"
) -> AsyncIterator[RedisTokenCache]:
    """A process that has been started, and is stopped in the end."""
    cache = make_zone(url, directory, serve=serve, zone=zone)
    await said(cache.start())
    try:
        yield cache
    finally:
        await said(cache.close())
