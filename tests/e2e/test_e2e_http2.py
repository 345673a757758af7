"""HTTP/2 with the real curl: with TLS and without, beside HTTP/1.1."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import PLAIN, USER, curl
from tests.origin import Origin, count_bytes


@pytest.fixture(scope="module")
def upstream() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def origin(upstream: Origin) -> Origin:
    """The upstream, which nobody has asked yet."""
    upstream.requests.clear()
    upstream.on.clear()
    return upstream


@pytest.fixture(scope="module")
def daemon(
    upstream: Origin, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    issued = authority.issue("127.0.0.1", "localhost", stem="http2")
    tls = f'{{ certificate = "{issued.certificate}", key = "{issued.key}" }}'
    listeners = "".join(
        f"""
[[listeners]]
name = "{name}"
role = "gateway"
bind = "@{name}@"
{more}
"""
        for name, more in (
            ("secure", f"tls = {tls}"),
            ("old", "http2 = false"),
            ("secure-old", f"tls = {tls}\nhttp2 = false".replace("secure-old", "secure_old")),
        )
    ).replace("@secure-old@", "@secure_old@")
    directory = tmp_path_factory.mktemp("gatekeeper")
    with Daemon(directory, PLAIN + listeners, ports={"origin": upstream.port}) as daemon:
        yield daemon


def asked(url: str, *options: str | Path) -> tuple[str, bytes]:
    """The protocol and the status of the final response, and the body."""
    answer = curl(url, "-i", *options)
    assert answer.exit_status == 0, answer.errors
    rest = answer.body
    line = b""
    while rest.startswith(b"HTTP/"):
        head, _, rest = rest.partition(b"\r\n\r\n")
        line = head.partition(b"\r\n")[0]
    version, status = line.decode("ascii").split()[:2]
    return f"{version.removeprefix('HTTP/')} {status}", rest


@pytest.mark.usefixtures("origin")
def test_both_ways_and_both_protocols(daemon: Daemon, authority: Authority) -> None:
    secure = f"https://127.0.0.1:{daemon.port('secure')}/echo/a?b=c"
    believed = ("-u", USER, "--cacert", authority.file)
    for options, version in ((("--http2",), "2"), (("--http1.1",), "1.1")):
        said, body = asked(secure, *believed, *options)
        assert said == f"{version} 200"
        assert json.loads(body)["target"] == "/a?b=c"
    plain = daemon.url("gateway", "/echo/a")
    said, body = asked(plain, "-u", USER, "--http2-prior-knowledge")
    assert said == "2 200"
    assert json.loads(body)["target"] == "/a"
    said, body = asked(plain, "-u", USER, "--http2")  # it offers `Upgrade: h2c`
    assert said == "1.1 200"
    assert asked(plain, "--http2-prior-knowledge")[0] == "2 401"
    assert asked(daemon.url("gateway", "/nowhere"), "--http2-prior-knowledge")[0] == "2 404"


@pytest.mark.usefixtures("origin")
def test_where_it_is_switched_off(daemon: Daemon, authority: Authority) -> None:
    secure = f"https://127.0.0.1:{daemon.port('secure_old')}/echo/a"
    assert asked(secure, "-u", USER, "--cacert", authority.file, "--http2")[0] == "1.1 200"
    old = curl(daemon.url("old", "/echo/a"), "-u", USER, "--http2-prior-knowledge")
    assert old.exit_status != 0
    proxy = curl(daemon.url("proxy", "/echo/a"), "-u", USER, "--http2-prior-knowledge")
    assert proxy.exit_status != 0


def test_bodies(daemon: Daemon, origin: Origin, authority: Authority, tmp_path: Path) -> None:
    origin.on["/a"] = count_bytes
    file = tmp_path / "body"
    file.write_bytes(bytes(range(256)) * 20_000)
    url = f"https://127.0.0.1:{daemon.port('secure')}/echo/a"
    options = ("-u", USER, "--cacert", authority.file, "--http2", "--data-binary", f"@{file}")
    for more in ((), ("-H", "Expect: 100-continue"), ("-H", "Content-Length:")):
        said, body = asked(url, *options, *more)
        assert said == "2 200"
        assert json.loads(body)["size"] == 5_120_000
    # An answer that comes before the body is there.
    said, _ = asked(url.replace("/echo", "/nowhere"), *options)
    assert said == "2 404"


@pytest.mark.usefixtures("origin")
def test_many_at_once_are_counted(daemon: Daemon, authority: Authority) -> None:
    def lines() -> list[dict[str, Any]]:
        return [line for line in daemon.access_log() if line["path"].startswith("/echo/many")]

    url = f"https://127.0.0.1:{daemon.port('secure')}/echo/many[1-50]"
    options = ("-u", USER, "--cacert", str(authority.file), "--http2", "--parallel")
    run = subprocess.run(
        ["curl", "-q", "-sS", *options, "--parallel-max", "50", "-o", "/dev/null", url],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    wait_until(lambda: len(lines()) == 50, "the access log")
    assert {line["status"] for line in lines()} == {200}
    assert {line["user"] for line in lines()} == {"alice"}
    assert {line["path"] for line in lines()} == {f"/echo/many{each}" for each in range(1, 51)}


def test_stopping_finishes_what_runs(daemon: Daemon, origin: Origin) -> None:
    """The client is told to open no further stream."""
    origin.on["/slow"] = count_bytes
    process = subprocess.Popen(
        [
            *("curl", "-q", "-sS", "-u", USER, "--http2-prior-knowledge", "--limit-rate", "400k"),
            *("-T", "-", daemon.url("gateway", "/echo/slow")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"x" * 10_000)
    process.stdin.flush()
    wait_until(lambda: origin.requests, "the request at the origin")
    daemon.terminate()
    wait_until(lambda: "Draining" in daemon.log, "the end begins")
    out, errors = process.communicate(b"y" * 10_000, timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert json.loads(out)["size"] == 20_000
    daemon.wait()
    daemon.start()


def test_alpn(daemon: Daemon, authority: Authority) -> None:
    context = authority.client_context()
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x"], None)):
        context.set_alpn_protocols(offered)
        with (
            socket.create_connection(daemon.address("secure"), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            assert isinstance(connection, ssl.SSLSocket)
            assert connection.selected_alpn_protocol() == chosen
