"""What the service manager is told, in datagrams."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from gatekeeper.process.notify import Notifier


class Manager:
    """Has a socket at an address, as ``NOTIFY_SOCKET`` has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    @property
    def told(self) -> list[str]:
        """The lines of the next datagram."""
        return self.socket.recv(4096).decode().split("\n")

    @property
    def is_told_nothing(self) -> bool:
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = request.param == "abstract"
    manager = Manager(f"@gatekeeper-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def test_the_life_of_a_service(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready()
    assert manager.told == ["READY=1"]
    notifier.reloading()
    first, second = manager.told
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.stopping()
    assert manager.told == ["STOPPING=1"]


def test_who_is_followed_says_no_more(manager: Manager) -> None:
    """What it said would be taken for what the service says."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.followed_by(4711)
    assert manager.told == ["MAINPID=4711", "WATCHDOG=1"]
    notifier.stopping()
    notifier.watchdog()
    assert manager.is_told_nothing


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_half_of_what_the_watchdog_allows(
    tmp_path: Path, environ: dict[str, str], interval: float | None
) -> None:
    assert Notifier({**environ}).watchdog_interval is None, "nobody is told"
    there = {"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}
    assert Notifier(there).watchdog_interval == interval
    # Who follows this process reads it as well, unless it is about somebody else.
    assert Notifier(there).watchdog_interval == interval
    assert "WATCHDOG_PID" not in there


def test_without_a_manager() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.watchdog()
    notifier.followed_by(1)


def test_a_manager_that_is_gone(tmp_path: Path) -> None:
    """That is told once, and harms nobody."""
    told: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        told.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nowhere")})
        for _ in range(3):
            notifier.ready()
    finally:
        globalLogPublisher.removeObserver(observe)
    (event,) = [each for each in told if each["log_namespace"] == "gatekeeper.process.notify"]
    assert event["log_level"] is LogLevel.warn


def test_a_manager_that_does_not_read(manager: Manager) -> None:
    """A sign of life need not be waited for."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2"})
    for _ in range(1000):  # far more than fit
        notifier.watchdog()
    assert manager.told == ["WATCHDOG=1"]
