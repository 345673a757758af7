"""The line between a supervisor and one of its workers: messages, questions, and sockets.

Both ends speak alike. A frame is the length of what follows its head (4 bytes, big-endian), how
many sockets come with it (1 byte: 0 or 1), and then MessagePack: an array of a :class:`_Kind`, a
number, which ties an answer to its question, a name, and a list of arguments.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.errors import GatekeeperError

log = Logger()

#: Bytes of one message, and of all that wait for the other end. Where they are more, it hangs.
LONGEST: Final = 64 * 1024 * 1024

#: Questions that wait for an answer.
MOST: Final = 10_000

#: Seconds that an answer may take.
TIMEOUT: Final = 10.0

_HEAD: Final = struct.Struct(">IB")
_PIECE: Final = 256 * 1024
_PASSED: Final = 16  # sockets that one piece may bring


class LinkError(GatekeeperError):
    """There is no answer; the message says why."""


class _Kind(IntEnum):
    TELL = 0
    ASK = 1
    ANSWER = 2
    FAILURE = 3


#: Is called with a message's arguments; what it gives, now or later, is the answer to a question.
#: Where a socket came with the message, that is the first argument.
Handler = Callable[..., Any]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, int, str, list[Any]]).decode


class Link:
    """One end. Messages arrive in the order in which they were sent.

    :param end: a connected stream socket of the Unix family; it is closed in the end.
    :param handlers: by name, what is called for what comes.
    :param ended: is called once, when nobody is at the other end any more.
    """

    def __init__(
        self,
        end: socket.socket,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        handlers: Mapping[str, Handler],
        ended: Callable[[], object],
    ) -> None:
        self._end = end
        self._loop = loop
        self._clock = clock
        self._handlers = handlers
        self._ended = ended
        self._received = bytearray()
        self._sockets: deque[socket.socket] = deque()
        self._waiting: deque[tuple[memoryview, socket.socket | None]] = deque()
        self._waiting_bytes = 0
        self._asked: dict[int, Deferred[Any]] = {}
        self._count = 0
        self.is_over = False
        """Whether nobody is at the other end any more, or this one is closed."""
        end.setblocking(False)
        loop.add_reader(end.fileno(), self._read)

    # --- speaking -------------------------------------------------------------------------

    def tell(self, name: str, *arguments: Any, carried: socket.socket | None = None) -> None:
        """Send a message; nothing happens where nobody is there any more.

        What the arguments are made of must be known to MessagePack. ``carried`` goes with it, and
        stays open here.
        """
        self._send(_Kind.TELL, 0, name, arguments, carried)

    def ask(self, name: str, *arguments: Any, timeout: float = TIMEOUT) -> Deferred[Any]:
        """Send a question; fires with the answer. ``timeout`` is in seconds.

        :raises LinkError: there is none.
        """
        if self.is_over or len(self._asked) >= MOST:
            return fail(LinkError("it is not there" if self.is_over else "it is overloaded"))
        self._count += 1
        number = self._count

        def forget(result: Any) -> Any:
            self._asked.pop(number, None)
            return result

        def late(_: object, seconds: float) -> None:
            raise LinkError(f"no answer within {seconds:g} s")

        answer = self._asked[number] = Deferred()
        answer.addTimeout(timeout, self._clock, late).addBoth(forget)
        self._send(_Kind.ASK, number, name, arguments)
        return answer

    def _send(
        self,
        kind: _Kind,
        number: int,
        name: str,
        arguments: Sequence[Any],
        carried: socket.socket | None = None,
    ) -> None:
        if self.is_over:
            return
        payload = _encode((kind, number, name, arguments))
        if self._waiting_bytes + len(payload) > LONGEST:
            self._over()  # first: a log may be sent over it, too
            log.error("{name}: too much waits for another process: it is given up", name=name)
            return
        frame = _HEAD.pack(len(payload), carried is not None) + payload
        copy = carried.dup() if carried is not None else None
        self._waiting.append((memoryview(frame), copy))
        self._waiting_bytes += len(frame)
        if len(self._waiting) == 1:
            self._write()

    def _write(self) -> None:
        """Send what the other end takes now."""
        while self._waiting and not self.is_over:
            data, carried = self._waiting[0]
            try:
                if carried is not None:
                    sent = socket.send_fds(self._end, [data], [carried.fileno()])
                    carried.close()
                else:
                    sent = self._end.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._end.fileno(), self._write)
                return
            except OSError:
                self._over()
                return
            self._waiting_bytes -= sent
            if sent < len(data):
                self._waiting[0] = data[sent:], None
            else:
                self._waiting.popleft()
        if not self.is_over:
            self._loop.remove_writer(self._end.fileno())

    # --- listening ------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data, numbers, _, _ = socket.recv_fds(
                self._end, _PIECE, _PASSED, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, numbers = b"", []
        self._sockets += (socket.socket(fileno=number) for number in numbers)
        if not data:
            self._over()
            return
        self._received += data
        at = 0
        while not self.is_over and len(self._received) >= at + _HEAD.size:
            length, carried = _HEAD.unpack_from(self._received, at)
            if length > LONGEST:
                self._over()
                return
            if len(self._received) < at + _HEAD.size + length:
                break
            at += _HEAD.size
            payload = bytes(self._received[at : at + length])
            at += length
            self._take(payload, [self._sockets.popleft()] if carried else [])
        del self._received[:at]

    def _take(self, payload: bytes, carried: list[socket.socket]) -> None:
        kind, number, name, arguments = _decode(payload)
        if kind in (_Kind.ANSWER, _Kind.FAILURE):
            waiter = self._asked.get(number)  # None: it came too late
            if waiter is None:
                return
            if kind == _Kind.ANSWER:
                waiter.callback(arguments[0])
            else:
                waiter.errback(LinkError(f"{name}: {arguments[0]}"))
            return
        done = maybeDeferred(self._handle, name, [*carried, *arguments])
        if kind == _Kind.ASK:
            done.addCallback(lambda answer: self._send(_Kind.ANSWER, number, name, [answer]))
        done.addErrback(lambda failure: self._failed(failure, kind, number, name))

    def _handle(self, name: str, arguments: list[Any]) -> Any:
        result = self._handlers[name](*arguments)
        return Deferred.fromCoroutine(result) if inspect.iscoroutine(result) else result

    def _failed(self, failure: Failure, kind: int, number: int, name: str) -> None:
        is_ours = failure.check(GatekeeperError) is not None
        if not is_ours:
            log.failure("{name} failed, as asked by another process", failure, name=name)
        if kind == _Kind.ASK:
            why = failure.getErrorMessage() if is_ours else "it failed; see the log"
            self._send(_Kind.FAILURE, number, name, [why])

    # --- the end --------------------------------------------------------------------------

    def close(self) -> None:
        """Close this end, without a word to whoever made it; may be called again."""
        self._ended = lambda: None
        self._over()

    def flush(self, timeout: float = 1.0) -> None:
        """Wait until all was sent, but not long: the process is about to end."""
        if not self.is_over:
            self._end.settimeout(timeout)
            self._write()

    def _over(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._loop.remove_reader(self._end.fileno())
        self._loop.remove_writer(self._end.fileno())
        self._end.close()
        for each in (*self._sockets, *(carried for _, carried in self._waiting if carried)):
            each.close()
        self._sockets.clear()
        self._waiting.clear()
        asked, self._asked = self._asked, {}
        for waiter in asked.values():
            waiter.errback(LinkError("it has ended"))
        self._ended()
