"""From the settings to the data plane: routes, doors, origins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from gatekeeper.auth.actions import ACTIONS, make_access
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import make_chain
from gatekeeper.auth.revoked import Revoked
from gatekeeper.config.destinations import parse_allow_rule
from gatekeeper.config.model import Pool, Settings
from gatekeeper.config.model_listeners import Listener
from gatekeeper.config.model_services import Service
from gatekeeper.config.values import parse_bind, parse_network
from gatekeeper.credits.admission import Admission
from gatekeeper.doors import Door, ForwardProxy, Gateway
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.net.balancing import Balancer
from gatekeeper.net.balancing_attempt import UpstreamState
from gatekeeper.net.destinations import DestinationPolicy, OwnAddresses
from gatekeeper.net.dialing import Dialer
from gatekeeper.net.pool import Address, Origin, PoolLimits, UpstreamTimeouts
from gatekeeper.net.resolver import Resolver
from gatekeeper.plane import Plane
from gatekeeper.routing import Route, RoutingTable
from gatekeeper.stats import PoolStats
from gatekeeper.upstreams import make_upstreams
from gatekeeper.usage.units.meter import make_unit_meter

_ACTIONS_TAKE: Final = 180.0  # seconds


def _unlimited(_: Service | Listener) -> Admission | None:
    return None


class Served(NamedTuple):
    """What requests find: a route, and the pool or dialer behind it.

    ``service`` is what it was made of; ``None`` stands for a forward proxy's own destinations.
    ``basis`` is all else that it was made of.
    """

    service: Service | None
    route: Route
    upstream: Origin | Balancer | Dialer
    basis: object = None


class Prospect(NamedTuple):
    """What other settings would come to: their services, and their forward proxies."""

    settings: Settings
    checkers: Mapping[str, IChecker]
    services: Mapping[str, Served]
    proxies: Mapping[str, Served]


class Assembly:
    """Makes what the listeners need, and knows what must be closed in the end.

    :raises ConfigurationError: all that cannot be used, with paths from the configuration's root.
    """

    def __init__(
        self,
        settings: Settings,
        plane: Plane,
        checkers: Mapping[str, IChecker],
        cache: VerdictCache,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver,
        own_addresses: OwnAddresses | Sequence[tuple[str, int]],
        revoked: Revoked | None = None,
        admission: Callable[[Service | Listener], Admission | None] = _unlimited,
    ) -> None:
        self._admission = admission
        self._settings = settings
        self._plane = plane
        self._checkers = checkers
        self._cache = cache
        self._loop = loop
        self._resolver = resolver
        self._own_addresses = own_addresses
        self._revoked = revoked
        self._services: dict[str, Served] = {}
        self._prospects: Mapping[str, Served] = {}
        self._doors: dict[str, tuple[Listener, Door]] = {}
        self._proxies: dict[str, Served] = {}
        self.serve(settings.services)

    @property
    def served(self) -> list[Served]:
        """All that requests can find now."""
        return [*self._services.values(), *self._proxies.values()]

    @property
    def routes(self) -> list[Route]:
        """Their routes."""
        return [each.route for each in self.served]

    @property
    def pools(self) -> list[tuple[str, Origin | Balancer | Dialer]]:
        """Their ways upstream, with the names of their routes."""
        return [(each.route.name, each.upstream) for each in self.served]

    @property
    def balancers(self) -> dict[str, Balancer]:
        """Those of the services that have several upstreams, by the services' names."""
        ways = ((name, each.upstream) for name, each in self._services.items())
        return {name: way for name, way in ways if isinstance(way, Balancer)}

    def upstream_states(self, service: str) -> Sequence[UpstreamState]:
        """How the upstreams of a service are now; of one that has not several, nothing is told."""
        served = self._services.get(service)
        way = served.upstream if served is not None else None
        return way.states if isinstance(way, Balancer) else ()

    def serve(self, services: Sequence[Service]) -> None:
        """Serve these in place of those served so far, from the next request on.

        A service that has not changed keeps its connections, and one that has the numbers of its
        requests; what runs ends under what it began with.

        :raises ConfigurationError: what cannot be used; nothing has changed then.
        """
        before, after = self._services, self._make(services)
        for name in before.keys() & after.keys():
            after[name].route.stats = before[name].route.stats
        self._services, self._prospects = after, {}
        for listener, door in self._doors.values():
            door.serve(self._table(listener))
        _close_others(before, after)

    def _make(self, services: Sequence[Service]) -> dict[str, Served]:
        """Make what has changed.

        :raises ConfigurationError: see :meth:`serve`; nothing is left open.
        """
        before, after = {**self._services, **self._prospects}, dict[str, Served]()
        problems: list[Problem] = []
        for number, service in enumerate(services):
            known = before.get(service.name)
            try:
                if known is not None and self._is_same(known, service):
                    after[service.name] = known
                else:
                    served = self._serve(service)
                    after[service.name] = served._replace(basis=self._basis(service.checkers))
            except ConfigurationError as error:
                problems += [
                    Problem(f"services[{number}].{problem.path}", problem.message)
                    for problem in error.problems
                ]
        if problems:
            _close_others(after, before)
            raise ConfigurationError(problems)
        return after

    def _is_same(self, known: Served, service: Service) -> bool:
        return known.service == service and known.basis == self._basis(service.checkers)

    def _basis(self, names: Sequence[str]) -> object:
        """What a route depends on beside its service."""
        settings, checkers = self._settings, self._checkers
        common = settings.limits, settings.timeouts, settings.pool
        return *common, *(checkers.get(name) for name in names)

    # --- other settings -------------------------------------------------------------------

    def prospect(self, settings: Settings, checkers: Mapping[str, IChecker]) -> Prospect:
        """Make ready for other settings, and the checkers that go with them.

        What has not changed is shared with what is served now. Nothing here changes.

        :raises ConfigurationError: what cannot be used; nothing is left open.
        """
        other = copy(self)
        other._settings, other._checkers, other._prospects = settings, checkers, {}
        services = other._make(settings.services)
        proxies = {
            listener.name: other._proxy(listener)
            for listener in settings.listeners
            if listener.role == "forward"
        }
        return Prospect(settings, checkers, services, proxies)

    def discard(self, prospect: Prospect) -> None:
        """The other settings do not come."""
        _close_others(prospect.services, self._services)
        _close_others(prospect.proxies, self._proxies)

    def adopt(self, prospect: Prospect, checkers: Mapping[str, IChecker]) -> None:
        """Be what the other settings come to.

        That is for listeners; services follow with the next :meth:`serve`, which must be called in
        the same turn of the loop. ``checkers`` holds those of the prospect now.
        """
        self._settings, self._checkers = prospect.settings, checkers
        self._prospects = prospect.services
        before, self._proxies = self._proxies, dict(prospect.proxies)
        for name in before.keys() & self._proxies.keys():
            self._proxies[name].route.stats = before[name].route.stats
        _close_others(before, self._proxies)

    def adjust(self, listener: Listener) -> Door:
        """A listener has other settings, of which its door is to know."""
        _, door = self._doors[listener.name]
        self._doors[listener.name] = listener, door
        door.trust(map(parse_network, listener.trusted_peers))
        if isinstance(door, ForwardProxy):
            route = self._proxies[listener.name].route
            door.lead(route, self._service_ports(), listener.credentials_from)
        return door

    def check(self, service: Service) -> None:
        """Look whether a service could be served.

        :raises ConfigurationError: it could not; paths are the service's.
        """
        known = self._services.get(service.name)
        if known is None or not self._is_same(known, service):
            self._serve(service).upstream.close()

    def close(self) -> None:
        """Keep no upstream connection."""
        for each in self.served:
            each.upstream.close()

    def reload(self) -> None:
        """Read changed files of access rules again; asked about once a second."""
        for each in self._services.values():
            if each.route.access is not None:
                each.route.access.reload()

    def door(self, listener: Listener) -> Door:
        """What is behind a gateway or a forward proxy; :meth:`serve` changes what it serves.

        A door of that name is kept, unless it was forgotten.
        """
        if listener.name in self._doors:
            return self.adjust(listener)
        scheme = b"https" if listener.tls else b"http"
        trusted = [parse_network(network) for network in listener.trusted_peers]
        pseudonym = self._plane.pseudonym
        table = self._table(listener)
        door: Door
        if listener.role == "gateway":
            door = Gateway(listener.name, scheme, pseudonym, trusted, table)
        else:
            proxy = self._proxies[listener.name] = self._proxy(listener)
            door = ForwardProxy(
                listener.name,
                scheme,
                pseudonym,
                trusted,
                proxy.route,
                table,
                self._service_ports(),
                listener.credentials_from,
            )
        self._doors[listener.name] = listener, door
        return door

    def forget(self, listener: str) -> None:
        """A listener is gone; what is connected to it is still served."""
        self._doors.pop(listener, None)
        proxy = self._proxies.pop(listener, None)
        if proxy is not None:
            proxy.upstream.close()

    def _service_ports(self) -> frozenset[int]:
        listeners = self._settings.listeners
        return frozenset(parse_bind(each.bind).port for each in listeners if is_door(each))

    def _table(self, listener: Listener) -> RoutingTable:
        """The services that are found through a listener."""
        return RoutingTable(
            (host, each.route)
            for each in self._services.values()
            if each.service is not None and _is_found(each.service, listener)
            for host in each.service.hosts or (None,)
        )

    def _serve(self, service: Service) -> Served:
        timeouts = self._timeouts(service)
        known = self._services.get(service.name)
        chain = self._chain(f"service:{service.name}", service.checkers, known)
        make = partial(
            Route,
            service.name,
            prefix=service.from_.encode("ascii"),
            chain=None if chain.public else chain,
            access=make_access(service),
            hidden=ACTIONS if service.actions_file is not None else b"",
            max_body=service.limits.body or self._settings.limits.body,
            cors=service.cors,
            unit_meter=make_unit_meter(service.meter),
            admits_unmetered=service.on_journal_full == "admit",
            outlives_grant=service.actions_file is not None,
            open_methods=frozenset(method.encode("ascii") for method in service.open_methods),
            admission=self._admission(service),
        )
        if service.to == "grant":
            dialer = self._dialer(service.allow, timeouts, service.ca_file)
            path = service.from_.encode("ascii")
            return Served(service, make(path=path, host_field=b"", dial=dialer.dial), dialer)
        upstreams = make_upstreams(service, timeouts, self._origin, self._plane.sweep)
        route = make(path=upstreams.path, host_field=upstreams.host, origin=upstreams.lessor)
        return Served(service, route, upstreams.lessor)

    def _proxy(self, listener: Listener) -> Served:
        """A forward proxy's own destinations, those that it has if nothing has changed."""
        known = self._proxies.get(listener.name)
        basis = (listener, self._basis(listener.checkers or ()))
        if known is not None and known.basis == basis:
            return known
        return self._forward(listener)._replace(basis=basis)

    def _forward(self, listener: Listener) -> Served:
        known = self._proxies.get(listener.name)
        chain = self._chain(f"listener:{listener.name}", listener.checkers or (), known)
        dialer = self._dialer(listener.allow, self._timeouts(None), None)
        route = Route(
            listener.name,
            prefix=b"/",
            path=b"",
            origin=None,
            host_field=b"",
            chain=None if chain.public else chain,
            access=None,
            max_body=self._settings.limits.body,
            dial=dialer.dial,
            is_service=False,
            admission=self._admission(listener),
        )
        return Served(None, route, dialer)

    def _chain(self, name: str, checkers: Sequence[str], known: Served | None) -> Chain:
        earlier = known.route.chain if known is not None else None
        return make_chain(name, checkers, self._checkers, self._cache, self._revoked, earlier)

    def _dialer(
        self, allow: Sequence[str], timeouts: UpstreamTimeouts, ca_file: Path | None
    ) -> Dialer:
        return Dialer(
            DestinationPolicy(map(parse_allow_rule, allow), self._own_addresses),
            self._resolver,
            self._loop,
            partial(self._origin, timeouts),
            timeouts.connect,
            timeouts.tunnel,
            ca_file,
        )

    def _origin(
        self,
        timeouts: UpstreamTimeouts,
        addresses: Callable[[], Sequence[Address]],
        name: str,
        on_unused: Callable[[], None] | None = None,
        stats: PoolStats | None = None,
        kind: type[Origin] = Origin,
        limits: PoolLimits | None = None,
    ) -> Origin:
        return kind(
            addresses,
            name,
            self._loop,
            self._plane.sweep,
            limits or _pool_limits(self._settings.pool),
            timeouts,
            self._plane.head_limits,
            on_unused,
            stats,
        )

    def _timeouts(self, service: Service | None) -> UpstreamTimeouts:
        common = self._settings.timeouts
        own = service.timeouts if service is not None else None
        # Calls of such an API (time stamps, confirmations) take minutes.
        least = _ACTIONS_TAKE if service is not None and service.actions_file is not None else 0.0
        return UpstreamTimeouts(
            connect=(own and own.connect) or common.connect,
            response=(own and own.response) or max(common.response, least),
            body=(own and own.body) or max(common.body, least),
            tunnel=(own and own.tunnel) or common.tunnel,
        )


def _is_found(service: Service, listener: Listener) -> bool:
    if listener.role == "forward":
        return bool(service.hosts)
    return service.listeners is None or listener.name in service.listeners


def _close_others(these: Mapping[str, Served], kept: Mapping[str, Served]) -> None:
    for name, each in these.items():
        if kept.get(name) is not each:
            each.upstream.close()


def _pool_limits(pool: Pool) -> PoolLimits:
    return PoolLimits(pool.connections, pool.idle, pool.idle_timeout, pool.queue)


def is_door(listener: Listener) -> bool:
    """Whether requests to services come in through a listener."""
    return listener.role != "introspection"


def speaks_http2(listener: Listener) -> bool:
    """Whether clients of a listener may speak HTTP/2: a forward proxy's may not."""
    return listener.role == "gateway" and listener.http2
