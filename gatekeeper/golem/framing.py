"""Messages on a pipe, each preceded by its length as a varint (protobuf's delimited form)."""

from __future__ import annotations

from io import FileIO
from threading import Lock
from typing import BinaryIO, Final

from google.protobuf.message import DecodeError

from gatekeeper.errors import GatekeeperError
from gatekeeper.golem.protos.runtime_pb2 import Request, Response

#: Nobody's command is longer. A length beyond it is garbage, and not waited for.
LARGEST_MESSAGE: Final = 1024 * 1024  # bytes


class FramingError(GatekeeperError):
    """What came is no message; nothing after it can be understood."""


def read_request(stream: BinaryIO) -> Request | None:
    """The next request; ``None`` where the stream ends between two.

    :raises FramingError: it ends within one, or what came is none.
    """
    length = _read_length(stream)
    if length is None:
        return None
    if length > LARGEST_MESSAGE:
        raise FramingError(f"a message of more than {LARGEST_MESSAGE} bytes was announced")
    content = stream.read(length)
    if len(content) < length:
        raise FramingError("the input ends within a message")
    try:
        return Request.FromString(content)
    except DecodeError:
        raise FramingError("the input holds a message that is none of the protocol's") from None


def _read_length(stream: BinaryIO) -> int | None:
    length = shift = 0
    while byte := stream.read(1):
        length |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return length
        shift += 7
        if length > LARGEST_MESSAGE or shift > 63:
            raise FramingError("the input holds a length that is no message's")
    if shift:
        raise FramingError("the input ends within a message")
    return None


class ResponseWriter:
    """Writes responses whole, from any thread, to a stream without a buffer."""

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def write(self, response: Response) -> None:
        """Write one at once.

        :raises OSError: nobody reads any more.
        """
        content = response.SerializeToString()
        length, prefix = len(content), bytearray()
        while length > 0x7F:
            prefix.append(length & 0x7F | 0x80)
            length >>= 7
        prefix.append(length)
        rest = bytes(prefix) + content
        with self._lock:
            while rest:
                rest = rest[self._stream.write(rest) :]
