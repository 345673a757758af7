"""Definitions in a real daemon, and the daemon that the runtime program starts."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from gatekeeper.golem import proxy
from gatekeeper.golem.definitions import certificate_hash
from gatekeeper.management_client import Client, parse_address, read_token
from tests.authority import Authority
from tests.daemon import ROOT, Daemon, free_port, wait_until
from tests.e2e.plain import curl
from tests.origin import Origin

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("wonderland")
CONFIGURATION = f"""
state_dir = "state"
services_dir = "services"
management = {{ bind = "@management@" }}

[checkers.golem]
type = "basic"
users = {{ alice = '{HASH}' }}
"""


def client(url: str, token: Callable[[], str | None] = lambda: None) -> Client:
    return Client(parse_address(url), token)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def test_definitions_are_served(tmp_path: Path, origin: Origin) -> None:
    issued = Authority(tmp_path).issue("service.acme.com")
    plain, encrypted = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    acme = {
        "name": "acme",
        "serverName": "service.acme.com",
        "bindHttp": plain,
        "bindHttps": encrypted,
        "cert": {"path": str(issued.certificate), "keyPath": str(issued.key)},
        "from": "/acme",
        "to": f"{origin.url}/to",
    }
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "acme.json").write_text(json.dumps(acme))
    (tmp_path / "services" / "other.yaml").write_text(
        f"name: other\nserverName: [acme.com]\nbind: [{encrypted}]\nfrom: /other\n"
        f"cert: {{path: {issued.certificate}, keyPath: {issued.key}}}\nto: {origin.url}\n"
    )
    with Daemon(tmp_path, CONFIGURATION):
        refused = curl(f"http://{plain}/acme/x", "-i").body.lower()
        assert refused.startswith(b"http/1.1 401 ")
        assert b'\r\nwww-authenticate: basic realm="service access", charset="utf-8"\r\n' in refused
        alice = ("-u", "alice:wonderland")
        assert curl(f"http://{plain}/acme", "-u", "alice:wrong").status == 401
        answer = curl(f"http://{plain}/acme/x?y=z", *alice, "-H", "Host: any.example")
        assert answer.status == 200
        assert origin.requests[-1].target == "/to/x?y=z"
        assert origin.requests[-1].values("authorization") == []
        assert origin.requests[-1].values("x-forwarded-for") == ["127.0.0.1"]
        assert origin.requests[-1].values("x-forwarded-host") == ["any.example"]
        for path in ("/acmeevil", "/", "/other/x"):
            assert curl(f"http://{plain}{path}", *alice).status == 404
        tls = (*alice, "--cacert", tmp_path / "ca.pem", "-k")
        assert curl(f"https://{encrypted}/acme", *tls).status == 200
        assert origin.requests[-1].target == "/to"
        assert curl(f"https://{encrypted}/other/", *tls).status == 200
        assert origin.requests[-1].target == "/"
    assert certificate_hash(issued.certificate).startswith("sha3:")


def test_the_runtime_starts_a_gatekeeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "gatekeeper"
    token_file = home / "state" / "management.token"

    def token() -> str | None:
        return read_token(token_file) if token_file.exists() else None

    api = client(f"http://127.0.0.1:{free_port()}", token)

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pid_file = home / "twistd.pid"
    try:
        proxy.ensure_running(api, tmp_path)
        first = pid_file.read_text()
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert token() is not None
        proxy.ensure_running(api, tmp_path)
        assert pid_file.read_text() == first
    finally:
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
            wait_until(lambda: not pid_file.exists(), "it stops")
    assert "gatekeeper has stopped" in (home / "twistd.log").read_text()


def test_a_gatekeeper_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "gatekeeper").mkdir()
    (tmp_path / "gatekeeper" / "state").touch()
    api = client(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(proxy.ProxyError, match=r"state_dir: .* is not a directory"):
        proxy.ensure_running(api, tmp_path)


def test_one_that_is_no_gatekeeper_of_ours(tmp_path: Path, origin: Origin) -> None:
    """What answers at the address answers something else."""
    with pytest.raises(proxy.ProxyError, match="is no management API"):
        proxy.ensure_running(client(origin.url), tmp_path)
