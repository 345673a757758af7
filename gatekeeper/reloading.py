"""The configuration file, read again while the daemon runs: all of it takes effect, or nothing.

What runs goes on under what it has begun with. What cannot change in a running process (see
:data:`gatekeeper.config.changes.RELOADED`) stays as it is, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gatekeeper.assembly import Prospect, is_door
from gatekeeper.auth.token_cache import TokenCacheError
from gatekeeper.checkers import NewCheckers
from gatekeeper.config.changes import as_far_as_possible
from gatekeeper.config.model import Listener, Settings
from gatekeeper.core import Core, raise_all
from gatekeeper.demo import prepare as let_demo_in
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.listening import Bound, Open, Opened
from gatekeeper.management.wiring import read_definitions
from gatekeeper.wiring import Wiring

log = Logger()

T = TypeVar("T")


class Reloading:
    """Reloads, one at a time.

    :param read: reads and validates the configuration file.
    """

    def __init__(self, core: Core, wiring: Wiring, read: Callable[[], Settings]) -> None:
        self._core = core
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
            change = Change(core, settings, checkers)
        except TokenCacheError as error:
            checkers.cancel()
            raise ConfigurationError([Problem("checkers", str(error))]) from error
        except BaseException:
            checkers.cancel()
            raise
        change.commit()
        self._wiring.reconfigured(definitions)
        return keys


class Change:
    """From the settings of a core to others. Making it changes nothing, :meth:`commit` all at once.

    :raises ConfigurationError: everything that cannot be used; nothing is left open.
    """

    def __init__(self, core: Core, settings: Settings, checkers: NewCheckers) -> None:
        self._core = core
        self._settings = settings
        self._checkers = checkers
        problems: list[ConfigurationError] = []
        prospect: Prospect | None = None
        try:
            prospect = core.assembly.prospect(settings, checkers.by_name)
        except ConfigurationError as error:
            problems.append(error)
        self._bound = self._bind(problems)
        others = self._open_now()
        introspecting = core.introspecting.prepare(settings, checkers.by_name, others, problems)
        if prospect is None or problems:
            for bound in self._bound:
                bound.cancel()
            core.introspecting.discard(introspecting)
            if prospect is not None:
                core.assembly.discard(prospect)
            raise_all(problems)
        assert prospect is not None
        self._prospect = prospect
        self._introspecting = introspecting

    def _open_now(self) -> list[Open]:
        core = self._core
        return [*core.listening.opened.values(), *core.introspecting.answering.values()]

    def _bind(self, problems: list[ConfigurationError]) -> list[Bound]:
        """Bind what is new, or has to be opened anew."""
        bound = []
        for number, listener in enumerate(self._settings.listeners):
            opened = self._core.listening.opened.get(listener.name)
            if not is_door(listener) or (opened is not None and _may_stay(opened, listener)):
                continue
            try:
                bound.append(self._core.listening.bind(listener, self._open_now()))
            except ConfigurationError as error:
                problems.append(error.inside(f"listeners[{number}]"))
        return bound

    def commit(self) -> None:
        """Let everything take effect, in this turn of the loop."""
        core, settings = self._core, self._settings
        wanted = {each.name: each for each in settings.listeners if is_door(each)}
        anew = {each.listener.name for each in self._bound}
        configured = {each.name for each in core.settings.listeners if is_door(each)}
        core.settings = settings
        core.plane.reconfigure(settings.limits, settings.timeouts)
        core.connections.limits = settings.limits
        core.resolver.timeout = settings.timeouts.connect
        core.checkers.commit(self._checkers)
        core.assembly.adopt(self._prospect, core.checkers.by_name)
        for name, opened in list(core.listening.opened.items()):
            listener = wanted.get(name)
            if listener is not None and name not in anew:
                core.assembly.adjust(listener)
                core.listening.opened[name] = Opened(listener, opened.listener)
            elif listener is not None:
                keeps_door = _speaks_alike(opened.settings, listener)
                core.listening.leave(name, keeps_door=keeps_door)
            elif name in configured:
                core.listening.leave(name)
        opened_now = [core.listening.open(bound) for bound in self._bound]
        core.serving.reconfigure(settings)
        for opening in opened_now:
            core.listening.begin(opening)
        core.introspecting.commit(self._introspecting)
        core.checkers.keep(core.chains())


def _may_stay(opened: Opened, wanted: Listener) -> bool:
    """Whether a listener can go on accepting as it does: only its door has to know."""
    return (opened.settings.bind, opened.settings.tls, opened.settings.http2) == (
        wanted.bind,
        wanted.tls,
        wanted.http2,
    ) and _speaks_alike(opened.settings, wanted)


def _speaks_alike(there: Listener, wanted: Listener) -> bool:
    """Whether who is connected to the one may go on as if it were the other."""
    return there.role == wanted.role and (there.tls is None) == (wanted.tls is None)
