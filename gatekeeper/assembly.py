"""From the settings to the data plane: routes, doors, origins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
from gatekeeper.config.model import Listener, Pool, Service, Settings
from gatekeeper.config.values import parse_bind, parse_network, parse_upstream
from gatekeeper.doors import Door, ForwardProxy, Gateway
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.http.target import Authority
from gatekeeper.net.destinations import DestinationPolicy, OwnAddresses
from gatekeeper.net.dialing import Dialer
from gatekeeper.net.http2.origin import MultiplexingOrigin
from gatekeeper.net.pool import Address, Origin, PoolLimits, UpstreamTimeouts
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.tls import client_context
from gatekeeper.plane import Plane
from gatekeeper.routing import Route, RoutingTable
from gatekeeper.stats import PoolStats
from gatekeeper.usage.units.meter import make_unit_meter

_ACTIONS_TAKE: Final = 180.0  # seconds


class Served(NamedTuple):
    """What requests find: a route, and the pool or dialer behind it.

    ``service`` is what it was made of; ``None`` stands for a forward proxy's own destinations.
    """

    service: Service | None
    route: Route
    upstream: Origin | Dialer


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
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._checkers = checkers
        self._cache = cache
        self._loop = loop
        self._resolver = resolver
        self._own_addresses = own_addresses
        self._revoked = revoked
        self._services: dict[str, Served] = {}
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
    def pools(self) -> list[tuple[str, Origin | Dialer]]:
        """Their ways upstream, with the names of their routes."""
        return [(each.route.name, each.upstream) for each in self.served]

    def serve(self, services: Sequence[Service]) -> None:
        """Serve these in place of those served so far, from the next request on.

        A service that has not changed keeps its connections, and one that has the numbers of its
        requests; what runs ends under what it began with.

        :raises ConfigurationError: what cannot be used; nothing has changed then.
        """
        before, after = self._services, dict[str, Served]()
        problems: list[Problem] = []
        for number, service in enumerate(services):
            known = before.get(service.name)
            try:
                unchanged = known is not None and known.service == service
                after[service.name] = known if known and unchanged else self._serve(service)
            except ConfigurationError as error:
                problems += [
                    Problem(f"services[{number}].{problem.path}", problem.message)
                    for problem in error.problems
                ]
        if problems:
            _close_others(after, before)
            raise ConfigurationError(problems)
        for name in before.keys() & after.keys():
            after[name].route.stats = before[name].route.stats
        self._services = after
        for listener, door in self._doors.values():
            door.serve(self._table(listener))
        _close_others(before, after)

    def check(self, service: Service) -> None:
        """Look whether a service could be served.

        :raises ConfigurationError: it could not; paths are the service's.
        """
        known = self._services.get(service.name)
        if known is None or known.service != service:
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
        """What is behind a gateway or a forward proxy; :meth:`serve` changes what it serves."""
        scheme = b"https" if listener.tls else b"http"
        trusted = [parse_network(network) for network in listener.trusted_peers]
        pseudonym = self._plane.pseudonym
        table = self._table(listener)
        door: Door
        if listener.role == "gateway":
            door = Gateway(listener.name, scheme, pseudonym, trusted, table)
        else:
            proxy = self._proxies[listener.name] = self._forward(listener)
            door = ForwardProxy(
                listener.name,
                scheme,
                pseudonym,
                trusted,
                proxy.route,
                table,
                frozenset(
                    parse_bind(other.bind).port
                    for other in self._settings.listeners
                    if other.role != "introspection"
                ),
                listener.credentials_from,
            )
        self._doors[listener.name] = listener, door
        return door

    def forget(self, listener: str) -> None:
        """A listener is gone."""
        self._doors.pop(listener, None)
        proxy = self._proxies.pop(listener, None)
        if proxy is not None:
            proxy.upstream.close()

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
        chain = self._chain(f"service:{service.name}", service.checkers)
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
        )
        if service.to == "grant":
            dialer = self._dialer(service.allow, timeouts, service.ca_file)
            path = service.from_.encode("ascii")
            return Served(service, make(path=path, host_field=b"", dial=dialer.dial), dialer)
        upstream = parse_upstream(service.to)
        secure = upstream.scheme == "https"
        http2 = service.http2 == "always"

        def addresses() -> list[Address]:
            # Asked for each connection: a changed file of authorities is read again.
            context = client_context(service.ca_file, http2=http2) if secure else None
            name = upstream.host if secure else None
            return [Address(upstream.host, upstream.port, context, name)]

        addresses()  # what cannot be used shows now
        kind = MultiplexingOrigin if http2 else Origin
        origin = self._origin(timeouts, addresses, service.to, kind=kind)
        route = make(
            path=upstream.path.encode("ascii"),
            host_field=Authority(upstream.host, upstream.port).encode(443 if secure else 80),
            origin=origin,
        )
        return Served(service, route, origin)

    def _forward(self, listener: Listener) -> Served:
        chain = self._chain(f"listener:{listener.name}", listener.checkers or ())
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
        )
        return Served(None, route, dialer)

    def _chain(self, name: str, checkers: Sequence[str]) -> Chain:
        return make_chain(name, checkers, self._checkers, self._cache, self._revoked)

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
    ) -> Origin:
        return kind(
            addresses,
            name,
            self._loop,
            self._plane.sweep,
            _pool_limits(self._settings.pool),
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


def speaks_http2(listener: Listener) -> bool:
    """Whether clients of a listener may speak HTTP/2: a forward proxy's may not."""
    return listener.role == "gateway" and listener.http2
