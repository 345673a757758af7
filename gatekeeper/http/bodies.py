"""Message bodies (RFC 9112, 6 and 7): where they end, and what is in them.

A body is fed with what arrives and gives back payload. ``done`` says that it has ended; then
``rest`` holds what came behind it. Each is used for one message.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Protocol

from gatekeeper.errors import ProtocolError
from gatekeeper.http.fields import Fields, may_be_trailer

_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[\t -~\x80-\xff]*)?)")
_TRAILER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_LINE_LIMIT: Final = 4096
_EXTENSIONS_LIMIT: Final = 4096
_TRAILERS_LIMIT: Final = 16384
_MOST_TRAILERS: Final = 100

_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LONGEST_SIZE: Final = 15


@lru_cache(maxsize=1024)
def _plain_size(line: bytes) -> int:
    """The size that a line says; 0 where it is the last chunk's, has extensions or is malformed."""
    return int(line, 16) if _SIZE.fullmatch(line) else 0


class Body(Protocol):
    """What the three kinds of body have in common."""

    done: bool
    rest: bytes
    trailers: Fields

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; the payload in it.

        :raises ProtocolError: 400, where the body is malformed.
        """


class CountedBody:
    """A body of ``length`` bytes."""

    __slots__ = ("_left", "done", "rest")
    trailers: Fields = []

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; the payload in it."""
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data
        self.done = True
        self._left = 0
        if left == 0:
            return data
        self.rest = data[left:]
        return data[:left]


class UnboundedBody:
    """A response's body that ends with the connection."""

    __slots__ = ("done", "rest")
    trailers: Fields = []

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; all of it is payload."""
        return data


class ChunkedBody:
    """A body in chunks (RFC 9112, 7.1). Extensions are dropped; so are trailers of bad names."""

    __slots__ = (
        "_extensions",
        "_left",
        "_line",
        "_parse",
        "_trailer_bytes",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: Fields = []
        self._line = b""  # a line that is not complete yet
        self._left = 0  # payload bytes of the current chunk still to come
        self._extensions = 0  # bytes of extensions, less a 64th of their chunks
        self._trailer_bytes = 0
        self._parse = self._size_line

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; the payload in it.

        :raises ProtocolError: 400.
        """
        payload: list[bytes] = []
        position = 0
        end = len(data)
        while position < end and not self.done:
            if self._left:
                piece = data[position : position + self._left]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            if not self._line and self._parse == self._size_line:
                position = _take_chunks(data, position, payload)
                if position == end:
                    break
            position = self._read_line(data, position)
        if self.done:
            self.rest = data[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _read_line(self, data: bytes, position: int) -> int:
        """Take a line, or the piece of it that is there; where it ends."""
        newline = data.find(b"\n", position)
        stop = len(data) if newline < 0 else newline + 1
        line = self._line + data[position:stop]
        if len(line) > _LINE_LIMIT:
            raise ProtocolError("bad_chunk", "a line of the chunked body is too long")
        if newline < 0:
            self._line = line
            return stop
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise ProtocolError("bad_chunk", "a line of the chunked body does not end in CR LF")
        self._parse(line[:-2])
        return stop

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError("bad_chunk", "a chunk's size is malformed")
        digits, extension = match.groups()
        size = self._left = int(digits, 16)
        if extension:
            self._extensions = max(0, self._extensions + len(extension) - size // 64)
            if self._extensions > _EXTENSIONS_LIMIT:
                raise ProtocolError("bad_chunk", "there is more in extensions than in chunks")
        self._parse = self._after_chunk if size else self._trailer_line

    def _after_chunk(self, line: bytes) -> None:
        if line:
            raise ProtocolError("bad_chunk", "a chunk is longer than its size")
        self._parse = self._size_line

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailer_bytes += len(line) + 2
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise ProtocolError("bad_trailers", "the trailers are malformed")
        name, value = match.groups()
        if may_be_trailer(name := name.lower()):
            self.trailers.append((name, value.rstrip(b" \t")))
        if self._trailer_bytes > _TRAILERS_LIMIT or len(self.trailers) > _MOST_TRAILERS:
            raise ProtocolError("bad_trailers", "the trailers are too large")


def _take_chunks(data: bytes, position: int, payload: list[bytes]) -> int:
    """Take the chunks that are there as a whole and have no extension; where the last one ends.

    This is the usual case, and a peer that sends single bytes in chunks must not keep us busy
    for long: a quarter of a million bytes of those is what one ``feed`` may have to take.
    """
    find, append = data.find, payload.append
    while True:
        newline = find(b"\r\n", position, position + _LONGEST_SIZE + 2)
        start = newline + 2
        size = _plain_size(data[position:newline]) if newline >= 0 else 0
        stop = start + size
        if not size or data[stop : stop + 2] != b"\r\n":
            return position
        append(data[start:stop])
        position = stop + 2


def chunk(payload: bytes) -> bytes:
    """Payload as one chunk; ``b""`` for no payload, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % trailer for trailer in trailers)
