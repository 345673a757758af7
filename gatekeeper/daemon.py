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
import time
from collections.abc import Iterator
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper import __version__
from gatekeeper.assembly import Assembly
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import IReadiness
from gatekeeper.auth.registry import (
    checker_types,
    close_checkers,
    make_checkers,
    make_table_checker,
    reload_checkers,
)
from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.revoked import Revoked
from gatekeeper.auth.token_cache import (
    IRevoking,
    MemoryTokenCache,
    TokenCacheError,
    share_token_caches,
)
from gatekeeper.auth.users import share_directory
from gatekeeper.config.model import Settings
from gatekeeper.config.values import unix_path
from gatekeeper.demo import demo_origin_service
from gatekeeper.effects import Effects
from gatekeeper.errors import ConfigurationError, Problem, StoreError
from gatekeeper.golem.expansion import CHECKER as GOLEM_CHECKER
from gatekeeper.management.dashboard.numbers import Numbers
from gatekeeper.management.dashboard.root import Parts
from gatekeeper.management.gate import Gate
from gatekeeper.management.health import Check, Readiness
from gatekeeper.management.introspection_service import IntrospectionService
from gatekeeper.management.keyvals import Keyvals
from gatekeeper.management.managed import Managed
from gatekeeper.management.metrics import MetricsPage
from gatekeeper.management.service import ManagementService, management_service
from gatekeeper.management.token import open_operator_token
from gatekeeper.management.wiring import manage
from gatekeeper.metrics.registry import (
    chain_stats,
    make_registry,
    register_traffic,
    request_stats,
)
from gatekeeper.metrics.usage import UsageCollector
from gatekeeper.net.destinations import OwnAddresses
from gatekeeper.net.listeners import Connections
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.sweep import Sweep
from gatekeeper.plane import Plane
from gatekeeper.remembered import remember_revocations
from gatekeeper.serving import Bound, Serving, bind
from gatekeeper.state import Difference, State
from gatekeeper.stats import Lateness
from gatekeeper.store.interface import Retention
from gatekeeper.store.opening import make_store
from gatekeeper.usage.accesslog import open_access_log
from gatekeeper.usage.metering import Metering
from gatekeeper.usage.retention import StoreUpkeep

log = Logger()

