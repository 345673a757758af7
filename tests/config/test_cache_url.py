from __future__ import annotations

import pytest

from gatekeeper.config.cache_url import check_cache_url


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://localhost",
        "redis://redis.internal:6379",
        "redis://192.0.2.1:6379/",
        "rediss://[2001:db8::1]:6380/15",
        "redis://:p%40ss%2Fword@host/0",
        "redis://user:p!$&'()*+,;=~-._a@host:1/0",
    ],
)
def test_good_ones(url: str) -> None:
    assert check_cache_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory://x",
        "Redis://host",
        "http://host",
        "unix:///run/redis.sock",
        "redis://",
        "redis:///0",
        "redis://user:s3cret@",
        "redis://user:s3cret@host:0",
        "redis://user:s3cret@host:65536",
        "redis://user:s3cret@host/x",
        "redis://user:s3cret@host/0/1",
        "redis://user:s3cret@host/-1",
        "redis://user:s3cret@host?ssl_cert_reqs=none",
        "redis://user:s3cret@host/0?db=1",
        "redis://user:s3cret@host#x",
        "redis://user:s3/cret@host",
        "redis://user:s3@cret@host",
        "redis://user:s3 cret@host",
        "redis://user:s3%cret@host",
        "redis://user:s3[cret@host",
        "redis://@host",
        "redis://us\u00e9r:s3cret@host",
        "redis://user:s3cret@ho st",
        "redis://user:s3cret@2001:db8::1",
    ],
)
def test_bad_ones(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        check_cache_url(url)
    assert "s3" not in str(caught.value)
