"""A zone over Redis while that is away, hangs, or has lost its memory; and a node cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from gatekeeper.auth import redis_link
from gatekeeper.auth.redis_cache import RedisTokenCache
from gatekeeper.auth.redis_commands import Change, RedisCommands
from gatekeeper.auth.redis_scripts import Keys
from gatekeeper.auth.token_cache import REVOKED, TokenCacheError
from tests.auth.redis_nodes import make_zone, node, on_loop, said, until
from tests.auth.redis_server import Line, RedisServer, running_redis
from tests.auth.support import Logged

KEYS = Keys.of("tokens")


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    yield from running_redis()


@pytest.fixture
def server(running: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setattr(redis_link, "_LONGEST_RETRY", 0.2)
    running.fresh()
    return running


async def cut_off(*caches: RedisTokenCache) -> None:
    await until(lambda: not any(each.caught_up for each in caches), "it is noticed")


async def caught_up(*caches: RedisTokenCache) -> None:
    await until(lambda: all(each.caught_up for each in caches), "all have caught up")


def said_to(logged: Logged, words: str) -> int:
    """How often the log says it."""
    return sum(words in formatEvent(event) for event in logged)


class TestRedisIsAway:
    @on_loop
    async def test_requests_are_refused(
        self, server: RedisServer, tmp_path: Path, logged: Logged
    ) -> None:
        async with node(server.url, tmp_path) as cache:
            await said(cache.add("k", "token"))
            await said(cache.revoke("r"))
            server.stop()
            await cut_off(cache)
            for question in (cache.get("k"), cache.get("new"), cache.add("new", "token")):
                with pytest.raises(TokenCacheError, match="requests are refused"):
                    await said(question)
            assert await said(cache.get("r")) == REVOKED, "nobody need be asked about that"
            assert "cannot be followed" in str(cache.ready())
            assert cache.outages == 1
            await asyncio.sleep(0.5)  # it is tried again
            server.start()
            await caught_up(cache)
            assert cache.ready() is None
            assert await said(cache.get("r")) == REVOKED
            assert await said(cache.add("new", "token")) is None
        assert said_to(logged, "cannot be followed: ") == 1
        assert said_to(logged, "is there; all is known") == 2  # of them one at the start

    @on_loop
    async def test_requests_are_served(self, server: RedisServer, tmp_path: Path) -> None:
        async with node(server.url, tmp_path, serve=True) as cache:
            await said(cache.add("k", "token"))
            await said(cache.add("short", "token", 0.5))
            await said(cache.revoke("r"))
            server.stop()
            await cut_off(cache)
            assert await said(cache.get("k")) == "token"
            assert await said(cache.get("r")) == REVOKED
            assert await said(cache.get("new")) is None
            assert await said(cache.add("new", "token")) is None
            assert await said(cache.add("r", "token")) == REVOKED
            assert await said(cache.get("new")) == "token"
            assert "served from what is known" in str(cache.ready())
            await asyncio.sleep(0.5)
            assert await said(cache.get("short")) is None, "its own expiry"
            server.start()
            await caught_up(cache)
            assert await said(cache.get("new")) is None, "it is asked for again, and shared"
            assert await said(cache.get("r")) == REVOKED

    @pytest.mark.parametrize("serve", [True, False])
    @on_loop
    async def test_operators_are_told(
        self, server: RedisServer, tmp_path: Path, serve: bool
    ) -> None:
        """What cannot take effect everywhere must not look as if it had."""
        async with node(server.url, tmp_path, serve=serve) as cache:
            await said(cache.add("k", "token"))
            server.stop()
            await cut_off(cache)
            changes: list[Deferred[Any]] = [
                cache.replace("k", REVOKED),
                cache.add("l", REVOKED),
                cache.revoke("k"),
                cache.delete("k"),
                cache.clear(),
                cache.items(),
            ]
            for change in changes:
                with pytest.raises(TokenCacheError):
                    await said(change)
            assert cache.revocations == 0

    @on_loop
    async def test_it_hangs(self, server: RedisServer, tmp_path: Path) -> None:
        """Whoever asks meanwhile waits for seconds at the most, and nothing stays behind."""
        async with node(server.url, tmp_path, serve=True) as cache:
            server.pause()
            answers = await asyncio.gather(*(said(cache.get(f"k{n}")) for n in range(100)))
            assert answers == [None] * 100
            with pytest.raises(TokenCacheError):
                await said(cache.revoke("r"))
            await cut_off(cache)
            server.resume()
            await caught_up(cache)
            assert await said(cache.add("k", "token")) is None

    @on_loop
    async def test_it_hangs_while_an_operator_waits(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        async with node(server.url, tmp_path) as cache:
            answer = cache.revoke("r")
            server.pause()
            try:
                await said(answer)  # it was fast enough
            except TokenCacheError:
                server.resume()
                await caught_up(cache)

    @pytest.mark.parametrize("serve", [True, False])
    @on_loop
    async def test_a_node_starts(
        self, server: RedisServer, tmp_path: Path, logged: Logged, serve: bool
    ) -> None:
        async with node(server.url, tmp_path) as cache:
            await said(cache.revoke("r"))
        server.stop()
        async with node(server.url, tmp_path, serve=serve) as cache:
            assert await said(cache.get("r")) == REVOKED, "from its file"
            if serve:
                assert await said(cache.get("new")) is None
            else:
                with pytest.raises(TokenCacheError):
                    await said(cache.get("new"))
            assert "Connection refused" in str(cache.ready())
            server.start()
            await caught_up(cache)
            assert await said(cache.get("r")) == REVOKED
        assert said_to(logged, "cannot be followed: ") == 1

    @on_loop
    async def test_following_goes_on_after_a_fault_of_ours(
        self,
        server: RedisServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        logged: Logged,
    ) -> None:
        faults: list[BaseException] = [ZeroDivisionError(), asyncio.CancelledError()]
        changes = RedisCommands.changes

        async def faulty(*arguments: object) -> dict[str, list[Change]]:
            if faults:
                raise faults.pop()
            return await changes(*arguments)  # type: ignore[arg-type]

        async with node(server.url, tmp_path) as cache:
            monkeypatch.setattr(RedisCommands, "changes", faulty)
            await until(lambda: not faults and cache.caught_up, "it goes on")
            await said(cache.revoke("r"))
        assert logged.text.count("a fault of ours") >= 1
        assert "ZeroDivisionError" in logged.text


@asynccontextmanager
async def two(
    server: RedisServer, tmp_path: Path, *, serve: bool = False
) -> AsyncIterator[tuple[RedisTokenCache, RedisTokenCache, Line]]:
    """A node, another one, and the line to Redis that only this one has."""
    line = Line(server.port)
    await line.mend()
    async with (
        node(server.url, tmp_path / "here") as here,
        node(line.url, tmp_path / "there", serve=serve) as there,
    ):
        yield here, there, line
        await line.cut()


class TestANodeIsCutOff:
    @pytest.mark.parametrize("silently", [True, False])
    @on_loop
    async def test_it_catches_up_before_it_serves(
        self, server: RedisServer, tmp_path: Path, silently: bool
    ) -> None:
        told: list[str] = []
        async with two(server, tmp_path) as (here, there, line):
            there.subscribe(told.append)
            for key in ("revoked", "gone", "other", "same"):
                await said(here.add(key, "token"))
                assert await said(there.get(key)) == "token"
            await said(here.revoke("before"))
            await until(lambda: told == ["before"], "it is told")
            if silently:
                line.swallow()
            else:
                await line.cut()
            await cut_off(there)
            await said(here.replace("revoked", REVOKED))
            await said(here.delete("gone"))
            await said(here.replace("other", "another"))
            await said(here.replace("before", "token"))
            with pytest.raises(TokenCacheError):
                await said(there.get("same"))
            assert told == ["before"]
            await line.mend()
            await caught_up(there)
            assert told == ["before", "revoked"]
            expected = {
                "revoked": REVOKED, "gone": None, "other": "another", "before": "token",
                "same": "token",
            }  # fmt: skip
            for key, value in expected.items():
                assert await said(there.get(key)) == value

    @on_loop
    async def test_it_serves_from_what_it_has(self, server: RedisServer, tmp_path: Path) -> None:
        async with two(server, tmp_path, serve=True) as (here, there, line):
            await said(here.add("k", "token"))
            assert await said(there.get("k")) == "token"
            await line.cut()
            await cut_off(there)
            await said(here.revoke("k"))
            assert await said(there.get("k")) == "token"
            await line.mend()
            await caught_up(there)
            assert await said(there.get("k")) == REVOKED

    @on_loop
    async def test_what_it_got_meanwhile_does_not_undo_a_revocation(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        async with two(server, tmp_path, serve=True) as (here, there, line):
            await line.cut()
            await cut_off(there)
            assert await said(there.add("k", "token")) is None
            await said(here.revoke("k"))
            await line.mend()
            await caught_up(there)
            assert await said(there.get("k")) == REVOKED
            assert await said(here.get("k")) == REVOKED

    @on_loop
    async def test_it_is_stopped_meanwhile(self, server: RedisServer, tmp_path: Path) -> None:
        """A revocation that was taken back does not come again with the node."""
        async with node(server.url, tmp_path / "here") as here:
            async with node(server.url, tmp_path / "there") as there:
                await said(here.revoke("r"))
                await said(here.revoke("s"))
                await until(lambda: there.revocations == 2, "it knows")
            await said(here.delete("r"))
            await said(here.revoke("t"))
            async with node(server.url, tmp_path / "there") as there:
                keys = ("r", "s", "t")
                assert [await said(there.get(key)) for key in keys] == [None, REVOKED, REVOKED]
            assert await said(here.get("r")) is None


class TestChangesThatDoNotArrive:
    @on_loop
    async def test_one_is_missing(self, server: RedisServer, tmp_path: Path) -> None:
        """Nobody tells of it; half a second later it is known all the same."""
        async with node(server.url, tmp_path) as cache:
            with server.client() as client:
                client.zadd(KEYS.revoked, {"k": 1e15})
                client.hincrby(KEYS.history, "n")
            await until(lambda: cache.revocations, "it is known")
            assert await said(cache.get("k")) == REVOKED

    @on_loop
    async def test_one_was_overtaken(self, server: RedisServer, tmp_path: Path) -> None:
        async with node(server.url, tmp_path) as cache:
            await said(cache.revoke("a"))
            with server.client() as client:
                client.zadd(KEYS.revoked, {"k": 1e15})
                client.hincrby(KEYS.history, "n")
            await said(cache.revoke("b"))
            assert await said(cache.get("k")) == REVOKED

    @pytest.mark.parametrize(
        "fields",
        [{"n": "x"}, {"other": "1"}, {"n": "1", "revoked": "k"}, {"n": "1", "other": "k"}],
    )
    @on_loop
    async def test_one_is_not_understood(
        self, server: RedisServer, tmp_path: Path, fields: dict[str, str]
    ) -> None:
        async with node(server.url, tmp_path) as cache:
            with server.client() as client, client.pipeline() as together:
                together.zadd(KEYS.revoked, {"k": 1e15})
                together.hincrby(KEYS.history, "n")
                together.xadd(KEYS.changes, fields)
                together.execute()
            await until(lambda: cache.revocations and cache.caught_up, "it is known")
            await said(cache.revoke("l"))
            assert cache.outages == 0


class TestRedisForgets:
    @on_loop
    async def test_it_begins_with_nothing(
        self, server: RedisServer, tmp_path: Path, logged: Logged
    ) -> None:
        async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
            await said(a.add("k", "token"))
            await said(a.revoke("r", 100))
            await until(lambda: b.revocations, "both know")
            server.restart()
            await cut_off(a, b)
            await caught_up(a, b)
            async with node(server.url, tmp_path / "c") as c:
                for each in (a, b, c):
                    assert await said(each.get("r")) == REVOKED
                    assert await said(each.get("k")) is None
            with server.client() as client:
                assert 90_000 < int(str(client.pttl(KEYS.revoked))) <= 100_000
        assert "another history" in logged.text

    @on_loop
    async def test_others_bring_along_what_it_has_lost(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        """Whoever has caught up before goes on meanwhile, and one is enough to tell it."""
        async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
            for key in "rs":
                await said(a.revoke(key))
            await until(lambda: b.revocations == 2, "both know")
            server.restart()
            await cut_off(a, b)
            await caught_up(a, b)
            with server.client() as client:
                assert client.hget(KEYS.history, "n") in ("1", "2")  # 2: both at the same moment
            seen: list[bool] = []
            a.subscribe(lambda _: seen.append(a.caught_up))
            with server.client() as client, client.pipeline() as together:
                together.zadd(KEYS.revoked, {"t": 1e15})
                n = int(str(client.hget(KEYS.history, "n"))) + 1
                together.hincrby(KEYS.history, "n")
                together.xadd(KEYS.changes, {"n": n, "merged": ""})
                together.execute()
            await until(lambda: seen, "it is told")
            assert seen == [True]
            await said(a.revoke("u"))
            await until(lambda: b.revocations == 4, "both know")
            assert (a.outages, b.outages) == (1, 1)

    @on_loop
    async def test_it_is_emptied_while_all_are_connected(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        async with node(server.url, tmp_path / "a") as a:
            await said(a.revoke("r"))
            with server.client() as client:
                client.flushall()
                await until(lambda: client.exists(KEYS.revoked), "it is told")
            async with node(server.url, tmp_path / "b") as b:
                assert await said(b.get("r")) == REVOKED

    @on_loop
    async def test_it_comes_back_with_an_older_past(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        """As after a crash, from the last snapshot; the node was stopped, too."""
        async with node(server.url, tmp_path) as cache:
            await said(cache.revoke("a"))
            with server.client() as client:
                past = {name: client.dump(name) for name in (KEYS.history, KEYS.revoked)}
            await said(cache.revoke("b"))
        with server.client() as client:
            client.flushall()
            for name, dumped in past.items():
                client.restore(name, 0, dumped)
        async with node(server.url, tmp_path) as cache:
            for key in ("a", "b"):
                assert await said(cache.get(key)) == REVOKED
        with server.client() as client:
            assert sorted(client.zrange(KEYS.revoked, 0, -1)) == ["a", "b"]

    @on_loop
    async def test_all_were_stopped(self, server: RedisServer, tmp_path: Path) -> None:
        async with node(server.url, tmp_path) as cache:
            await said(cache.revoke("r"))
        server.restart()
        async with node(server.url, tmp_path) as cache:
            assert await said(cache.get("r")) == REVOKED
        async with node(server.url, tmp_path / "other") as cache:
            assert await said(cache.get("r")) == REVOKED

    @on_loop
    async def test_there_was_no_redis_before(self, server: RedisServer, tmp_path: Path) -> None:
        """Revocations of a zone in memory, or of one whose mark is lost, are taken along."""
        (tmp_path / "revoked-tokens.jsonl").write_text(json.dumps(["r", 1e11]))
        (tmp_path / "revoked-tokens.mark").write_text("nonsense")
        async with node(server.url, tmp_path) as cache:
            assert await said(cache.get("r")) == REVOKED
            with server.client() as client:
                assert client.zscore(KEYS.revoked, "r") is not None

    @on_loop
    async def test_more_than_a_node_can_hold(
        self, server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody else has written them: what cannot be known must not look as if it were."""
        monkeypatch.setattr("gatekeeper.auth.redis_copy.SIZE", 10)
        with server.client() as client:
            client.zadd(KEYS.revoked, {f"r{n}": 1e15 for n in range(11)})
            async with node(server.url, tmp_path) as cache:
                assert "too many revocations" in str(cache.ready())
                client.zrem(KEYS.revoked, "r0")
                await caught_up(cache)


class TestTheDisk:
    @on_loop
    async def test_a_revocation_counts_though_it_cannot_be_written_down(
        self, server: RedisServer, tmp_path: Path, logged: Logged
    ) -> None:
        async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
            await said(a.revoke("r"))
            await until(lambda: b.revocations, "it is known")
            file = tmp_path / "b" / "revoked-tokens.jsonl"
            file.unlink()
            file.mkdir()
            for key in ("s", "t"):
                await said(a.revoke(key))
            await until(lambda: b.revocations == 3, "it is known")
            assert await said(b.get("t")) == REVOKED
            assert "would not outlive a restart: state_dir" in str(b.ready())
            assert b.caught_up
            file.rmdir()
            await until(lambda: b.ready() is None, "it is written down")
            assert len(file.read_text().splitlines()) == 3
        assert said_to(logged, "Revocations would not outlive a restart: state_dir") == 1

    @on_loop
    async def test_a_file_that_cannot_be_read_stops_the_start(
        self, server: RedisServer, tmp_path: Path
    ) -> None:
        (tmp_path / "revoked-tokens.jsonl").mkdir()
        with pytest.raises(TokenCacheError, match="state_dir"):
            await said(make_zone(server.url, tmp_path).start())
