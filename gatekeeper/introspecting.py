"""The introspection listeners of a running daemon, which other settings may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from socket import socket
from typing import NamedTuple

from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.revoked import Revoked
from gatekeeper.config.model import Settings
from gatekeeper.config.model_listeners import Listener
from gatekeeper.errors import ConfigurationError
from gatekeeper.listening import Open, open_socket
from gatekeeper.management.introspection_service import IntrospectionService
from gatekeeper.net.destinations import OwnAddresses
from gatekeeper.net.inherited import NOTHING, Inherited


class Answering(NamedTuple):
    """A listener that answers, or will, and what it was made of."""

    settings: Listener
    checkers: tuple[IChecker, ...]
    service: IntrospectionService

    @property
    def socket(self) -> socket:
        """It listens."""
        return self.service.socket


class Introspecting:
    """All of them. ``services`` stays the same list.

    :param own: is told what we listen on.
    :param inherited: sockets that listened before we began.
    """

    def __init__(
        self,
        cache: VerdictCache,
        revoked: Revoked,
        own: OwnAddresses,
        inherited: Inherited = NOTHING,
    ) -> None:
        self.services: list[IntrospectionService] = []
        self._cache = cache
        self._revoked = revoked
        self._own = own
        self._inherited = inherited
        self.answering: dict[str, Answering] = {}

    def sockets(self) -> Iterator[tuple[str, socket]]:
        """All that listen, with their addresses as the configuration has them."""
        for answering in self.answering.values():
            yield answering.settings.bind, answering.socket

    def prepare(
        self,
        settings: Settings,
        checkers: Mapping[str, IChecker],
        others: Iterable[Open],
        problems: list[ConfigurationError],
    ) -> dict[str, Answering]:
        """Make what there is to be, by name; what has not changed stays.

        ``others`` listen, and will not any more. What cannot be opened is added to ``problems``.
        """
        wanted = {}
        for number, listener in enumerate(settings.listeners):
            if listener.role != "introspection":
                continue
            names = (*(listener.checkers or ()), *(listener.callers or ()))
            asked = tuple(checkers[name] for name in names)
            known = self.answering.get(listener.name)
            if known is None or (known.settings, known.checkers) != (listener, asked):
                try:
                    listening = open_socket(listener, others, self._inherited)
                except ConfigurationError as error:
                    problems.append(error.inside(f"listeners[{number}]"))
                    continue
                service = IntrospectionService(
                    listening, listener, checkers, self._cache, self._revoked
                )
                known = Answering(listener, asked, service)
            wanted[listener.name] = known
        return wanted

    def discard(self, wanted: Mapping[str, Answering]) -> None:
        """What was prepared does not come."""
        for name, each in wanted.items():
            if self.answering.get(name) is not each:
                each.socket.close()

    def commit(self, wanted: Mapping[str, Answering], *, start: bool = True) -> None:
        """Let this be what there is; questions that have been asked are answered."""
        before, self.answering = self.answering, dict(wanted)
        self.services[:] = [each.service for each in wanted.values()]
        for name, each in wanted.items():
            if before.get(name) is not each:
                self._own.add(each.service.address)
                if start:
                    each.service.startService()
        for name, each in before.items():
            if wanted.get(name) is not each:
                self._own.remove(each.service.address)
                each.service.stopService()
