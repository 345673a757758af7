"""An upstream for the tests: raw sockets in threads, so that it can answer anything at all."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from types import TracebackType
from typing import Any, Self

_BLOCK = bytes(range(256)) * 1024
_PATIENCE = 30.0


@dataclass(frozen=True)
class Received:
    """A request's head as it came."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Received:
        """Read a head, leniently: whatever comes here is to be seen by the tests."""
        line, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, _, target = line.removesuffix(" HTTP/1.1").partition(" ")
        pairs = (field.partition(":") for field in rest)
        fields = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        return cls(method, target, fields, raw)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for field, value in self.fields if field == name]

    @property
    def length(self) -> int | None:
        """The body's length; None where it is chunked."""
        if self.values("transfer-encoding"):
            return None
        return int(next(iter(self.values("content-length")), "0"))


class Conversation:
    """One connection, while a handler answers ``request``.

    What a handler leaves open goes on with the next request.
    """

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.socket = connection
        self.number = number
        self.request = Received("", "", (), b"")
        self.trailers: list[str] = []
        self._reader: BufferedReader = connection.makefile("rb", 1 << 18)  # type: ignore[assignment]

    def read_request(self) -> Received | None:
        """The next request's head; None at the end."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._reader.readline(1 << 20)
            if not line:
                return None
            head += line
        self.request = Received.parse(head)
        self.trailers = []
        return self.request

    def read_body(self) -> Iterator[bytes]:
        """The request's body as it comes, and of a chunked one the trailers, as ``name: value``."""
        length = self.request.length
        if length is not None:
            yield from self._read(length)
            return
        while size := int(self._reader.readline().partition(b";")[0], 16):
            yield from self._read(size)
            self._reader.readline()
        while (line := self._reader.readline()) not in (b"\r\n", b""):
            self.trailers.append(line.decode("latin-1").strip())

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._reader.read1(min(size, 1 << 18))
            if not piece:
                raise ConnectionError("the request's body ended too early")
            size -= len(piece)
            yield piece

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, fewer only at the end."""
        return self._reader.read(size)

    def send(self, data: bytes) -> None:
        """Send this, as it is."""
        self.socket.sendall(data)

    def answer(self, document: Any, status: str = "200 OK", *fields: str) -> None:
        """Send a good answer, in JSON."""
        body = json.dumps(document).encode() + b"\n"
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json", *fields, "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def close(self) -> None:
        """Hang up, cleanly."""
        self._reader.close()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """Hang up rudely: the other side gets a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._reader.close()
        self.socket.close()


Handler = Callable[[Conversation], None]


def echo(conversation: Conversation) -> None:
    """Answer with the request: its head, the size of its body, its trailers."""
    request = conversation.request
    if request.values("expect"):
        conversation.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b"".join(conversation.read_body())
    document = {
        "method": request.method,
        "target": request.target,
        "fields": request.fields,
        "body": body.decode("latin-1"),
        "trailers": conversation.trailers,
        "connection": conversation.number,
    }
    conversation.answer(document)


def send_bytes(conversation: Conversation) -> None:
    """Answer ``/bytes/N`` with N bytes, none of which is kept."""
    left = int(conversation.request.path.rpartition("/")[2])
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left:
        piece = _BLOCK[:left] if left < len(_BLOCK) else _BLOCK
        conversation.send(piece)
        left -= len(piece)


def count_bytes(conversation: Conversation) -> None:
    """Answer with the size of the request's body, which is not kept."""
    conversation.answer({"size": sum(map(len, conversation.read_body()))})


def raw(answer: bytes, *, close: bool = True) -> Handler:
    """Make a handler that answers with just these bytes, and hangs up."""

    def handle(conversation: Conversation) -> None:
        conversation.send(answer)
        if close:
            conversation.close()

    return handle


def silent(until: threading.Event) -> Handler:
    """Make a handler that says nothing until something has happened, and then hangs up."""

    def handle(conversation: Conversation) -> None:
        until.wait(_PATIENCE)
        conversation.close()

    return handle


class Origin:
    """Listens on a free port, or on ``port``. A context manager.

    ``on`` maps paths to handlers; whatever is not in there is answered by :func:`echo`.
    ``requests`` are all that came, in order, ``connections`` counts.
    """

    def __init__(
        self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.on: dict[str, Handler] = {}
        self.requests: list[Received] = []
        self.connections = 0
        self.handshakes_failed = 0
        self._context = context
        self._listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
        )
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # A thread that blocks in accept() does not notice that the socket is closed.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE)
        self._listening.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """Where it is found."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        """The paths of all requests, in order."""
        return [request.path for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(
                target=self._serve, args=(connection, self.connections), daemon=True
            ).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        self._open.add(connection)
        try:
            connection.settimeout(_PATIENCE)
            if self._context is not None:
                try:
                    wrapped = self._context.wrap_socket(connection, server_side=True)
                except OSError:
                    self.handshakes_failed += 1
                    return
                self._open.add(wrapped)
                connection = wrapped
            self._converse(Conversation(connection, number))
        except (OSError, ValueError):
            pass  # The proxy has hung up, which the tests see at its other side.
        finally:
            self._open.discard(connection)
            connection.close()

    def _converse(self, conversation: Conversation) -> None:
        while (request := conversation.read_request()) is not None:
            self.requests.append(request)
            self.on.get(request.path, self._by_default(request.path))(conversation)

    @staticmethod
    def _by_default(path: str) -> Handler:
        if "/bytes/" in path:
            return send_bytes
        return count_bytes if path.endswith("/count") else echo
