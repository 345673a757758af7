"""A TCP relay in front of PostgreSQL that can swallow the answer to a COMMIT."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

#: What a flush writes with: one statement, which is a transaction of its own, or several and this.
_DECISIVE: Final = (b"INSERT INTO usage", b"COMMIT")


class Relay:
    """A context manager: listens on ``port`` and relays to ``target``, both on 127.0.0.1.

    While ``cuts_left`` is above 0, the answer to what makes a flush final is thrown away and the
    connection cut: the server has done it, and the daemon cannot know. ``cuts`` counts.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.cuts_left = 0
        self.cuts = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        decisive = threading.Event()

        def to_server() -> None:
            with suppress(OSError):
                while data := client.recv(1 << 18):
                    if any(statement in data for statement in _DECISIVE):
                        decisive.set()
                    server.sendall(data)
            _cut(server)

        threading.Thread(target=to_server, daemon=True).start()
        with suppress(OSError):
            while data := server.recv(1 << 18):
                if decisive.is_set():
                    decisive.clear()
                    if self.cuts_left:
                        self.cuts_left -= 1
                        self.cuts += 1
                        break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
