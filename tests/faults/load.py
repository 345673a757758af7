"""Requests of several users, and exactly which of them were answered to the end.

The clients and the origin behind the daemon share one event loop in a thread of their own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

PASSWORD: Final = "wonderland"

PATIENCE: Final = 30.0  # seconds that an answer may take: a daemon that hangs is found out
AGAIN: Final = 0.05  # seconds before a client that was refused, or lost its connection, goes on


class Kind(NamedTuple):
    """A request and how the origin answers it."""

    name: str
    request: bytes
    answer: bytes


def _kinds() -> list[Kind]:
    body = b"x" * 1500
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(body), body) for _ in range(4))
    return [
        Kind(
            "small", b"GET /small HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
        ),
        Kind(
            "chunked",
            b"GET /chunked HTTP/1.1\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n",
        ),
        Kind(
            "large",
            b"GET /large HTTP/1.1\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 150000\r\n\r\n" + body * 100,
        ),
        Kind(
            "missing", b"GET /missing HTTP/1.1\r\n", b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"
        ),
    ]


KINDS: Final = _kinds()
_ANSWERS: Final = {kind.name.encode(): kind.answer for kind in KINDS}


class Load:
    """A context manager: a load on the gateway at ``port`` while it is entered.

    ``complete`` has, for each user, the ids of the requests that were answered to the last byte;
    ``refused`` counts the answers in which the gateway said 503; ``broken`` the exchanges that
    ended without a whole answer. ``connections`` clients for each user send one request at a time.
    """

    def __init__(self, port: int, users: Sequence[str], connections: int) -> None:
        self.complete: dict[str, list[str]] = {user: [] for user in users}
        self.refused = 0
        self.broken = 0
        self.surprises: Counter[str] = Counter()
        self.origin_port = 0
        self._port = port
        self._connections = connections
        self._stopping = False
        self._started = threading.Event()
        self._begin = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def total(self) -> int:
        """How many requests were answered completely so far."""
        return sum(map(len, self.complete.values()))

    def begin(self) -> None:
        """Let the clients begin; the origin is there before."""
        self._begin.set()

    def stop(self) -> None:
        """No new requests; waits for those that run."""
        self._stopping = True
        self._begin.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "a client hangs"

    async def _run(self) -> None:
        origin = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.origin_port = origin.sockets[0].getsockname()[1]
        self._started.set()
        await asyncio.to_thread(self._begin.wait)
        clients = (self._client(user) for user in self.complete for _ in range(self._connections))
        await asyncio.gather(*clients)
        origin.close()

    async def _client(self, user: str) -> None:
        credentials = base64.b64encode(f"{user}:{PASSWORD}".encode())
        fields = b"host: gate.example\r\nauthorization: Basic %b\r\n\r\n" % credentials
        kinds = itertools.cycle(KINDS)
        while not self._stopping:
            writer: asyncio.StreamWriter | None = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                for kind in kinds:
                    if self._stopping:
                        break
                    writer.write(kind.request + fields)
                    async with asyncio.timeout(PATIENCE):
                        status, request_id, closing = await read_answer(reader)
                    if status in (200, 404):
                        self.complete[user].append(request_id)
                    elif status == 503:
                        self.refused += 1
                        await asyncio.sleep(AGAIN)
                    else:
                        self.surprises[f"status {status}"] += 1
                    if closing:
                        break
            except TimeoutError:
                self.surprises["no answer"] += 1
            except (OSError, asyncio.IncompleteReadError):
                self.broken += writer is not None
                await asyncio.sleep(AGAIN)
            finally:
                if writer is not None:
                    writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    """Read one answer to its last byte: the status, the request's id, whether it closes."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")[:-2]
    fields = dict(field.split(": ", 1) for field in rest)
    if "content-length" in fields:
        await reader.readexactly(int(fields["content-length"]))
    else:
        assert fields["transfer-encoding"] == "chunked"
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    closing = fields.get("connection") == "close"
    return int(line.split(" ")[1]), fields["x-request-id"], closing


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The origin."""
    # Cancelled: the load is over, and the daemon keeps its connections.
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWERS[head.split(b" ", 2)[1].rpartition(b"/")[2]])
            await writer.drain()
    writer.close()
