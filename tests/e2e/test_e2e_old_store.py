"""A daemon does not start on a store that is older, and does after the upgrade."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from gatekeeper.store.schema import Dialect, upgrades
from tests.daemon import PATIENCE, ROOT, Daemon
from tests.e2e.plain import PLAIN, USER, curl
from tests.origin import Origin
from tests.servers import PostgresServer

pytestmark = pytest.mark.usefixtures("unmeasured")

ROW = "INSERT INTO usage VALUES ('echo', 'bob', '/echo/old', 0, 41, 2, 3, 4, 0.5)"


def old_store(dialect: Dialect, directory: Path, postgres: PostgresServer) -> str:
    """Make a store of version 1, and return its URL."""
    statements = [
        "CREATE TABLE schema_version (version integer NOT NULL)",
        upgrades(dialect, 0)[0][1],
        "INSERT INTO schema_version VALUES (1)",
        ROW,
    ]
    if dialect == "sqlite":
        directory.mkdir(mode=0o700, parents=True)
        with closing(sqlite3.connect(directory / "gatekeeper.sqlite")) as file:
            for statement in statements:
                file.executescript(statement)
        return "sqlite:///gatekeeper.sqlite"
    url = postgres.create_database()
    with closing(psycopg2.connect(url)) as connection:
        for statement in statements:
            connection.cursor().execute(statement)
        connection.commit()
    return url


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_store_that_is_older(
    tmp_path: Path, origin: Origin, postgres: PostgresServer, dialect: Dialect
) -> None:
    url = old_store(dialect, tmp_path / "state", postgres)
    configuration = PLAIN.replace("usage = {", f'store = {{ url = "{url}" }}\nusage = {{')
    daemon = Daemon(tmp_path, configuration, ports={"origin": origin.port})
    try:
        status, _ = daemon.refuse_to_start()
    finally:
        daemon.kill()
    assert status not in (0, None)
    assert "schema version 1" in daemon.log
    assert "gatekeeper store upgrade --config FILE" in daemon.log
    assert "Traceback" not in daemon.log

    upgrade = subprocess.run(
        [sys.executable, "-m", "gatekeeper", "store", "upgrade", "-c", str(daemon.config_file)],
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert upgrade.returncode == 0, upgrade.stderr
    with daemon:
        assert curl(daemon.url("gateway", "/echo/count"), "-u", USER, "-d", "hello").status == 200
    assert {row["path"]: row["requests"] for row in daemon.usage()} == {
        "/echo/old": 41,
        "/echo/count": 1,
    }
