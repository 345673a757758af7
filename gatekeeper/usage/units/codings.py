"""Content codings (RFC 9110, 8.4.1) undone piece by piece, for reading only.

What comes out is bounded by what came in: a body that is made to grow without end is given up.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

#: The most that is decoded at once, in bytes.
PIECE: Final = 65536

# Answers of language models, the same words around every token, may shrink to a fiftieth.
_GROWTH: Final = 100
_FIRST_GROWTH: Final = 1_048_576
# What the beginning of a further member counts for: a great many empty ones take time, too.
_MEMBER: Final = 4096
# Each holds some 40 KiB.
_MOST_CODINGS: Final = 2

_GZIP: Final = 31  # these are zlib's `wbits`
_ZLIB: Final = 15
_RAW: Final = -15


class _GrowthError(Exception):
    """The body has grown too much."""


class _Allowance:
    """How many bytes may still come out, of all codings together."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _FIRST_GROWTH

    def add(self, received: int) -> None:
        self._left += _GROWTH * received

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _GrowthError


class _Gzip:
    """RFC 1952: any number of members, one behind the other."""

    __slots__ = ("_allowance", "_stream")

    def __init__(self, allowance: _Allowance) -> None:
        self._allowance = allowance
        self._stream = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            yield from _inflate(self._stream, data, self._allowance)
            data = self._stream.unused_data
            if not data:
                return
            self._allowance.take(_MEMBER)
            self._stream = zlib.decompressobj(_GZIP)


class _Deflate:
    """RFC 1950, or without its header, as some servers send it."""

    __slots__ = ("_allowance", "_start", "_stream")

    def __init__(self, allowance: _Allowance) -> None:
        self._allowance = allowance
        self._start = b""
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            data = self._start + data
            self._start = data[:1]
            if len(data) < 2:
                return
            # Section 2.2: the method, and a check over both bytes.
            headed = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._stream = zlib.decompressobj(_ZLIB if headed else _RAW)
        if not self._stream.eof:
            yield from _inflate(self._stream, data, self._allowance)


def _inflate(stream: zlib._Decompress, data: bytes, allowance: _Allowance) -> Iterator[bytes]:
    while True:
        piece = stream.decompress(data, PIECE)
        allowance.take(len(piece))
        if piece:
            yield piece
        data = stream.unconsumed_tail
        # A full piece may be followed by more, although all that came in has been taken.
        if stream.eof or (not data and len(piece) < PIECE):
            return


class Decoder:
    """Undoes all codings of one body."""

    __slots__ = ("_allowance", "_over", "_steps")

    def __init__(self, codings: list[str]) -> None:
        self._allowance = _Allowance()
        self._steps = [
            (_Deflate if coding == "deflate" else _Gzip)(self._allowance)
            for coding in reversed(codings)
        ]
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is in the next bytes, in pieces of :data:`PIECE` at the most.

        Where the body is damaged, or grows beyond all measure, it ends.
        """
        if self._over:
            return
        self._allowance.add(len(data))
        try:
            yield from self._decode(data, 0)
        except (zlib.error, _GrowthError):
            self._over = True

    def _decode(self, data: bytes, step: int) -> Iterator[bytes]:
        if step == len(self._steps):
            yield data
            return
        for piece in self._steps[step].feed(data):
            yield from self._decode(piece, step + 1)


def make_decoder(content_encoding: str) -> Decoder | None:
    """For a ``Content-Encoding``, its lines joined by commas; ``None`` where nothing is coded.

    :raises ValueError: a coding is not one of ``gzip`` and ``deflate``, or there are too many.
    """
    words = [word.strip().lower() for word in content_encoding.split(",")]
    codings = [word for word in words if word not in ("", "identity")]
    if len(codings) > _MOST_CODINGS or not {*codings} <= {"gzip", "x-gzip", "deflate"}:
        raise ValueError("the body cannot be read")
    return Decoder(codings) if codings else None
