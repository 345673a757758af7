"""Token caches that the supervisor keeps, for all of its workers.

A worker asks over its :class:`.Link`, and is told of each revocation in any of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.token_cache import ITokenCache, TokenCacheError
from gatekeeper.process.link import Handler, Link, LinkError

log = Logger()

_METHODS: Final = frozenset({"get", "add", "replace", "revoke", "delete", "clear", "items"})


@implementer(ITokenCache)
class WorkerZone:
    """A zone that the supervisor has, as a worker sees it. What is in it is counted there."""

    caught_up = True
    outages = 0
    tokens = 0
    revocations = 0

    def __init__(
        self, zone: str, ttl: float, link: Link, closed: Callable[[WorkerZone], object]
    ) -> None:
        self.ttl = ttl
        self._closed: Callable[[WorkerZone], object] | None = closed
        self._zone = zone
        self._link = link
        self._listeners: list[Callable[[str], None]] = []

    def __repr__(self) -> str:
        return f"<WorkerZone {self._zone}>"

    def start(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return succeed(None)  # the supervisor's was started before there were workers

    def close(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(self)
        return succeed(None)

    def get(self, key: str) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        return self._ask("get", key)

    def add(self, key: str, value: str, ttl: float | None = None) -> Deferred[str | None]:
        """See :class:`ITokenCache`."""
        return self._ask("add", key, value, ttl)

    def replace(self, key: str, value: str, ttl: float | None = None) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        return self._ask("replace", key, value, ttl)

    def revoke(self, key: str, ttl: float | None = None) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return self._ask("revoke", key, ttl)

    def delete(self, key: str) -> Deferred[bool]:
        """See :class:`ITokenCache`."""
        return self._ask("delete", key)

    def clear(self) -> Deferred[None]:
        """See :class:`ITokenCache`."""
        return self._ask("clear")

    def items(self) -> Deferred[Mapping[str, str]]:
        """See :class:`ITokenCache`."""
        return self._ask("items")

    def subscribe(self, revoked: Callable[[str], None]) -> Callable[[], None]:
        """See :class:`ITokenCache`."""
        self._listeners.append(revoked)
        return lambda: self._listeners.remove(revoked)

    def tell(self, key: str) -> None:
        """An entry is revoked, wherever that was done."""
        for listener in tuple(self._listeners):
            try:
                listener(key)
            except Exception:
                log.failure("A revocation did not take effect everywhere")

    def _ask(self, method: str, *arguments: Any) -> Deferred[Any]:
        return self._link.ask("zone", self._zone, method, *arguments).addErrback(_failed)


def _failed(failure: Failure) -> None:
    failure.trap(LinkError)
    raise TokenCacheError(failure.getErrorMessage()) from failure.value


class WorkerZones:
    """All zones of a worker. Where there is a new one of a name, both hear what is revoked."""

    def __init__(self) -> None:
        self._zones: dict[str, list[WorkerZone]] = {}

    def make(self, zone: str, ttl: float, link: Link) -> WorkerZone:
        """One more, until it is closed."""
        zones = self._zones.setdefault(zone, [])
        made = WorkerZone(zone, ttl, link, zones.remove)
        zones.append(made)
        return made

    def revoked(self, zone: str, key: str) -> None:
        """The supervisor says so."""
        for each in tuple(self._zones.get(zone, ())):
            each.tell(key)


class ZoneDesk:
    """Answers workers. ``zones`` are the supervisor's own, by name; what is in it may change.

    :param workers: gives the links to all that there are.
    """

    def __init__(
        self, zones: Mapping[str, ITokenCache], workers: Callable[[], Iterable[Link]]
    ) -> None:
        self._zones = zones
        self._workers = workers
        self._heard: dict[str, ITokenCache] = {}
        self.handlers: Mapping[str, Handler] = {"zone": self._answer}

    def listen(self) -> None:
        """Pass on what is revoked; to be called again when there are other zones."""
        for name, zone in self._zones.items():
            if self._heard.get(name) is not zone:
                self._heard[name] = zone
                zone.subscribe(partial(self._tell, name))

    def _tell(self, zone: str, key: str) -> None:
        for link in self._workers():
            link.tell("revoked", zone, key)

    def _answer(self, zone: str, method: str, *arguments: Any) -> Deferred[Any]:
        if zone not in self._zones or method not in _METHODS:
            raise TokenCacheError(f"there is no zone {zone}")
        answer: Deferred[Any] = getattr(self._zones[zone], method)(*arguments)
        return answer.addCallback(lambda found: dict(found) if method == "items" else found)
