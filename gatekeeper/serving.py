"""Listeners and services while the daemon runs: those of the configuration, and stored ones.

A stored service may have addresses of its own: they are opened with it, and closed when no service
has them any more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from twisted.logger import Logger

from gatekeeper.assembly import Assembly, speaks_http2
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import make_url_checker
from gatekeeper.config import model
from gatekeeper.config.checkers import CheckerTypes
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.net.binding import listening_socket
from gatekeeper.net.destinations import OwnAddresses
from gatekeeper.net.listeners import BACKLOG, Connections, Listener
from gatekeeper.net.tls import ServerTLS
from gatekeeper.plane import Plane
from gatekeeper.store.state import StoredService
from gatekeeper.stored_services import Plan, Planner

log = Logger()

#: Seconds after which services that could not be served are tried again.
_RETRY: Final = 5.0


class Bound(NamedTuple):
    """A listener's socket, which listens already, and its certificates."""

    listener: model.Listener
    socket: socket.socket
    tls: ServerTLS | None


def bind(listener: model.Listener, state_dir: Path) -> Bound:
    """Listen on a listener's address.

    :raises ConfigurationError: paths are the listener's: ``bind``, ``tls.certificate``.
    """
    tls = _tls(listener, state_dir)
    return Bound(listener, listening_socket(listener.bind, "bind", BACKLOG), tls)


def _tls(listener: model.Listener, state_dir: Path) -> ServerTLS | None:
    if listener.tls is None:
        return None
    http2 = speaks_http2(listener)
    return ServerTLS(listener.tls, state_dir, listener.name, http2=http2)


class Prepared:
    """Addresses that are bound for services to come."""

    def __init__(self) -> None:
        self.bound: dict[str, Bound] = {}

    def cancel(self) -> None:
        """They do not come: close the sockets."""
        while self.bound:
            self.bound.popitem()[1].socket.close()


