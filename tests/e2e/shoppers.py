"""Many clients of several gateways at once, which ask until nothing is left; and their origin.

All in one event loop, in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

_PATIENCE: Final = 30.0
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_LOOK: Final = 0.2
#: Seconds after a refusal, or where nobody listens. All of them together would otherwise leave
#: nothing of two cores to processes that begin.
_PAUSE: Final = 0.25


@dataclass
class Shopper:
    """One client: where it asks, and for what; ``answers`` are what became of its requests."""

    port: int
    path: str
    fields: str
    answers: Counter[int] = field(default_factory=Counter)
    broken: int = 0  # not answered to the last byte, and charged perhaps
    refused: int = 0  # in a row


class Shoppers:
    """The clients, and an origin that takes ``delay`` seconds for an answer."""

    def __init__(self, clients: Sequence[Shopper], delay: float = 0.005) -> None:
        self.clients = clients
        self.served = 0
        self._delay = delay
        self._stopping = False

    def run(
        self,
        origin_port: int,
        *,
        until: Callable[[], bool],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Let all of them ask until it is so, and finish what they have asked for then.

        ``meanwhile`` runs beside that, in another thread.

        :raises TimeoutError: it does not become so.
        """
        asyncio.run(self._run(origin_port, until, meanwhile))

    async def _run(
        self, origin_port: int, until: Callable[[], bool], meanwhile: Callable[[], None] | None
    ) -> None:
        origin = await asyncio.start_server(self._answer, "127.0.0.1", origin_port)
        running = [asyncio.create_task(self._ask(client)) for client in self.clients]
        try:
            async with asyncio.timeout(4 * _PATIENCE):
                if meanwhile is not None:
                    await asyncio.to_thread(meanwhile)
                while not await asyncio.to_thread(until):  # noqa: ASYNC110 - it is about many
                    await asyncio.sleep(_LOOK)
        finally:
            self._stopping = True
            await asyncio.gather(*running)
            origin.close()

    async def _ask(self, client: Shopper) -> None:
        """One request after the other, on one connection as long as that lasts."""
        while not self._stopping:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await self._converse(client)
            await asyncio.sleep(_PAUSE)

    async def _converse(self, client: Shopper) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        request = f"GET {client.path} HTTP/1.1\r\nhost: x\r\n{client.fields}\r\n\r\n".encode()
        try:
            while not self._stopping:
                client.broken += 1  # unless it is answered
                async with asyncio.timeout(_PATIENCE):
                    writer.write(request)
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    length = head.partition("content-length: ")[2].partition("\r\n")[0]
                    await reader.readexactly(int(length))
                client.broken -= 1
                status = int(head.split()[1])
                client.answers[status] += 1
                client.refused = 0 if status == 200 else client.refused + 1
                if status != 200:
                    await asyncio.sleep(_PAUSE)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self._delay)
                self.served += 1
                writer.write(_ANSWER)
                await writer.drain()
        writer.close()
