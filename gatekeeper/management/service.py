"""The management listener as a service. Does not import the reactor before it starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from gatekeeper.config.values import unix_path
from gatekeeper.management.gate import Gate
from gatekeeper.management.health import Check, Readiness
from gatekeeper.management.site import SiteService
from gatekeeper.net.binding import listening_socket, listening_unix_socket
from gatekeeper.net.inherited import NOTHING, Inherited

if TYPE_CHECKING:
    from gatekeeper.management.dashboard.root import Parts
    from gatekeeper.management.keyvals import Keyvals
    from gatekeeper.management.managed import Managed
    from gatekeeper.management.metrics import MetricsPage

#: The largest head of a request: the filters of a report are in the target.
_HEAD: Final = 16_384


class ManagementService(SiteService):
    """Answers operators and their machines.

    ``managed`` is what the API works on, ``dashboard`` what its page is made of; both are to be set
    before the service starts. Without them there is neither.
    """

    def __init__(
        self,
        listening: socket.socket,
        checks: Mapping[str, Check],
        keyvals: Keyvals | None,
        metrics: MetricsPage | None,
        gate: Gate | None,
    ) -> None:
        super().__init__("management", listening, self._root, head=_HEAD)
        self.readiness = Readiness(checks)
        self.managed: Managed | None = None
        self.dashboard: Parts | None = None
        self._keyvals = keyvals
        self._metrics = metrics
        self._gate = gate

    def drain(self) -> None:
        """From now on the daemon is not ready for new work."""
        self.readiness.draining = True

    def stopService(self) -> Deferred[None]:
        """Accept no more connections, and hash no more passwords."""
        if self.managed is not None:
            self.managed.hashing.close()
        return super().stopService()

    def _root(self, clock: IReactorTime) -> IResource:
        from gatekeeper.management.api import ManagementAPI
        from gatekeeper.management.dashboard.site import mount
        from gatekeeper.management.slowdown import Slowdown

        gate = self._gate
        root = ManagementAPI(
            self.readiness, clock, self._keyvals, self._metrics, self.managed, gate
        ).resource()
        if self.dashboard is not None:
            root = mount(root, self.dashboard, clock)
        token = gate.token if gate is not None else None
        return root if token is None else Slowdown(root, token, clock)


def management_service(
    bind: str,
    checks: Mapping[str, Check],
    keyvals: Keyvals | None = None,
    metrics: MetricsPage | None = None,
    gate: Gate | None = None,
    *,
    socket_mode: str = "0600",
    inherited: Inherited = NOTHING,
) -> ManagementService:
    """The service, listening on ``bind`` already; requests are answered when it starts.

    ``checks`` are the readiness checks by name, ``keyvals`` the token caches to be shown,
    ``metrics`` what is counted, ``gate`` who may call. ``socket_mode`` are the permissions of a
    unix socket that has to be made; one that is ``inherited`` stays as it is.

    :raises ConfigurationError: with the path ``management.bind``; the port is taken.
    """
    file = unix_path(bind)
    if file is not None:
        listening = listening_unix_socket(file, socket_mode, "management.bind", inherited=inherited)
    else:
        listening = listening_socket(bind, "management.bind", inherited=inherited)
    return ManagementService(listening, checks, keyvals, metrics, gate)
