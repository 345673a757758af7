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
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper import __version__
from gatekeeper.assembly import Assembly, speaks_http2
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import IReadiness
from gatekeeper.auth.registry import close_checkers, make_checkers, reload_checkers
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_cache import (
    IRevoking,
    MemoryTokenCache,
    TokenCacheError,
    share_token_caches,
)
from gatekeeper.config.model import Settings
from gatekeeper.demo import demo_origin_service
from gatekeeper.errors import ConfigurationError, Problem, StoreError
from gatekeeper.management.health import Check
from gatekeeper.management.introspection_service import IntrospectionService
from gatekeeper.management.keyvals import Keyvals
from gatekeeper.management.metrics import MetricsPage
from gatekeeper.management.service import ManagementService, management_service
from gatekeeper.management.token import open_operator_token
from gatekeeper.metrics.registry import make_registry, register_traffic
from gatekeeper.metrics.usage import UsageCollector
from gatekeeper.net.binding import listening_socket
from gatekeeper.net.listeners import BACKLOG, Connections, Listener
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.sweep import Sweep
from gatekeeper.net.tls import ServerTLS
from gatekeeper.plane import Plane
from gatekeeper.stats import Lateness
from gatekeeper.store.interface import Retention
from gatekeeper.store.opening import make_store
from gatekeeper.usage.accesslog import open_access_log
from gatekeeper.usage.metering import Metering
from gatekeeper.usage.retention import StoreUpkeep

log = Logger()

_STORE_RETRY: Final = 5.0  # seconds
_FILES_CHECKED: Final = 1.0  # seconds between two looks at key files and certificates


