"""What every token cache must do: the tests, and what they need from the one that is tested.

A test module derives a class from :class:`TokenCacheContract` and gives the fixture ``nodes``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from gatekeeper.auth.token_cache import LONGEST, REVOKED, ITokenCache
from tests.auth.http_peers import in_reactor
from tests.auth.redis_nodes import said


@dataclass
class Nodes:
    """One zone as two nodes see it (or one, twice), with a ``ttl`` of 300 s."""

    here: ITokenCache
    there: ITokenCache
    advance: Callable[[float], None]


class TokenCacheContract:
    """Tests that use the fixture ``nodes``."""

    def test_it_is_one(self, nodes: Nodes) -> None:
        assert verifyObject(ITokenCache, nodes.here)
        assert nodes.here.ttl == 300

    @in_reactor
    async def test_what_one_node_adds_the_other_sees(self, nodes: Nodes) -> None:
        assert await nodes.here.get("k") is None
        assert await nodes.here.add("k", "token") is None
        assert await nodes.there.get("k") == "token"
        assert dict(await nodes.there.items()) == {"k": "token"}

    @in_reactor
    async def test_add_changes_nothing_that_is_there(self, nodes: Nodes) -> None:
        await nodes.here.add("k", "token")
        assert await nodes.there.add("k", "other") == "token"
        assert await nodes.here.get("k") == "token"

    @in_reactor
    async def test_add_does_not_undo_a_revocation(self, nodes: Nodes) -> None:
        await nodes.here.revoke("k")
        assert await nodes.there.add("k", "token") == REVOKED
        assert await nodes.here.get("k") == REVOKED

    @in_reactor
    async def test_replace(self, nodes: Nodes) -> None:
        assert await nodes.here.replace("k", "token") is False
        assert await nodes.here.get("k") is None
        await nodes.here.add("k", "token")
        assert await nodes.there.replace("k", "other") is True
        assert await nodes.here.get("k") == "other"

    @in_reactor
    async def test_delete(self, nodes: Nodes) -> None:
        assert await nodes.here.delete("k") is False
        for value in ("token", REVOKED):
            await nodes.here.add("k", value)
            assert await nodes.there.delete("k") is True
            assert await nodes.here.get("k") is None

    @in_reactor
    async def test_clear(self, nodes: Nodes) -> None:
        await nodes.here.add("k", "token")
        await nodes.here.revoke("l")
        await nodes.there.clear()
        assert dict(await nodes.here.items()) == {}
        assert await nodes.here.get("l") is None

    @in_reactor
    async def test_entries_expire(self, nodes: Nodes) -> None:
        await nodes.here.add("short", "token", 10)
        await nodes.here.add("long", "token")
        nodes.advance(11)
        assert dict(await nodes.there.items()) == {"long": "token"}
        assert await nodes.there.get("short") is None
        assert await nodes.there.replace("short", "other") is False
        assert await nodes.there.delete("short") is False
        nodes.advance(300)
        assert await nodes.here.get("long") is None
        assert await nodes.here.add("long", "other") is None

    @in_reactor
    async def test_a_change_begins_a_new_life(self, nodes: Nodes) -> None:
        await nodes.here.add("k", "token", 10)
        await nodes.here.replace("k", REVOKED)
        nodes.advance(290)
        assert await nodes.there.get("k") == REVOKED
        nodes.advance(11)
        assert await nodes.there.get("k") is None

    @in_reactor
    async def test_revocations_are_told(self, nodes: Nodes) -> None:
        told: list[str] = []
        nodes.there.subscribe(told.append)
        await nodes.here.add("a", "token")
        assert told == []
        await nodes.here.replace("a", REVOKED)
        await nodes.here.add("b", REVOKED)
        await nodes.here.revoke("c")
        await nodes.here.replace("a", "token")
        await nodes.here.delete("b")
        await nodes.here.clear()
        assert told == ["a", "b", "c"]

    @in_reactor
    async def test_who_has_heard_enough(self, nodes: Nodes) -> None:
        first: list[str] = []
        second: list[str] = []
        end = nodes.here.subscribe(first.append)
        nodes.here.subscribe(second.append)
        end()
        await nodes.here.revoke("k")
        assert (first, second) == ([], ["k"])

    @in_reactor
    async def test_a_listener_that_fails_is_not_in_the_way(self, nodes: Nodes) -> None:
        told: list[str] = []

        def broken(key: str) -> None:
            raise ValueError

        nodes.here.subscribe(broken)
        nodes.here.subscribe(told.append)
        await nodes.here.revoke("k")
        assert told == ["k"]
        assert await nodes.here.get("k") == REVOKED

    @in_reactor
    async def test_a_revoked_entry_may_be_replaced(self, nodes: Nodes) -> None:
        await nodes.here.revoke("k")
        assert await nodes.there.replace("k", "token") is True
        assert await nodes.here.get("k") == "token"

    @in_reactor
    async def test_the_longest_and_the_oddest(self, nodes: Nodes) -> None:
        for key in ("x" * LONGEST, 'alice:[::1]:"curl" 8 {}*?', "ä:\u20ac", " "):
            await nodes.here.add(key, "t" * LONGEST)
            assert await nodes.there.get(key) == "t" * LONGEST
            assert key in await nodes.there.items()


def _on_the_nodes_loop(test: Callable[..., Any]) -> Callable[..., None]:
    def run(self: object, nodes: Nodes, runner: asyncio.Runner) -> None:
        async def main() -> None:
            await said(Deferred.fromCoroutine(test(self, nodes)))

        runner.run(main())

    return run


class TokenCacheContractOnLoop(TokenCacheContract):
    """Each test of the contract as it is, on a loop like the daemon's, which nodes can have."""

    for _name, _test in vars(TokenCacheContract).items():
        if inspect.iscoroutinefunction(_test):
            locals()[_name] = _on_the_nodes_loop(_test)

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner
