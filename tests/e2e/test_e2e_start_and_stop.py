"""The daemon's life: in the foreground and in the background, drained and stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import PLAIN, USER, curl
from tests.hostile.raw import BrokenTransferError, Client
from tests.origin import Conversation, Origin


@pytest.mark.parametrize("daemonized", [False, True])
def test_start_serve_stop(tmp_path: Path, origin: Origin, daemonized: bool) -> None:
    daemon = Daemon(tmp_path, PLAIN, daemonized=daemonized, ports={"origin": origin.port})
    with daemon:
        assert int(daemon.pid_file.read_text()) == daemon.pid
        url = daemon.url("gateway", "/echo/x")
        assert curl(url, "-u", USER).status == 200
        assert curl(url).status == 401
        assert daemon.management("/healthz")[0] == 200
        assert daemon.management("/readyz")[0] == 200
        assert daemon.state_dir.stat().st_mode & 0o077 == 0  # it is for nobody else
        # All are on this machine only, as the configuration says.
        assert daemon.log.count("listens on 127.0.0.1") >= 3
    if daemonized:
        assert daemon.stdout == daemon.stderr == ""
    assert [line["status"] for line in daemon.access_log()] == [200, 401]
    assert [(row["user"], row["requests"]) for row in daemon.usage()] == [("alice", 1)]


def test_start_again(tmp_path: Path, origin: Origin) -> None:
    """The same ports at once, the same store with what is in it."""
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    for _ in range(2):
        with daemon:
            url = daemon.url("gateway", "/echo/x")
            assert curl(url, "-u", USER).status == 200
    assert [(row["user"], row["requests"]) for row in daemon.usage()] == [("alice", 2)]


def test_start_after_a_crash(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    daemon.start()
    daemon.kill()
    assert daemon.pid_file.exists()
    daemon.pid_file.unlink()
    with daemon:
        url = daemon.url("gateway", "/echo/x")
        assert curl(url, "-u", USER).status == 200


def test_management_may_be_nowhere(tmp_path: Path, origin: Origin) -> None:
    configuration = PLAIN.replace('"@management@"', '"none"')
    with Daemon(tmp_path, configuration, ports={"origin": origin.port}) as daemon:
        assert "management" not in daemon.log
        url = daemon.url("gateway", "/echo/x")
        assert curl(url, "-u", USER).status == 200


@pytest.mark.parametrize("daemonized", [False, True])
def test_sigterm_drains(tmp_path: Path, origin: Origin, daemonized: bool) -> None:
    """What runs is finished; nothing new is taken; usage is complete."""
    arrived, go_on = threading.Event(), threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        arrived.set()
        assert go_on.wait(PATIENCE)
        conversation.send(b"-last")

    origin.on["/slow"] = slow
    daemon = Daemon(tmp_path, PLAIN, daemonized=daemonized, ports={"origin": origin.port})
    with (
        daemon,
        Client(daemon.address("gateway")) as busy,
        Client(daemon.address("gateway")) as idle,
        Client(daemon.address("proxy")) as fresh,
    ):
        idle.send(_get("/echo/x"))
        assert idle.answer().status == 200
        busy.send(_get("/echo/slow"))
        assert arrived.wait(PATIENCE)
        daemon.terminate()
        # Who has nothing under way is hung up on.
        assert idle.rest() == b""
        assert fresh.rest() == b""
        wait_until(lambda: not _accepts(daemon, "gateway"), "nothing new is taken")
        assert not _accepts(daemon, "proxy")
        status, report = daemon.management("/readyz")
        assert status == 503, report
        assert daemon.management("/healthz")[0] == 200
        assert daemon.is_running
        go_on.set()
        answer = busy.answer()
        assert answer.body == b"first-last"
        assert busy.rest() == b""
        daemon.wait()
    assert {row["path"]: row["requests"] for row in daemon.usage()} == {
        "/echo/x": 1,
        "/echo/slow": 1,
    }


def test_sigterm_does_not_wait_for_ever(tmp_path: Path, origin: Origin) -> None:
    """An exchange and a tunnel that do not end are cut, and are usage all the same."""
    arrived = threading.Event()

    def endless(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nfirst")
        arrived.set()
        conversation.read(1)

    origin.on["/endless"] = endless
    configuration = PLAIN + "\n[timeouts]\ndrain = 0.5\n"
    daemon = Daemon(tmp_path, configuration, ports={"origin": origin.port})
    with (
        daemon,
        Client(daemon.address("gateway")) as client,
        Client(daemon.address("proxy")) as tunnel,
    ):
        client.send(_get("/echo/endless"))
        tunnel.send(_connect(origin.port))
        assert tunnel.answer("CONNECT").status == 200
        assert arrived.wait(PATIENCE)
        began = time.monotonic()
        daemon.terminate()
        with pytest.raises(BrokenTransferError):
            client.answer()
        assert tunnel.rest() == b""
        daemon.wait()
        assert time.monotonic() - began < PATIENCE / 2
    reasons = {line["path"]: line["reason"] for line in daemon.access_log()}
    assert reasons["/echo/endless"] == "shutdown"
    assert {row["service"]: row["requests"] for row in daemon.usage()} == {"echo": 1, "proxy": 1}


def test_sigint_is_a_stop_too(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": 9})
    # A shell has what it runs in the background ignore it, and the daemon would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        daemon.start()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        os.kill(daemon.pid, 2)
        daemon.wait()
    finally:
        daemon.kill()


def test_connection_may_be_kept_until_the_stop(tmp_path: Path, origin: Origin) -> None:
    """The last answer before the end says that it is the last."""
    arrived, go_on = threading.Event(), threading.Event()

    def slow(conversation: Conversation) -> None:
        arrived.set()
        assert go_on.wait(PATIENCE)
        conversation.answer("done")

    origin.on["/slow"] = slow
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with daemon, Client(daemon.address("gateway")) as client:
        client.send(_get("/echo/slow") + _get("/echo/never"))
        assert arrived.wait(PATIENCE)
        daemon.terminate()
        wait_until(lambda: not _accepts(daemon, "gateway"), "nothing new is taken")
        go_on.set()
        assert client.final_answer().status == 200
        daemon.wait()
    assert origin.paths == ["/slow"]


def _get(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n\r\n"
    ).encode()


def _connect(port: int) -> bytes:
    return (
        f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Proxy-Authorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n\r\n"
    ).encode()


def _accepts(daemon: Daemon, name: str) -> bool:
    try:
        socket.create_connection(daemon.address(name), 5).close()
    except ConnectionRefusedError:
        return False
    return True
