"""What operators and their machines see of a core: the management, its checks, the metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.interfaces import IReadiness
from gatekeeper.config.values import unix_path
from gatekeeper.core import Core
from gatekeeper.golem.definitions import Definition
from gatekeeper.insight import Insight
from gatekeeper.management.dashboard.root import Parts
from gatekeeper.management.gate import Gate
from gatekeeper.management.health import Check
from gatekeeper.management.keyvals import Keyvals
from gatekeeper.management.live import DataPlane
from gatekeeper.management.metrics import MetricsPage
from gatekeeper.management.service import ManagementService, management_service
from gatekeeper.management.token import open_operator_token
from gatekeeper.management.wiring import manage
from gatekeeper.net.inherited import NOTHING, Inherited

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

log = Logger()


class Workers(Protocol):
    """Other processes that serve requests, see :class:`gatekeeper.process.workers.Workers`."""

    def data_plane(self, insight: Insight) -> DataPlane:
        """What is seen of all of them, and of our own core."""

    def problem(self) -> Deferred[str | None]:
        """What is wrong with them, for readiness; ``None``: nothing."""


class Wiring:
    """See the module. ``service`` is the management's listener, ``None``: there is none.

    :param reload: reads the configuration again; gives the keys that need a restart.
    :param stop: begins to stop the daemon.
    :param workers: who serve requests in place of the core; ``None``: it does itself.
    :raises ConfigurationError: the management's address cannot be had.
    """

    def __init__(
        self,
        core: Core,
        reactor: Any,
        reload: Callable[[], Awaitable[Sequence[str]]],
        stop: Callable[[], object],
        inherited: Inherited = NOTHING,
        workers: Workers | None = None,
    ) -> None:
        self._core = core
        self._workers = workers
        self._insight = Insight(core)
        self._plane: DataPlane = workers.data_plane(self._insight) if workers else self._insight
        self.service = self._bind(inherited)
        if self.service is not None:
            if self.service.file is None:
                core.own.add(self.service.address)
            self.service.managed = manage(
                core.settings,
                readiness=self.service.readiness,
                state=core.state,
                store=core.store,
                plane=self._plane,
                metering=core.metering,
                listeners=core.where,
                reload=reload,
                stop=stop,
                clock=reactor,
                selling=core.selling,
                zones=core.checkers.zones,
            )

    def reconfigured(self, definitions: dict[str, Definition]) -> None:
        """The core has other settings now, and these definitions of ``services_dir``."""
        service = self.service
        if service is None:
            return
        service.readiness.use(dict(self._checks()))
        if service.managed is not None:
            service.managed.settings = self._core.settings
            service.managed.definitions = definitions

    def show(self, collector: Collector) -> None:
        """Show more numbers."""
        self._insight.registry.register(collector)

    def _bind(self, inherited: Inherited) -> ManagementService | None:
        settings = self._core.settings
        management = settings.management
        if management.bind == "none":
            return None
        is_socket = unix_path(management.bind) is not None
        needs_token = management.auth == "token" and not is_socket
        token = open_operator_token(settings.state_dir) if needs_token else None
        if token is None and not is_socket:
            log.warn("Whoever reaches {address} is an operator", address=management.bind)
        gate = Gate(token, is_socket=is_socket)
        service = management_service(
            management.bind,
            dict(self._checks()),
            Keyvals(self._core.checkers.zones, token),
            MetricsPage(self._plane, token if management.metrics == "token" else None),
            gate,
            socket_mode=management.socket_mode,
            inherited=inherited,
        )
        if not is_socket:  # which no browser opens
            service.dashboard = Parts(gate, token, self._plane)
        return service

    # --- readiness ------------------------------------------------------------------------

    def _checks(self) -> Iterator[tuple[str, Check]]:
        core = self._core
        yield "store", self._store_problem
        if core.metering is not None:
            yield "usage", core.metering.problem
        if self._workers is not None:
            yield "workers", self._workers.problem
        for checker in core.checkers.by_name.values():
            readiness = IReadiness(checker, None)
            if readiness is not None:
                yield repr(checker), readiness.ready  # its name may be a URL with a secret
        for name, zone in core.checkers.zones.items():
            readiness = IReadiness(zone, None)
            if readiness is not None:
                yield f"zone {name}", readiness.ready

    def _store_problem(self) -> Deferred[str | None]:
        return self._core.store.ping().addCallbacks(lambda _: None, self._store_away)

    def _store_away(self, failure: Failure) -> str:
        log.warn("The store does not answer: {error}", error=failure.getErrorMessage())
        return "the store does not answer; see the log"
