from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import Deny, Grant

DENY = Deny("wrong", "wrong")
ALICE = Grant(user="alice")


class Clocks:
    """A wall clock and a monotonic one; the wall clock can be set."""

    def __init__(self) -> None:
        self.monotonic = Clock()
        self.offset = 1_700_000_000.0

    def wall(self) -> float:
        return self.monotonic.seconds() + self.offset


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def cache(clocks: Clocks) -> VerdictCache:
    return VerdictCache(3, 300, 5, clocks.wall, clocks.monotonic.seconds)


def put(cache: VerdictCache, key: bytes, verdict: Grant | Deny) -> None:
    cache.put(key, verdict, cache.generation)


def test_each_sort_lives_as_long_as_it_should(cache: VerdictCache, clocks: Clocks) -> None:
    put(cache, b"a", ALICE)
    put(cache, b"d", DENY)
    clocks.monotonic.advance(4.9)
    assert (cache.get(b"a"), cache.get(b"d"), cache.get(b"x")) == (ALICE, DENY, None)
    clocks.monotonic.advance(0.1)
    assert (cache.get(b"a"), cache.get(b"d")) == (ALICE, None)
    clocks.monotonic.advance(294.9)
    assert cache.get(b"a") == ALICE
    clocks.monotonic.advance(0.1)
    assert cache.get(b"a") is None
    assert repr(cache) == "<VerdictCache: 0 grants, 0 denials>"


def test_a_grant_does_not_outlive_itself(cache: VerdictCache, clocks: Clocks) -> None:
    put(cache, b"a", Grant(expires=clocks.wall() + 10))
    clocks.monotonic.advance(9.9)
    assert cache.get(b"a") is not None
    clocks.monotonic.advance(0.1)
    assert cache.get(b"a") is None


@pytest.mark.parametrize("past", [0.0, 1.0, 1e18, float("inf")])
def test_an_expired_grant_is_not_kept(cache: VerdictCache, clocks: Clocks, past: float) -> None:
    put(cache, b"a", Grant(expires=clocks.wall() - past))
    assert cache.get(b"a") is None


def test_setting_the_wall_clock_back_does_not_lengthen_a_life(
    cache: VerdictCache, clocks: Clocks
) -> None:
    put(cache, b"a", Grant(expires=clocks.wall() + 10))
    clocks.offset -= 3600
    clocks.monotonic.advance(10)
    assert cache.get(b"a") is None


def test_setting_the_wall_clock_forward_ends_it(cache: VerdictCache, clocks: Clocks) -> None:
    put(cache, b"a", Grant(expires=clocks.wall() + 10))
    put(cache, b"b", ALICE)
    clocks.offset += 3600
    assert cache.get(b"a") is None
    assert cache.get(b"b") == ALICE


def test_bounded_and_what_is_in_use_stays(cache: VerdictCache) -> None:
    for key in (b"1", b"2", b"3"):
        put(cache, key, Grant(user=key.decode()))
    assert cache.get(b"1") is not None
    put(cache, b"4", ALICE)
    assert [cache.get(key) is not None for key in (b"1", b"2", b"3", b"4")] == [
        True,
        False,
        True,
        True,
    ]


def test_a_flood_of_denials_pushes_no_grant_out(cache: VerdictCache) -> None:
    put(cache, b"a", ALICE)
    for number in range(1000):
        put(cache, b"%d" % number, DENY)
    assert cache.get(b"a") == ALICE
    assert repr(cache) == "<VerdictCache: 1 grants, 3 denials>"


def test_replacing_in_a_full_cache_pushes_nothing_out(cache: VerdictCache) -> None:
    for key in (b"1", b"2", b"3", b"1"):
        put(cache, key, ALICE)
    assert all(cache.get(key) for key in (b"1", b"2", b"3"))


@pytest.mark.parametrize(("before", "after"), [(ALICE, DENY), (DENY, ALICE)])
def test_the_last_word_counts(
    cache: VerdictCache, before: Grant | Deny, after: Grant | Deny
) -> None:
    put(cache, b"a", before)
    put(cache, b"a", after)
    assert cache.get(b"a") == after
    assert "1 grants, 0" in repr(cache) or "0 grants, 1" in repr(cache)


def test_dropping(cache: VerdictCache) -> None:
    put(cache, b"a", ALICE)
    put(cache, b"b", Grant(user="bob"))
    put(cache, b"d", DENY)
    cache.drop(lambda verdict: isinstance(verdict, Grant) and verdict.user == "alice")
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"d")) == (None, Grant(user="bob"), DENY)
    cache.clear()
    assert (cache.get(b"b"), cache.get(b"d")) == (None, None)


@pytest.mark.parametrize("drop", [VerdictCache.clear, lambda cache: cache.drop(lambda _: False)])
def test_an_answer_from_before_a_drop_is_not_kept(cache: VerdictCache, drop: object) -> None:
    generation = cache.generation
    assert callable(drop)
    drop(cache)
    cache.put(b"a", ALICE, generation)
    assert cache.get(b"a") is None


def test_secrets_differ_by_name_and_process(cache: VerdictCache) -> None:
    assert cache.secret_for("a") == cache.secret_for("a")
    others = {cache.secret_for("b"), VerdictCache(1, 1, 1).secret_for("a")}
    assert len(others | {cache.secret_for("a")}) == 3
