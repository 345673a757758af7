"""Of all processes that look for one token which there is none of, one asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from gatekeeper.auth.redis_scripts import Keys
from gatekeeper.auth.token_cache import REVOKED, IClaims, TokenCacheError
from tests.auth.redis_nodes import make_zone, node, on_loop, said, until
from tests.auth.redis_server import RedisServer, running_redis

KEYS = Keys.of("tokens")
LONG = 100.0


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    yield from running_redis()


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.fresh()
    return running


def is_claimed(server: RedisServer, key: str = "k") -> bool:
    with server.client() as client:
        return bool(client.exists(KEYS.asking + key))


def test_interface(tmp_path: Path) -> None:
    assert verifyObject(IClaims, make_zone("redis://192.0.2.1", tmp_path))


@on_loop
async def test_one_asks_and_the_others_get_what_it_adds(
    server: RedisServer, tmp_path: Path
) -> None:
    async with (
        node(server.url, tmp_path / "a") as a,
        node(server.url, tmp_path / "b") as b,
        node(server.url, tmp_path / "c") as c,
    ):
        assert await said(a.claim("k", LONG)) is None
        waiting = [b.claim("k", LONG), c.claim("k", LONG)]
        assert await said(b.claim("other", LONG)) is None
        await asyncio.sleep(0.1)
        assert not any(each.called for each in waiting)
        assert await said(a.add("k", "token")) is None
        assert [await said(each) for each in waiting] == ["token", "token"]
        a.release("k")  # was added: there is nothing to release
        assert not is_claimed(server)
        assert await said(a.claim("k", LONG)) == "token"


@on_loop
async def test_who_releases_it_lets_the_next_one_ask(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        assert await said(a.claim("k", LONG)) is None
        waiting = b.claim("k", LONG)
        b.release("k")  # is not its own
        await asyncio.sleep(0.1)
        assert is_claimed(server)
        assert not waiting.called
        a.release("k")
        assert await said(waiting) is None
        a.release("k")
        assert await said(a.add("other", "token")) is None  # comes after that
        assert is_claimed(server)
        b.release("k")
        await until(lambda: not is_claimed(server), "it is released")


@on_loop
async def test_nobody_waits_for_ever(server: RedisServer, tmp_path: Path) -> None:
    """One that has died holds nobody up for longer than it may have taken."""
    async with node(server.url, tmp_path / "b") as b:
        async with node(server.url, tmp_path / "a") as a:
            assert await said(a.claim("k", LONG)) is None
            with server.client() as client:
                assert 90_000 < int(str(client.pttl(KEYS.asking + "k"))) <= 100_000
        assert await said(b.claim("k", 0.1)) is None
        b.release("k")
        assert is_claimed(server)
        with server.client() as client:
            client.pexpire(KEYS.asking + "k", 50)
        assert await said(b.claim("k", LONG)) is None
        assert is_claimed(server)


@on_loop
async def test_a_process_may_claim_again(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path) as cache:
        for _ in range(2):
            assert await said(cache.claim("k", LONG)) is None


@on_loop
async def test_a_revocation_comes_first(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        assert await said(a.claim("k", LONG)) is None
        waiting = b.claim("k", LONG)
        await said(b.revoke("k"))
        assert await said(waiting) == REVOKED
        assert await said(a.add("k", "token")) == REVOKED


@pytest.mark.parametrize("serve", [False, True])
@on_loop
async def test_redis_goes_away(server: RedisServer, tmp_path: Path, *, serve: bool) -> None:
    """Each asks for itself then, or cannot be answered."""
    async with (
        node(server.url, tmp_path / "a", serve=serve) as a,
        node(server.url, tmp_path / "b", serve=serve) as b,
    ):
        assert await said(a.claim("k", LONG)) is None
        waiting = b.claim("k", LONG)
        server.stop()
        for claim in (waiting, b.claim("k", LONG)):
            if serve:
                assert await said(claim) is None
            else:
                with pytest.raises(TokenCacheError):
                    await said(claim)
        a.release("k")
        server.start()


@on_loop
async def test_redis_takes_no_claims(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        with server.client() as client:
            client.config_set("maxmemory", 1)
            try:
                for each in (a, b):
                    assert await said(each.claim("k", LONG)) is None
                    assert await said(each.add("k", "token")) is None
                    assert await said(each.claim("k", LONG)) == "token"
            finally:
                client.config_set("maxmemory", 0)
