"""A steady load that takes note of every request that is not answered to its last byte."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Final, Self

_PATIENCE: Final = 30.0
_BODY: Final = b"x" * 3000
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY
_PAUSE: Final = 0.01  # seconds between two requests of a client: two cores have more to do


class SteadyLoad:
    """A context manager: clients of the gateway at ``port`` while it is entered, and its origin.

    So many clients of each kind send one request after the other: those of ``kept`` on connections
    that they keep for as long as the answers allow it, those of ``fresh`` each on a new one.
    ``complete`` counts what was answered, ``failed`` what was not, by what went wrong: nothing is
    sent twice.
    """

    def __init__(
        self,
        port: int,
        fields: str,
        *,
        kept: int = 20,
        fresh: int = 20,
        path: str = "/echo/x",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.complete = 0
        self.last_answers = 0
        self.failed: Counter[str] = Counter()
        self.origin_port = 0
        self._port = port
        self._context = context
        self._request = f"GET {path} HTTP/1.1\r\nhost: gate.example\r\n{fields}\r\n\r\n".encode()
        self._numbers = kept, fresh
        self._stopping = False
        self._listens = threading.Event()
        self._begin = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(_PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    def begin(self) -> None:
        """Let the clients begin; the origin listens before."""
        self._begin.set()

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stopping = True
        self._begin.set()
        self._thread.join(2 * _PATIENCE)
        assert not self._thread.is_alive(), "a client hangs"

    async def _run(self) -> None:
        origin = await asyncio.start_server(_answer, "127.0.0.1", 0)
        self.origin_port = origin.sockets[0].getsockname()[1]
        self._listens.set()
        await asyncio.to_thread(self._begin.wait)
        kept, fresh = self._numbers
        clients: list[Coroutine[None, None, None]] = [self._keep() for _ in range(kept)]
        await asyncio.gather(*clients, *(self._connect_anew() for _ in range(fresh)))
        origin.close()

    async def _keep(self) -> None:
        while not self._stopping:
            with contextlib.suppress(_FailedError):
                await self._converse(once=False)

    async def _connect_anew(self) -> None:
        while not self._stopping:
            with contextlib.suppress(_FailedError):
                await self._converse(once=True)

    async def _converse(self, *, once: bool) -> None:
        """Requests on one connection."""
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self._port, ssl=self._context
                )
        except (OSError, TimeoutError) as error:
            raise self._fail(f"connecting: {error!r}") from error
        try:
            while not self._stopping:
                writer.write(self._request)
                async with asyncio.timeout(_PATIENCE):
                    closes = await self._read(reader)
                self.complete += 1
                if closes:
                    self.last_answers += 1
                if closes or once:
                    break
                await asyncio.sleep(_PAUSE)
        except (OSError, EOFError, TimeoutError) as error:
            raise self._fail(f"{'fresh' if once else 'kept'}: {error!r}") from error
        finally:
            writer.close()
        await asyncio.sleep(_PAUSE)

    async def _read(self, reader: asyncio.StreamReader) -> bool:
        """Read an answer; whether it is the last of its connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")[:-2]
        if line != "HTTP/1.1 200 OK":
            raise self._fail(line)
        fields = dict(field.split(": ", 1) for field in rest)
        await reader.readexactly(int(fields["content-length"]))
        return fields.get("connection") == "close"

    def _fail(self, what: str) -> _FailedError:
        self.failed[what] += 1
        return _FailedError(what)


class _FailedError(Exception):
    """A request that failed; it is counted."""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The origin."""
    with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWER)
            await writer.drain()
    writer.close()
