"""Callers of several nodes: each answer with when it was asked for, and where.

They and the origin behind the nodes share one event loop in a thread of their own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import cycle
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from tests.faults.load import AGAIN, KINDS, PATIENCE, Kind, read_answer, serve

_PAUSE: Final = 0.02  # seconds between two requests of a caller: two cores have more to do

#: What a gateway may answer here: the origin's own, and that somebody may not pass now.
_ANSWERS: Final = frozenset({200, 404})
_REFUSALS: Final = frozenset({402, 403, 429, 503})


class Caller(NamedTuple):
    """Sends one request after the other to the service at ``path`` of the node at ``port``."""

    user: str
    port: int
    path: str
    authorization: str
    kinds: Sequence[Kind] = KINDS


class Answer(NamedTuple):
    """What a request was answered with, to the last byte; times are of a monotonic clock."""

    caller: Caller
    id: str
    status: int
    sent: float
    ended: float


class Traffic:
    """What some callers send, until :meth:`end`.

    ``answers`` are the origin's, ``counts`` has by node, service and status how many answers
    there were of any sort, ``broken`` how many exchanges that ended without a whole answer.
    ``surprises`` should stay empty.
    """

    def __init__(self, callers: Sequence[Caller], loop: asyncio.AbstractEventLoop) -> None:
        self.answers: list[Answer] = []
        self.counts: Counter[tuple[int, str, int]] = Counter()
        self.broken = 0
        self.surprises: Counter[str] = Counter()
        self.callers = callers
        self._ending = False
        self._all: Future[Any] = asyncio.run_coroutine_threadsafe(self._run(), loop)

    def end(self) -> None:
        """No new requests; waits for those that run. May be called again."""
        self._ending = True
        self._all.result(2 * PATIENCE)

    @property
    def refused(self) -> int:
        """How many requests were not let through."""
        return sum(n for (_, _, status), n in self.counts.items() if status in _REFUSALS)

    async def _run(self) -> None:
        await asyncio.gather(*map(self._call, self.callers))

    async def _call(self, caller: Caller) -> None:
        kinds = cycle(caller.kinds)
        while not self._ending:
            writer: asyncio.StreamWriter | None = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", caller.port)
                while not self._ending and await self._ask(caller, next(kinds), reader, writer):
                    pass
            except TimeoutError:
                self.surprises[f"no answer at {caller.path}"] += 1
            except (OSError, asyncio.IncompleteReadError):
                self.broken += writer is not None
                await asyncio.sleep(AGAIN)
            finally:
                if writer is not None:
                    writer.close()

    async def _ask(
        self,
        caller: Caller,
        kind: Kind,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """One request; whether there may be another one on this connection."""
        request = b"GET %b/%b HTTP/1.1\r\nhost: gate.example\r\nauthorization: %b\r\n\r\n"
        values = (caller.path, kind.name, caller.authorization)
        sent = time.monotonic()
        writer.write(request % tuple(each.encode() for each in values))
        async with asyncio.timeout(PATIENCE):
            status, request_id, closing = await read_answer(reader)
        self.counts[caller.port, caller.path, status] += 1
        if status in _ANSWERS:
            self.answers.append(Answer(caller, request_id, status, sent, time.monotonic()))
        elif status not in _REFUSALS:
            self.surprises[f"status {status} at {caller.path}"] += 1
        await asyncio.sleep(_PAUSE if status in _ANSWERS else AGAIN)
        return not closing


class Crowd:
    """A context manager: where callers come from, and the origin at ``origin_port``."""

    def __init__(self) -> None:
        self.origin_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._traffic: list[Traffic] = []

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(serve, "127.0.0.1", 0)
        self._origin = asyncio.run_coroutine_threadsafe(listening, self._loop).result(PATIENCE)
        self.origin_port = self._origin.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            for traffic in self._traffic:
                traffic.end()
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            self._loop.close()

    async def _close(self) -> None:
        self._origin.close()
        here = asyncio.current_task()
        for task in asyncio.all_tasks():  # connections that the nodes keep
            if task is not here:
                task.cancel()
        await asyncio.sleep(0)

    def send(self, callers: Sequence[Caller]) -> Traffic:
        """Let these begin."""
        traffic = Traffic(callers, self._loop)
        self._traffic.append(traffic)
        return traffic
