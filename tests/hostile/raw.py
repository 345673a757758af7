"""A client that sends anything, and reads answers strictly."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

PATIENCE = 20.0


class BrokenTransferError(Exception):
    """The connection ended in the middle of an answer."""


@dataclass(frozen=True)
class Answer:
    """One answer. ``fields`` with names in lower case."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for field, value in self.fields if field == name]

    @property
    def closes(self) -> bool:
        """Whether it says that the connection ends with it."""
        return self.values("connection") == ["close"]

    @property
    def document(self) -> Any:
        """The body, from JSON."""
        return json.loads(self.body)


class Client:
    """One connection, from the address ``source`` where it is given. A context manager."""

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext | None = None,
        name: str = "",
        source: str = "",
    ) -> None:
        self.socket: socket.socket = socket.create_connection(
            address, PATIENCE, (source, 0) if source else None
        )
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=name or address[0])
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send this."""
        self.socket.sendall(data)

    def try_to_send(self, data: bytes) -> None:
        """Send this, if the other side still takes it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send_until_it_breaks(self, data: bytes, most: int) -> None:
        """Send this again and again; fail where the other side takes ``most`` bytes of it."""
        try:
            for _ in range(most // len(data)):
                self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return
        raise AssertionError(f"the other side has taken {most} bytes")

    def answer(self, method: str = "GET") -> Answer:
        """Read the answer to a request with this method.

        :raises BrokenTransferError: it is not whole.
        """
        head = self.head()
        return Answer(head.status, head.fields, self._body(head, method))

    def head(self) -> Answer:
        """Read the answer's head alone; what follows is still to be read.

        :raises BrokenTransferError: it is not whole.
        """
        head = self._until(b"\r\n\r\n").decode("latin-1")
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        version, status, *_ = line.split(" ")
        assert version == "HTTP/1.1", line
        pairs = (field.partition(": ") for field in rest)
        fields = tuple((name.lower(), value) for name, _, value in pairs)
        return Answer(int(status), fields, b"")

    def answer_or_break(self, method: str = "GET") -> Answer | None:
        """Read the answer; None where it is not whole."""
        try:
            return self.answer(method)
        except BrokenTransferError:
            return None

    def final_answer(self, method: str = "GET") -> Answer:
        """Read the answer, and see that nothing comes behind it but the end."""
        answer = self.answer(method)
        assert answer.closes, answer
        assert self.rest() == b""
        return answer

    def rest(self) -> bytes:
        """All that comes until the connection ends; a reset is an end, too."""
        while piece := self._receive():
            self._buffer += piece
        rest, self._buffer = self._buffer, b""
        return rest

    def read(self, size: int) -> bytes:
        """Exactly so many bytes.

        :raises BrokenTransferError: there are not so many.
        """
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _body(self, answer: Answer, method: str) -> bytes:
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return b""
        if method == "CONNECT" and answer.status == 200:
            return b""
        lengths = answer.values("content-length")
        if answer.values("transfer-encoding"):
            assert answer.values("transfer-encoding") == ["chunked"]
            assert not lengths
            return self._chunked()
        if lengths:
            (length,) = lengths
            return self.read(int(length))
        assert answer.closes, answer
        return self.rest()

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n"), 16):
            body += self.read(size)
            assert self.read(2) == b"\r\n"
        while self._until(b"\r\n") != b"\r\n":
            pass
        return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def _more(self) -> None:
        piece = self._receive()
        if not piece:
            raise BrokenTransferError(self._buffer)
        self._buffer += piece

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLEOFError):
            return b""
