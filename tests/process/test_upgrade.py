"""The conversation of two processes of which one is to follow the other."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gatekeeper.process.channel import Channel
from gatekeeper.process.upgrade import Launch, Predecessor, Successor, UpgradeError
from tests.daemon import PATIENCE

ROOT = str(Path(__file__).parents[2])

#: A successor; what it does follows.
_CHILD = """
import os, signal, sys, time
from gatekeeper.process.sockets import handed
end = handed().channel
end.setblocking(True)
def say(word): end.sendall(f"{word} {os.getpid()}\\n".encode())
def hear(): return end.recv(100).decode().strip()
"""


Run = Callable[..., Any]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop, clock: Clock) -> Run:
    """Runs what is awaited, to its result. Time passes in steps, or not at all."""

    def run(work: Any, step: float = 0.0) -> Any:
        results: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        give_up_at = time.monotonic() + PATIENCE
        while not results:
            assert time.monotonic() < give_up_at, "it takes for ever"
            loop.run_until_complete(asyncio.sleep(0.01))
            clock.advance(step)
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    return run


def successor(
    loop: asyncio.AbstractEventLoop, clock: Clock, steps: str, patience: float = 20.0
) -> Successor:
    program = _CHILD + steps
    return Successor(Launch([sys.executable, "-c", program], ROOT), loop, clock, patience)


def test_how_this_process_was_started() -> None:
    launch = Launch.ours()
    assert launch.command[0] == sys.executable
    assert launch.command[1:] == sys.orig_argv[1:]
    assert launch.directory == os.getcwd()


def test_it_takes_over(
    loop: asyncio.AbstractEventLoop, clock: Clock, run: Run, tmp_path: Path
) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    steps = 'say("prepared"); heard = hear(); assert heard == "go", heard; say("ready")'
    other = successor(loop, clock, steps)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        run(other.start([("127.0.0.1:80", listening)], lock))
        pid = run(other.go())
    assert pid > 0
    os.waitpid(pid, 0)
    os.close(lock)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("sys.exit(1)", "it has ended"),
        ("time.sleep(1000)", "not prepared within 2 s"),
        ('end.sendall(b"HTTP/1.1 200 OK\\r\\n")', "cannot be understood"),
        ('say("ready")', "cannot be understood"),
        ("end.sendall(bytes(5000)); time.sleep(1000)", "it has ended"),
    ],
)
def test_it_does_not_come(
    loop: asyncio.AbstractEventLoop, clock: Clock, run: Run, steps: str, why: str
) -> None:
    other = successor(loop, clock, steps, 2.0)
    with pytest.raises(UpgradeError, match=why):
        run(other.start([], -1), 0.5 if "within" in why else 0.0)
    run(other.end(), 0.05)
    assert other._process is not None
    assert other._process.poll() is not None


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("sys.exit(1)", "it has ended"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it has ended"),
        ("time.sleep(1000)", "not ready within 20 s"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)", "not ready within"),
    ],
)
def test_it_comes_and_does_not_begin(
    loop: asyncio.AbstractEventLoop, clock: Clock, run: Run, steps: str, why: str
) -> None:
    """It is ended, with force if need be: two must not serve for ever."""
    other = successor(loop, clock, f'say("prepared"); hear(); {steps}')
    run(other.start([], -1))
    with pytest.raises(UpgradeError, match=why):
        run(other.go(), 0.5 if "within" in why else 0.0)
    run(other.end(), 0.05)
    assert other._process is not None
    assert other._process.poll() is not None


def test_it_cannot_be_started(loop: asyncio.AbstractEventLoop, clock: Clock, run: Run) -> None:
    other = Successor(Launch(["/nowhere/python"], ROOT), loop, clock)
    with pytest.raises(UpgradeError, match=r"cannot be started: .*No such file"):
        run(other.start([], -1))
    run(other.end())


class TestFromTheOtherSide:
    def test_it_may_begin(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
        ours, its = socket.socketpair()
        old = Channel(ours, loop)
        predecessor = Predecessor(its, loop)
        old.send("go")
        run(predecessor.prepared())
        predecessor.ready()
        pid = str(os.getpid())
        assert run(self.heard(old)) == ["prepared", pid]
        assert run(self.heard(old)) == ["ready", pid]
        assert run(self.heard(old)) == []
        assert old.ended
        old.close()

    def test_it_may_not(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
        ours, its = socket.socketpair()
        old = Channel(ours, loop)
        old.send("stop")
        with pytest.raises(UpgradeError, match="goes on"):
            run(Predecessor(its, loop).prepared())
        old.close()

    def test_there_is_nobody_any_more(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
        """The sockets are ours, and somebody has to serve."""
        ours, its = socket.socketpair()
        predecessor = Predecessor(its, loop)
        ours.close()
        run(predecessor.prepared())
        predecessor.ready()

    @staticmethod
    async def heard(channel: Channel) -> list[str]:
        return await channel.receive()
