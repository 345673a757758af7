"""From the settings of a core to others, while it serves requests."""

from __future__ import annotations

from socket import socket

from gatekeeper.assembly import Prospect, is_door
from gatekeeper.checkers import NewCheckers
from gatekeeper.config.model import Settings
from gatekeeper.config.model_listeners import Listener
from gatekeeper.core import Core, raise_all
from gatekeeper.errors import ConfigurationError
from gatekeeper.listening import Bound, Open, Opened


class Change:
    """From the settings of a core to others. Making it changes nothing, :meth:`commit` all at once.

    One that is made is either committed or cancelled.

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

    @property
    def sockets(self) -> list[tuple[str, socket]]:
        """Those of gateways and forward proxies that are to be opened, by their addresses."""
        return [(bound.listener.bind, bound.socket) for bound in self._bound]

    @property
    def introspecting(self) -> list[tuple[str, int]]:
        """Where questions about tokens are to be answered: IP addresses and ports."""
        return [each.service.address for each in self._introspecting.values()]

    def cancel(self) -> None:
        """Leave everything as it is."""
        for bound in self._bound:
            bound.cancel()
        self._core.introspecting.discard(self._introspecting)
        self._core.assembly.discard(self._prospect)
        self._checkers.cancel()

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
