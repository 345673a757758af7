"""The daemon: one service that starts and stops everything in order.

Start: the store (tried again until it is there), flushing, then the listeners. Stop: no new
connections, running exchanges finish (up to ``timeouts.drain``), the last flush, the store.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper import __version__
from gatekeeper.auth.token_cache import TokenCacheError
from gatekeeper.config.model import Settings
from gatekeeper.core import Core
from gatekeeper.credits.burner_service import BurnerService
from gatekeeper.demo import demo_origin_service
from gatekeeper.errors import ConfigurationError, StoreError
from gatekeeper.metrics.burner import BurnerCollector
from gatekeeper.net.inherited import NOTHING, Inherited
from gatekeeper.reloading import Reloading
from gatekeeper.store.interface import Retention
from gatekeeper.usage.retention import StoreUpkeep
from gatekeeper.wiring import Wiring

log = Logger()

_STORE_RETRY: Final = 5.0  # seconds
_STATE_WITHIN: Final = 2.0  # seconds that listeners wait for it
_FILES_CHECKED: Final = 1.0  # seconds between two looks at key files and certificates


class Daemon(Service):
    """Everything, put together from the settings; ports are bound when it is made.

    :param read: reads and validates the configuration file again.
    :param inherited: sockets that listened before we began.
    :raises ConfigurationError: what cannot be used, all of a kind at once.
    """

    name = "gatekeeper"

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[], Settings],
        inherited: Inherited = NOTHING,
    ) -> None:
        self._reactor = reactor
        self._loop = loop
        self.core = core = Core(settings, reactor, loop, inherited)
        self._wiring = Wiring(core, reactor, self._reload, reactor.stop, inherited)
        self._management = self._wiring.service
        self._reloading = Reloading(core, self._wiring, read)
        usage = settings.usage
        keep = Retention(usage.keep_records, usage.keep_hours, usage.keep_days)
        self._upkeep = StoreUpkeep(core.store, keep, reactor)
        self._burner = None
        if settings.burner.enabled:
            self._burner = BurnerService(
                settings.burner, settings.credits, core.store, reactor, self._give_up
            )
            self._wiring.show(BurnerCollector(self._burner.report, reactor))
        self._demo = None
        if settings.demo is not None:
            self._demo = demo_origin_service(settings.demo.origin, inherited)
        self._loops = (
            (LoopingCall(core.sweep), core.plane.sweep.interval),
            (LoopingCall(core.check_files), _FILES_CHECKED),
        )
        self._stopping = False

    # --- starting -------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin, as soon as the reactor runs."""
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._on_signal(signal.SIGHUP, self._hang_up)
        # Started together: a store that is away is no reason not to serve.
        if self.core.metering is not None:
            self.core.metering.start()
        self._upkeep.start()
        ensureDeferred(self._open_store()).addErrback(self._give_up)
        self._reloading.alone(self._open_doors).addErrback(self._give_up)

    def _on_signal(self, number: int, call: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    async def _open_store(self) -> None:
        while not self._stopping:
            try:
                await self.core.store.open()
            except StoreError as error:
                log.error("The store cannot be reached; trying again: {error}", error=error)
                await deferLater(self._reactor, _STORE_RETRY)
            else:
                if self.core.metering is not None:
                    self.core.metering.catch_up()
                if self._burner is not None and not self._stopping:
                    self._burner.startService()
                return

    async def _open_doors(self) -> None:
        core = self.core
        for looping, interval in self._loops:
            looping.clock = self._reactor
            looping.start(interval, now=False)
        for zone in core.checkers.zones.values():
            await zone.start()  # nobody may be served before it is known who is shut out
        for service in (self._management, self._demo, *core.introspecting.services):
            if service is not None:
                service.startService()
        configured = list(core.listening.listeners)
        await self._read_state()
        for listener in configured:
            if self._stopping:  # the store cannot be used, or somebody has lost patience
                return
            await Deferred.fromFuture(
                asyncio.ensure_future(core.listening.start(listener), loop=self._loop)
            )
        _settle_memory()
        log.info("gatekeeper {version} is ready", version=__version__)

    async def _read_state(self) -> None:
        """Read what operators have made; if that takes long, go on without it meanwhile."""
        waiter: Deferred[None] = Deferred()

        def read(_: None) -> None:
            if not waiter.called:
                waiter.callback(None)

        self.core.state.start().addCallback(read)
        waiter.addTimeout(_STATE_WITHIN, self._reactor).addErrback(lambda _: None)
        await waiter

    def _give_up(self, failure: Failure) -> None:
        """The daemon cannot run: end with a status that is not 0."""
        if failure.check(ConfigurationError, TokenCacheError):
            log.critical("Cannot start: {problem}", problem=failure.getErrorMessage())
        else:
            log.failure("Cannot start", failure)
        atexit.register(os._exit, 1)
        self._reactor.stop()

    # --- while it runs --------------------------------------------------------------------

    def _hang_up(self) -> None:
        """SIGHUP: the configuration is read now, and all files that it names."""
        log.info("SIGHUP: the configuration is read again")
        # What is wrong is in the log already.
        self._reload().addErrback(lambda failure: failure.trap(ConfigurationError)).addErrback(
            lambda failure: log.failure("The configuration could not be reloaded", failure)
        )

    def _reload(self) -> Deferred[Any]:
        """See :meth:`.Reloading.reload`. Files are read also where the configuration is wrong."""
        self.core.check_files()
        return self._reloading.reload()

    # --- stopping -------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Drain, flush, close."""
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        core = self.core
        self._stopping = core.plane.draining = True
        if self._management is not None:
            self._management.drain()
        core.serving.stop()
        core.listening.stop()
        for introspection in core.introspecting.services:
            if introspection.running:
                await introspection.stopService()
        await self._drain()
        self._upkeep.stop()
        core.state.stop()
        if core.metering is not None:
            await core.metering.stop()
        if self._burner is not None and self._burner.running:
            await self._burner.stopService()
        await core.store.close()
        for looping, _ in self._loops:
            if looping.running:
                looping.stop()
        await core.close()
        for service in (self._management, self._demo):
            if service is not None and service.running:
                await service.stopService()
        log.info("gatekeeper has stopped")
        # twistd dies by the signal that stopped it. A clean stop is a success: status 0.
        self._reactor._exitSignal = None

    async def _drain(self) -> None:
        """Wait for what runs, then cut it."""
        core = self.core
        empty: Deferred[None] = Deferred()

        def done() -> None:
            if not empty.called:
                empty.callback(None)

        if len(core.connections):
            log.info("Draining {count} connections", count=len(core.connections))
        timer = self._reactor.callLater(core.settings.timeouts.drain, done)
        core.connections.drain(done)
        await empty
        if timer.active():
            timer.cancel()
        for exchange in list(core.plane.live):
            exchange.cut("shutdown")
        for connection in list(core.connections.open):
            connection.transport.abortConnection()


def _settle_memory() -> None:
    """Keep the garbage collector from looking at what stays: a tenth of each request's time.

    An exchange leaves no cycles, so a rarer look finds what little there is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
