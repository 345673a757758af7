"""A response's body, read for its wanted values as it passes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from gatekeeper.usage.units.codings import Decoder, make_decoder
from gatekeeper.usage.units.events import Events, Lines
from gatekeeper.usage.units.paths import JsonPath
from gatekeeper.usage.units.scanner import Scanner
from gatekeeper.usage.units.tree import make_tree

_EVENTS: Final = "text/event-stream"
_LINES: Final = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/json-lines",
        "text/jsonl",
    }
)

_BLANK: Final = b"\xef\xbb\xbf \t\r\n"  # with what a byte order mark is made of
_FIELD: Final = re.compile(rb":|data:|event:|id:|retry:")
_LONGEST_FIELD: Final = 6


class _Reader(Protocol):
    def feed(self, data: bytes, /) -> None: ...
    def finish(self) -> None: ...


class _Documents:
    """One JSON document, or several, of any size."""

    def __init__(self, scanner: Scanner) -> None:
        self.feed = scanner.feed
        self.finish = scanner.restart


class Wanted:
    """The paths that are looked for in bodies; :attr:`slots` tells where the value of each goes.

    ``paths`` may stand in any document of a body. The ``first`` are the same wherever they stand:
    once one of them was found, no further document is looked into just for them.
    """

    def __init__(self, first: Iterable[JsonPath], paths: Iterable[JsonPath]) -> None:
        everywhere = list(dict.fromkeys(paths))
        once = [path for path in dict.fromkeys(first) if path not in everywhere]
        self.slots = {path: slot for slot, path in enumerate((*once, *everywhere))}
        self.tree = make_tree(self.slots)
        self.first_slots = range(len(once))
        self.first_needles = frozenset(map(_needle, once))
        self.needles = frozenset(map(_needle, everywhere))


def _needle(path: JsonPath) -> bytes:
    """What a document that has this path must have in it."""
    keys = [step for step in path if isinstance(step, str)]
    return keys[-1].encode() if keys else b""


class BodyReader:
    """Is fed with a body; then :meth:`values` are the JSON texts found.

    What the body is, its first byte that is not blank decides together with its media type:
    ``{`` or ``[`` begins JSON, which is read line by line where the media type says so. Anything
    else is server-sent events, where the media type says so or the body begins with one of their
    fields; or lines, where the media type says so; or nothing that can be read.
    """

    __slots__ = ("_decoder", "_media_type", "_over", "_reader", "_scanner", "_start", "_wanted")

    def __init__(self, wanted: Wanted, media_type: str, content_encoding: str) -> None:
        """``media_type``: in lower case, without parameters; empty if there is none."""
        self._wanted = wanted
        self._scanner = Scanner(wanted.tree)
        self._media_type = media_type
        self._reader: _Reader | None = None
        self._start = b""
        self._over = False
        self._decoder: Decoder | None = None
        if content_encoding:
            try:
                self._decoder = make_decoder(content_encoding)
            except ValueError:
                self._over = True

    def feed(self, payload: bytes) -> None:
        """Read on. Never raises, whatever the body is."""
        if self._over:
            return
        if self._decoder is None:
            self._read(payload)
        else:
            for piece in self._decoder.feed(payload):
                self._read(piece)

    def values(self) -> Sequence[bytes | None]:
        """What was found. Nothing can be fed any more."""
        self._over = True
        if self._reader is not None:
            self._reader.finish()
        return self._scanner.values

    def _read(self, data: bytes) -> None:
        if self._reader is None:
            data = (self._start + data).lstrip(_BLANK)
            self._start = b""
            if not data or self._over:
                return
            if data[0] not in b"{[" and len(data) < _LONGEST_FIELD:
                self._start = data
                return
            self._reader = self._choose(data)
            if self._reader is None:
                self._over = True
                return
        self._reader.feed(data)

    def _choose(self, start: bytes) -> _Reader | None:
        scanner, wanted, media_type = self._scanner, self._wanted, self._media_type
        in_lines = media_type in _LINES
        if start[0] in b"{[" and not in_lines:
            return _Documents(scanner)
        parts = (scanner, wanted.needles, wanted.first_needles, wanted.first_slots)
        if _FIELD.match(start) or media_type == _EVENTS:
            return Events(*parts)
        return Lines(*parts) if in_lines else None


def described(lines: Iterable[bytes]) -> tuple[str, str]:
    """The media type and the content codings that a response's field lines say.

    The first is in lower case and without parameters, and empty where there is none, or more than
    one; the second has all lines joined by commas.
    """
    types, codings = [], []
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-type":
            types.append(value.partition(b";")[0].strip().lower())
        elif name == b"content-encoding":
            codings.append(value)
    media_type = types[0].decode("latin-1") if len(types) == 1 else ""
    return media_type, b",".join(codings).decode("latin-1") if codings else ""