class Serving:
    """Everything that is served.

    ``listeners`` are those that accept connections, or will. ``checkers`` are all that there are,
    by name or URL; those that only a stored service names are added, and stay.

    :param own: is told what we listen on.
    """

    def __init__(
        self,
        settings: Settings,
        types: CheckerTypes,
        checkers: MutableMapping[str, IChecker],
        assembly: Assembly,
        plane: Plane,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        own: OwnAddresses,
    ) -> None:
        self._settings = settings
        self._planner = Planner(settings, types)
        self._checkers = checkers
        self._assembly = assembly
        self._plane = plane
        self._connections = connections
        self._loop = loop
        self._own = own
        self.listeners: list[Listener] = []
        #: The stored services that are not served, and why.
        self.problems: Mapping[str, Sequence[Problem]] = {}
        self._stored: Mapping[str, StoredService] = {}
        self._dynamic: dict[str, tuple[model.Listener, Listener]] = {}
        self._prepared = _NOTHING
        self._starting: dict[Listener, asyncio.Future[None]] = {}
        self._retry_at = 0.0
        self._stopped = False

    # --- listeners ------------------------------------------------------------------------

    def add(self, bound: Bound) -> Listener:
        """Put a door behind an address. Nothing is accepted before it is started."""
        door = self._assembly.door(bound.listener)
        listener = Listener(
            bound.socket,
            door,
            self._plane,
            self._connections,
            bound.tls,
            speaks_http2(bound.listener),
        )
        self.listeners.append(listener)
        self._own.add(listener.address)
        return listener

    async def start(self, listener: Listener) -> None:
        """Accept connections."""
        await listener.start(self._loop)
        log.info(
            "{role} {name} listens on {address}",
            role="Forward proxy" if listener.door.is_proxy else "Gateway",
            name=listener.door.name,
            address=f"{listener.address[0]}:{listener.address[1]}",
        )

    def stop(self) -> None:
        """Accept nothing any more, anywhere."""
        self._stopped = True
        for listener in self.listeners:
            self._stop(listener)

    def reload(self) -> None:
        """Read changed certificates and access rules, and try again what could not be served."""
        self._assembly.reload()
        for listener in self.listeners:
            if listener.tls is not None:
                listener.tls.reload_if_changed()
        if self.problems and self._loop.time() >= self._retry_at:
            self.apply(self._stored)

    # --- stored services ------------------------------------------------------------------

    def check(self, service: StoredService) -> None:
        """Look whether a service could be served beside, or in place of, what there is.

        :raises ConfigurationError: it could not; the paths are its fields.
        """
        self._prepare({**self._stored, service.name: service}).cancel()

    def prepare(self, services: Mapping[str, StoredService]) -> Prepared:
        """Make ready for these stored services, so that :meth:`apply` cannot fail for a new one.

        :raises ConfigurationError: one that is new or has changed cannot be served; the paths are
            its fields. Nothing is left open then.
        """
        self._prepared = self._prepare(services)
        return self._prepared

    def _prepare(self, services: Mapping[str, StoredService]) -> Prepared:
        same = {n: each for n, each in services.items() if self._stored.get(n) == each}
        changed = [each for name, each in services.items() if name not in same]
        plan = self._planner.plan([*same.values(), *changed])
        problems = [problem for each in changed for problem in plan.problems.get(each.name, ())]
        if problems:
            raise ConfigurationError(problems)
        prepared = Prepared()
        try:
            for name, (listener, understood) in plan.listeners.items():
                if not self._is_open(name):
                    try:
                        prepared.bound[name] = self._bind(listener)
                    except ConfigurationError as error:
                        if any(listener in plan.services[each.name].listeners for each in changed):
                            problems += understood.told(error.problems)
            for each in changed:
                problems += self._unusable(plan, each.name)
            if problems:
                raise ConfigurationError(problems)
        except BaseException:
            prepared.cancel()
            raise
        return prepared

    def apply(self, services: Mapping[str, StoredService]) -> None:
        """Serve these stored services from now on, beside those of the configuration.

        Those that cannot be served are left out and logged; see :attr:`problems`.
        """
        if self._stopped:
            return
        prepared, self._prepared = self._prepared, _NOTHING
        self._stored = services
        in_order = sorted(services.values(), key=lambda each: (each.created, each.name))
        plan = self._planner.plan(in_order)
        for name in list(plan.services):
            if problems := self._unusable(plan, name):
                plan.drop(name, problems)
        opened = self._open(plan, prepared)
        prepared.cancel()
        self._assembly.serve(
            [*self._settings.services, *(each.service for each in plan.services.values())]
        )
        self._close_unused(plan)
        for bound in opened:
            listener = self.add(bound)
            self._dynamic[bound.listener.name] = bound.listener, listener
            starting = asyncio.ensure_future(self.start(listener), loop=self._loop)
            self._starting[listener] = starting
            starting.add_done_callback(partial(self._started, listener))
        self._tell(plan)

    def _unusable(self, plan: Plan, name: str) -> Sequence[Problem]:
        """What shows only when it is made."""
        understood = plan.services.get(name)
        if understood is None:
            return ()
        try:
            for i, checker in enumerate(understood.service.checkers):
                if checker not in self._checkers:
                    path = f"checkers[{i}]"
                    self._checkers[checker] = make_url_checker(checker)
            path = ""
            self._assembly.check(understood.service)
        except ConfigurationError as error:
            found = [Problem(path or each.path, each.message) for each in error.problems]
            return understood.told(found)
        return ()

    def _is_open(self, name: str) -> bool:
        return name in self._dynamic or any(each.name == name for each in self._settings.listeners)

    def _bind(self, listener: model.Listener) -> Bound:
        """Bind, with paths that tell the listener.

        :raises ConfigurationError: it cannot be.
        """
        try:
            return bind(listener, self._settings.state_dir)
        except ConfigurationError as error:
            raise ConfigurationError(
                Problem(f"{listener.name}.{path}", message) for path, message in error.problems
            ) from None

    def _open(self, plan: Plan, prepared: Prepared) -> list[Bound]:
        """Bind what is not bound yet; services whose address cannot be bound are left out."""
        opened = []
        for name, (listener, _) in plan.listeners.items():
            if name in self._dynamic and self._dynamic[name][0] != listener:
                self._close(name)  # It comes back with other certificates.
            if self._is_open(name):
                continue
            bound = prepared.bound.pop(name, None)
            if bound is not None and bound.listener != listener:
                bound.socket.close()
                bound = None
            try:
                opened.append(bound or self._bind(listener))
            except ConfigurationError as error:
                for service in [
                    service for service, each in plan.services.items() if listener in each.listeners
                ]:
                    plan.drop(service, error.problems)
        return opened

    def _close_unused(self, plan: Plan) -> None:
        wanted = plan.listeners
        for name in [name for name in self._dynamic if name not in wanted]:
            self._close(name)

    def _close(self, name: str) -> None:
        """Accept nothing more; what runs may end, and then its connection does."""
        _, listener = self._dynamic.pop(name)
        self._stop(listener)
        self.listeners.remove(listener)
        self._own.remove(listener.address)
        self._assembly.forget(name)
        for connection in list(self._connections.open):
            if connection.door is listener.door:
                connection.close()
        log.info("Gateway {name} is closed", name=name)

    def _stop(self, listener: Listener) -> None:
        starting = self._starting.pop(listener, None)
        if starting is not None:
            starting.cancel()
        listener.stop()

    def _started(self, listener: Listener, starting: asyncio.Future[None]) -> None:
        self._starting.pop(listener, None)
        if not starting.cancelled() and (error := starting.exception()) is not None:
            log.error("{listener} cannot accept: {error}", listener=repr(listener), error=error)

    def _tell(self, plan: Plan) -> None:
        for name, problems in plan.problems.items():
            if self.problems.get(name) != problems:
                what = "; ".join(map(str, problems))
                log.error("Service {name} is not served: {what}", name=name, what=what)
        self.problems = plan.problems
        self._retry_at = self._loop.time() + _RETRY


_NOTHING: Final = Prepared()
