"""Bodies of many small JSON documents: server-sent events, and one document a line.

Only those are looked into that hold a key that is wanted; the others are not even split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

from gatekeeper.usage.units.scanner import Scanner

#: The largest event or line that is looked at, in bytes; what is held back at the most.
WINDOW: Final = 65536

# How a key may be written so that it cannot be searched for: as `\u` and its number.
_ESCAPED: Final = rb"\u"


class Parts(ABC):
    """Takes a body apart, and feeds ``scanner`` with the parts that hold one of ``needles``.

    ``first_needles`` make a part worth looking at, too, until one of ``first_slots`` has a value.
    Neither depends on how the body was cut into pieces.
    """

    __slots__ = ("_buffer", "_first_slots", "_later_needles", "_lost", "_needles", "_scanner")

    #: What stands between two parts.
    separator: bytes

    def __init__(
        self,
        scanner: Scanner,
        needles: Iterable[bytes],
        first_needles: Iterable[bytes],
        first_slots: Sequence[int],
    ) -> None:
        self._scanner = scanner
        self._later_needles = (*needles, _ESCAPED)
        self._needles = (*first_needles, *self._later_needles)
        self._first_slots = first_slots
        self._buffer = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Read on."""
        buffer, separator = self._buffer, self.separator
        searched = max(0, len(buffer) - len(separator) + 1)
        buffer += data
        end = buffer.rfind(separator, searched)
        if end >= 0:
            parts = bytes(buffer[:end])
            del buffer[: end + len(separator)]
            if self._lost:  # the first is the rest of one that was too large
                parts = parts.partition(separator)[2]
                self._lost = False
            self._read(parts)
        begun = len(separator) - 1  # this much of the separator may be there already
        if len(buffer) > WINDOW + begun:
            self._lost = True
            del buffer[: len(buffer) - begun]

    def finish(self) -> None:
        """The body is over, or will not go on; what has begun may say something already."""
        if not self._lost:
            self._read(bytes(self._buffer))

    def _read(self, parts: bytes) -> None:
        if not self._worth(parts):
            return
        for part in parts.split(self.separator):
            if len(part) <= WINDOW and self._worth(part):
                self._scanner.feed(self.document(part))
                self._scanner.restart()
                if any(self._scanner.values[slot] is not None for slot in self._first_slots):
                    self._needles = self._later_needles

    def _worth(self, data: bytes) -> bool:
        return any(needle in data for needle in self._needles)

    @abstractmethod
    def document(self, part: bytes) -> bytes:
        """The JSON document in a part."""


class Lines(Parts):
    """One document a line, as in ``application/x-ndjson``."""

    __slots__ = ()
    separator = b"\n"

    def document(self, part: bytes) -> bytes:
        """The line itself."""
        return part


class Events(Parts):
    r"""Server-sent events (WHATWG HTML, 9.2): their ``data``, in lines that end in CRLF, LF or CR.

    All line ends are made LF on the way in; a LF that follows a CR of the piece before is dropped.
    """

    __slots__ = ("_after_return",)
    separator = b"\n\n"

    def __init__(
        self,
        scanner: Scanner,
        needles: Iterable[bytes],
        first_needles: Iterable[bytes],
        first_slots: Sequence[int],
    ) -> None:
        super().__init__(scanner, needles, first_needles, first_slots)
        self._after_return = False

    def feed(self, data: bytes) -> None:
        """Read on."""
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        if b"\r" in data:
            self._after_return = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        super().feed(data)

    def document(self, part: bytes) -> bytes:
        """The event's ``data`` lines, joined; the blank behind the colon means nothing to JSON."""
        lines = part.split(b"\n")
        return b"\n".join(line[5:] for line in lines if line.startswith(b"data:"))
