"""One worker, as its supervisor sees it: a process, and a link to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

import gatekeeper
from gatekeeper.errors import GatekeeperError
from gatekeeper.process.link import Handler, Link
from gatekeeper.process.sockets import Listens, hand

#: Seconds that a process may take to end which has nothing more to say.
_MERCY: Final = 5.0
_LOOK: Final = 0.02

_COMMAND: Final = (sys.executable, "-P", "-m", "gatekeeper.process.worker")


class WorkerError(GatekeeperError):
    """A worker does not do what it should; the message says what."""


class Hired:
    """A process that was started. ``slot`` is the number of the place that it has.

    ``ready`` fires when it serves requests, and fails with :class:`WorkerError` where it ends
    before; ``gone`` fires with its exit status when it has ended.

    :param sockets: those that it is to accept connections at; ``lock`` is the journal's, and
        ``buckets`` are what rates are counted in.
    :param handlers: makes, from this object, what answers it.
    """

    def __init__(
        self,
        slot: int,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        sockets: Iterable[Listens],
        lock: int,
        buckets: int,
        handlers: Callable[[Hired], Mapping[str, Handler]],
    ) -> None:
        self.slot = slot
        self.is_ready = False
        self.is_dismissed = False
        """Whether it is to end."""
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[int] = Deferred()
        self.node: str | None = None
        """What its segments have in their names; ``None``: it has handed none over yet."""
        self.numbers: dict[str, Any] = {}
        """What it has last told of what it counts."""
        self.since = clock.seconds()
        self._clock = clock
        ours, its = socket.socketpair()
        with its:
            for_child = hand(sockets, lock, buckets, its)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - it is our own program
                    _COMMAND,
                    env={**os.environ, "PYTHONPATH": _path(), **for_child.environ},
                    pass_fds=for_child.descriptors,
                    stdin=subprocess.DEVNULL,
                )
            except OSError as error:
                ours.close()
                raise WorkerError(f"a worker cannot be started: {error}") from error
        self.pid = self._process.pid
        self.link = Link(ours, loop, clock, {**handlers(self), "ready": self._ready}, self._ended)

    def __repr__(self) -> str:
        return f"worker {self.slot + 1} ({self.pid})"

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    def _ready(self) -> None:
        self.is_ready = True
        if not self.ready.called:
            self.ready.callback(None)

    def _ended(self) -> None:
        self.is_ready = False
        Deferred.fromCoroutine(self._wait())

    async def _wait(self) -> None:
        give_up_at = self._clock.seconds() + _MERCY
        while (status := self._process.poll()) is None:
            if self._clock.seconds() > give_up_at:
                self.kill()
            await deferLater(self._clock, _LOOK)
        if not self.ready.called:
            self.ready.errback(WorkerError(f"{self!r} has ended, {told(status)}; see the log"))
        self.gone.callback(status)


def told(status: int) -> str:
    """An exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"with status {status}"


def _path() -> str:
    """Where this process finds its modules, so that the worker runs the same program."""
    places = [place for place in sys.path if place]
    ours = str(Path(gatekeeper.__file__).parents[1])
    return os.pathsep.join(places if ours in places else [*places, ours])
