from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gatekeeper.store.schema import newest, upgrades
from tests.commands import invoke, run, write_config
from tests.servers import PostgresServer, running_postgres

NEEDED = newest("sqlite")
postgres = pytest.fixture(scope="module")(running_postgres)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    return state


@pytest.fixture
def config(tmp_path: Path, state: Path) -> Path:
    (tmp_path / "keys.properties").touch(0o600)
    return write_config(tmp_path, state)


@pytest.fixture
def file(state: Path) -> Path:
    """A store of version 1."""
    path = state / "gatekeeper.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        connection.executescript(upgrades("sqlite", 0)[0][1])
        connection.execute("INSERT INTO schema_version VALUES (1)")
        connection.execute("INSERT INTO usage VALUES ('acme', 'alice', '/', 0, 1, 2, 3, 4, 0.5)")
        connection.commit()
    return path


def test_old_store_from_end_to_end(config: Path, file: Path) -> None:
    status = run("store", "status", "--config", config)
    assert status.returncode == 1
    assert f"schema version 1, this gatekeeper needs {NEEDED}" in status.stdout
    assert f"gatekeeper store upgrade --config {config}" in status.stdout

    refused = run("usage", "--config", config)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "gatekeeper store upgrade --config FILE" in refused.stderr

    upgrade = run("store", "upgrade", "--config", config)
    assert (upgrade.returncode, upgrade.stderr) == (0, "")
    lines = upgrade.stdout.splitlines()
    assert lines[0] == f"backup: {file}.v1.backup"
    assert lines[-1] == f"The store is up to date: schema version {NEEDED}."
    assert Path(f"{file}.v1.backup").is_file()

    again = run("store", "upgrade", "--config", config)
    assert (again.returncode, again.stdout.splitlines()) == (0, lines[-1:])
    assert run("store", "status", "--config", config).returncode == 0
    assert '"alice"' in run("usage", "--config", config).stdout


def test_newer_store(config: Path, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (9999)")
        connection.commit()
    for command in ("status", "upgrade"):
        result = run("store", command, "--config", config)
        assert result.returncode == 1
        said = (result.stdout + result.stderr).lower()
        assert "install the newer gatekeeper" in said
        assert "traceback" not in said


def test_no_store(config: Path, state: Path) -> None:
    for command in ("status", "upgrade"):
        result = run("store", command, "--config", config)
        assert (result.returncode, result.stdout) == (2, "")
        assert "No such file" in result.stderr
    assert list(state.iterdir()) == [], "nothing is made by looking"


def test_empty_database(
    tmp_path: Path, config: Path, state: Path, postgres: PostgresServer
) -> None:
    write_config(tmp_path, state, f'[store]\nurl = "{postgres.create_database()}"\n')
    status = run("store", "status", "--config", config)
    assert status.returncode == 0
    assert "empty" in status.stdout
    assert run("store", "upgrade", "--config", config).returncode == 0
    assert f"has schema version {NEEDED}" in run("store", "status", "--config", config).stdout


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_help_and_wrong_configuration(
    tmp_path: Path, config: Path, state: Path, command: str
) -> None:
    assert "--config" in invoke("store", command, "--help").output
    write_config(tmp_path, state, "unknown = 1\n")
    result = invoke("store", command, "--config", config)
    assert result.exit_code == 1
    assert "services[0].unknown" in result.stderr
