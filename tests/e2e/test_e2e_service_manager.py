"""As systemd starts it: sockets that listen already, and a socket that wants to know how it is."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, wait_until
from tests.e2e.plain import PLAIN
from tests.e2e.test_e2e_reload import ALICE, accepts, ask, post_reload, request
from tests.hostile.raw import Client
from tests.origin import Origin
from tests.process.upgrading import serving, upgrade, wait_for_the_end

#: What systemd does between fork and exec, with its sockets at the descriptors in the arguments.
_MANAGER = """
import os, sys
numbers, command = sys.argv[1].split(","), sys.argv[2:]
for to, number in enumerate(map(int, filter(None, numbers)), 3):
    os.dup2(number, to)  # which makes it inheritable
    os.environ["LISTEN_FDS"] = str(to - 2)
os.environ |= {"LISTEN_PID": str(os.getpid()), "WATCHDOG_PID": str(os.getpid())}
os.execv(command[0], command)
"""


class Manager:
    """Reads what it is told; ``told`` are the lines."""

    def __init__(self) -> None:
        self.name = f"gatekeeper-test-{os.getpid()}-{time.monotonic_ns()}"
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{self.name}")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, line: str) -> list[str]:
        """Forget all that was told until this line came, with it; that is what it gives."""
        wait_until(lambda: line in self.told, f"{line} in {self.told}")
        end = self.told.index(line) + 1
        lines, self.told[:end] = self.told[:end], []
        return lines

    def close(self) -> None:
        self._socket.sendto(b"", f"\0{self.name}")
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while data := self._socket.recv(4096):
            self.told += data.decode().split("\n")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager()
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{manager.name}")
    yield manager
    manager.close()


def wrapper(*sockets: socket.socket) -> tuple[str, ...]:
    numbers = ",".join(str(each.fileno()) for each in sockets)
    return (sys.executable, "-c", _MANAGER, numbers)


def test_ready_reloading_stopping(tmp_path: Path, origin: Origin, manager: Manager) -> None:
    with Daemon(tmp_path, PLAIN, ports={"origin": origin.port}) as daemon:
        manager.wait_for("READY=1")
        assert accepts(daemon, "gateway")
        before = time.monotonic_ns() // 1000
        assert post_reload(daemon)[0] == 200
        told = manager.wait_for("READY=1")
        assert told[0] == "RELOADING=1"
        name, _, value = told[1].partition("=")
        assert (name, before <= int(value) <= time.monotonic_ns() // 1000) == (
            "MONOTONIC_USEC",
            True,
        )
        # Also where it comes to nothing.
        daemon.config_file.write_text("?")
        os.kill(daemon.pid, signal.SIGHUP)
        assert manager.wait_for("READY=1")[0] == "RELOADING=1"
        daemon.terminate()
        manager.wait_for("STOPPING=1")
        daemon.wait()
    assert manager.told == []


def test_watchdog(
    tmp_path: Path, origin: Origin, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port}, wrapper=wrapper())
    with serving(daemon):
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        old = upgrade(daemon)
        manager.wait_for(f"MAINPID={daemon.pid}")
        assert manager.wait_for("WATCHDOG=1")[-1] == "WATCHDOG=1"
        wait_for_the_end(old)
        for _ in range(3):
            assert "STOPPING=1" not in manager.wait_for("WATCHDOG=1")
    assert "STOPPING=1" in manager.told


def test_socket_activation(tmp_path: Path, origin: Origin) -> None:
    """What came before the daemon was there is answered. A socket that nobody wants is told of."""
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with (
        socket.create_server(("127.0.0.1", 0)) as unwanted,
        socket.create_server(daemon.address("proxy")) as proxy,
        socket.create_server(daemon.address("gateway")) as gateway,
        Client(daemon.address("gateway")) as early,
    ):
        early.send(request("/echo/x", ALICE))
        sockets = (unwanted, gateway, proxy)
        daemon.wrapper = wrapper(*sockets)
        daemon.inherits = tuple(each.fileno() for each in sockets)
        with serving(daemon):
            assert early.answer().status == 200
            with Client(daemon.address("proxy")) as proxied:
                assert ask(proxied, f"{origin.url}/x", f"Proxy-{ALICE}").status == 200
            where = f"127.0.0.1:{unwanted.getsockname()[1]}"
            assert f"Nobody is configured to listen on {where}" in daemon.log
            wait_for_the_end(upgrade(daemon))
            with Client(daemon.address("gateway")) as client:
                assert ask(client, "/echo/x", ALICE).status == 200
