"""The quickstart does what the README says, with real ``curl``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import ssl
import time
from pathlib import Path

import pytest

from tests.daemon import ROOT, Daemon
from tests.e2e.plain import curl

pytestmark = pytest.mark.usefixtures("unmeasured")

PORTS = {"6668": "management", "8443": "gateway", "3128": "proxy", "8080": "demo"}


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """The quickstart's own configuration, on other ports."""
    text = (ROOT / "etc" / "quickstart.toml").read_text()
    for port, name in PORTS.items():
        text = text.replace(f"127.0.0.1:{port}", f"@{name}@")
    return Daemon(tmp_path / "etc", text)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "var" / "quickstart"


def printed(daemon: Daemon) -> dict[str, str]:
    """What the first start prints to be pasted into a shell."""
    return dict(re.findall(r"^ *(DEMO_[A-Z_]+)=(\S+)$", daemon.stdout, re.MULTILINE))


def token(key_id: str, key: str) -> str:
    """A token that the client signs with its key, good for a minute."""

    def encode(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    header = encode(b'{"alg":"HS256","typ":"JWT"}')
    claims = encode(json.dumps({"id": key_id, "exp": int(time.time()) + 60}).encode())
    signature = hmac.digest(key.encode(), f"{header}.{claims}".encode(), "sha256")
    return f"{header}.{claims}.{encode(signature)}"


def test_quickstart(daemon: Daemon, state: Path) -> None:
    gateway = f"https://localhost:{daemon.port('gateway')}/demo/hello"
    proxy = f"http://localhost:{daemon.port('proxy')}"
    demo = f"http://127.0.0.1:{daemon.port('demo')}"
    trusted = ("--cacert", state / "self-signed.pem")
    with daemon:
        secrets = printed(daemon)
        assert set(secrets) == {"DEMO_USER", "DEMO_PASSWORD", "DEMO_KEY_ID", "DEMO_KEY"}
        user = f"{secrets['DEMO_USER']}:{secrets['DEMO_PASSWORD']}"
        bearer = f"Bearer {token(secrets['DEMO_KEY_ID'], secrets['DEMO_KEY'])}"

        as_user = curl(gateway, *trusted, "-u", user)
        assert as_user.status == 200, as_user
        shown = json.loads(as_user.body)
        assert shown["path"] == "/hello"
        assert shown["headers"]["x-forwarded-user"] == "demo"
        assert "authorization" not in shown["headers"]
        assert curl(gateway, *trusted, "-H", f"Authorization: {bearer}").status == 200

        assert curl(f"{demo}/x", "-x", proxy, "-U", user).status == 200
        assert curl(f"{demo}/tunnel", "-p", "-x", proxy, "-U", user).status == 200
        with_key = curl(f"{demo}/x", "-x", proxy, "-H", f"Proxy-Authorization: {bearer}")
        assert with_key.status == 200, with_key

        assert curl(gateway, *trusted).status == 401
        assert curl(gateway, *trusted, "-u", "demo:wrong").status == 401
        assert curl(f"{demo}/x", "-x", proxy).status == 407
        assert curl(f"{demo}/tunnel", "-p", "-x", proxy).exit_status == 56
        assert curl("http://169.254.169.254/x", "-x", proxy, "-U", user).status == 403
        assert curl(gateway).exit_status == 60  # the certificate is nobody's but the demo's
    used = {(row["service"], row["user"], row["path"]): row["requests"] for row in daemon.usage()}
    assert used == {
        ("demo", "demo", "/demo/hello"): 2,
        ("proxy", "demo", f"{demo.removeprefix('http://')}/x"): 2,
        ("proxy", "demo", demo.removeprefix("http://")): 1,
    }
    for row in daemon.usage():
        assert {"service", "user", "path", "requests", "bytes_in", "bytes_out", "units"} <= set(row)


def test_secrets_are_printed_once(daemon: Daemon, state: Path) -> None:
    """What was made at the first start is good at the second, and stands nowhere in clear."""
    with daemon:
        secrets = printed(daemon)
        fingerprint = _fingerprint(state)
        assert fingerprint in daemon.log
    with daemon:
        assert printed(daemon) == {}
        assert _fingerprint(state) == fingerprint
        url = f"https://localhost:{daemon.port('gateway')}/demo/hello"
        user = f"demo:{secrets['DEMO_PASSWORD']}"
        assert curl(url, "--cacert", state / "self-signed.pem", "-u", user).status == 200
    for file in (each for each in state.rglob("*") if each.is_file()):
        assert secrets["DEMO_PASSWORD"].encode() not in file.read_bytes()
    for name in ("keys.properties", "demo.json", "self-signed-key.pem"):
        assert (state / name).stat().st_mode & 0o077 == 0, name


def _fingerprint(state: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert((state / "self-signed.pem").read_text())
    return hashlib.sha256(der).digest().hex(":").upper()
