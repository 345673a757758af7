"""Short messages between a process and the one that is to follow it: lines of words."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from twisted.internet.defer import Deferred, succeed

_LONGEST = 4096  # bytes that may come before a line's end


class Channel:
    """One end of a pair of sockets, which is closed in the end."""

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._end = end
        self._loop = loop
        self._buffer = b""
        self._received: deque[list[str]] = deque()
        self._waiter: Deferred[list[str]] | None = None
        self.ended = False
        """Whether nobody is at the other end any more."""
        end.setblocking(False)
        loop.add_reader(end.fileno(), self._read)

    def send(self, *words: str | int) -> None:
        """Send a line; if nobody is there any more, that shows when one is to be received."""
        try:
            self._end.send(" ".join(map(str, words)).encode("ascii") + b"\n")
        except OSError:
            self._over()

    def receive(self) -> Deferred[list[str]]:
        """The words of the next line; none at all where nobody is there any more."""
        assert self._waiter is None, "one waits already"
        if self._received:
            return succeed(self._received.popleft())
        if self.ended:
            return succeed([])
        self._waiter = Deferred(lambda _: self._forget())
        return self._waiter

    def close(self) -> None:
        """Close this end; may be called again."""
        self.ended = True
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()

    def _forget(self) -> None:
        self._waiter = None

    def _read(self) -> None:
        try:
            data = self._end.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._received += [line.decode("ascii", "replace").split(" ") for line in lines]
        if not data or len(self._buffer) > _LONGEST:
            self._over()
        elif self._received:
            self._deliver(self._received)

    def _over(self) -> None:
        self.close()
        self._deliver(self._received or deque([[]]))

    def _deliver(self, received: deque[list[str]]) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(received.popleft())
