"""The daemon: one service that starts and stops everything in order.

Start: the store (tried again until it is there), flushing, then the listeners. Stop: no new
connections, running exchanges finish (up to ``timeouts.drain``), the last flush, the store.

A process that follows another one begins when that lets it, and serves no request before it knows
all that the other one does; see :mod:`gatekeeper.process.upgrade`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper import __version__
from gatekeeper.auth.token_cache import TokenCacheError
from gatekeeper.config.model import Settings
from gatekeeper.core import Core
from gatekeeper.credits.burner_service import BurnerService
from gatekeeper.demo import demo_origin_service
from gatekeeper.draining import drain, wind_down
from gatekeeper.errors import ConfigurationError
from gatekeeper.management.service import ManagementService
from gatekeeper.metrics.burner import BurnerCollector
from gatekeeper.process.beginning import Rounds, read_state
from gatekeeper.process.hired import WorkerError
from gatekeeper.process.reactor import settle_memory, stopped_well
from gatekeeper.process.siblings import check
from gatekeeper.process.start import Start
from gatekeeper.process.upgrade import Predecessor, Successor, UpgradeError
from gatekeeper.process.workers import Workers, worker_count
from gatekeeper.reloading import Reloading
from gatekeeper.store.interface import Retention
from gatekeeper.store.opening import open_store
from gatekeeper.usage.retention import StoreUpkeep
from gatekeeper.wiring import Wiring

log = Logger()

_PAUSED_WITHIN: Final = 5.0  # seconds that operators' requests may take yet
_LOOK: Final = 0.05  # seconds between two looks whether there is something to wait for


class Daemon(Service):
    """Everything, put together from the settings; ports are bound when it is made.

    :param read: reads and validates the configuration file again.
    :param start: how the process was started.
    :raises ConfigurationError: what cannot be used, all of a kind at once.
    """

    name = "gatekeeper"

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        read: Callable[[], Settings],
        start: Start,
    ) -> None:
        self._reactor = reactor
        self._loop = loop
        self._start = start
        number = worker_count(settings)
        check(start.inherited, number)
        self.core = core = Core(
            settings,
            reactor,
            loop,
            start.inherited,
            start.lock,
            start.buckets,
            accepts=number == 1,
        )
        self._workers = None
        if number > 1:
            self._workers = Workers(core, reactor, loop, number, start.inherited)
        self._wiring = Wiring(
            core, reactor, self._reload, reactor.stop, start.inherited, self._workers
        )
        self._management = self._wiring.service
        self._reloading = Reloading(core, self._wiring, read, self._workers)
        usage = settings.usage
        keep = Retention(
            usage.keep_records,
            usage.keep_hours,
            usage.keep_days,
            settings.credits.keep_ledger,
            settings.management.keep_audit,
        )
        self._upkeep = StoreUpkeep(core.store, keep, reactor)
        self._burner = None
        if settings.burner.enabled:
            self._burner = BurnerService(
                settings.burner, settings.credits, core.store, reactor, self._give_up
            )
            self._wiring.show(BurnerCollector(self._burner.report, reactor))
        self._demo = None
        if settings.demo is not None:
            self._demo = demo_origin_service(settings.demo.origin, start.inherited)
        self._rounds = Rounds(reactor)
        self._stopping = False
        self._replaced = False
        self._drains_for: float | None = None  # seconds, if it is not what the settings say

    # --- starting -------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin, as soon as the reactor runs."""
        super().startService()  # type: ignore[no-untyped-call]
        # What a signal asks for waits until this is done.
        self._reactor.callWhenRunning(
            lambda: self._reloading.alone(self._begin).addErrback(self._give_up)
        )
        self._on_signal(signal.SIGHUP, self._hang_up)
        self._on_signal(signal.SIGUSR2, self._upgrade)

    async def _begin(self) -> None:
        predecessor = None
        if self._start.channel is not None:
            predecessor = Predecessor(self._start.channel, self._loop)
            await predecessor.prepared()
        # Started together: a store that is away is no reason not to serve.
        if self.core.metering is not None:
            self.core.metering.start()
        self._upkeep.start()
        ensureDeferred(self._open_store()).addErrback(self._give_up)
        await self._open_doors(predecessor)

    def _on_signal(self, number: int, call: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(call))

    async def _open_store(self) -> None:
        if await open_store(self.core.store, self._reactor, lambda: self._stopping):
            if self.core.metering is not None:
                self.core.metering.catch_up()
            if self._burner is not None and not self._stopping:
                self._burner.startService()

    async def _open_doors(self, predecessor: Predecessor | None) -> None:
        core, notifier = self.core, self._start.notifier
        self._rounds.start(core)
        if notifier.watchdog_interval is not None:
            self._rounds.add(notifier.watchdog, notifier.watchdog_interval)
        for zone in core.checkers.zones.values():
            await zone.start()  # nobody may be served before it is known who is shut out
        for service in (self._management, self._demo, *core.introspecting.services):
            if service is not None:
                service.startService()
        configured = list(core.listening.listeners)
        await read_state(core, self._reactor)
        while predecessor is not None and not self._stopping and not core.up_to_date:
            await deferLater(self._reactor, _LOOK)  # whom we follow serves meanwhile
        if self._workers is not None and not self._stopping:
            if self._management is not None and self._management.file is None:
                self._workers.own = (self._management.address,)
            await self._workers.start()
        for listener in configured:
            if self._stopping:  # the store cannot be used, or somebody has lost patience
                return
            await Deferred.fromFuture(self._loop.create_task(core.listening.start(listener)))
        settle_memory()
        self._start.pid_file.take()
        for bind in self._start.inherited:
            log.warn("Nobody is configured to listen on {bind}: it is closed", bind=bind)
        self._start.inherited.close()
        if predecessor is not None:
            predecessor.ready()
        notifier.ready()
        log.info("gatekeeper {version} is ready", version=__version__)

    def _give_up(self, failure: Failure) -> None:
        """The daemon cannot run: end with a status that is not 0."""
        if failure.check(ConfigurationError, TokenCacheError, UpgradeError, WorkerError):
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
        self._start.notifier.reloading()
        self.core.check_files()
        if self._workers is not None:
            self._workers.read_files()
        return self._reloading.reload().addBoth(self._reloaded)

    def _reloaded(self, result: Any) -> Any:
        self._start.notifier.ready()
        return result

    # --- another process takes over -------------------------------------------------------

    def _upgrade(self) -> None:
        """SIGUSR2: the program is started anew, and takes over."""
        log.info("SIGUSR2: another process is to take over")
        ensureDeferred(self._give_way()).addErrback(
            lambda failure: log.failure("The upgrade has failed", failure)
        )

    async def _give_way(self) -> None:
        if await self._reloading.alone(self._replace):
            await self._retire()

    async def _replace(self) -> bool:
        """Start another process; whether it has taken over."""
        if self._stopping or self._replaced:
            return False
        successor = Successor(self._start.launch, self._loop, self._reactor)
        core, management = self.core, self._management
        lock = core.metering.journal.lock if core.metering is not None else -1
        try:
            await successor.start(self._sockets(), lock, core.buckets.descriptor)
            if management is not None:
                await self._pause(management)
            pid = await successor.go()
        except UpgradeError as error:
            log.error("No upgrade, this process goes on: {error}", error=error)
            await successor.end()
            if management is not None and not management.running and not self._stopping:
                management.startService()
            return False
        self._replaced = core.plane.draining = True
        self._start.pid_file.hand_over(pid)
        self._start.notifier.followed_by(pid)
        log.info("Process {pid} has taken over", pid=pid)
        return True

    async def _pause(self, management: ManagementService) -> None:
        """What is revoked or changed from now on is for the next process to know."""
        await management.pause()
        give_up_at = self._reactor.seconds() + _PAUSED_WITHIN
        while management.busy and self._reactor.seconds() < give_up_at:
            await deferLater(self._reactor, _LOOK)
        management.close_idle()

    def _sockets(self) -> Iterator[tuple[str, socket.socket]]:
        """All that listen, with their addresses as the configuration has them."""
        settings = self.core.settings
        if self._workers is None:
            yield from self.core.listening.sockets()
        else:
            yield from self._workers.sockets()
        yield from self.core.introspecting.sockets()
        if self._management is not None:
            yield settings.management.bind, self._management.socket
        if self._demo is not None and settings.demo is not None:
            yield settings.demo.origin, self._demo.socket

    async def _retire(self) -> None:
        """Another process accepts what comes: finish what runs here, and end."""
        core = self.core
        core.serving.stop()
        core.listening.stop()
        every = (self._management, self._demo, *core.introspecting.services)
        sites = [site for site in every if site is not None]
        for site in sites:
            site.keeps_file = True
            await site.stopService()
        if self._burner is not None and self._burner.running:
            await self._burner.stopService()
        seconds = core.settings.timeouts.upgrade
        if self._workers is not None:
            await self._workers.retire(seconds)
        await wind_down(core, sites, self._reactor, seconds, lambda: self._stopping)
        if not self._stopping:
            self._drains_for = 0.0  # they have had their time
            self._reactor.stop()

    # --- stopping -------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Drain, flush, close."""
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        core = self.core
        self._stopping = core.plane.draining = True
        self._start.notifier.stopping()
        if self._management is not None:
            self._management.drain()
        core.serving.stop()
        core.listening.stop()
        for introspection in core.introspecting.services:
            if introspection.running:
                await introspection.stopService()
        if self._workers is not None:
            await self._workers.stop(core.settings.timeouts.drain)
        seconds = core.settings.timeouts.drain if self._drains_for is None else self._drains_for
        await drain(core, self._reactor, seconds)
        self._upkeep.stop()
        core.state.stop()
        if core.metering is not None:
            await core.metering.stop()
        if self._burner is not None and self._burner.running:
            await self._burner.stopService()
        await core.store.close()
        self._rounds.stop()
        await core.close()
        for service in (self._management, self._demo):
            if service is not None and service.running:
                await service.stopService()
        log.info("gatekeeper has stopped")
        stopped_well(self._reactor)
