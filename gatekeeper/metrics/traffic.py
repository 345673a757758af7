"""Requests, clients' connections, verdicts and upstream connections, as the data plane tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

from prometheus_client.core import Metric

from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.metrics import families
from gatekeeper.metrics.families import Labels
from gatekeeper.stats import ChainStats, PoolStats, PoolUse, RequestStats

if TYPE_CHECKING:
    from gatekeeper.auth.cache import VerdictCache
    from gatekeeper.exchange import Exchange
    from gatekeeper.net.balancing import Balancer
    from gatekeeper.net.listeners import Connections

#: The service of what belongs to none: bytes that are no request, hosts and paths not served.
NO_SERVICE: Final = ""

T = TypeVar("T")

#: Asked at each scrape, for services come and go: what there is, with the value of its label.
Numbers: TypeAlias = Callable[[], Iterable[tuple[str, T]]]


class Pool(Protocol):
    """The connections to one upstream, or to all that one way leads to."""

    stats: PoolStats

    @property
    def use(self) -> PoolUse:
        """Connections and waiting requests, now."""


class RequestCollector:
    """Requests that have ended, and those that run.

    :param stats: gives what has been counted, with the services' names.
    :param live: the exchanges that run.
    """

    def __init__(self, stats: Numbers[RequestStats], live: Collection[Exchange]) -> None:
        self._stats = stats
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        stats = [((name,), each) for name, each in self._stats()]
        yield families.REQUESTS.of(
            ((name, _status(hundreds), reason), number)
            for (name,), each in stats
            for (hundreds, reason), number in each.requests.items()
            if number or hundreds == 2  # so that the first one is an increase, for most
        )
        yield families.REQUEST_DURATION.durations(stats)
        yield families.REQUEST_BYTES.of((labels, each.bytes_in) for labels, each in stats)
        yield families.RESPONSE_BYTES.of((labels, each.bytes_out) for labels, each in stats)
        exchanges = Counter({labels: 0 for labels, _ in stats})
        tunnels = exchanges.copy()
        for exchange in self._live:
            name = exchange.request.route.name if exchange.request is not None else NO_SERVICE
            (exchanges if exchange.tunnel is None else tunnels)[name,] += 1
        yield families.LIVE_EXCHANGES.of(exchanges.items())
        yield families.LIVE_TUNNELS.of(tunnels.items())


class ConnectionCollector:
    """Clients' connections. ``listeners`` gives the names of those that there are."""

    def __init__(self, connections: Connections, listeners: Callable[[], Iterable[str]]) -> None:
        self._connections = connections
        self._listeners = listeners

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        connections, names = self._connections, list(self._listeners())
        open_now = Counter(connection.door.name for connection in connections.open)
        for family, numbers in (
            (families.CONNECTIONS, open_now),
            (families.CONNECTIONS_ACCEPTED, connections.accepted),
            (families.CONNECTIONS_REFUSED, connections.refused),
        ):
            yield family.of(((name,), numbers[name]) for name in names)


class AuthCollector:
    """Decisions and what is remembered of them.

    :param chains: gives what chains have decided, with the names of services, or of listeners where
        they are for no service.
    :param zones: the token caches by their names.
    """

    def __init__(
        self,
        chains: Numbers[ChainStats],
        cache: VerdictCache,
        zones: Mapping[str, ITokenCache],
    ) -> None:
        self._chains = chains
        self._cache = cache
        self._zones = zones

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        chains = list(self._chains())
        yield families.DECISIONS.of(
            ((name, checker, verdict), number)
            for name, stats in chains
            for (checker, verdict), number in stats.decisions.items()
        )
        yield families.CACHE_HITS.of(
            ((name, verdict), number)
            for name, stats in chains
            for verdict, number in (
                ("granted", stats.cached_grants),
                ("denied", stats.cached_denials),
            )
        )
        yield families.CACHE_MISSES.of(((name,), stats.misses) for name, stats in chains)
        yield families.CACHE_ENTRIES.of(
            [(("granted",), self._cache.grants), (("denied",), self._cache.denials)]
        )
        yield families.TOKEN_CACHE_ENTRIES.of(self._token_caches())
        zones = self._zones.items()
        yield families.TOKEN_CACHE_CAUGHT_UP.of(((name,), zone.caught_up) for name, zone in zones)
        yield families.TOKEN_CACHE_OUTAGES.of(((name,), zone.outages) for name, zone in zones)

    def _token_caches(self) -> Iterator[tuple[Labels, float]]:
        for name, zone in self._zones.items():
            yield (name, "token"), zone.tokens
            yield (name, "revocation"), zone.revocations


class UpstreamCollector:
    """Connections to upstreams. ``pools`` gives them with the names of services, or listeners."""

    def __init__(self, pools: Numbers[Pool]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        pools = list(self._pools())
        uses = [(name, pool.use) for name, pool in pools]
        yield families.UPSTREAM_CONNECTIONS.of(
            ((name, state), number)
            for name, use in uses
            for state, number in (
                ("active", use.active),
                ("idle", use.idle),
                ("connecting", use.connecting),
            )
        )
        yield families.UPSTREAM_QUEUED.of(((name,), use.queued) for name, use in uses)
        yield families.DIALS.of(((name,), pool.stats.dials) for name, pool in pools)
        yield families.DIAL_FAILURES.of(
            ((name, reason), number)
            for name, pool in pools
            for reason, number in pool.stats.failures.items()
        )


class BalancerCollector:
    """Upstreams of services with several. ``balancers`` gives them with the services' names."""

    def __init__(self, balancers: Callable[[], Mapping[str, Balancer]]) -> None:
        self._balancers = balancers

    def collect(self) -> Iterator[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        states = [
            ((name, state.url), state)
            for name, balancer in self._balancers().items()
            for state in balancer.states
        ]
        yield families.UPSTREAM_HEALTHY.of(
            (labels, state.state.value == "up") for labels, state in states
        )
        yield families.UPSTREAM_OUTSTANDING.of(
            (labels, state.outstanding) for labels, state in states
        )
        yield families.UPSTREAM_EJECTIONS.of((labels, state.ejections) for labels, state in states)


def _status(hundreds: int) -> str:
    return f"{hundreds}xx" if hundreds else "none"
