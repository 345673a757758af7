"""What the end-to-end tests have around the daemon: upstreams, an authority, a PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.authority import Authority
from tests.origin import Origin
from tests.servers import PostgresServer, running_postgres


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An upstream that echoes."""
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody knows but who is told."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_origin(authority: Authority) -> Iterator[Origin]:
    """An upstream that speaks TLS, with a certificate for its address and for localhost."""
    certificate = authority.issue("127.0.0.1", "localhost")
    with Origin(certificate.server_context()) as origin:
        yield origin


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL. Whoever stops it starts it again."""
    yield from running_postgres()
