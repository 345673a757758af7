from __future__ import annotations

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.store.postgres_url import parse_postgres_url


@pytest.mark.parametrize(
    ("url", "host", "port", "parameters"),
    [
        ("postgresql://db/usage", "db", 5432, {"dbname": "usage"}),
        (
            "postgres://me:p%40ss%2F%23@db:6432/us%20age",
            "db",
            6432,
            {"user": "me", "password": "p@ss/#", "dbname": "us age"},
        ),
        ("postgresql://me:p@s:s@db/x", "db", 5432, {"user": "me", "password": "p@s:s"}),
        ("postgresql://[::1]:5433/x?sslmode=verify-full", "::1", 5433, {"sslmode": "verify-full"}),
        ("postgresql:///x?host=/run/postgresql", "/run/postgresql", 5432, {"dbname": "x"}),
        ("postgresql://me@/x", "", 5432, {"user": "me"}),
    ],
)
def test_urls(url: str, host: str, port: int, parameters: dict[str, str]) -> None:
    target = parse_postgres_url(url)
    assert (target.host, target.port) == (host, port)
    assert parameters.items() <= target.parameters.items()
    assert "host" not in target.parameters


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:hidden#x@db/x", "percent-encoded"),
        ("postgresql://me:hidden/x@db/x", "percent-encoded"),
        ("postgresql://me:hidden?x@db/x", "percent-encoded"),
        ("postgresql://me:hidden@db:port/x", "not a PostgreSQL URL"),
        ("postgresql://me:hidden@[::1/x", "not a PostgreSQL URL"),
        ("postgresql://me:hidden@db/x?sslmod=require", "unknown options: sslmod; known: "),
    ],
)
def test_wrong_urls_are_refused_without_showing_the_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"store.url: .*{message}") as caught:
        parse_postgres_url(url)
    assert "hidden" not in str(caught.value)


def test_target_does_not_show_the_password() -> None:
    target = parse_postgres_url("postgresql://me:hidden@db/x")
    assert str(target) == "db:5432/x"
    assert "hidden" not in repr(target)
