"""One HTTP/2 connection, whichever end of it we are: frames in, events to streams, frames out.

h2 keeps the state of the protocol. Some things it is not asked for: GOAWAY, since h2 takes it for
the end and both sides may still have streams to finish (RFC 9113, 6.8); the length of bodies and
the form of field sections, since to h2 a fault in them ends the connection, and to us its stream.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.http import frames
from gatekeeper.http.fields import Fields
from gatekeeper.http.frames import ConnectionFaultError, Frame, FrameCutter
from gatekeeper.http.heads import HeadLimits
from gatekeeper.http.http2 import MalformedMessageError, trailer_fields
from gatekeeper.net.http2.streams import Stream
from gatekeeper.net.sweep import NEVER, Sweep
from gatekeeper.net.transports import LoopTransport

log = Logger()

STREAM_WINDOW: Final = 262_144  # bytes of one body that nobody has taken yet
CONNECTION_WINDOW: Final = 1_048_576  # the same, all streams of a connection together
MOST_STREAMS: Final = 100  # at once
_HARD_LIMIT: Final = 10_000  # what h2 itself is told: beyond it, it ends the connection
_COMPRESSION_TABLE: Final = 4096  # bytes, however much more a peer would let us use
_DEFAULT_WINDOW: Final = 65_535
_IN_ONE_TURN: Final = 256  # frames, before others get their turn
_AT_ONCE: Final = 65_536  # bytes that are collected before they are written
_LAST_STREAM: Final = 2**31 - 1


class Codec(H2Connection):
    """h2's connection, with a short memory of streams that are over."""

    MAX_CLOSED_STREAMS = 1024


