from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from gatekeeper.auth.interfaces import ABSTAIN, Credentials, IChecker, Verdict
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.token_cache import (
    REVOKED,
    ITokenCache,
    IUsesTokenCache,
    MemoryTokenCache,
    TokenCacheError,
    share_token_caches,
)
from gatekeeper.errors import ConfigurationError
from tests.auth.support import outcome
from tests.auth.token_cache_contract import Nodes, TokenCacheContract


class TestMemory(TokenCacheContract):
    @pytest.fixture
    def nodes(self) -> Nodes:
        clock = Clock()
        cache = MemoryTokenCache(300, monotonic=clock.seconds)
        return Nodes(cache, cache, clock.advance)

    def test_it_is_ready_at_once(self, nodes: Nodes) -> None:
        assert outcome(nodes.here.start()) == [None]
        assert outcome(nodes.here.close()) == [None]


def keys(cache: MemoryTokenCache) -> list[str]:
    (items,) = outcome(cache.items())
    return sorted(items)


class TestBounds:
    def test_the_oldest_token_goes(self) -> None:
        cache = MemoryTokenCache(size=2)
        for key in "abc":
            cache.add(key, "token")
        assert keys(cache) == ["b", "c"]
        cache.replace("b", "other")
        cache.add("d", "token")
        assert keys(cache) == ["b", "d"]

    def test_no_revocation_goes_for_a_token(self) -> None:
        cache = MemoryTokenCache(size=2)
        cache.revoke("revoked")
        for number in range(100):
            cache.add(str(number), "token")
        assert outcome(cache.get("revoked")) == [REVOKED]
        assert len(keys(cache)) == 3

    def test_at_the_bound_no_more_are_revoked_silently(self) -> None:
        clock = Clock()
        cache = MemoryTokenCache(10, size=2, monotonic=clock.seconds)
        for key in "ab":
            cache.revoke(key)
        (failure,) = outcome(cache.revoke("c"))
        assert failure.check(TokenCacheError)
        assert outcome(cache.revoke("a")) == [None]
        assert keys(cache) == ["a", "b"]
        clock.advance(11)
        assert outcome(cache.revoke("c")) == [None]

    def test_large_entries_go_sooner(self) -> None:
        cache = MemoryTokenCache(characters=30)
        for key in "abc":
            cache.add(key, "x" * 9)
        assert keys(cache) == ["a", "b", "c"]
        cache.add("d", "x" * 15)
        assert keys(cache) == ["c", "d"]
        cache.delete("d")
        cache.add("e", "x" * 19)
        assert keys(cache) == ["c", "e"]
        cache.add("f", "x" * 100)
        assert keys(cache) == []

    def test_large_revocations(self) -> None:
        cache = MemoryTokenCache(characters=30)
        cache.add("token", "x" * 10)
        cache.revoke("x" * 28)
        assert keys(cache) == ["x" * 28]
        (failure,) = outcome(cache.revoke("y"))
        assert failure.check(TokenCacheError)

    def test_it_shows_no_entry(self) -> None:
        cache = MemoryTokenCache()
        cache.add("alice", "s3cret")
        cache.revoke("bob")
        assert repr(cache) == "<MemoryTokenCache: 1 tokens, 1 revoked>"


@implementer(IChecker, IUsesTokenCache)
class User:
    challenges: tuple[bytes, ...] = ()
    varies = None

    def check(self, credentials: Credentials) -> Verdict:
        return ABSTAIN

    def close(self) -> None: ...

    def __init__(self, zone: str, ttl: float) -> None:
        self.zone = zone
        self.ttl = ttl
        self.cache: ITokenCache | None = None

    def use(self, cache: ITokenCache) -> None:
        self.cache = cache


def make(asked: list[tuple[str, float]]) -> Callable[[str, float], ITokenCache]:
    def make(zone: str, ttl: float) -> ITokenCache:
        asked.append((zone, ttl))
        return MemoryTokenCache(ttl)

    return make


class TestSharing:
    def test_every_user_gets_its_zone(self) -> None:
        asked: list[tuple[str, float]] = []
        a, b = User("a", 1), User("b", 2)
        zones = share_token_caches({"x": a, "y": b, "z": NullChecker()}, make(asked))
        assert asked == [("a", 1), ("b", 2)]
        assert zones == {"a": a.cache, "b": b.cache}

    def test_two_cannot_have_one(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            share_token_caches({"x": User("a", 1), "y": User("a", 1)}, make([]))
        assert str(caught.value) == ("checkers.y.zone: another checker has the zone `a` already")
