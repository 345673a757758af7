"""HTTP/2 frames (RFC 9113, 4.1): cut from the bytes that arrive, and counted, before h2 sees them.

h2 keeps the protocol's rules; it does not keep a peer from wearing us out by what the rules allow.
It waits for the whole of a frame before it looks at its size, keeps a header block however large
it becomes, answers every PING. So each frame is looked at here first, and paid for.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gatekeeper.errors import GatekeeperError

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
GOAWAY: Final = 0x7
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_FRAME: Final = 16384  # bytes of payload: what everybody must take, and all that we allow
_HEADER: Final = 9  # bytes in front of the payload

PROTOCOL_ERROR: Final = 0x1
FRAME_SIZE_ERROR: Final = 0x6
ENHANCE_YOUR_CALM: Final = 0xB

#: What a peer may send that brings nothing: at once, and in every second.
_OVERHEAD: Final = (1000, 100.0)
#: Streams that a peer may take back, or make us take back: at once, and in every second.
_RESETS: Final = (200, 33.0)
#: Frames without content (WINDOW_UPDATE, PING) that a DATA frame of ours may bring about.
_FOR_EACH_SENT: Final = 4
_WORTH_IT: Final = 1024  # bytes in a DATA frame


class ConnectionFaultError(GatekeeperError):
    """The peer has done what ends the connection; ``code`` is for the GOAWAY frame."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Frame(NamedTuple):
    """A whole frame, ``raw`` with all its bytes. The preface counts as one, of type -1."""

    type: int
    flags: int
    stream_id: int
    raw: bytes

    @property
    def payload(self) -> int:
        """How many bytes of content a DATA frame has; padding is none."""
        length = len(self.raw) - _HEADER
        if self.flags & PADDED:
            length -= 1 + (self.raw[_HEADER] if length else 0)
        return max(length, 0)

    @property
    def ends_stream(self) -> bool:
        """Whether it is the last of its stream, for DATA and HEADERS."""
        return bool(self.flags & END_STREAM)

    @property
    def goaway(self) -> tuple[int, int]:
        """A GOAWAY frame's last stream and error code (RFC 9113, 6.8).

        :raises ConnectionFaultError: there are none.
        """
        if len(self.raw) < _HEADER + 8 or self.stream_id:
            raise ConnectionFaultError(FRAME_SIZE_ERROR, "a malformed GOAWAY")
        last = int.from_bytes(self.raw[9:13], "big") & 0x7FFFFFFF
        return last, int.from_bytes(self.raw[13:17], "big")


class Allowance:
    """So much at once, and so much in every second (a token bucket)."""

    __slots__ = ("_left", "_most", "_rate", "_then")

    def __init__(self, most: float, rate: float, now: float) -> None:
        self._most = self._left = most
        self._rate = rate
        self._then = now

    def spend(self, now: float, cost: float = 1.0) -> bool:
        """Take from it; false where it does not suffice."""
        self._left = min(self._most, self._left + (now - self._then) * self._rate) - cost
        self._then = now
        return self._left >= 0

    def earn(self, amount: float) -> None:
        """Put something back."""
        self._left = min(self._most, self._left + amount)


class FrameCutter:
    """Takes bytes, gives frames; ends the connection of a peer that only keeps us busy.

    ``block_limit`` bounds a header block as it is sent, all its frames together. ``of_client``: the
    peer is a client, so a preface comes first, and the streams that it resets are counted.
    """

    __slots__ = (
        "_block",
        "_block_limit",
        "_buffer",
        "_overhead",
        "_preface",
        "_resets",
        "in_block",
    )

    def __init__(self, *, block_limit: int, of_client: bool, now: float) -> None:
        self._buffer = bytearray()
        self._block_limit = block_limit
        self._block = 0
        self._preface = of_client
        self._overhead = Allowance(*_OVERHEAD, now)
        self._resets = Allowance(*_RESETS, now) if of_client else None
        self.in_block = False  # a header block has begun, and not ended

    @property
    def incomplete(self) -> bool:
        """Whether there is half a frame, or half a header block, or no preface yet."""
        return bool(self._buffer) or self.in_block or self._preface

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    def cut(self, now: float) -> Frame | None:
        """The next frame, ``None`` where more bytes are needed. ``now`` in seconds.

        :raises ConnectionFaultError: it is too large, or there is too much that brings nothing.
        """
        buffer = self._buffer
        if self._preface:
            return self._cut_preface()
        if len(buffer) < _HEADER:
            return None
        length = int.from_bytes(buffer[:3], "big")
        if length > LARGEST_FRAME:  # before anything of it is kept
            raise ConnectionFaultError(FRAME_SIZE_ERROR, "a frame is too large")
        if len(buffer) < _HEADER + length:
            self._check_block(buffer[3], length)
            return None
        raw = bytes(buffer[: _HEADER + length])
        del buffer[: _HEADER + length]
        frame = Frame(raw[3], raw[4], int.from_bytes(raw[5:9], "big") & 0x7FFFFFFF, raw)
        self._pay(frame, length, now)
        return frame

    def _cut_preface(self) -> Frame | None:
        buffer = self._buffer
        if not PREFACE.startswith(buffer[: len(PREFACE)]):
            raise ConnectionFaultError(PROTOCOL_ERROR, "this is not HTTP/2")
        if len(buffer) < len(PREFACE):
            return None
        del buffer[: len(PREFACE)]
        self._preface = False
        return Frame(-1, 0, 0, PREFACE)

    def _check_block(self, kind: int, length: int) -> None:
        """A header block that is too large is not waited for."""
        if (kind == HEADERS and length > self._block_limit) or (
            kind == CONTINUATION and self._block + length > self._block_limit
        ):
            raise ConnectionFaultError(ENHANCE_YOUR_CALM, "a header block is too large")

    def _pay(self, frame: Frame, length: int, now: float) -> None:
        kind = frame.type
        if kind == DATA:
            if not frame.payload and not frame.ends_stream:
                self.charge(now)
        elif kind == HEADERS:
            self._check_block(kind, length)
            self._block = length
            self.in_block = not frame.flags & END_HEADERS
        elif kind == CONTINUATION:
            self._check_block(kind, length)
            self._block += length
            self.in_block = self.in_block and not frame.flags & END_HEADERS
            self.charge(now)
        elif kind == RST_STREAM:
            self.charge_reset(now)
        else:
            self.charge(now)

    def charge(self, now: float) -> None:
        """Something came that brings nothing.

        :raises ConnectionFaultError: once too often.
        """
        if not self._overhead.spend(now):
            raise ConnectionFaultError(ENHANCE_YOUR_CALM, "too many frames without content")

    def charge_reset(self, now: float) -> None:
        """The peer took a stream back, or made us do so.

        :raises ConnectionFaultError: once too often.
        """
        if self._resets is not None and not self._resets.spend(now):
            raise ConnectionFaultError(ENHANCE_YOUR_CALM, "too many streams were reset")

    def sent_data(self, size: int, *, whole: bool) -> None:
        """We have sent a DATA frame, which the peer may answer: it opens its windows, or measures.

        Nothing is earned by a peer that opens its window by a few bytes each time.
        """
        if size >= _WORTH_IT:
            self._overhead.earn(_FOR_EACH_SENT)
        elif whole:
            self._overhead.earn(1)
