"""What of other settings takes effect in a process that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekeeper.config.changes import RELOADED, as_far_as_possible
from gatekeeper.config.model import Settings
from tests.world import GATEWAY, SERVICE


def settings(**tables: Any) -> Settings:
    return Settings.model_validate(
        {"state_dir": Path("/here"), "listeners": [GATEWAY], "services": [SERVICE], **tables}
    )


def test_nothing_has_changed() -> None:
    assert as_far_as_possible(settings(), settings()) == (settings(), [])


@pytest.mark.parametrize(
    ("tables", "keys"),
    [
        ({"state_dir": Path("/there")}, ["state_dir"]),
        ({"store": {"url": "postgresql://u:hunter2@db/g"}}, ["store.url"]),
        ({"usage": {"records": True, "fsync": "none"}}, ["usage.fsync", "usage.records"]),
        ({"demo": {"origin": "127.0.0.1:1"}}, ["demo"]),
        ({"management": {"bind": "none"}}, ["management.bind"]),
    ],
)
def test_what_needs_a_restart_stays(tables: dict[str, Any], keys: list[str]) -> None:
    other = settings(services=[], **tables)
    effective, needs_restart = as_far_as_possible(settings(), other)
    assert needs_restart == keys
    assert effective == settings(services=[])


def test_what_takes_effect() -> None:
    other = settings(
        limits={"body": 1},
        timeouts={"idle": 1.0},
        pool={"idle": 1},
        services=[{**SERVICE, "name": "x"}],
        listeners=[{**GATEWAY, "bind": "127.0.0.1:1"}],
    )
    assert as_far_as_possible(settings(), other) == (other, [])


def test_the_keys_are_those_of_the_model() -> None:
    assert set(Settings.model_fields) > RELOADED
