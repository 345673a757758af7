"""What a zone over Redis does beyond the contract while nothing is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from gatekeeper.auth import redis_cache, redis_commands, redis_link
from gatekeeper.auth.redis_commands import Found
from gatekeeper.auth.redis_link import RedisLink
from gatekeeper.auth.redis_scripts import Keys
from gatekeeper.auth.token_cache import LONGEST, REVOKED, TokenCacheError
from tests.auth.redis_nodes import PATIENCE, make_zone, node, on_loop, said, shown, until
from tests.auth.redis_server import RedisServer, running_redis
from tests.auth.support import Logged
from tests.authority import Authority
from tests.daemon import ROOT, free_port

KEYS = Keys.of("tokens")


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    yield from running_redis()


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.fresh()
    return running


def questions(server: RedisServer) -> int:
    """How often Redis was asked for, or told to change, an entry or a history."""
    with server.client() as client:
        stats = client.info("commandstats")
        assert isinstance(stats, dict)
        return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


@on_loop
async def test_a_process_asks_once_for_a_token(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        await said(a.add("k", "token"))
        before = questions(server)
        for _ in range(50):
            assert await said(a.get("k")) == "token"
        assert questions(server) == before
        for _ in range(50):
            assert await said(b.get("k")) == "token"
        assert questions(server) == before + 1
        await said(a.revoke("r"))
        await until(lambda: b.revocations, "the other one knows")
        before = questions(server)
        assert await said(b.get("r")) == REVOKED
        assert await said(b.add("r", "token")) == REVOKED
        assert questions(server) == before


@on_loop
async def test_a_revocation_is_told_on_all_processes_at_once(
    server: RedisServer, tmp_path: Path
) -> None:
    """The promise is 100 ms. A machine that has other things to do gets more."""
    told: list[str] = []
    async with (
        node(server.url, tmp_path / "a") as a,
        node(server.url, tmp_path / "b") as b,
        node(server.url, tmp_path / "c") as c,
    ):
        for each in (a, b, c):
            await said(each.add("k", "token"))
            each.subscribe(told.append)
        began = time.monotonic()
        assert await said(a.replace("k", REVOKED)) is True
        assert await said(a.get("k")) == REVOKED
        await until(lambda: told == ["k"] * 3, "all have been told")
        assert time.monotonic() - began < 5
        assert [await said(each.get("k")) for each in (b, c)] == [REVOKED, REVOKED]


@on_loop
async def test_one_that_has_stood_still_asks_redis(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has may be from before; whatever it is told then comes a moment too late."""
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        await said(a.add("k", "token"))
        assert await said(b.get("k")) == "token"
        with server.client() as client:
            client.zadd(KEYS.revoked, {"k": 1e15})  # which nobody is told
        for each in (a, b):
            assert await said(each.get("k")) == "token"
        monkeypatch.setattr(redis_link, "_FRESH", -1.0)
        for each in (a, b):
            assert await said(each.get("k")) == REVOKED
            assert await said(each.claim("k", 1)) == REVOKED
            assert await said(each.add("k", "token")) == REVOKED


@pytest.mark.parametrize("serve", [False, True])
@on_loop
async def test_one_that_has_stood_still_while_redis_went(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, serve: bool
) -> None:
    async with node(server.url, tmp_path, serve=serve) as cache:
        await said(cache.add("k", "token"))
        monkeypatch.setattr(redis_link, "_FRESH", -1.0)

        async def silent(*_: object) -> Found:
            raise TokenCacheError("nothing is said")

        monkeypatch.setattr(cache._copy.link, "entry", silent)
        assert cache.caught_up
        if serve:
            assert await said(cache.get("k")) == "token"
            assert await said(cache.add("l", "token")) is None
        else:
            for answer in (cache.get("k"), cache.claim("k", 1), cache.add("l", "token")):
                with pytest.raises(TokenCacheError):
                    await said(answer)


