"""A client of HTTP/2 over a connection in memory: h2 speaks for it, or raw frames do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame

from gatekeeper.net.http2.negotiation import Negotiation
from gatekeeper.net.transports import LoopProtocol
from tests.memory import Peer
from tests.world import CLIENT, World

Fields = list[tuple[bytes, bytes]]

GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"shop.example"),
    (b":path", b"/a"),
]
POST: Fields = [(b":method", b"POST"), *GET[1:]]


class Answer:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.informational: list[Fields] = []
        self.fields: Fields = []
        self.body = b""
        self.trailers: Fields = []
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields)[b":status"])

    def value(self, name: bytes) -> bytes:
        (value,) = [value for field, value in self.fields if field == name]
        return value


class Client:
    """See the module. Windows are opened again only where ``acknowledges``."""

    def __init__(
        self, peer: Peer, *, acknowledges: bool = True, settings: dict[Any, int] | None = None
    ) -> None:
        self.peer = peer
        self.acknowledges = acknowledges
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.events: list[Event] = []
        self.raw = b""
        initial = {SettingCodes.ENABLE_PUSH: 0, **(settings or {})}
        self.h2.local_settings = Settings(client=True, initial_values=initial)
        self.h2.initiate_connection()
        self.flush()
        self.receive()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.peer.sends(data)

    def receive(self) -> None:
        """Understand what has arrived."""
        while data := self.peer.received():
            self.raw += data
            for frame in cut(data):
                if frame[3] == 7:  # GOAWAY: to h2 it is the end, and it is none
                    last = int.from_bytes(frame[9:13], "big")
                    self.goaways.append((last, int.from_bytes(frame[13:17], "big")))
                    continue
                for event in self.h2.receive_data(frame):
                    self._take(event)
            self.flush()

    def _take(self, event: Event) -> None:
        self.events.append(event)
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            assert not isinstance(event, ConnectionTerminated)
            return
        if isinstance(event, ResponseReceived):
            answer.fields = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
        elif isinstance(event, InformationalResponseReceived):
            answer.informational.append([(bytes(n), bytes(v)) for n, v in event.headers or ()])
        elif isinstance(event, TrailersReceived):
            answer.trailers = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
        elif isinstance(event, DataReceived):
            answer.body += event.data or b""
            if self.acknowledges:
                self.h2.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id or 0
                )
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code or 0)

    def asks(self, fields: Iterable[tuple[bytes, bytes]] = GET, body: bytes | None = None) -> int:
        """Send a request; its stream."""
        stream = self.begins(fields, ended=body is None)
        if body is not None:
            self.sends(stream, body, ended=True)
        return stream

    def begins(self, fields: Iterable[tuple[bytes, bytes]], *, ended: bool = False) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, list(fields), end_stream=ended)
        self.flush()
        self.receive()
        return stream

    def sends(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=ended)
        self.flush()
        self.receive()

    def sends_frames(self, *frames: Frame) -> None:
        """Send frames that h2 would not."""
        self.peer.sends(b"".join(frame.serialize() for frame in frames))
        self.receive()

    def resets(self, stream: int, code: int = 8) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()
        self.receive()

    def answer(self, stream: int) -> Answer:
        self.receive()
        return self.answers[stream]

    def asked(
        self, fields: Iterable[tuple[bytes, bytes]] = GET, body: bytes | None = None
    ) -> Answer:
        """Send a request; what was answered at once."""
        return self.answer(self.asks(fields, body))


def cut(data: bytes) -> list[bytes]:
    """Frames."""
    frames = []
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


def connect(world: World, listener: str = "public", peer: str = CLIENT) -> Peer:
    """A client connects to a listener that speaks both; nothing has been said yet."""
    protocol = Negotiation(world.plane, world.doors[listener], world.connections)
    return world.loop.connect(LoopProtocol(protocol), (peer, 50000), can_half_close=True)


def client_of(world: World, **options: Any) -> Client:
    return Client(connect(world), **options)
