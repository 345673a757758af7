"""One process of the program follows another (SIGUSR2), and nobody who asks is to notice.

The old process starts the new one, with its sockets. Over a :class:`.Channel` the new one says
``prepared PID`` when it has read its configuration and has made everything that it needs; the old
one stops what only one can do at a time, and says ``go``. When the new one serves requests it says
``ready PID``, and then the old one finishes what it has begun. Until then it can go back: it says
``stop`` and serves on. That is what it does, too, when the new one ends or takes too long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from gatekeeper.errors import GatekeeperError
from gatekeeper.process.channel import Channel
from gatekeeper.process.sockets import ForChild, Listens, hand

#: Seconds that a process may take for each of its two steps.
PATIENCE: Final = 60.0

#: Seconds that one that is not wanted any more may take to end by itself.
_MERCY: Final = 10.0
_LOOK: Final = 0.05


class UpgradeError(GatekeeperError):
    """No other process can take over; the message says why."""


class Launch(NamedTuple):
    """How a process is started: its command line, and where."""

    command: list[str]
    directory: str

    @classmethod
    def ours(cls) -> Launch:
        """As this one was; to be called before it goes elsewhere."""
        return cls([sys.executable, *sys.orig_argv[1:]], os.getcwd())


class Predecessor:
    """The process that ours is to follow, as we see it."""

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = Channel(end, loop)

    async def prepared(self) -> None:
        """Everything is made: wait until we may begin. If it dies meanwhile, we may.

        :raises UpgradeError: it goes on itself.
        """
        self._channel.send("prepared", os.getpid())
        if await self._channel.receive() not in (["go"], []):
            raise UpgradeError("the process before this one goes on")

    def ready(self) -> None:
        """Requests are served here."""
        self._channel.send("ready", os.getpid())
        self._channel.close()


class Successor:
    """The process that is to follow ours, as we see it.

    :param launch: how it is started.
    :param patience: seconds, see :data:`PATIENCE`.
    """

    def __init__(
        self,
        launch: Launch,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        patience: float = PATIENCE,
    ) -> None:
        self._launch = launch
        self._loop = loop
        self._clock = clock
        self._patience = patience
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    async def start(self, sockets: Iterable[Listens], lock: int, buckets: int = -1) -> None:
        """Start it, and wait until it is prepared.

        It gets ``sockets``, the journal's ``lock`` and ``buckets``, see :func:`.hand`.

        :raises UpgradeError: it does not come.
        """
        ours, its = socket.socketpair()
        self._channel = Channel(ours, self._loop)
        with its:
            self._spawn(hand(sockets, lock, buckets, its))
        self._pid = await self._hear("prepared")

    def _spawn(self, for_child: ForChild) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - it is our own command line
                self._launch.command,
                cwd=self._launch.directory,
                env={**os.environ, **for_child.environ},
                pass_fds=for_child.descriptors,
            )
        except OSError as error:
            raise UpgradeError(f"it cannot be started: {error}") from error
        self._pid = self._process.pid

    async def go(self) -> int:
        """Let it begin, and wait until it serves requests. Returns its process id.

        :raises UpgradeError: it does not.
        """
        assert self._channel is not None
        self._channel.send("go")
        pid = await self._hear("ready")
        self._channel.close()
        return pid

    async def end(self) -> None:
        """End it: we go on."""
        channel, process = self._channel, self._process
        if channel is None or process is None:
            return
        channel.send("stop")
        for number in (signal.SIGTERM, signal.SIGKILL):
            process.send_signal(number)  # if it is there
            # One that went into the background is no child of ours. While it holds its end of the
            # channel, the number is its own.
            if self._pid != process.pid and not channel.ended:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, number)
            give_up_at = self._clock.seconds() + _MERCY
            while self._clock.seconds() < give_up_at:
                if process.poll() is not None and channel.ended:
                    break
                await deferLater(self._clock, _LOOK)
        channel.close()

    async def _hear(self, word: str) -> int:
        """The process id behind this word.

        :raises UpgradeError: something else was said, or nothing in time.
        """
        assert self._channel is not None
        try:
            words = await self._channel.receive().addTimeout(self._patience, self._clock)
        except DeferredTimeoutError:
            raise UpgradeError(f"it is not {word} within {self._patience:g} s") from None
        if not words:
            raise UpgradeError("it has ended; see what it has said")
        if len(words) != 2 or words[0] != word or not words[1].isdecimal():
            raise UpgradeError("it says what cannot be understood")
        return int(words[1])
