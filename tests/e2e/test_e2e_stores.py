"""Usage is in the store after a stop, whatever the store, and whatever became of it meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon import Daemon, wait_until
from tests.e2e.plain import PLAIN, USER, curl
from tests.origin import Origin
from tests.servers import PostgresServer

pytestmark = pytest.mark.usefixtures("unmeasured")


def with_store(url: str) -> str:
    return PLAIN.replace("usage = {", f'store = {{ url = "{url}" }}\nusage = {{')


def used(daemon: Daemon) -> dict[str, tuple[int, int, int]]:
    """Requests and bytes in and out by path, from the store."""
    return {
        row["path"]: (row["requests"], row["bytes_in"], row["bytes_out"]) for row in daemon.usage()
    }


def ask(daemon: Daemon, path: str, count: int = 1) -> None:
    url = daemon.url("gateway", "/echo")
    for _ in range(count):
        answer = curl(url + path, "-u", USER, "-d", "hello")
        assert answer.status == 200, answer


def test_sqlite(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(
        tmp_path, with_store("sqlite:///usage/here.sqlite"), ports={"origin": origin.port}
    )
    (tmp_path / "state" / "usage").mkdir(parents=True)
    with daemon:
        ask(daemon, "/count", 3)
        assert curl(daemon.url("gateway", "/echo/x")).status == 401
    assert (tmp_path / "state" / "usage" / "here.sqlite").exists()
    # The answer is {"size": 5} and a newline.
    assert used(daemon) == {"/echo/count": (3, 15, 36)}


def test_postgresql(tmp_path: Path, origin: Origin, postgres: PostgresServer) -> None:
    """Two daemons, one after the other, add to the same account."""
    url = postgres.create_database()
    for name, requests in (("one", 3), ("two", 5)):
        daemon = Daemon(tmp_path / name, with_store(url), ports={"origin": origin.port})
        with daemon:
            assert daemon.management("/readyz")[0] == 200 or name == "one"
            ask(daemon, "/count", requests - 2)
            ask(daemon, "/count", 2)
        assert url not in daemon.log
        assert postgres.password not in daemon.log
    assert used(daemon) == {"/echo/count": (8, 40, 96)}


def test_store_that_is_down_at_the_start(
    tmp_path: Path, origin: Origin, postgres: PostgresServer
) -> None:
    """It serves, says that it is not ready, and catches up."""
    url = postgres.create_database()
    daemon = Daemon(tmp_path, with_store(url), ports={"origin": origin.port})
    postgres.stop()
    try:
        with daemon:
            ask(daemon, "/count", 2)
            status, report = daemon.management("/readyz")
            assert status == 503
            assert not report["checks"]["store"]["ok"]
            assert daemon.management("/healthz")[0] == 200
            postgres.start()
            wait_until(lambda: daemon.management("/readyz")[0] == 200, "the store is found")
            wait_until(lambda: used(daemon), "the usage is in the store")
            ask(daemon, "/count")
    finally:
        postgres.stop()
        postgres.start()
    assert used(daemon) == {"/echo/count": (3, 15, 36)}


def test_store_that_goes_away_and_comes_back(
    tmp_path: Path, origin: Origin, postgres: PostgresServer
) -> None:
    url = postgres.create_database()
    daemon = Daemon(tmp_path, with_store(url), ports={"origin": origin.port})
    with daemon:
        ask(daemon, "/count")
        wait_until(lambda: daemon.management("/readyz")[0] == 200, "the store is found")
        postgres.stop()
        ask(daemon, "/count")
        wait_until(lambda: daemon.management("/readyz")[0] == 503, "the store is missed")
        postgres.start()
        wait_until(lambda: daemon.management("/readyz")[0] == 200, "the store is found again")
        ask(daemon, "/count")
    assert used(daemon) == {"/echo/count": (3, 15, 36)}


def test_store_that_never_comes(tmp_path: Path, origin: Origin) -> None:
    """The daemon stops all the same; usage waits for a start with a store that is there."""
    daemon = Daemon(
        tmp_path,
        with_store("postgresql://nobody@@nowhere@/nothing"),
        ports={"origin": origin.port},
    )
    with daemon:
        ask(daemon, "/count")
    assert "1 usage records stay in the journal for the next start" in daemon.log
    daemon.configure(PLAIN)
    with daemon:
        assert "1 usage records of an earlier run wait for the store" in daemon.log
        wait_until(lambda: used(daemon), "the usage is in the store")
    assert used(daemon) == {"/echo/count": (1, 5, 12)}


def test_killed_daemon_loses_nothing(tmp_path: Path, origin: Origin) -> None:
    """What was answered is counted once, by the next daemon if this one had not come to it."""
    daemon = Daemon(
        tmp_path,
        PLAIN.replace("flush_interval = 0.2", "flush_interval = 3600"),
        ports={"origin": origin.port},
    )
    daemon.start()
    ask(daemon, "/count", 3)
    daemon.kill()
    daemon.pid_file.unlink()
    with daemon:
        ask(daemon, "/count")
    assert used(daemon) == {"/echo/count": (4, 20, 48)}
