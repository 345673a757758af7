"""What serves requests, put together from the settings; without operators, and without a life.

Nothing is served before it is started; but every port is bound, and whatever can be wrong with the
settings shows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.logger import Logger

from gatekeeper.assembly import Assembly, is_door
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.registry import checker_types
from gatekeeper.auth.revoked import Revoked
from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.auth.token_cache_opening import token_cache_maker
from gatekeeper.checkers import Checkers
from gatekeeper.config.model import Settings
from gatekeeper.credits.buckets import BucketMemory
from gatekeeper.credits.selling import Selling
from gatekeeper.effects import Effects
from gatekeeper.errors import ConfigurationError
from gatekeeper.files import make_state_dir
from gatekeeper.introspecting import Introspecting
from gatekeeper.listening import Bound, Listening
from gatekeeper.net.destinations import OwnAddresses
from gatekeeper.net.inherited import NOTHING, Inherited
from gatekeeper.net.listeners import Connections
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.sweep import Sweep
from gatekeeper.plane import Plane
from gatekeeper.remembered import remember_revocations
from gatekeeper.serving import Serving
from gatekeeper.state import Difference, State
from gatekeeper.stats import Lateness
from gatekeeper.store.opening import make_store
from gatekeeper.supervised import Supervisor
from gatekeeper.usage.accesslog import open_access_log
from gatekeeper.usage.metering import Metering, Recording

log = Logger()


class Core:
    """See the module. ``settings`` are those that hold now; a reload changes them.

    :param inherited: sockets that listened before we began; ``lock`` is the journal's.
    :param buckets: memory for rates that we share, see :class:`.BucketMemory`; -1: with nobody.
    :param supervisor: the process that this one is a worker of; ``None``: it is nobody's.
    :param accepts: whether clients are to be served here; else others do that at our sockets.
    :raises ConfigurationError: what cannot be used, all of a kind at once.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        inherited: Inherited = NOTHING,
        lock: int = -1,
        buckets: int = -1,
        *,
        supervisor: Supervisor | None = None,
        accepts: bool = True,
    ) -> None:
        self.settings = settings
        make_state_dir(settings.state_dir)
        self.cache = VerdictCache(
            settings.cache.size, settings.cache.ttl, settings.cache.negative_ttl
        )
        self.access_log = open_access_log(
            settings.log.access, loop.call_soon, loop.time, shared=supervisor is not None
        )
        self.store = make_store(settings.store, reactor)
        self.state = State(supervisor.state(self.store) if supervisor else self.store, reactor)
        remember_revocations(
            self.state,
            settings.state_dir / "revoked.jsonl",
            time.time(),
            writes=supervisor is None,
        )
        self.revoked = Revoked(self.state)
        self.buckets = BucketMemory(buckets)
        self.selling = Selling(
            settings.credits,
            settings.usage.enabled,
            self.store,
            time.time,
            _time_since_boot,
            loop.call_soon,
            self.buckets,
        )
        self.leasing = self.selling.leasing(reactor)
        self.metering: Metering | None = None
        self.recording = self._record(reactor, loop, lock, supervisor)
        self.plane = Plane(
            sweep=Sweep(loop.time),
            limits=settings.limits,
            timeouts=settings.timeouts,
            meter=self.recording.meter if self.recording else None,
            access_log=self.access_log,
        )
        self.lateness = Lateness(self.plane.sweep.interval)
        self.connections = Connections(settings.limits, loop.call_soon)
        self.resolver = Resolver(loop, timeout=settings.timeouts.connect)
        self.own = OwnAddresses()  # a forward proxy must know all our addresses
        self.checkers = Checkers(
            settings,
            self._zone_maker(supervisor),
            self.state,
            self.plane.revoke,
            loop.time,
        )
        self.assembly = Assembly(
            settings,
            self.plane,
            self.checkers.by_name,
            self.cache,
            loop,
            self.resolver,
            self.own,
            self.revoked,
            self.selling.admission,
        )
        self.listening = Listening(
            settings.state_dir,
            self.assembly,
            self.plane,
            self.connections,
            loop,
            self.own,
            inherited,
            accepts=accepts,
        )
        self.introspecting = Introspecting(self.cache, self.revoked, self.own, inherited)
        self.serving = Serving(
            settings,
            checker_types(),
            self.checkers.by_name,
            self.assembly,
            self.listening,
            loop.time,
        )
        self._effects = Effects(self.cache, self.plane, self.revoked)
        self._open()
        self.state.guard = self.serving
        self.state.on_change(self._changed)

    def _record(
        self, reactor: Any, loop: asyncio.AbstractEventLoop, lock: int, to: Supervisor | None
    ) -> Recording | None:
        usage, state_dir = self.settings.usage, self.settings.state_dir
        call_soon = loop.call_soon
        if not usage.enabled:
            if lock >= 0:
                os.close(lock)
            return None
        if to is not None:
            return Recording(
                usage, state_dir, reactor, call_soon, self.leasing, lock, to.worker, to.receiver
            )
        self.metering = Metering(
            usage, state_dir, self.store, reactor, call_soon, self.leasing, lock
        )
        return self.metering

    def _zone_maker(self, supervisor: Supervisor | None) -> Callable[[str, float], ITokenCache]:
        own = token_cache_maker(self.settings.cache, self.settings.state_dir)
        if supervisor is None:
            return own
        make = supervisor.make_zone
        return lambda zone, ttl: make(zone, ttl) or own(zone, ttl)

    def _open(self) -> None:
        """Bind every listener."""
        problems: list[ConfigurationError] = []
        bound = bind_doors(self.settings, self.listening, problems)
        introspecting = self.introspecting.prepare(
            self.settings, self.checkers.by_name, (), problems
        )
        raise_all(problems)
        for each in bound:
            self.listening.open(each)
        self.introspecting.commit(introspecting, start=False)

    # --- what there is --------------------------------------------------------------------

    @property
    def up_to_date(self) -> bool:
        """Whether all is known here that the store knows, and it knows what an earlier run did."""
        metering = self.metering
        return self.state.loaded and (metering is None or metering.flusher.caught_up.called)

    def where(self) -> Iterator[tuple[str, str, tuple[str, int]]]:
        """Names, roles and addresses of the listeners."""
        for listener in self.listening.listeners:
            role = "forward" if listener.door.is_proxy else "gateway"
            yield listener.door.name, role, listener.address
        for introspection in self.introspecting.services:
            yield introspection.listener_name, "introspection", introspection.address

    def chains(self) -> Iterator[Chain]:
        """All chains of checkers that decide now."""
        for route in self.assembly.routes:
            if route.chain is not None:
                yield route.chain
        for introspection in self.introspecting.services:
            yield from introspection.chains

    # --- while it runs --------------------------------------------------------------------

    def _changed(self, difference: Difference) -> None:
        """Operators have changed something: let it take effect."""
        if difference.services:
            self.serving.apply(difference.after.services)
        self._effects.apply(difference)

    def sweep(self) -> None:
        """See what has taken too long; called several times a second. Never fails."""
        self.plane.sweep.run()
        self.lateness.beat(self.plane.sweep.now)
        try:
            self.plane.watch()
        except Exception:
            log.failure("Running exchanges could not be watched")

    def check_files(self) -> None:
        """Key files and certificates may have changed; called about once a second. Never fails."""
        try:
            if self.checkers.reload():
                self.cache.clear()
                self.plane.check_again()
            self.listening.reload()
            self.serving.reload()
            self.checkers.close_retired(self.plane.live)
        except Exception:
            log.failure("Changed files could not be read")

    async def close(self) -> None:
        """Keep nothing open; nothing runs any more."""
        self.assembly.close()
        self.selling.close()
        self.resolver.close()
        await self.checkers.close()
        if self.access_log is not None:
            self.access_log.close()


def bind_doors(
    settings: Settings, listening: Listening, problems: list[ConfigurationError]
) -> list[Bound]:
    """Bind gateways and forward proxies; what cannot be bound is added to ``problems``."""
    bound = []
    for number, listener in enumerate(settings.listeners):
        if is_door(listener):
            try:
                bound.append(listening.bind(listener))
            except ConfigurationError as error:
                problems.append(error.inside(f"listeners[{number}]"))
    return bound


def raise_all(problems: list[ConfigurationError]) -> None:
    """Raise all as one, if there are any.

    :raises ConfigurationError: there are.
    """
    if problems:
        raise ConfigurationError([problem for error in problems for problem in error.problems])


def _time_since_boot() -> float:
    """Seconds of a clock that goes on while the machine sleeps: others count them, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