@on_loop
async def test_redis_forgets_by_itself(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path) as cache:
        await said(cache.add("k", "token", 100))
        await said(cache.revoke("r", 200))
        await said(cache.revoke("s", 50))
        with server.client() as client:
            assert 95_000 < int(str(client.pttl(KEYS.tokens + "k"))) <= 100_000
            assert 195_000 < int(str(client.pttl(KEYS.revoked))) <= 200_000
            assert 0 < int(str(client.pttl(KEYS.changes))) <= 60_000


@on_loop
async def test_a_copy_lives_no_longer_than_the_entry(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        await said(a.add("k", "token", 0.2))
        assert await said(b.get("k")) in ("token", None)
        await asyncio.sleep(0.25)
        assert await said(a.get("k")) is None
        assert await said(b.get("k")) is None


@on_loop
async def test_zones_are_apart_and_share_a_link(server: RedisServer, tmp_path: Path) -> None:
    link = RedisLink(server.url)
    first = make_zone("", tmp_path, zone="first", link=link)
    second = make_zone("", tmp_path, zone="second", link=link)
    await said(first.start())
    await said(second.start())
    await said(first.add("k", "token"))
    await said(first.revoke("r"))
    await said(second.add("k", "other"))
    assert await shown(first) == {"k": "token", "r": REVOKED}
    assert await shown(second) == {"k": "other"}
    await said(first.clear())
    assert await said(second.get("k")) == "other"
    await said(first.close())
    await said(second.add("l", "token"))
    with server.client() as client:
        assert len(client.client_list()) > 1
        await said(second.close())
        await until(lambda: len(client.client_list()) == 1, "its connections are closed")


@on_loop
async def test_two_of_one_zone(server: RedisServer, tmp_path: Path) -> None:
    """After a change of the configuration there are two for a while: both are told."""
    link, told = RedisLink(server.url), list[str]()
    before = make_zone("", tmp_path, link=link)
    await said(before.start())
    await said(before.revoke("a"))
    after = make_zone("", tmp_path, link=link)
    await said(after.start())
    for each in (before, after):
        each.subscribe(told.append)
    await said(after.add("b", "token"))
    assert await said(before.get("b")) == "token"
    await said(after.revoke("b"))
    await until(lambda: told == ["b", "b"], "both are told")
    assert [await said(each.get("b")) for each in (before, after)] == [REVOKED, REVOKED]
    await said(before.close())
    await said(after.revoke("c"))
    assert after.caught_up
    assert (told, before.revocations) == (["b", "b", "c"], 2)
    await said(after.close())


@on_loop
async def test_a_link_may_begin_again(server: RedisServer, tmp_path: Path) -> None:
    link = RedisLink(server.url)
    before, after = (make_zone("", tmp_path / name, link=link) for name in "ab")
    await said(before.start())
    await said(before.revoke("a"))
    ending, starting = before.close(), after.start()
    await said(ending)
    await said(starting)
    assert (before.caught_up, after.caught_up) == (False, True)
    assert await said(after.get("a")) == REVOKED
    assert await said(after.add("b", "token")) is None
    await said(after.close())


@on_loop
async def test_nothing_goes_on_after_the_end(server: RedisServer, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with node(server.url, tmp_path) as cache:
        await said(cache.add("k", "token"))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    with pytest.raises(TokenCacheError):
        await said(cache.get("other"))


@on_loop
async def test_it_may_end_at_any_moment(server: RedisServer, tmp_path: Path) -> None:
    """While it connects, reads, waits: the task that follows Redis ends with it."""
    for turns in range(40):
        cache = make_zone(server.url, tmp_path)
        started = cache.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(said(cache.close()), 10)
        await said(started)


@on_loop
async def test_one_that_was_never_started_can_be_closed(tmp_path: Path) -> None:
    await said(make_zone("redis://192.0.2.1", tmp_path).close())


@on_loop
async def test_many_entries(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "PATIENCE", PATIENCE)  # all of it is in this one process
    async with node(server.url, tmp_path / "a") as a:
        await said(gatherResults([a.add(f"k{n}", f"t{n}") for n in range(1500)]))
        await said(gatherResults([a.revoke(f"r{n}") for n in range(1500)]))
        assert len(await shown(a)) == 3000
        async with node(server.url, tmp_path / "b") as b:
            assert b.revocations == 1500
            assert await said(b.get("r1499")) == REVOKED
            await said(b.clear())
            assert await shown(b) == {}
            await until(lambda: a.revocations == 0, "the other one knows")
            assert await said(a.get("k1")) is None


@on_loop
async def test_too_many_revocations(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_cache, "SIZE", 2)
    async with node(server.url, tmp_path) as cache:
        for key in "abb":
            await said(cache.revoke(key))
        with pytest.raises(TokenCacheError, match="too many"):
            await said(cache.revoke("c"))
        assert await said(cache.get("c")) is None
        assert sorted(await shown(cache)) == ["a", "b"]
        await said(cache.delete("a"))
        await said(cache.revoke("c"))
        assert await said(cache.get("c")) == REVOKED


@on_loop
async def test_revocations_that_are_too_large(server: RedisServer, tmp_path: Path) -> None:
    async with node(server.url, tmp_path) as cache:
        cache._entries._characters = 10
        with pytest.raises(TokenCacheError, match="too many"):
            await said(cache.revoke("x" * 20))
        with server.client() as client:
            assert client.exists(KEYS.revoked) == 0


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("maxmemory", 1, "command not allowed when used memory > 'maxmemory'"),
        ("min-replicas-to-write", 1, "NOREPLICAS"),
    ],
)
@on_loop
async def test_what_redis_refuses(
    server: RedisServer, tmp_path: Path, logged: Logged, setting: str, value: int, error: str
) -> None:
    """Tokens are good here, though they cannot be shared. Revocations need no memory."""
    async with node(server.url, tmp_path) as cache:
        with server.client() as client:
            client.config_set(setting, value)
            try:
                for key in "ab":
                    assert await said(cache.add(key, "secret-token")) is None
                    assert await said(cache.get(key)) == "secret-token"
                    assert client.exists(KEYS.tokens + key) == 0
                if setting == "maxmemory":
                    await said(cache.revoke("r"))
                else:
                    with pytest.raises(TokenCacheError, match="Redis refuses: NOREPLICAS"):
                        await said(cache.revoke("r"))
                assert cache.caught_up
            finally:
                client.config_set(setting, 0)
            assert logged.text.count(f"Tokens cannot be shared now: Redis refuses: {error}") == 1
            assert "secret-token" not in logged.text
            assert await said(cache.add("c", "token")) is None
            assert client.exists(KEYS.tokens + "c") == 1


