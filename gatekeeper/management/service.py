"""The management listener as a service. Does not import the reactor before it starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from gatekeeper.management.health import Check, Readiness
from gatekeeper.management.site import SiteService
from gatekeeper.net.binding import listening_socket

if TYPE_CHECKING:
    from gatekeeper.management.keyvals import Keyvals
    from gatekeeper.management.metrics import MetricsPage


class ManagementService(SiteService):
    """Answers operators and their machines."""

    def __init__(
        self,
        listening: socket.socket,
        checks: Mapping[str, Check],
        keyvals: Keyvals | None,
        metrics: MetricsPage | None,
    ) -> None:
        super().__init__("management", listening, self._root)
        self._readiness = Readiness(checks)
        self._keyvals = keyvals
        self._metrics = metrics

    def drain(self) -> None:
        """From now on the daemon is not ready for new work."""
        self._readiness.draining = True

    def _root(self, clock: IReactorTime) -> IResource:
        from gatekeeper.management.api import ManagementAPI

        return ManagementAPI(self._readiness, clock, self._keyvals, self._metrics).resource()


def management_service(
    bind: str,
    checks: Mapping[str, Check],
    keyvals: Keyvals | None = None,
    metrics: MetricsPage | None = None,
) -> ManagementService:
    """The service, listening on ``bind`` already; requests are answered when it starts.

    ``checks`` are the readiness checks by name, ``keyvals`` the token caches to be shown,
    ``metrics`` what is counted.

    :raises ConfigurationError: with the path ``management.bind``; the port is taken.
    """
    listening = listening_socket(bind, "management.bind")
    return ManagementService(listening, checks, keyvals, metrics)
