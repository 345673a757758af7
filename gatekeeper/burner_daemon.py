"""The burner in a process of its own: the store, the burner, and where it tells how it fares."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper import __version__
from gatekeeper.config.model import Settings
from gatekeeper.credits.burn_terms import Seam, ignore
from gatekeeper.credits.burner_service import BurnerService
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.files import make_state_dir
from gatekeeper.management.metrics import MetricsPage
from gatekeeper.management.service import ManagementService, management_service
from gatekeeper.metrics.burner import BurnerCollector
from gatekeeper.metrics.registry import make_registry
from gatekeeper.process.reactor import stopped_well
from gatekeeper.store.opening import make_store, open_store

log = Logger()


class BurnerDaemon(Service):
    """Everything, put together from the settings; its port is bound when it is made.

    ``taken`` are the variables of the environment that took part in the settings.

    :raises ConfigurationError: what cannot be used.
    """

    name = "gatekeeper-burner"

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        taken: Sequence[str] = (),
        reached: Callable[[Seam], object] = ignore,
    ) -> None:
        self._reactor = reactor
        self._taken = tuple(taken)
        make_state_dir(settings.state_dir)
        self._store = make_store(settings.store, reactor)
        self._burner = BurnerService(
            settings.burner,
            settings.credits,
            self._store,
            reactor,
            self._give_up,
            reached=reached,
        )
        self._page = self._bind(settings.burner.metrics)
        self._opened: Deferred[None] = succeed(None)
        self._stopping = False

    def _bind(self, bind: str | None) -> ManagementService | None:
        if bind is None:
            return None
        registry = make_registry()
        registry.register(BurnerCollector(self._burner.report, self._reactor))
        try:
            return management_service(
                bind, {"burner": self._burner.problem}, metrics=MetricsPage(registry, None)
            )
        except ConfigurationError as error:
            raise ConfigurationError(
                Problem("burner.metrics", problem.message) for problem in error.problems
            ) from None

    def startService(self) -> None:
        """Begin, as soon as the reactor runs."""
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self._taken:
            log.info("From the environment: {names}", names=", ".join(self._taken))
        self._opened = ensureDeferred(self._open()).addErrback(self._give_up)

    async def _open(self) -> None:
        if self._page is not None:
            self._page.startService()
        if await open_store(self._store, self._reactor, lambda: self._stopping):
            self._burner.startService()
            log.info("gatekeeper-burner {version} is ready", version=__version__)

    def _give_up(self, failure: Failure) -> None:
        """It cannot run: end with a status that is not 0."""
        if failure.check(ConfigurationError):
            log.critical("Cannot start: {problem}", problem=failure.getErrorMessage())
        else:
            log.failure("Cannot start", failure)
        atexit.register(os._exit, 1)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Finish what is under way, close."""
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._burner.running:
            await self._burner.stopService()
        await self._store.close()
        if self._page is not None and self._page.running:
            await self._page.stopService()
        log.info("gatekeeper-burner has stopped")
        stopped_well(self._reactor)
