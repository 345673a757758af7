"""A service, and a gatekeeper that serves it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golem.standin import Management, StandIn
from tests.golem.supervisor import Supervisor

ACME: dict[str, Any] = {
    "name": "acme",
    "serverName": ["service.acme.com", "1.2.3.4"],
    "bindHttp": "127.0.0.1:24080",
    "from": "/acme",
    "to": "http://127.0.0.1:10000",
}


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A directory with the definition of ``acme`` in it."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "acme.json").write_text(json.dumps(ACME))
    return tmp_path


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A management API that the test can look into."""
    standin = StandIn()
    yield standin
    standin.hold.set()
    standin.crash()


@pytest.fixture
def management(standin: StandIn) -> Management:
    """The gatekeeper that runtimes talk to."""
    return standin


@pytest.fixture
def supervisor(management: Management, workdir: Path) -> Iterator[Supervisor]:
    """A started runtime of the service ``acme``."""
    with Supervisor("acme", management.url, workdir) as supervisor:
        supervisor.hello()
        yield supervisor