@on_loop
async def test_nothing_secret_is_shown(server: RedisServer, tmp_path: Path, logged: Logged) -> None:
    async with node(server.url, tmp_path) as cache:
        await said(cache.add("alice", "s3cret"))
        await said(cache.revoke("bob"))
        shown = repr(cache) + logged.text
        for secret in ("alice", "s3cret", "bob"):
            assert secret not in shown
        assert "caught up" in repr(cache)
    assert "cut off" in repr(cache)


# --- a change that comes while Redis is being asked ---------------------------------------


class Delayed:
    """Holds the answers of a zone's questions back."""

    def __init__(self, link: RedisLink, monkeypatch: pytest.MonkeyPatch) -> None:
        self._entry = link.entry
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        monkeypatch.setattr(link, "entry", self.entry)

    async def entry(self, *arguments: object) -> Found:
        found = await self._entry(*arguments)  # type: ignore[arg-type]
        self.asked.set()
        await self.answer.wait()
        return found


@pytest.mark.parametrize("what", ["get", "add"])
@pytest.mark.parametrize("change", ["revoke", "delete", "replace", "clear"])
@on_loop
async def test_a_change_overtakes_an_answer(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, change: str
) -> None:
    async with node(server.url, tmp_path / "a") as a, node(server.url, tmp_path / "b") as b:
        if what == "get":
            await said(b.add("k", "token"))
        delayed = Delayed(a._copy.link, monkeypatch)
        answer = a.get("k") if what == "get" else a.add("k", "token")
        await delayed.asked.wait()
        position = a._copy.position
        changes: dict[str, Callable[[], Deferred[Any]]] = {
            "revoke": lambda: b.replace("k", REVOKED),
            "delete": lambda: b.delete("k"),
            "replace": lambda: b.replace("k", "other"),
            "clear": b.clear,
        }
        await said(changes[change]())
        await until(lambda: a._copy.position != position, "the change has come")
        delayed.answer.set()
        found = await said(answer)
        if change == "revoke":
            assert found == REVOKED
        else:
            assert found == ("token" if what == "get" else None)
        expected = {"revoke": REVOKED, "replace": "other"}.get(change)
        assert await said(a.get("k")) == expected


