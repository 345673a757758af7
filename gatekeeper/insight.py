"""What of one core is seen from outside: what runs there, and what is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from gatekeeper.core import Core
from gatekeeper.management.dashboard.numbers import Numbers
from gatekeeper.management.live import LocalExchanges, Traffic
from gatekeeper.metrics.registry import (
    chain_stats,
    make_registry,
    register_traffic,
    request_stats,
)
from gatekeeper.metrics.state import StateCollector
from gatekeeper.metrics.usage import RecordingCollector, UsageCollector
from gatekeeper.net.balancing_attempt import UpstreamState
from gatekeeper.usage.records import Account

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Insight:
    """The :class:`.DataPlane` of this process. ``registry`` is what is counted."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.exchanges = LocalExchanges(core.plane)
        self.registry = make_registry(core.lateness)
        register_traffic(
            self.registry,
            plane=core.plane,
            assembly=core.assembly,
            listeners=core.listening.listeners,
            connections=core.connections,
            introspection=core.introspecting.services,
            cache=core.cache,
            zones=core.checkers.zones,
        )
        self.registry.register(StateCollector(core.state))
        if core.metering is not None:
            limit = core.settings.usage.journal_size
            journal, flusher = core.metering.journal, core.metering.flusher
            self.registry.register(UsageCollector(journal, limit, flusher))
        elif core.recording is not None:
            self.registry.register(RecordingCollector(core.recording.journal))
        self._numbers = Numbers(
            lambda: request_stats(core.assembly, core.listening.listeners),
            lambda: chain_stats(core.assembly, core.introspecting.services),
            core.plane.live,
            core.checkers.zones.keys(),
            core.plane.wall_clock,
        )

    async def traffic(self) -> Traffic:
        """See :class:`.DataPlane`."""
        return self.traffic_now()

    def traffic_now(self) -> Traffic:
        """Connections and exchanges."""
        return Traffic(len(self._core.connections), len(self._core.plane.live))

    async def upstreams(self) -> Mapping[str, Sequence[UpstreamState]]:
        """See :class:`.DataPlane`."""
        return self.upstreams_now()

    def upstreams_now(self) -> Mapping[str, Sequence[UpstreamState]]:
        """How they are, by the names of their services."""
        balancers = self._core.assembly.balancers
        return {name: balancer.states for name, balancer in balancers.items()}

    async def settled(self) -> None:
        """See :class:`.DataPlane`: here, it has as soon as it is changed."""

    def expire(self, account: Account) -> None:
        """See :class:`.DataPlane`."""
        self._core.selling.accounts.expire(account)

    def collect(self) -> Iterable[Metric]:
        """See :class:`.DataPlane`."""
        return self.registry.collect()

    def document(self) -> Mapping[str, object]:
        """See :class:`.DataPlane`."""
        return self._numbers.document()
