"""Content codings (RFC 9110, 8.4.1) undone piece by piece, for reading only.

What comes out is bounded by what came in: a body made to grow without end is given up.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

#: The most that is decoded at once, in bytes.
PIECE: Final = 65536

# Answers of language models, with the same words around every token, shrink to a twentieth.
_GROWTH: Final = 32
_FIRST_GROWTH: Final = 262_144
# Many empty members (RFC 1952, 2.2) cost time, and give nothing that would count.
_MEMBER: Final = 4096
_MOST_CODINGS: Final = 2

_GZIP: Final = 31  # zlib's wbits: a gzip header is expected
_ZLIB: Final = 15
_RAW: Final = -15


class Inflater:
    """Undoes ``gzip``, or ``deflate`` with or without the header that it should have."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._start = b""
        self._stream = zlib.decompressobj(_GZIP) if gzip else None
        self.over = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """What is in it, in pieces, and what each of them counts for. Damage ends it quietly."""
        stream = self._stream
        if stream is None:
            data = self._start + data
            self._start = data
            if len(data) < 2:
                return
            # RFC 1950, 2.2: the method, and a check over both bytes.
            headed = data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._start = b""
            stream = self._stream = zlib.decompressobj(_ZLIB if headed else _RAW)
        while not self.over:
            try:
                piece = stream.decompress(data, PIECE)
            except zlib.error:
                self.over = True
                return
            yield piece, len(piece)
            data = stream.unconsumed_tail
            if stream.eof:
                data = stream.unused_data
                self.over = not self._gzip
                if not data:
                    continue_with = b""
                stream = self._stream = zlib.decompressobj(_GZIP)
                yield b"", _MEMBER
            if not data and len(piece) < PIECE:
                return


class Decoder:
    """Undoes all codings of one body."""

    def __init__(self, inflaters: list[Inflater]) -> None:
        self._inflaters = inflaters
        self._left = _FIRST_GROWTH

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The body's own bytes, none of the pieces longer than :data:`PIECE`."""
        self._left += _GROWTH * len(data)
        yield from self._decode(data, 0)

    def _decode(self, data: bytes, layer: int) -> Iterator[bytes]:
        if layer == len(self._inflaters):
            yield data
            return
        for piece, size in self._inflaters[layer].feed(data):
            self._left -= size
            if self._left < 0:
                return
            if piece:
                yield from self._decode(piece, layer + 1)


def make_decoder(content_encoding: str) -> Decoder | None:
    """For the value of ``Content-Encoding``, all lines joined.

    :raises ValueError: a coding is not known here, or there are too many.
    """