@on_loop
async def test_a_question_that_is_given_up(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(server.url, tmp_path) as cache:
        delayed = Delayed(cache._copy.link, monkeypatch)
        answer = cache.get("k")
        await delayed.asked.wait()
        answer.cancel()
        with pytest.raises(TokenCacheError):
            await said(answer)
        delayed.answer.set()
        assert await said(cache.add("k", "token")) is None


# --- passwords and TLS --------------------------------------------------------------------

PASSWORD = "p@ss/w#rd?:"
QUOTED = "p%40ss%2Fw%23rd%3F%3A"


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    yield from running_redis(["--requirepass", PASSWORD])


@on_loop
async def test_passwords(guarded: RedisServer, tmp_path: Path, logged: Logged) -> None:
    place = f"127.0.0.1:{guarded.port}/3"
    for user in ("default", ""):
        async with node(f"redis://{user}:{QUOTED}@{place}", tmp_path) as cache:
            assert cache.ready() is None
            await said(cache.add("k", "token"))
            await said(cache.clear())
    async with node(f"redis://default:x{QUOTED}@{place}", tmp_path) as cache:
        assert not cache.caught_up
        assert "invalid username-password" in str(cache.ready())
        with pytest.raises(TokenCacheError):
            await said(cache.get("k"))
        shown = f"{cache._copy.link!r} {cache.ready()} {logged.text}"
        assert "p@ss" not in shown
        assert "p%40ss" not in shown


@on_loop
async def test_a_user_with_the_permissions_that_the_manual_names(
    server: RedisServer, tmp_path: Path, logged: Logged
) -> None:
    manual = (ROOT / "docs" / "multinode-tokens.rst").read_text()
    (command,) = (line for line in manual.splitlines() if "ACL SETUSER" in line)
    with server.client() as client:
        client.execute_command(*command.split())
    url = f"redis://gatekeeper:password@127.0.0.1:{server.port}/0"
    async with node(url, tmp_path / "a") as a, node(url, tmp_path / "b") as b:
        await said(a.add("k", "token"))
        await said(a.revoke("r"))
        assert await shown(a) == {"k": "token", "r": REVOKED}
        await said(a.clear())
        server.client().flushall()
        await said(a.revoke("s"))
        await until(lambda: b.revocations, "the other one knows")
        await asyncio.sleep(1.2)  # longer than it takes to look whether something is missing
        assert a.ready() is b.ready() is None
    assert "cannot be followed" not in logged.text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_server(authority: Authority, tmp_path: Path) -> Iterator[tuple[RedisServer, int]]:
    issued, port = authority.issue("127.0.0.1"), free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(issued.certificate), "--tls-key-file", str(issued.key)]
    for server in running_redis(options):
        yield server, port


@on_loop
async def test_tls(
    tls_server: tuple[RedisServer, int], authority: Authority, tmp_path: Path
) -> None:
    link = RedisLink(f"rediss://127.0.0.1:{tls_server[1]}", str(authority.file))
    cache = make_zone("", tmp_path, link=link)
    await said(cache.start())
    assert cache.ready() is None
    assert await said(cache.add("k", "t" * LONGEST)) is None
    await said(cache.close())


@on_loop
async def test_tls_of_nobody_that_is_known(
    tls_server: tuple[RedisServer, int], authority: Authority, tmp_path: Path
) -> None:
    async with node(f"rediss://127.0.0.1:{tls_server[1]}", tmp_path) as cache:
        assert not cache.caught_up
    link = RedisLink(f"rediss://localhost:{tls_server[1]}", str(authority.file))
    cache = make_zone("", tmp_path, link=link)
    await said(cache.start())
    assert not cache.caught_up, "the certificate is for another name"
    await said(cache.close())
