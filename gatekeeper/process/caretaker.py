"""Connections that come for a worker that is not there: others serve them.

The kernel spreads connections over the sockets of all workers, and knows nothing of their deaths.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from gatekeeper.process.link import Link
from gatekeeper.process.sockets import Listens

#: Seconds until another try where no worker is there, or no connection can be accepted.
_PAUSE: Final = 0.2

#: Connections that are accepted at a time.
_MOST: Final = 64


class Caretaker:
    """Accepts connections in place of one worker, and gives them to ``others`` in turn."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, others: Callable[[], Sequence[Link]]
    ) -> None:
        self._loop = loop
        self._others = others
        self._watched: dict[Any, socket.socket] = {}
        self._pauses: dict[Any, asyncio.TimerHandle] = {}
        self._turn = 0

    def watch(self, sockets: Iterable[Listens]) -> None:
        """These are the worker's sockets from now on. With none, it has an end."""
        wanted = {listening.getsockname(): listening for _, listening in sockets}
        for address in self._watched.keys() - wanted.keys():
            self._pause(address)
            self._pauses.pop(address).cancel()
            self._watched.pop(address).close()
        for address in wanted.keys() - self._watched.keys():
            self._watched[address] = wanted[address].dup()
            self._resume(address)

    def _resume(self, address: Any) -> None:
        self._pauses.pop(address, None)
        self._loop.add_reader(self._watched[address].fileno(), self._accept, address)

    def _pause(self, address: Any) -> None:
        if address not in self._pauses:
            self._loop.remove_reader(self._watched[address].fileno())
            self._pauses[address] = self._loop.call_later(_PAUSE, self._resume, address)

    def _accept(self, address: Any) -> None:
        for _ in range(_MOST):
            others = self._others()
            if not others:
                self._pause(address)
                return
            try:
                connection, _ = self._watched[address].accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # there are too many files, perhaps
                self._pause(address)
                return
            self._turn += 1
            with connection:
                link = others[self._turn % len(others)]
                link.tell("connection", *address[:2], carried=connection)
