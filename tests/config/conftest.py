"""Ways to load a small configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gatekeeper.config.loading import load
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError
from tests.config.minimal import CHECKERS, MINIMAL, Configure, Problems


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def configure(
        added: str = "",
        *,
        edit: Mapping[str, str] = {},
        environ: Mapping[str, str] = {},
    ) -> Settings:
        text = MINIMAL
        for old, new in edit.items():
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "gatekeeper.toml"
        file.write_text(text + added)
        return load(file, CHECKERS, environ=environ)

    return configure


@pytest.fixture
def problems(configure: Configure) -> Problems:
    def problems(
        added: str = "",
        *,
        edit: Mapping[str, str] = {},
        environ: Mapping[str, str] = {},
    ) -> list[tuple[str, str]]:
        with pytest.raises(ConfigurationError) as caught:
            configure(added, edit=edit, environ=environ)
        return [(problem.path, problem.message) for problem in caught.value.problems]

    return problems
