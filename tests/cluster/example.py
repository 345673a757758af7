"""The example of two nodes in docs/cluster, as its files have it."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from tests.daemon import ROOT

CLUSTER: Final = ROOT / "docs" / "cluster"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
CONFIGURATION: Final = (CLUSTER / "gatekeeper" / "gatekeeper.toml").read_text()
HAPROXY: Final = (CLUSTER / "haproxy" / "haproxy.cfg").read_text()
NODES: Final = ("gate1", "gate2")


def seconds(span: str) -> int:
    """A duration of the compose file."""
    found = re.fullmatch(r"(\d+)s", span)
    assert found is not None
    return int(found[1])


def mounts(service: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Where volumes appear in a container: what they are, and ``ro`` or ``rw``."""
    parts = [each.split(":") for each in service.get("volumes", ())]
    return {place: (source, mode[0] if mode else "rw") for source, place, *mode in parts}


def replaced(text: str, by: dict[str, str]) -> str:
    """Names, ports and files of the containers, by those of this machine."""
    for theirs, ours in by.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text
