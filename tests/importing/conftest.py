from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.loading import load
from gatekeeper.config.model import Settings

DATA = Path(__file__).parent / "data"

#: From a configuration's text, and the environment, to what the daemon makes of it.
Load: TypeAlias = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "imported.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, checker_types(), environ=environ or {})

    return load_text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the old systems' files, with certificates that are not there."""
    directory = tmp_path / "data"
    shutil.copytree(DATA, directory)
    for name in ("server.cert", "server.key"):
        (directory / "golem" / "services" / name).touch()
    return directory


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Files for a certificate and its key."""
    names = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    for name in names:
        Path(name).touch()
    return names
