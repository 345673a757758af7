"""The files in etc/ are what a newcomer starts from: they load, and they tell the truth."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gatekeeper.auth.registry import checker_types
from gatekeeper.config.annotations import item_of, keys_of, model_of
from gatekeeper.config.loading import load
from gatekeeper.config.model import (
    Cache,
    Credits,
    Limits,
    Listener,
    Log,
    Management,
    Pool,
    Settings,
    Store,
    Timeouts,
    Usage,
)

ETC = Path(__file__).parents[2] / "etc"
SAMPLE = (ETC / "gatekeeper.toml").read_text()
# A key that is commented out has no blank after the "#"; a remark has one.
UNCOMMENTED = re.sub(r"(?m)^#(?=[\[a-z])", "", SAMPLE)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "tls").mkdir()
    (tmp_path / "services").mkdir()
    for name in (
        "fullchain.pem",
        "privkey.pem",
        "api.example.com.pem",
        "api.example.com.key",
        "internal-ca.pem",
        "clients-ca.pem",
    ):
        (tmp_path / "tls" / name).touch()
    (tmp_path / "api.properties").touch()
    return tmp_path


def load_text(directory: Path, text: str) -> Settings:
    file = directory / "gatekeeper.toml"
    file.write_text(text)
    return load(file, checker_types(), environ={})


def test_the_sample_loads(etc: Path) -> None:
    settings = load_text(etc, SAMPLE)
    assert [listener.role for listener in settings.listeners] == ["gateway", "forward"]
    assert set(settings.checkers) == {"users", "keys"}
    assert settings.demo is None


def test_the_sample_loads_with_every_key_in_it(etc: Path) -> None:
    settings = load_text(etc, UNCOMMENTED)
    assert settings.demo is not None
    assert settings.services[0].access[0].groups == ("spender",)


def test_the_sample_shows_the_defaults() -> None:
    shown = tomllib.loads(UNCOMMENTED)
    del shown["limits"]["body"]  # these have none
    del shown["usage"]["keep_days"]
    for key in ("rpc_url", "chain_id", "marketplace_url", "ca_file"):
        del shown["credits"][key]
    models: dict[str, type[BaseModel]] = {
        "store": Store,
        "cache": Cache,
        "management": Management,
        "usage": Usage,
        "credits": Credits,
        "log": Log,
        "limits": Limits,
        "timeouts": Timeouts,
        "pool": Pool,
    }
    for key, model in models.items():
        assert model.model_validate(shown[key]) == model.model_validate({})
    for key in ("credentials_from", "allow"):
        assert tuple(shown["listeners"][1][key]) == Listener.model_fields[key].default


def missing_keys(model: type[BaseModel], shown: Any, path: str) -> list[str]:
    missing = []
    for key, field in keys_of(model).items():
        tables = [table for table in shown if key in table]
        if not tables:
            missing.append(f"{path}{key}")
            continue
        item = item_of(field.annotation)
        if inner := model_of(field.annotation if item is None else item):
            values = [table[key] for table in tables]
            below = values if item is None else [table for value in values for table in value]
            missing += missing_keys(inner, below, f"{path}{key}.")
    return missing


def test_the_sample_has_every_key() -> None:
    shown = tomllib.loads(UNCOMMENTED)
    assert missing_keys(Settings, [shown], "") == []
    for table in shown["checkers"].values():
        assert {"type", *keys_of(checker_types().models[table["type"]])} == set(table)


def test_the_quick_start_loads(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    settings = load_text(tmp_path / "etc", (ETC / "quickstart.toml").read_text())
    assert settings.state_dir == tmp_path / "var" / "quickstart"
    assert settings.demo is not None
    assert settings.demo.keys_file == settings.state_dir / "keys.properties"
    gateway, proxy = settings.listeners
    assert gateway.tls is not None
    assert gateway.tls.self_signed
    assert proxy.checkers == settings.services[0].checkers == ("users", "keys")
    assert settings.demo.origin in proxy.allow


def test_the_unit_gives_a_stop_the_time_that_it_needs() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ETC / "gatekeeper.service")
    service = unit["Service"]
    assert float(service["TimeoutStopSec"]) > Timeouts().drain
    assert service["ExecStart"].endswith(
        "twistd --nodaemon --pidfile= gatekeeper --config /etc/gatekeeper/gatekeeper.toml"
    )
    state_dir = tomllib.loads(SAMPLE)["state_dir"]
    assert state_dir == f"/var/lib/{service['StateDirectory']}"
