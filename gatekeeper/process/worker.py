"""A worker: a process that serves requests, and leaves the rest to its supervisor.

It is started as ``python -m gatekeeper.process.worker`` with the sockets that it is to accept
connections at (see :mod:`gatekeeper.process.sockets`) and one that leads to the supervisor, which
sends the settings: a worker that takes the place of another one serves what that has served,
whatever is in the configuration file by then.

Signals are for the supervisor. When that has gone, the worker ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from socket import socket
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.token_cache import TokenCacheError
from gatekeeper.core import Core
from gatekeeper.draining import cut_all, drain, wind_down
from gatekeeper.errors import ConfigurationError
from gatekeeper.net.inherited import Inherited
from gatekeeper.net.tls import ignore_malformed_server_names
from gatekeeper.process.beginning import Rounds, read_state
from gatekeeper.process.desk import Desk
from gatekeeper.process.link import Link
from gatekeeper.process.messages import Orders
from gatekeeper.process.reactor import install_reactor, loop_of, settle_memory
from gatekeeper.process.sockets import Handed, handed
from gatekeeper.process.to_supervisor import ToSupervisor
from gatekeeper.process.worker_log import log_over
from gatekeeper.store.opening import open_store

log = Logger()

_LAST: Final = 10.0  # seconds that the end may take where the supervisor is gone


class Worker:
    """The life of the process. ``status`` is what it is to end with."""

    def __init__(self, reactor: Any, told: Handed) -> None:
        assert told.channel is not None
        self._reactor = reactor
        self._loop = loop_of(reactor)
        self._inherited = Inherited(told.sockets)
        self._lock = told.lock
        self._buckets = told.buckets
        self._core: Core | None = None
        self._rounds = Rounds(reactor)
        self._ending = False
        self._stop_within: float | None = None
        self.status = 0
        self._handlers: dict[str, Callable[..., Any]] = {
            "begin": self._begin,
            "socket": self._take_socket,
            "stop": self._stop,
            "retire": self._retire,
            "ping": lambda: None,
        }
        self.link = Link(told.channel, self._loop, reactor, self._handlers, self._abandoned)
        log_over(self.link)

    # --- beginning ------------------------------------------------------------------------

    def _begin(self, worker: int, packed: bytes, version: int) -> None:
        orders = Orders.unpack(packed)
        settings = orders.settings
        to = ToSupervisor(self.link, worker, shares_zones=settings.cache.url.startswith("memory:"))
        try:
            core = Core(
                settings,
                self._reactor,
                self._loop,
                self._inherited,
                self._lock,
                self._buckets,
                supervisor=to,
            )
        except ConfigurationError as error:
            self._give_up(Failure(error))
            return
        assert to.told is not None
        to.told.version = version
        self._core = core
        self._handlers.update(Desk(core, to, self._inherited, orders).handlers)
        ensureDeferred(self._open_doors(core)).addErrback(self._give_up)

    async def _open_doors(self, core: Core) -> None:
        if core.recording is not None:
            core.recording.start()
        opening = open_store(core.store, self._reactor, lambda: self._ending)
        ensureDeferred(opening).addErrback(self._give_up)
        self._rounds.start(core)
        for zone in core.checkers.zones.values():
            await zone.start()
        configured = list(core.listening.listeners)
        await read_state(core, self._reactor)
        for listener in configured:
            if self._ending:
                return
            await Deferred.fromFuture(self._loop.create_task(core.listening.start(listener)))
        settle_memory()
        self._inherited.close()
        self.link.tell("ready")

    def _take_socket(self, listening: socket, bind: str) -> None:
        self._inherited.add(bind, listening)

    def _give_up(self, failure: Failure) -> None:
        """This worker cannot run."""
        if failure.check(ConfigurationError, TokenCacheError):
            log.critical("Cannot start: {problem}", problem=failure.getErrorMessage())
        else:
            log.failure("Cannot start", failure)
        self._exit(1)

    # --- ending ---------------------------------------------------------------------------

    def _stop(self, seconds: float) -> None:
        """Finish what runs, within so many seconds; also where it has begun to retire."""
        self._stop_within = seconds

        async def finish(core: Core) -> None:
            await drain(core, self._reactor, seconds)

        self._end(finish)

    def _retire(self, seconds: float) -> None:
        """As :meth:`_stop`, but whoever has come in is not hung up on: others accept now."""

        async def finish(core: Core) -> None:
            reactor = self._reactor
            await wind_down(core, (), reactor, seconds, lambda: self._stop_within is not None)
            if self._stop_within is not None:
                await drain(core, reactor, self._stop_within)

        self._end(finish)

    def _abandoned(self) -> None:
        """The supervisor is gone: another one wants our sockets. What was used counts."""
        self._reactor.callLater(_LAST, os._exit, 1)
        self._stop(0.0)
        if self._core is not None:
            ensureDeferred(cut_all(self._core)).addErrback(self._give_up)

    def _end(self, finish: Callable[[Core], Coroutine[Any, Any, None]]) -> None:
        if self._ending:
            return
        self._ending = True
        core = self._core
        if core is None:
            self._exit(1)
            return
        ensureDeferred(self._close(core, finish)).addErrback(self._give_up)

    async def _close(self, core: Core, finish: Callable[[Core], Coroutine[Any, Any, None]]) -> None:
        core.plane.draining = True
        core.serving.stop()
        core.listening.stop()
        self._inherited.close()
        await finish(core)
        core.state.stop()
        if core.recording is not None:
            await core.recording.stop()
        await core.store.close()
        self._rounds.stop()
        await core.close()
        self._exit(0)

    def _exit(self, status: int) -> None:
        self.status = status
        self.link.flush()
        if self._reactor.running:
            self._reactor.stop()


def main() -> None:
    """Run; ends the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    install_reactor()
    ignore_malformed_server_names()
    from twisted.internet import reactor

    worker = Worker(reactor, handed())
    run: Any = reactor.run
    run(installSignalHandlers=False)
    sys.exit(worker.status)


if __name__ == "__main__":
    main()