_STORE_RETRY: Final = 5.0  # seconds
_STATE_WITHIN: Final = 2.0  # seconds that listeners wait for it
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
        self._checkers = dict(make_checkers(settings))
        if GOLEM_CHECKER not in self._checkers:  # a service may be made that needs it
            self._checkers[GOLEM_CHECKER] = make_table_checker(GOLEM_CHECKER, "basic")
        self._cache = VerdictCache(
            settings.cache.size, settings.cache.ttl, settings.cache.negative_ttl
        )
        self._access_log = open_access_log(settings.log.access, loop.call_soon, loop.time)
        self._store = make_store(settings.store, reactor)
        self.state = State(self._store, reactor)
        remember_revocations(self.state, settings.state_dir / "revoked.jsonl", time.time())
        self._revoked = Revoked(self.state)
        share_directory(self._checkers, self.state)
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
        self._effects = Effects(self._cache, self.plane, self._revoked)
        self._assembly, self.serving = self._bind()
        self.state.guard = self.serving
        self.state.on_change(self._changed)
        if self._management is not None:
            self._management.managed = self._manage(self._management.readiness)
        self._register_metrics()
        self._sweeping = LoopingCall(self._sweep)
        self._checking_files = LoopingCall(self._check_files)
        self._stopping = False

    # --- putting together -----------------------------------------------------------------

    def _make_zone(self, name: str, ttl: float) -> MemoryTokenCache:
        return MemoryTokenCache(
            ttl, file=RevocationFile(self.settings.state_dir / f"revoked-{name}.jsonl")
        )

    def _bind(self) -> tuple[Assembly, Serving]:
        """Bind every listener; a forward proxy must know all our addresses."""
        settings = self.settings
        problems: list[Problem] = []
        listening: list[Bound] = []
        for number, listener in enumerate(settings.listeners):
            try:
                listening.append(bind(listener, settings.state_dir))
            except ConfigurationError as error:
                problems += [
                    Problem(f"listeners[{number}].{problem.path}", problem.message)
                    for problem in error.problems
                ]
        if problems:
            raise ConfigurationError(problems)
        own = OwnAddresses()
        if self._management is not None and self._management.file is None:
            own.add(self._management.address)
        assembly = Assembly(
            settings,
            self.plane,
            self._checkers,
            self._cache,
            self._loop,
            self._resolver,
            own,
            self._revoked,
        )
        serving = Serving(
            settings,
            checker_types(),
            self._checkers,
            assembly,
            self.plane,
            self.connections,
            self._loop,
            own,
        )
        for bound in listening:
            if bound.listener.role == "introspection":
                own.add(bound.socket.getsockname()[:2])
                self._introspection.append(
                    IntrospectionService(
                        bound.socket, bound.listener, self._checkers, self._cache, self._revoked
                    )
                )
            else:
                serving.add(bound)
        return assembly, serving

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
        is_socket = unix_path(management.bind) is not None
        needs_token = management.auth == "token" and not is_socket
        token = open_operator_token(self.settings.state_dir) if needs_token else None
        if token is None and not is_socket:
            log.warn("Whoever reaches {address} is an operator", address=management.bind)
        gate = Gate(token, is_socket=is_socket)
        service = management_service(
            management.bind,
            checks,
            Keyvals(self._zones, token),
            MetricsPage(self._metrics, token if management.metrics == "token" else None),
            gate,
            socket_mode=management.socket_mode,
        )
        if not is_socket:  # which no browser opens
            service.dashboard = Parts(gate, token, self._numbers())
        return service

    def _manage(self, readiness: Readiness) -> Managed:
        """What the management API works on."""
        return manage(
            self.settings,
            readiness=readiness,
            state=self.state,
            store=self._store,
            plane=self.plane,
            metering=self.metering,
            connections=self.connections,
            listeners=self._where,
            reload=self._check_files,
            stop=self._reactor.stop,
            clock=self._reactor,
        )

    def _where(self) -> Iterator[tuple[str, str, tuple[str, int]]]:
        """Names, roles and addresses of the listeners."""
        for listener in self.serving.listeners:
            role = "forward" if listener.door.is_proxy else "gateway"
            yield listener.door.name, role, listener.address
        for introspection in self._introspection:
            yield str(introspection.name), "introspection", introspection.address

    def _numbers(self) -> Numbers:
        return Numbers(
            lambda: request_stats(self._assembly, self.serving.listeners),
            lambda: chain_stats(self._assembly, self._introspection),
            self.plane.live,
            self._zones.keys(),
            self.plane.wall_clock,
        )

    def _register_metrics(self) -> None:
        register_traffic(
            self._metrics,
            plane=self.plane,
            assembly=self._assembly,
            listeners=self.serving.listeners,
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
        configured = list(self.serving.listeners)
        await self._read_state()
        for listener in configured:
            if self._stopping:  # the store cannot be used, or somebody has lost patience
                return
            await Deferred.fromFuture(
                asyncio.ensure_future(self.serving.start(listener), loop=self._loop)
            )
        _settle_memory()
        log.info("gatekeeper {version} is ready", version=__version__)

    async def _read_state(self) -> None:
        """Read what operators have made; if that takes long, go on without it meanwhile."""
        waiter: Deferred[None] = Deferred()

        def read(_: None) -> None:
            if not waiter.called:
                waiter.callback(None)

        self.state.start().addCallback(read)
        waiter.addTimeout(_STATE_WITHIN, self._reactor).addErrback(lambda _: None)
        await waiter

    def _changed(self, difference: Difference) -> None:
        """Operators have changed something: let it take effect."""
        if difference.services:
            self.serving.apply(difference.after.services)
        self._effects.apply(difference)

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
            self.serving.reload()
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
        self.serving.stop()
        for introspection in self._introspection:
            if introspection.running:
                await introspection.stopService()
        await self._drain()
        self._upkeep.stop()
        self.state.stop()
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
