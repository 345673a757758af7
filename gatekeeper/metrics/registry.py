"""Everything that is shown, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from gatekeeper import __version__
from gatekeeper.metrics import families
from gatekeeper.metrics.traffic import (
    NO_SERVICE,
    AuthCollector,
    ConnectionCollector,
    RequestCollector,
    UpstreamCollector,
)

if TYPE_CHECKING:
    from gatekeeper.assembly import Assembly
    from gatekeeper.auth.cache import VerdictCache
    from gatekeeper.auth.token_cache import ITokenCache
    from gatekeeper.management.introspection_service import IntrospectionService
    from gatekeeper.net.listeners import Connections, Listener
    from gatekeeper.plane import Plane
    from gatekeeper.stats import Lateness


class ProcessNumbers:
    """Our version, and how late the event loop is."""

    def __init__(self, lateness: Lateness) -> None:
        self._lateness = lateness

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        yield families.BUILD.of([((__version__,), 1)])
        yield families.LATENESS.one(self._lateness.worst)


def make_registry(lateness: Lateness) -> CollectorRegistry:
    """A registry with what can be told of the process; the rest is registered when it is there."""
    registry = CollectorRegistry()
    registry.register(ProcessNumbers(lateness))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def register_traffic(
    registry: CollectorRegistry,
    *,
    plane: Plane,
    assembly: Assembly,
    listeners: Iterable[Listener],
    connections: Connections,
    introspection: Iterable[IntrospectionService],
    cache: VerdictCache,
    zones: Mapping[str, ITokenCache],
) -> None:
    """Show what goes through the daemon.

    ``listeners`` are the gateways and forward proxies, ``zones`` the token caches by name. None of
    them is added to later.
    """
    doors = [listener.door for listener in listeners]
    requests = [(route.name, route.stats) for route in assembly.routes]
    requests += [(NO_SERVICE, door.stats) for door in doors]
    chains = [(route.name, route.chain.stats) for route in assembly.routes if route.chain]
    chains += [
        (service.listener_name, chain.stats)
        for service in introspection
        for chain in service.chains
    ]
    for collector in (
        RequestCollector(requests, plane.live),
        ConnectionCollector(connections, (door.name for door in doors)),
        AuthCollector(chains, cache, zones),
        UpstreamCollector(assembly.pools),
    ):
        registry.register(collector)
