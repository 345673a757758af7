"""An upstream that speaks HTTP/2, over a connection in memory."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import Settings
from hyperframe.frame import GoAwayFrame

from tests.memory import Peer
from tests.net.http2.clients import Fields, cut


class Asked:
    """What has come on one stream."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.body = b""
        self.trailers: Fields = []
        self.ended = False
        self.reset: int | None = None

    def values(self, name: bytes) -> list[bytes]:
        return [value for field, value in self.fields if field == name]


class Upstream:
    """See the module; it takes what comes only where it ``acknowledges``."""

    def __init__(
        self, peer: Peer, *, acknowledges: bool = True, settings: dict[Any, int] | None = None
    ) -> None:
        self.peer = peer
        self.acknowledges = acknowledges
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(client=False, initial_values=settings or {})
        self.asked: dict[int, Asked] = {}
        self.goaways: list[tuple[int, int]] = []
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.peer.sends(data)
        self.receive()

    def receive(self) -> None:
        while data := self.peer.received():
            preface = 24 if data.startswith(b"PRI") else 0
            for frame in [data[:preface], *cut(data[preface:])]:
                if len(frame) > 3 and frame[3] == 7 and not preface:
                    last = int.from_bytes(frame[9:13], "big")
                    self.goaways.append((last, int.from_bytes(frame[13:17], "big")))
                    continue
                for event in self.h2.receive_data(frame):
                    self._take(event)
            data = self.h2.data_to_send()
            if data:
                self.peer.sends(data)

    def _take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.asked[event.stream_id or 0] = Asked(
                [(bytes(n), bytes(v)) for n, v in event.headers or ()]
            )
        elif isinstance(event, DataReceived):
            self.asked[event.stream_id or 0].body += event.data or b""
            if self.acknowledges:
                size = event.flow_controlled_length or 0
                self.h2.acknowledge_received_data(size, event.stream_id or 0)
        elif isinstance(event, TrailersReceived):
            fields = [(bytes(n), bytes(v)) for n, v in event.headers or ()]
            self.asked[event.stream_id or 0].trailers = fields
        elif isinstance(event, StreamEnded):
            self.asked[event.stream_id or 0].ended = True
        elif isinstance(event, StreamReset):
            self.asked[event.stream_id or 0].reset = int(event.error_code or 0)

    def request(self, stream: int) -> Asked:
        self.receive()
        return self.asked[stream]

    def heads(self, stream: int, *fields: tuple[bytes, bytes], ended: bool = False) -> None:
        """Send a header section."""
        self.h2.send_headers(stream, list(fields), end_stream=ended)
        self.flush()

    def sends(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=ended)
        self.flush()

    def resets(self, stream: int, code: int) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()

    def leaves(self, last_stream: int, code: int = 0) -> None:
        frame = GoAwayFrame(0)
        frame.last_stream_id = last_stream
        frame.error_code = code
        self.peer.sends(frame.serialize())
