"""The configuration file, read again while the daemon runs: all of it takes effect, or nothing.

What runs goes on under what it has begun with. What cannot change in a running process (see
:data:`gatekeeper.config.changes.RELOADED`) stays as it is, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gatekeeper.auth.token_cache import TokenCacheError
from gatekeeper.changing import Change
from gatekeeper.checkers import NewCheckers
from gatekeeper.config.changes import as_far_as_possible
from gatekeeper.config.model import Settings
from gatekeeper.core import Core
from gatekeeper.demo import prepare as let_demo_in
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.management.wiring import read_definitions
from gatekeeper.wiring import Wiring

log = Logger()

T = TypeVar("T")


class Workers(Protocol):
    """See :class:`gatekeeper.process.workers.Workers`."""

    async def prepare(self, settings: Settings, change: Change) -> None:
        """Have every one make ready for other settings.

        :raises ConfigurationError: one of them cannot take them; nothing has changed.
        """

    def commit(self) -> None:
        """Let it take effect; to be called right after that was done here."""

    def cancel(self) -> None:
        """Leave everything as it is."""


class Reloading:
    """Reloads, one at a time.

    :param read: reads and validates the configuration file.
    :param workers: other processes, for which the same is to hold.
    """

    def __init__(
        self,
        core: Core,
        wiring: Wiring,
        read: Callable[[], Settings],
        workers: Workers | None = None,
    ) -> None:
        self._core = core
        self._workers = workers
        self._wiring = wiring
        self._read = read
        self._lock = DeferredLock()

    def reload(self) -> Deferred[Sequence[str]]:
        """Let the configuration file take effect as it is now.

        Fires with the keys whose new values need a restart; that is in the log, too.

        :raises ConfigurationError: with everything that is wrong; nothing has changed. That is in
            the log, too.
        """
        return self.alone(self._reload)

    def alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Do something during which nothing is reloaded."""
        return self._lock.run(lambda: Deferred.fromCoroutine(work()))

    async def _reload(self) -> Sequence[str]:
        try:
            keys = await self._exchange()
        except ConfigurationError as error:
            log.error(
                "The configuration is not reloaded, nothing has changed:\n{problems}",
                problems=str(error),
            )
            raise
        log.info("The configuration is reloaded")
        if keys:
            log.warn("Needs a restart: {keys}", keys=", ".join(keys))
        return keys

    async def _exchange(self) -> Sequence[str]:
        core = self._core
        if core.plane.draining:
            raise ConfigurationError([Problem("", "the daemon is stopping")])
        settings, keys = as_far_as_possible(core.settings, self._read())
        settings = let_demo_in(settings, lambda line: None, create=False)
        definitions = read_definitions(settings)
        checkers = core.checkers.prepare(settings)
        try:
            await checkers.start()
            if self._workers is None:
                Change(core, settings, checkers).commit()
            else:
                await self._change_all(self._workers, settings, checkers)
        except TokenCacheError as error:
            checkers.cancel()
            raise ConfigurationError([Problem("checkers", str(error))]) from error
        except BaseException:
            checkers.cancel()
            raise
        self._wiring.reconfigured(definitions)
        return keys

    async def _change_all(
        self, workers: Workers, settings: Settings, checkers: NewCheckers
    ) -> None:
        core = self._core

        async def change_all() -> None:
            change = Change(core, settings, checkers)
            try:
                await workers.prepare(settings, change)
            except BaseException:
                change.cancel()
                workers.cancel()
                raise
            change.commit()
            workers.commit()

        # A stored service that came in between would not be in what was prepared.
        await core.state.undisturbed(change_all)