def make_codec(limits: HeadLimits, *, client_side: bool) -> Codec:
    """An h2 connection that has written its preface.

    It announces how many streams may be open, but does not enforce it: to exceed that is a fault
    of the stream (RFC 9113, 5.1.2), and to h2 one of the connection.
    """
    codec = Codec(
        H2Configuration(
            client_side=client_side,
            header_encoding=None,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    settings = {
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.head,
        SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
    }
    if client_side:
        settings[SettingCodes.ENABLE_PUSH] = 0
    codec.local_settings = Settings(client=client_side, initial_values=settings)
    codec.initiate_connection()
    settings[SettingCodes.MAX_CONCURRENT_STREAMS] = _HARD_LIMIT
    codec.local_settings = Settings(client=client_side, initial_values=settings)
    # Somewhat more than the parser takes, so that what is too large can still be answered.
    codec.decoder.max_header_list_size = 2 * limits.head + 32 * limits.fields
    codec.increment_flow_control_window(CONNECTION_WINDOW - _DEFAULT_WINDOW)
    return codec


class Connection:
    """See the module. ``deadline`` is when the sweep calls :meth:`timed_out`."""

    client_side: ClassVar[bool]

    transport: LoopTransport

    def __init__(self, sweep: Sweep, limits: HeadLimits, body_timeout: float) -> None:
        self.sweep = sweep
        self.limits = limits
        self.deadline = NEVER
        self.streams: dict[int, Any] = {}
        self.codec = make_codec(limits, client_side=self.client_side)
        self.over = False  # nothing that arrives means anything any more
        self._body_timeout = body_timeout
        self._cutter = FrameCutter(
            block_limit=limits.head, of_client=not self.client_side, now=sweep.now
        )
        self._waiting: dict[Stream, None] = {}  # with something to send
        self._collected = 0  # bytes of DATA that have not been written
        self._reading = False
        self._reading_on = False

    def start(self, transport: LoopTransport) -> None:
        """Begin to speak."""
        self.transport = transport
        transport.registerProducer(self)
        self.sweep.timed.add(self)
        self.flush()
        self.settle()

    # --- reading --------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self.over:
            self.ignored(len(data))
            return
        self._cutter.feed(data)
        self.read()

    def read(self) -> None:
        """Read frames, a bounded number in one turn of the loop."""
        if self._reading:
            return
        self._reading = True
        try:
            for _ in range(_IN_ONE_TURN):
                if self.over or self.writing_paused:
                    break
                frame = self._cutter.cut(self.sweep.now)
                if frame is None:
                    break
                self._receive(frame)
            else:
                self.transport.pauseProducing()
                self._reading_on = True
                self.call_soon(self._read_on)
        except ConnectionFaultError as fault:
            self.fault(fault.code, fault.detail)
        except H2ProtocolError as error:  # h2 has prepared the GOAWAY
            self._write()
            self.leave(str(error))
        finally:
            self._reading = False
        self.flush()
        if not self.over:
            self.settle()

    def _read_on(self) -> None:
        self._reading_on = False
        if not self.over and not self.writing_paused:
            self.transport.resumeProducing()
            self.read()

    def _receive(self, frame: Frame) -> None:
        """One frame: what h2 is not asked for, and then h2."""
        kind = frame.type
        if kind == frames.GOAWAY:
            last, code = frame.goaway
            self.peer_leaves(last, code)
            return
        if kind == frames.DATA:
            stream = self.streams.get(frame.stream_id)
            if stream is None:
                self._cutter.charge(self.sweep.now)
            elif stream.overruns(frame.payload, last=frame.ends_stream):
                self._break(stream)
        for event in self.codec.receive_data(frame.raw):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, WindowUpdated):
            self._send_waiting()
        elif isinstance(event, TrailersReceived):
            self._trailers(event)
        elif isinstance(event, StreamReset):
            self._was_reset(event)
        elif isinstance(event, RemoteSettingsChanged):
            encoder = self.codec.encoder
            if encoder.header_table_size > _COMPRESSION_TABLE:
                encoder.header_table_size = _COMPRESSION_TABLE
            self.settings_changed()
            self._send_waiting()
        elif isinstance(event, PingAckReceived):
            self.answered_ping()
        else:
            self.message(event)

    def _data(self, event: DataReceived) -> None:
        stream = self.streams.get(event.stream_id or 0)
        size = event.flow_controlled_length or 0
        if stream is None:
            self.codec.acknowledge_received_data(size, event.stream_id or 0)
            return
        stream.peer_ended = event.stream_ended is not None
        stream.data_received(event.data or b"", size)
        self._see_whether_over(stream)

    def _trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return
        stream.peer_ended = True
        try:
            if stream.overruns(0, last=True):
                raise MalformedMessageError("the body is too short")
            trailers = trailer_fields(event.headers or ())
        except MalformedMessageError:
            self._break(stream)
            return
        stream.trailers_received(trailers)
        self._see_whether_over(stream)

    def _see_whether_over(self, stream: Stream) -> None:
        if stream.peer_ended and stream.ended and not stream.closed:
            self.forget(stream)

    def _break(self, stream: Stream) -> None:
        """The peer's message is malformed."""
        self._cutter.charge_reset(self.sweep.now)
        self.reset(stream, ErrorCodes.PROTOCOL_ERROR)
        stream.malformed()

    def _was_reset(self, event: StreamReset) -> None:
        if not event.remote_reset:
            self._cutter.charge_reset(self.sweep.now)
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            code = int(event.error_code or 0)
            self.forget(stream)
            stream.lost(code, unprocessed=code == ErrorCodes.REFUSED_STREAM)

    # --- writing --------------------------------------------------------------------------

    @property
    def writing_paused(self) -> bool:
        """Whether the peer does not take what we write."""
        return self.transport.writing_paused

    def room(self, stream: Stream) -> int:
        """How many bytes of DATA the stream may send now."""
        return self.codec.local_flow_control_window(stream.id)

    def send_data(self, stream: Stream, piece: bytes, last: bool, *, whole: bool = True) -> None:
        """Write a DATA frame; it fits. Without ``whole`` more would not have fit."""
        self.codec.send_data(stream.id, piece, end_stream=last)
        self._cutter.sent_data(len(piece), whole=whole)
        self._collected += len(piece)
        if self._collected > _AT_ONCE:
            self._write()

    def send_section(self, stream: Stream, section: Fields, *, ended: bool) -> None:
        """Write a HEADERS frame, and what belongs to it."""
        self.codec.send_headers(stream.id, section, end_stream=ended)

    def acknowledge(self, stream: Stream, size: int) -> None:
        """Open our windows again."""
        if not self.over:
            self.codec.acknowledge_received_data(size, stream.id)
            self.flush()

    def wait(self, stream: Stream) -> None:
        """The stream has something to send, and cannot now."""
        self._waiting[stream] = None

    def _send_waiting(self) -> None:
        """Send what the windows allow; each stream in its turn, so that none waits for long."""
        waiting = self._waiting
        for stream in list(waiting):
            if self.writing_paused or self.over:
                return
            if stream not in waiting:
                continue
            before = self.codec.outbound_flow_control_window
            if stream.send_some():
                waiting.pop(stream, None)
                stream.resumed()
            elif self.codec.outbound_flow_control_window != before and stream in waiting:
                waiting[stream] = waiting.pop(stream)  # now it is the others' turn

    def flush(self) -> None:
        """Write what has been collected, unless there is more to come in this turn."""
        if not self._reading:
            self._write()

    def _write(self) -> None:
        self._collected = 0
        data = self.codec.data_to_send()
        if data and not self.over:
            self.transport.write(data)

    def pauseProducing(self) -> None:
        """The peer does not read: neither do we, and all who produce for it stop."""
        self.deadline = self.body_deadline()
        self.transport.pauseProducing()
        for stream in self.streams.values():
            stream.stalled()
            self._waiting[stream] = None

    def resumeProducing(self) -> None:
        """The peer reads again."""
        self._send_waiting()
        self.flush()
        if not self.writing_paused and not self._reading_on:
            self.transport.resumeProducing()
            self.read()

    def body_deadline(self) -> float:
        """When the peer must have taken, or sent, the next piece."""
        return self.sweep.now + self._body_timeout

    # --- streams --------------------------------------------------------------------------

    def opened(self, stream: Stream) -> None:
        """A stream begins."""
        self.streams[stream.id] = stream
        self.sweep.timed.add(stream)

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """Break a stream off."""
        self._reset(stream.id, code)
        self.forget(stream)

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        with suppress(H2ProtocolError):  # where it is over already, there is nothing to break off
            self.codec.reset_stream(stream_id, code)
        self.flush()

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        if self.streams.pop(stream.id, None) is None:
            return
        self._waiting.pop(stream, None)
        self.sweep.timed.discard(stream)
        stream.dispose()
        if not self._reading and not self.over:
            self.settle()

    # --- the end --------------------------------------------------------------------------

    def fault(self, code: int, detail: str) -> None:
        """The peer broke the protocol: nothing after it can be trusted."""
        if self.over:
            return
        self._write()
        self.say_goodbye(code, self.codec.highest_inbound_stream_id)
        self.leave(detail)

    def say_goodbye(self, code: int, last_stream: int) -> None:
        """Write a GOAWAY frame."""
        frame = GoAwayFrame(0)
        frame.error_code = code
        frame.last_stream_id = last_stream
        self._write()
        self.transport.write(frame.serialize())

    def lose_streams(self) -> None:
        """The connection is of no use: so are its streams."""
        self.over = True
        self._waiting.clear()
        for stream in list(self.streams.values()):
            self.forget(stream)
            stream.lost(None, unprocessed=False)

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self.sweep.timed.discard(self)
        self.lose_streams()

    def readConnectionLost(self) -> bool:
        """The peer sends no more: so it is over."""
        return False

    # --- what its kind does ---------------------------------------------------------------

    def message(self, event: Event) -> None:
        """A head has come, or something that means nothing to us."""
        raise NotImplementedError

    def settle(self) -> None:
        """What had arrived has been read, or a stream has ended: set the deadline."""
        raise NotImplementedError

    def peer_leaves(self, last_stream: int, code: int) -> None:
        """GOAWAY: the peer takes no stream above this one."""
        raise NotImplementedError

    def leave(self, detail: str) -> None:
        """A GOAWAY has been written because of a fault: hang up."""
        raise NotImplementedError

    def ignored(self, size: int) -> None:
        """So many bytes came after the end."""

    def timed_out(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    def settings_changed(self) -> None:
        """The peer has changed its settings."""

    def answered_ping(self) -> None:
        """The peer has answered a PING."""

    def call_soon(self, call: Any) -> None:
        """In the loop's next turn."""
        raise NotImplementedError
