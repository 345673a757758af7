"""From the settings to the data plane: routes, doors, origins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gatekeeper.auth.actions import ACTIONS, make_access
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import make_chain
from gatekeeper.config.destinations import parse_allow_rule
from gatekeeper.config.model import Listener, Pool, Service, Settings
from gatekeeper.config.values import parse_bind, parse_network, parse_upstream
from gatekeeper.doors import Door, ForwardProxy, Gateway
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.http.target import Authority
from gatekeeper.net.destinations import DestinationPolicy
from gatekeeper.net.dialing import Dialer
from gatekeeper.net.pool import Address, Origin, PoolLimits, UpstreamTimeouts
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.tls import client_context
from gatekeeper.plane import Plane
from gatekeeper.routing import Route, RoutingTable

_ACTIONS_TAKE: Final = 180.0  # seconds


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
        own_addresses: Sequence[tuple[str, int]],
    ) -> None:
        self._settings = settings
        self._plane = plane
        self._checkers = checkers
        self._cache = cache
        self._loop = loop
        self._resolver = resolver
        self._own_addresses = own_addresses
        self._origins: list[Origin] = []
        self._dialers: list[Dialer] = []
        self._routes: list[tuple[Service, Route]] = []
        problems: list[Problem] = []
        for number, service in enumerate(settings.services):
            try:
                self._routes.append((service, self._route(service)))
            except ConfigurationError as error:
                problems += [
                    Problem(f"services[{number}].{problem.path}", problem.message)
                    for problem in error.problems
                ]
        if problems:
            raise ConfigurationError(problems)

    def close(self) -> None:
        """Keep no upstream connection."""
        for origin in self._origins:
            origin.close()
        for dialer in self._dialers:
            dialer.close()

    def reload(self) -> None:
        """Read changed files of access rules again; asked about once a second."""
        for _, route in self._routes:
            if route.access is not None:
                route.access.reload()

    def door(self, listener: Listener) -> Door:
        """What is behind a gateway or a forward proxy."""
        scheme = b"https" if listener.tls else b"http"
        trusted = [parse_network(network) for network in listener.trusted_peers]
        pseudonym = self._plane.pseudonym
        if listener.role == "gateway":
            table = self._table(
                lambda service: service.listeners is None or listener.name in service.listeners
            )
            return Gateway(listener.name, scheme, pseudonym, trusted, table)
        return ForwardProxy(
            listener.name,
            scheme,
            pseudonym,
            trusted,
            self._forward_route(listener),
            self._table(lambda service: bool(service.hosts)),
            frozenset(
                parse_bind(other.bind).port
                for other in self._settings.listeners
                if other.role != "introspection"
            ),
            listener.credentials_from,
        )

    def _table(self, wanted: Callable[[Service], bool]) -> RoutingTable:
        return RoutingTable(
            (host, route)
            for service, route in self._routes
            if wanted(service)
            for host in service.hosts or (None,)
        )

    def _route(self, service: Service) -> Route:
        timeouts = self._timeouts(service)
        chain = make_chain(f"service:{service.name}", service.checkers, self._checkers, self._cache)
        make = partial(
            Route,
            service.name,
            prefix=service.from_.encode("ascii"),
            chain=None if chain.public else chain,
            access=make_access(service),
            hidden=ACTIONS if service.actions_file is not None else b"",
            max_body=service.limits.body or self._settings.limits.body,
            cors=service.cors,
            admits_unmetered=service.on_journal_full == "admit",
            outlives_grant=service.actions_file is not None,
            open_methods=frozenset(method.encode("ascii") for method in service.open_methods),
        )
        if service.to == "grant":
            dialer = self._dialer(service.allow, timeouts, service.ca_file)
            return make(path=service.from_.encode("ascii"), host_field=b"", dial=dialer.dial)
        upstream = parse_upstream(service.to)
        secure = upstream.scheme == "https"

        def addresses() -> list[Address]:
            # Asked for each connection: a changed file of authorities is read again.
            context = client_context(service.ca_file) if secure else None
            name = upstream.host if secure else None
            return [Address(upstream.host, upstream.port, context, name)]

        addresses()  # what cannot be used shows now
        origin = self._origin(addresses, service.to, timeouts)
        self._origins.append(origin)
        return make(
            path=upstream.path.encode("ascii"),
            host_field=Authority(upstream.host, upstream.port).encode(443 if secure else 80),
            origin=origin,
        )

    def _forward_route(self, listener: Listener) -> Route:
        names = listener.checkers or ()
        chain = make_chain(f"listener:{listener.name}", names, self._checkers, self._cache)
        return Route(
            listener.name,
            prefix=b"/",
            path=b"",
            origin=None,
            host_field=b"",
            chain=None if chain.public else chain,
            access=None,
            max_body=self._settings.limits.body,
            dial=self._dialer(listener.allow, self._timeouts(None), None).dial,
            is_service=False,
        )

    def _dialer(
        self, allow: Sequence[str], timeouts: UpstreamTimeouts, ca_file: Path | None
    ) -> Dialer:
        dialer = Dialer(
            DestinationPolicy(map(parse_allow_rule, allow), self._own_addresses),
            self._resolver,
            self._loop,
            lambda addresses, name, unused: self._origin(addresses, name, timeouts, unused),
            timeouts.connect,
            timeouts.tunnel,
            ca_file,
        )
        self._dialers.append(dialer)
        return dialer

    def _origin(
        self,
        addresses: Callable[[], Sequence[Address]],
        name: str,
        timeouts: UpstreamTimeouts,
        on_unused: Callable[[], None] | None = None,
    ) -> Origin:
        return Origin(
            addresses,
            name,
            self._loop,
            self._plane.sweep,
            _pool_limits(self._settings.pool),
            timeouts,
            self._plane.head_limits,
            on_unused,
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


def _pool_limits(pool: Pool) -> PoolLimits:
    return PoolLimits(pool.connections, pool.idle, pool.idle_timeout, pool.queue)