class Daemon(Service):
    """Everything, put together from the settings; ports are bound when it is made.

    :raises ConfigurationError: what cannot be used, all of a kind at once.
    """

    name = "gatekeeper"

    def __init__(self, settings: Settings, reactor: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self._reactor = reactor
        self._loop = loop
        _make_state_dir(settings)
        self._checkers = make_checkers(settings)
        self._cache = VerdictCache(
            settings.cache.size, settings.cache.ttl, settings.cache.negative_ttl
        )
        self._access_log = open_access_log(settings.log.access, loop.call_soon, loop.time)
        self._store = make_store(settings.store, reactor)
        usage = settings.usage
        keep = Retention(usage.keep_records, usage.keep_hours, usage.keep_days)
        self._upkeep = StoreUpkeep(self._store, keep, reactor)
        self.metering = (
            Metering(settings.usage, settings.state_dir, self._store, reactor, loop.call_soon)
            if settings.usage.enabled
            else None
        )
        self.plane = Plane(
            sweep=Sweep(loop.time),
            limits=settings.limits,
            timeouts=settings.timeouts,
            meter=self.metering.meter if self.metering else None,
            access_log=self._access_log,
        )
        self.connections = Connections(settings.limits, loop.call_soon)
        self._resolver = Resolver(loop, timeout=settings.timeouts.connect)
        self.listeners: list[Listener] = []
        self._introspection: list[IntrospectionService] = []
        self._zones = share_token_caches(self._checkers, self._make_zone)
        for checker in self._checkers.values():
            revoking = IRevoking(checker, None)
            if revoking is not None:
                revoking.on_revoked(self.plane.revoke)
        self._lateness = Lateness(self.plane.sweep.interval)
        self._metrics = make_registry(self._lateness)
        self._management = self._bind_management()
        self._demo = demo_origin_service(settings.demo.origin) if settings.demo else None
        self._assembly = self._bind()
        self._register_metrics()
        self._sweeping = LoopingCall(self._sweep)
        self._checking_files = LoopingCall(self._check_files)
        self._stopping = False

    # --- putting together -----------------------------------------------------------------

    def _make_zone(self, name: str, ttl: float) -> MemoryTokenCache:
        return MemoryTokenCache(
            ttl, file=RevocationFile(self.settings.state_dir / f"revoked-{name}.jsonl")
        )

    def _bind(self) -> Assembly:
        """Bind every listener; a forward proxy must know all our addresses."""
        settings = self.settings
        problems: list[Problem] = []
        sockets = []
        for number, listener in enumerate(settings.listeners):
            try:
                tls = (
                    ServerTLS(
                        listener.tls,
                        settings.state_dir,
                        listener.name,
                        http2=speaks_http2(listener),
                    )
                    if listener.tls
                    else None
                )
                sockets.append((listener, listening_socket(listener.bind, "bind", BACKLOG), tls))
            except ConfigurationError as error:
                problems += [
                    Problem(f"listeners[{number}].{problem.path}", problem.message)
                    for problem in error.problems
                ]
        if problems:
            raise ConfigurationError(problems)
        addresses = [listening.getsockname()[:2] for _, listening, _ in sockets]
        if self._management is not None:
            addresses.append(self._management.address)
        assembly = Assembly(
            settings,
            self.plane,
            self._checkers,
            self._cache,
            self._loop,
            self._resolver,
            addresses,
        )
        for listener, listening, tls in sockets:
            if listener.role == "introspection":
                self._introspection.append(
                    IntrospectionService(listening, listener, self._checkers, self._cache)
                )
            else:
                door = assembly.door(listener)
                http2 = speaks_http2(listener)
                self.listeners.append(
                    Listener(listening, door, self.plane, self.connections, tls, http2)
                )
        return assembly

    def _bind_management(self) -> ManagementService | None:
        management = self.settings.management
        if management.bind == "none":
            return None
        checks: dict[str, Check] = {"store": self._store_problem}
        if self.metering is not None:
            checks["usage"] = self.metering.problem
        for checker in self._checkers.values():
            readiness = IReadiness(checker, None)
            if readiness is not None:
                checks[repr(checker)] = readiness.ready  # its name may be a URL with a secret
        token = open_operator_token(self.settings.state_dir) if management.auth == "token" else None
        if token is None:
            log.warn("Whoever reaches {address} is an operator", address=management.bind)
        return management_service(
            management.bind,
            checks,
            Keyvals(self._zones, token),
            MetricsPage(self._metrics, token if management.metrics == "token" else None),
        )

    def _register_metrics(self) -> None:
        register_traffic(
            self._metrics,
            plane=self.plane,
            assembly=self._assembly,
            listeners=self.listeners,
            connections=self.connections,
            introspection=self._introspection,
            cache=self._cache,
            zones=self._zones,
        )
        if self.metering is not None:
            limit = self.settings.usage.journal_size
            journal, flusher = self.metering.journal, self.metering.flusher
            self._metrics.register(UsageCollector(journal, limit, flusher))

    def _store_problem(self) -> Deferred[str | None]:
        return self._store.ping().addCallbacks(lambda _: None, self._store_away)

    def _store_away(self, failure: Failure) -> str:
        log.warn("The store does not answer: {error}", error=failure.getErrorMessage())
        return "the store does not answer; see the log"

    # --- starting -------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin, as soon as the reactor runs."""
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hang_up))
        # Started together: a store that is away is no reason not to serve.
        if self.metering is not None:
            self.metering.start()
        self._upkeep.start()
        ensureDeferred(self._open_store()).addErrback(self._give_up)
        ensureDeferred(self._open_doors()).addErrback(self._give_up)

    async def _open_store(self) -> None:
        while not self._stopping:
            try:
                await self._store.open()
            except StoreError as error:
                log.error("The store cannot be reached; trying again: {error}", error=error)
                await deferLater(self._reactor, _STORE_RETRY)
            else:
                return

    async def _open_doors(self) -> None:
        for looping, interval in (
            (self._sweeping, self.plane.sweep.interval),
            (self._checking_files, _FILES_CHECKED),
        ):
            looping.clock = self._reactor
            looping.start(interval, now=False)
        for zone in self._zones.values():
            await zone.start()  # nobody may be served before it is known who is shut out
        for service in (self._management, self._demo, *self._introspection):
            if service is not None:
                service.startService()
        for listener in self.listeners:
            await Deferred.fromFuture(
                asyncio.ensure_future(listener.start(self._loop), loop=self._loop)
            )
            log.info(
                "{role} {name} listens on {address}",
                role="Forward proxy" if listener.door.is_proxy else "Gateway",
                name=listener.door.name,
                address=f"{listener.address[0]}:{listener.address[1]}",
            )
        _settle_memory()
        log.info("gatekeeper {version} is ready", version=__version__)

    def _give_up(self, failure: Failure) -> None:
        """The daemon cannot run: end with a status that is not 0."""
        if failure.check(ConfigurationError, TokenCacheError):
            log.critical("Cannot start: {problem}", problem=failure.getErrorMessage())
        else:
            log.failure("Cannot start", failure)
        atexit.register(os._exit, 1)
        self._reactor.stop()

    def _hang_up(self) -> None:
        """SIGHUP: key files and certificates are read now; the configuration at a restart."""
        log.info("SIGHUP: files are read again; a changed configuration needs a restart")
        self._check_files()

    def _sweep(self) -> None:
        self.plane.sweep.run()
        self._lateness.beat(self.plane.sweep.now)
        try:
            self.plane.watch()
        except Exception:
            log.failure("Running exchanges could not be watched")

    def _check_files(self) -> None:
        """Key files and certificates may have changed."""
        try:
            if reload_checkers(self._checkers):
                self._cache.clear()
                self.plane.check_again()
            self._assembly.reload()
            for listener in self.listeners:
                if listener.tls is not None:
                    listener.tls.reload_if_changed()
        except Exception:
            log.failure("Changed files could not be read")

    # --- stopping -------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Drain, flush, close."""
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._stopping = self.plane.draining = True
        if self._management is not None:
            self._management.drain()
        for listener in self.listeners:
            listener.stop()
        for introspection in self._introspection:
            if introspection.running:
                await introspection.stopService()
        await self._drain()
        self._upkeep.stop()
        if self.metering is not None:
            await self.metering.stop()
        await self._store.close()
        for looping in (self._sweeping, self._checking_files):
            if looping.running:
                looping.stop()
        self._assembly.close()
        self._resolver.close()
        close_checkers(self._checkers)
        if self._access_log is not None:
            self._access_log.close()
        for service in (self._management, self._demo):
            if service is not None and service.running:
                await service.stopService()
        log.info("gatekeeper has stopped")
        # twistd dies by the signal that stopped it. A clean stop is a success: status 0.
        self._reactor._exitSignal = None

    async def _drain(self) -> None:
        """Wait for what runs, then cut it."""
        empty: Deferred[None] = Deferred()

        def done() -> None:
            if not empty.called:
                empty.callback(None)

        if len(self.connections):
            log.info("Draining {count} connections", count=len(self.connections))
        timer = self._reactor.callLater(self.settings.timeouts.drain, done)
        self.connections.drain(done)
        await empty
        if timer.active():
            timer.cancel()
        for exchange in list(self.plane.live):
            exchange.cut("shutdown")
        for connection in list(self.connections.open):
            connection.transport.abortConnection()


def _settle_memory() -> None:
    """Keep the garbage collector from looking at what stays: a tenth of each request's time.

    An exchange leaves no cycles, so a rarer look finds what little there is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _make_state_dir(settings: Settings) -> None:
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be made: {error.strerror}"
        raise ConfigurationError([Problem("state_dir", reason)]) from error
