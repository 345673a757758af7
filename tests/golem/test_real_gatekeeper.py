"""The runtime program with a real gatekeeper behind it: services, users, and what they use."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, free_port, wait_until
from tests.e2e.plain import curl
from tests.golem.conftest import ACME
from tests.golem.supervisor import Supervisor
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

ALICE = ("-u", "alice:wonderland")


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def acme(tmp_path: Path, origin: Origin) -> dict[str, Any]:
    """A definition, which is in ``services/`` of the test's directory."""
    acme = {**ACME, "bindHttp": f"127.0.0.1:{free_port()}", "to": origin.url}
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "acme.json").write_text(json.dumps(acme))
    return acme


def configuration(auth: str) -> str:
    return f"""
state_dir = "state"
listeners = []
management = {{ bind = "@management@", auth = "{auth}" }}
usage = {{ flush_interval = 0.2 }}
"""


@pytest.mark.parametrize("auth", ["none", "token"])
def test_a_service_is_sold(tmp_path: Path, acme: dict[str, Any], auth: str) -> None:
    url = f"http://{acme['bindHttp']}/acme"
    daemon = Daemon(tmp_path / "daemon", configuration(auth))
    with daemon:
        options = []
        if auth == "token":
            options = ["--token-file", str(daemon.state_dir / "management.token")]
        with Supervisor("acme", daemon.url("management"), tmp_path, options) as supervisor:
            supervisor.hello()
            assert curl(url, *ALICE).status == 401
            code, added, _ = supervisor.run("user", "add", "alice", "wonderland")
            assert (code, added["username"]) == (0, "alice")
            for path in ("/x", "/x", "/y"):
                assert curl(url + path, *ALICE).status == 200
            supervisor.wait_for_count(3)
            stats = supervisor.run("user", "stats", "alice").stdout
            assert stats == {"/acme/x": 2, "/acme/y": 1}
            info = supervisor.run("service", "info").stdout
            assert info["portHttp"] == [int(acme["bindHttp"].rpartition(":")[2])]
            daemon.stop()
            daemon.start()  # which knows the service, the user and the count
            assert curl(url + "/x", *ALICE).status == 200
            supervisor.wait_for_count(4)
            assert supervisor.shut_down() == 0
            assert supervisor.counters == sorted(supervisor.counters)
        assert curl(url, *ALICE).status == 401


def test_two_runtimes_of_one_service(tmp_path: Path, acme: dict[str, Any]) -> None:
    """An equal definition is fine, another one is not."""
    with Daemon(tmp_path / "daemon", configuration("none")) as daemon:
        url = daemon.url("management")
        with Supervisor("acme", url, tmp_path) as one, Supervisor("acme", url, tmp_path) as other:
            one.hello()
            other.hello()
            assert one.shut_down() == 0
            assert other.shut_down() == 0
        other_place = {**acme, "to": "http://127.0.0.1:9"}
        (tmp_path / "services" / "acme.json").write_text(json.dumps(other_place))
        with Supervisor("acme", url, tmp_path) as supervisor:
            assert supervisor.wait() != 0
            assert "acme" in supervisor.stderr


def test_it_starts_a_gatekeeper_where_there_is_none(tmp_path: Path, acme: dict[str, Any]) -> None:
    pid_file = tmp_path / "gatekeeper" / "twistd.pid"
    try:
        with Supervisor("acme", f"http://127.0.0.1:{free_port()}", tmp_path) as supervisor:
            supervisor.hello()
            assert supervisor.run("user", "add", "alice", "wonderland").code == 0
            assert curl(f"http://{acme['bindHttp']}/acme/x", *ALICE).status == 200
            supervisor.wait_for_count(1)
            assert supervisor.shut_down() == 0
    finally:
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
            wait_until(lambda: not pid_file.exists(), "it stops")
