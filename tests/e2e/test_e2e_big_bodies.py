"""Big bodies in both directions through both doors, at flat memory."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import PLAIN
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

MEGABYTE = 1024 * 1024
DOWN = 1024 * MEGABYTE
UP = 256 * MEGABYTE

#: More than this the daemon must not need, however big a body is.
MOST_GROWTH = 24 * MEGABYTE

CREDENTIALS = "Basic YWxpY2U6d29uZGVybGFuZA=="


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def daemon(
    origin: Origin, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    directory: Path = tmp_path_factory.mktemp("big")
    issued = authority.issue("127.0.0.1")
    tls = f'tls = {{ certificate = "{issued.certificate}", key = "{issued.key}" }}'
    secure = f'[[listeners]]\nname = "tls"\nrole = "gateway"\nbind = "@tls@"\n{tls}\n'
    with Daemon(directory, PLAIN + secure, ports={"origin": origin.port}) as daemon:
        for door in ("gateway", "proxy", "tls"):
            connection, target, headers = way(daemon, origin, door, authority)
            connection.request("GET", f"{target}/x", headers=headers)
            assert connection.getresponse().status == 200
            connection.close()
        yield daemon


def way(
    daemon: Daemon, origin: Origin, door: str, authority: Authority
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """A connection to a door, what targets begin with there, and credentials."""
    host, port = daemon.address(door)
    if door == "tls":
        context = authority.client_context()
        secure = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
        return secure, "/echo", {"Authorization": CREDENTIALS}
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    if door == "gateway":
        return connection, "/echo", {"Authorization": CREDENTIALS}
    if door == "proxy":
        return connection, origin.url, {"Proxy-Authorization": CREDENTIALS}
    raise AssertionError(door)


def tunnel(daemon: Daemon, origin: Origin) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(*daemon.address("proxy"), timeout=PATIENCE)
    connection.set_tunnel("127.0.0.1", origin.port, {"Proxy-Authorization": CREDENTIALS})
    return connection


def read_all(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    assert answer.status == 200
    size = 0
    piece = bytearray(MEGABYTE)
    while count := answer.readinto(piece):
        size += count
    return size


@pytest.mark.parametrize(
    ("door", "size"), [("gateway", DOWN), ("proxy", DOWN), ("tls", DOWN // 4), ("tunnel", DOWN)]
)
def test_down(daemon: Daemon, origin: Origin, authority: Authority, door: str, size: int) -> None:
    if door == "tunnel":
        connection, target = tunnel(daemon, origin), ""
        headers: dict[str, str] = {}
    else:
        connection, target, headers = way(daemon, origin, door, authority)
    before = daemon.peak_memory
    connection.request("GET", f"{target}/bytes/{size}", headers=headers)
    assert read_all(connection) == size
    assert daemon.peak_memory - before < MOST_GROWTH
    connection.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("door", ["gateway", "proxy", "tls"])
def test_up(daemon: Daemon, origin: Origin, authority: Authority, door: str, chunked: bool) -> None:
    connection, target, headers = way(daemon, origin, door, authority)
    block = bytes(MEGABYTE)
    if not chunked:
        headers = {**headers, "Content-Length": str(UP)}
    before = daemon.peak_memory
    connection.request(
        "POST",
        f"{target}/count",
        body=(block for _ in range(UP // MEGABYTE)),
        headers=headers,
        encode_chunked=chunked,
    )
    assert json.load(connection.getresponse()) == {"size": UP}
    assert daemon.peak_memory - before < MOST_GROWTH
    connection.close()


def test_it_is_all_in_the_account(daemon: Daemon, origin: Origin) -> None:
    """After the others: what has gone through stands in the store, to the byte."""

    def sums() -> tuple[int, int]:
        rows = [row for row in daemon.usage() if row["path"].endswith(("/count", f"/{DOWN}"))]
        return sum(row["bytes_in"] for row in rows), sum(row["bytes_out"] for row in rows)

    answers = 6 * len(json.dumps({"size": UP}) + "\n")
    wait_until(lambda: sums() == (6 * UP, 2 * DOWN + answers), f"the account is right: {sums()}")
