"""From a service's ``to`` to what its requests are sent over: an origin, or several balanced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from gatekeeper.config.model_services import HealthChecks, Service
from gatekeeper.config.values import Upstream, parse_upstream
from gatekeeper.http.target import Authority
from gatekeeper.net.balancing import Balancer
from gatekeeper.net.balancing_checks import CheckPolicy, HealthCheck
from gatekeeper.net.balancing_health import EjectionPolicy
from gatekeeper.net.http2.origin import MultiplexingOrigin
from gatekeeper.net.pool import Address, Origin, PoolLimits, UpstreamTimeouts
from gatekeeper.net.sweep import Sweep
from gatekeeper.net.tls import client_context
from gatekeeper.stats import PoolStats

#: A health check's own: one connection, which is not kept.
_ONE: Final = PoolLimits(connections=1, idle=0, queue=1)


class MakeOrigin(Protocol):
    """Makes an origin."""

    def __call__(
        self,
        timeouts: UpstreamTimeouts,
        addresses: Callable[[], Sequence[Address]],
        name: str,
        *,
        stats: PoolStats | None = None,
        kind: type[Origin] = Origin,
        limits: PoolLimits | None = None,
    ) -> Origin:
        """See :class:`Origin`; ``limits`` are the configuration's if left out."""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstreams of a service whose ``to`` is not ``grant``.

    ``path`` is that of all of them, ``host`` the Host field that requests are made with.
    """

    path: bytes
    host: bytes
    lessor: Origin | Balancer


def make_upstreams(
    service: Service, timeouts: UpstreamTimeouts, make: MakeOrigin, sweep: Sweep
) -> Upstreams:
    """What a service's requests are sent over.

    :raises ConfigurationError: its ``ca_file`` cannot be used.
    """
    urls = [(url, parse_upstream(url)) for url in service.urls]
    first = urls[0][1]
    _addresses(service, first)  # what cannot be used shows now
    lessor: Origin | Balancer
    if isinstance(service.to, str):
        lessor = _origin(service, first, partial(make, timeouts), service.to)
    else:
        lessor = _balancer(service, urls, timeouts, make, sweep)
    return Upstreams(first.path.encode("ascii"), _host(first), lessor)


def _balancer(
    service: Service,
    urls: Sequence[tuple[str, Upstream]],
    timeouts: UpstreamTimeouts,
    make: MakeOrigin,
    sweep: Sweep,
) -> Balancer:
    stats = PoolStats()
    making = partial(make, timeouts, stats=stats)
    ejection = service.ejection
    balancer = Balancer(
        service.name,
        [(_origin(service, each, making, url), _host(each)) for url, each in urls],
        EjectionPolicy(ejection.failures, ejection.duration, ejection.longest),
        sweep,
        stats,
    )
    if service.health is not None:
        policy, patience = _policy(service.health), service.health.timeout
        checking = partial(
            make, UpstreamTimeouts(patience, patience, patience, patience), limits=_ONE
        )
        balancer.check(
            HealthCheck(policy, _host(each), partial(_origin, service, each, checking, url), sweep)
            for url, each in urls
        )
    return balancer


def _policy(health: HealthChecks) -> CheckPolicy:
    return CheckPolicy(
        health.path.encode("ascii"),
        health.interval,
        health.timeout,
        health.healthy,
        health.unhealthy,
        frozenset(health.status),
    )


def _origin(service: Service, upstream: Upstream, make: Callable[..., Origin], name: str) -> Origin:
    kind = MultiplexingOrigin if service.http2 == "always" else Origin
    return make(partial(_addresses, service, upstream), name, kind=kind)


def _addresses(service: Service, upstream: Upstream) -> list[Address]:
    """Asked for each connection: a changed file of authorities is read again."""
    if upstream.scheme == "http":
        return [Address(upstream.host, upstream.port)]
    context = client_context(service.ca_file, http2=service.http2 == "always")
    return [Address(upstream.host, upstream.port, context, upstream.host)]


def _host(upstream: Upstream) -> bytes:
    default_port = 443 if upstream.scheme == "https" else 80
    return Authority(upstream.host, upstream.port).encode(default_port)
