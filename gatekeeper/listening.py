"""The gateways and forward proxies: which addresses are open, and what is behind them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from twisted.logger import Logger

from gatekeeper.assembly import Assembly, speaks_http2
from gatekeeper.config import model_listeners as model
from gatekeeper.net.binding import listening_socket
from gatekeeper.net.destinations import OwnAddresses
from gatekeeper.net.inherited import NOTHING, Inherited, where
from gatekeeper.net.listeners import BACKLOG, Connections, Listener
from gatekeeper.net.tls import ServerTLS
from gatekeeper.plane import Plane

log = Logger()


class Bound(NamedTuple):
    """A listener's socket, which listens already, and its certificates."""

    listener: model.Listener
    socket: socket.socket
    tls: ServerTLS | None

    def cancel(self) -> None:
        """It does not come."""
        self.socket.close()


class Opened(NamedTuple):
    """A listener that is open, and what it was opened for."""

    settings: model.Listener
    listener: Listener

    @property
    def socket(self) -> socket.socket:
        """It listens."""
        return self.listener.socket


class Open(Protocol):
    """What listens already, and for which settings."""

    @property
    def settings(self) -> model.Listener:
        """Its settings."""

    @property
    def socket(self) -> socket.socket:
        """Its socket."""


def open_socket(
    settings: model.Listener, others: Iterable[Open] = (), inherited: Inherited = NOTHING
) -> socket.socket:
    """Listen on a listener's address; what comes waits until somebody accepts it.

    The socket of one of ``others`` is shared, if it has the address: nobody is turned away between
    the one and the next.

    :raises ConfigurationError: with the path ``bind``.
    """
    for other in others:
        if _is_at(other.settings, settings):
            return other.socket.dup()
    return listening_socket(settings.bind, "bind", BACKLOG, inherited)


class Listening:
    """All that are open, by name: see :attr:`opened`.

    ``listeners`` are the same as a list, which stays the same object.

    :param own: is told what we listen on.
    :param inherited: sockets that listened before we began.
    :param accepts: whether connections are accepted here; else that is for others to do, who have
        the same sockets.
    """

    def __init__(
        self,
        state_dir: Path,
        assembly: Assembly,
        plane: Plane,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        own: OwnAddresses,
        inherited: Inherited = NOTHING,
        *,
        accepts: bool = True,
    ) -> None:
        self._accepts = accepts
        self._state_dir = state_dir
        self._assembly = assembly
        self._plane = plane
        self._connections = connections
        self._loop = loop
        self._own = own
        self._inherited = inherited
        self.opened: dict[str, Opened] = {}
        self.listeners: list[Listener] = []
        self._leaving: list[Opened] = []
        self._starting: dict[Listener, asyncio.Future[None]] = {}

    # --- opening --------------------------------------------------------------------------

    def bind(self, settings: model.Listener, others: Iterable[Open] = ()) -> Bound:
        """Get ready to open a listener, perhaps in place of others; see :func:`open_socket`.

        :raises ConfigurationError: paths are the listener's: ``bind``, ``tls.certificate``.
        """
        tls = None
        if settings.tls is not None:
            http2 = speaks_http2(settings)
            tls = ServerTLS(settings.tls, self._state_dir, settings.name, http2=http2)
        others = (*others, *self._leaving)
        return Bound(settings, open_socket(settings, others, self._inherited), tls)

    def open(self, bound: Bound) -> Listener:
        """Put a door behind an address. Nothing is accepted before it is started."""
        settings = bound.listener
        door = self._assembly.door(settings)
        listener = Listener(
            bound.socket, door, self._plane, self._connections, bound.tls, speaks_http2(settings)
        )
        self.listeners.append(listener)
        self.opened[settings.name] = Opened(settings, listener)
        self._own.add(listener.address)
        return listener

    async def start(self, listener: Listener) -> None:
        """Accept connections."""
        if not self._accepts:
            return
        await listener.start(self._loop)
        log.info(
            "{role} {name} listens on {address}",
            role=_role(listener),
            name=listener.door.name,
            address=f"{listener.address[0]}:{listener.address[1]}",
        )

    async def take(self, connection: socket.socket, address: tuple[str, int]) -> None:
        """Serve a connection that was accepted elsewhere at one of our addresses."""
        for listener in self.listeners:
            if listener.address == address:
                await listener.take(self._loop, connection)
                return
        connection.close()

    def begin(self, listener: Listener) -> None:
        """Start it in the background."""
        starting = asyncio.ensure_future(self.start(listener), loop=self._loop)
        self._starting[listener] = starting
        starting.add_done_callback(partial(self._started, listener))

    def _started(self, listener: Listener, starting: asyncio.Future[None]) -> None:
        self._starting.pop(listener, None)
        if not starting.cancelled() and (error := starting.exception()) is not None:
            log.error("{listener} cannot accept: {error}", listener=repr(listener), error=error)

    def sockets(self) -> Iterator[tuple[str, socket.socket]]:
        """All that listen, with their addresses as the configuration has them."""
        for opened in self.opened.values():
            yield opened.settings.bind, opened.socket

    # --- closing --------------------------------------------------------------------------

    def leave(self, name: str, *, keeps_door: bool = False) -> None:
        """Let a listener go: its name is free, and its address for who comes in its place.

        It is closed by :meth:`close_leaving`, to be called in the same turn of the loop.
        ``keeps_door``: who comes in its place has the same door, with all who came in through it.
        """
        opened = self.opened.pop(name)
        self._leaving.append(opened)
        self.listeners.remove(opened.listener)
        self._own.remove(opened.listener.address)
        if not keeps_door:
            self._assembly.forget(name)
            self._connections.wind_down(opened.listener.door)

    def close_leaving(self) -> None:
        """Accept nothing more where somebody leaves; what is connected may finish."""
        while self._leaving:
            settings, listener = self._leaving.pop()
            self._stop(listener)
            if all(each.door is not listener.door for each in self.listeners):
                log.info("{role} {name} is closed", role=_role(listener), name=settings.name)

    def stop(self) -> None:
        """Accept nothing any more, anywhere."""
        for listener in self.listeners:
            self._stop(listener)

    def _stop(self, listener: Listener) -> None:
        starting = self._starting.pop(listener, None)
        if starting is not None:
            starting.cancel()
        listener.stop()

    # --- certificates ---------------------------------------------------------------------

    def reload(self) -> None:
        """Read changed certificates."""
        for listener in self.listeners:
            if listener.tls is not None:
                listener.tls.reload_if_changed()


def _role(listener: Listener) -> str:
    return "Forward proxy" if listener.door.is_proxy else "Gateway"


def _is_at(there: model.Listener, wanted: model.Listener) -> bool:
    """Whether a listener has the address that another one wants."""
    address = where(there.bind)
    # Port 0 is any: such an address is the same for the same listener only.
    return address == where(wanted.bind) and (address[1] != 0 or there.name == wanted.name)
