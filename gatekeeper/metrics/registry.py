"""Everything that is shown, put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from gatekeeper import __version__
from gatekeeper.metrics import families
from gatekeeper.metrics.traffic import (
    NO_SERVICE,
    AuthCollector,
    BalancerCollector,
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
    from gatekeeper.stats import ChainStats, Lateness, RequestStats


class ProcessNumbers:
    """Our version, and how late the event loop is, where that is known."""

    def __init__(self, lateness: Lateness | None) -> None:
        self._lateness = lateness

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        yield families.BUILD.of([((__version__,), 1)])
        if self._lateness is not None:
            yield families.LATENESS.one(self._lateness.worst)


def make_registry(lateness: Lateness | None = None) -> CollectorRegistry:
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
    listeners: Sequence[Listener],
    connections: Connections,
    introspection: Sequence[IntrospectionService],
    cache: VerdictCache,
    zones: Mapping[str, ITokenCache],
) -> None:
    """Show what goes through the daemon.

    ``listeners`` are the gateways and forward proxies, ``zones`` the token caches by name. Whatever
    is added to any of them later is shown, too.
    """

    for collector in (
        RequestCollector(partial(request_stats, assembly, listeners), plane.live),
        ConnectionCollector(connections, lambda: (listener.door.name for listener in listeners)),
        AuthCollector(partial(chain_stats, assembly, introspection), cache, zones),
        UpstreamCollector(lambda: assembly.pools),
        BalancerCollector(lambda: assembly.balancers),
    ):
        registry.register(collector)


def request_stats(
    assembly: Assembly, listeners: Sequence[Listener]
) -> list[tuple[str, RequestStats]]:
    """What was counted of requests, with the services' names."""
    unrouted = [(NO_SERVICE, listener.door.stats) for listener in listeners]
    return [(route.name, route.stats) for route in assembly.routes] + unrouted


def chain_stats(
    assembly: Assembly, introspection: Sequence[IntrospectionService]
) -> list[tuple[str, ChainStats]]:
    """What chains have decided, with the names of services, or of listeners."""
    introspecting = [
        (service.listener_name, chain.stats)
        for service in introspection
        for chain in service.chains
    ]
    routes = [(route.name, route.chain) for route in assembly.routes]
    return [(name, chain.stats) for name, chain in routes if chain] + introspecting
