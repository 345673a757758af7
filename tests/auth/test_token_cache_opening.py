from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gatekeeper.auth.redis_cache import RedisTokenCache
from gatekeeper.auth.token_cache import MemoryTokenCache
from gatekeeper.auth.token_cache_opening import token_cache_maker
from gatekeeper.config.model import Cache
from gatekeeper.errors import ConfigurationError
from tests.auth.support import outcome

URL = "redis://gatekeeper:s3cret@192.0.2.1:6400/2"


def test_in_memory(tmp_path: Path) -> None:
    cache = token_cache_maker(Cache(), tmp_path)("tokens", 30)
    assert isinstance(cache, MemoryTokenCache)
    assert (cache.ttl, cache.caught_up, cache.outages) == (30, True, 0)
    outcome(cache.revoke("k"))
    assert (tmp_path / "revoked-tokens.jsonl").exists()


@pytest.mark.parametrize("on_outage", ["refuse", "serve"])
def test_over_redis(tmp_path: Path, on_outage: str) -> None:
    make = token_cache_maker(Cache.model_validate({"url": URL, "on_outage": on_outage}), tmp_path)
    first, second = make("a", 30), make("b", 60)
    assert isinstance(first, RedisTokenCache)
    assert isinstance(second, RedisTokenCache)
    assert (first.ttl, second.ttl) == (30, 60)
    assert first._copy.link is second._copy.link
    assert not first.caught_up
    assert ("served" in str(first.ready())) == (on_outage == "serve")
    assert "s3cret" not in repr(first._copy.link)


def test_by_default_it_refuses() -> None:
    assert Cache(url=URL).on_outage == "refuse"
    assert "s3cret" not in repr(Cache(url=URL))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gatekeeper.auth.redis_")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError) as caught:
        token_cache_maker(Cache(url=URL), tmp_path)
    message = "cache.url: Redis needs another package: pip install gatekeeper[redis]"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"nonsense", "has no certificates in it"),
    ],
)
def test_authorities_that_cannot_be_read(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        token_cache_maker(Cache(url="rediss://192.0.2.1", ca_file=file), tmp_path)
    assert str(caught.value) == f"cache.ca_file: {message}"
