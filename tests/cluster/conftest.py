"""The example's secrets and settings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.loading import load
from gatekeeper.config.model import Settings
from tests.cluster.example import CLUSTER, CONFIGURATION, replaced
from tests.daemon import PATIENCE
from tests.servers import PostgresServer, running_postgres


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What secrets.sh makes."""
    directory = tmp_path_factory.mktemp("cluster") / "secrets"
    subprocess.run(["sh", CLUSTER / "secrets.sh", directory], check=True, timeout=PATIENCE)
    return directory


@pytest.fixture(scope="module")
def settings(secrets: Path) -> Settings:
    """The nodes' configuration, which is right."""
    file = secrets.parent / "gatekeeper.toml"
    file.write_text(replaced(CONFIGURATION, {"/run/secrets": str(secrets)}))
    return load(file, checker_types())


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL. Whoever stops it starts it again."""
    yield from running_postgres()
