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
    Limits,
    Log,
    Management,
    Pool,
    Settings,
    Store,
    Timeouts,
    Usage,
)
from gatekeeper.config.model_credits import Burner, Credits
from gatekeeper.config.model_listeners import Listener
from gatekeeper.net.listeners import BACKLOG

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
    del shown["cache"]["ca_file"]
    for key in ("rpc_url", "chain_id", "marketplace_url", "ca_file"):
        del shown["credits"][key]
    for key in ("amount", "keyfile", "keyfile_password", "mnemonic", "metrics"):
        del shown["burner"][key]
    models: dict[str, type[BaseModel]] = {
        "store": Store,
        "cache": Cache,
        "management": Management,
        "usage": Usage,
        "burner": Burner,
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


def service_of(unit: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ETC / unit)
    return parser["Service"]


def test_the_unit_gives_a_stop_the_time_that_it_needs() -> None:
    service = service_of("gatekeeper.service")
    assert float(service["TimeoutStopSec"]) > Timeouts().drain
    assert service["ExecStart"].endswith(
        "twistd --nodaemon --pidfile= gatekeeper --config /etc/gatekeeper/gatekeeper.toml"
    )
    state_dir = tomllib.loads(SAMPLE)["state_dir"]
    assert state_dir == f"/var/lib/{service['StateDirectory']}"


def test_the_unit_hears_of_the_daemon() -> None:
    service = service_of("gatekeeper.service")
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["ExecReload"].endswith("kill -HUP $MAINPID")
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()


def test_the_socket_unit_has_addresses_of_listeners() -> None:
    """Of those in the sample."""
    lines = (ETC / "gatekeeper.socket").read_text().splitlines()
    addresses = {line.partition("=")[2] for line in lines if line.startswith("ListenStream=")}
    assert addresses == {listener["bind"] for listener in tomllib.loads(SAMPLE)["listeners"]}
    assert f"Backlog={BACKLOG}" in lines


def test_the_burners_unit_may_do_what_it_has_to_and_no_more() -> None:
    gateway, burner = service_of("gatekeeper.service"), service_of("gatekeeper-burner.service")
    assert burner["ExecStart"].endswith(
        "twistd --nodaemon --pidfile= gatekeeper-burner --config /etc/gatekeeper/burner.toml"
    )
    assert burner["EnvironmentFile"] != gateway["EnvironmentFile"]  # where no password is
    assert "AmbientCapabilities" not in burner
    its_own = {
        "EnvironmentFile", "ExecStart", "RestartSec", "TimeoutStopSec", "CapabilityBoundingSet",
        "AmbientCapabilities", "LimitNOFILE", "Type", "NotifyAccess", "WatchdogSec", "ExecReload",
    }  # fmt: skip
    rest = {key: value for key, value in gateway.items() if key not in its_own}
    assert rest == {key: value for key, value in burner.items() if key not in its_own}
