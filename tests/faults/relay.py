"""A TCP relay in front of a server that can swallow the answer to what changes something there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

#: What a flush writes with: one statement, which is a transaction of its own, or several and this.
_FLUSH: Final = (b"INSERT INTO usage", b"COMMIT")


class Relay:
    """A context manager: listens on ``port`` and relays to ``target``, both on 127.0.0.1.

    While ``cuts_left`` is above 0, the answer to a request with one of the ``decisive`` words is
    thrown away and the connection cut: the server has done it, and the client cannot know. ``cuts``
    counts. With ``hangs`` the connection is not cut, and nothing more comes over it.
    """

    def __init__(
        self, target: int, decisive: Sequence[bytes] = _FLUSH, *, hangs: bool = False
    ) -> None:
        self.target = target
        self._decisive = decisive
        self._hangs = hangs
        self.cuts_left = 0
        self.cuts = 0
        self._open: set[socket.socket] = set()
        self._severed = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._flows.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def sever(self) -> None:
        """Cut all connections, and each new one at once."""
        self._severed.set()
        for connection in self._open.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def fall_silent(self) -> None:
        """Let nothing through, and cut nothing: as when a cable is pulled."""
        self._flows.clear()

    def mend(self) -> None:
        """Relay again, and what was held back first."""
        self._severed.clear()
        self._flows.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            if not self._severed.is_set():
                self._connect(client)
        finally:
            self._open.discard(client)
            _cut(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            return
        decisive = threading.Event()

        def to_server() -> None:
            with suppress(OSError):
                while data := client.recv(1 << 18):
                    if any(word in data for word in self._decisive):
                        decisive.set()
                    self._flows.wait()
                    server.sendall(data)
            _cut(server)

        threading.Thread(target=to_server, daemon=True).start()
        swallowing = False
        with suppress(OSError):
            while data := server.recv(1 << 18):
                if decisive.is_set():
                    decisive.clear()
                    if self.cuts_left:
                        self.cuts_left -= 1
                        self.cuts += 1
                        if not self._hangs:
                            break
                        swallowing = True
                self._flows.wait()
                if not swallowing:
                    client.sendall(data)
        _cut(server)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
