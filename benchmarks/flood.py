"""What right users feel while somebody tries wrong passwords, a hundred a second."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.processes import Stopwatch
from benchmarks.results import Figure, NotMeasuredError, Results
from benchmarks.servers import Server
from gatekeeper.auth.passwords import hash_password

ROW: Final = "flood"

_WRONG: Final = 100  # wrong passwords a second
_KNOWN: Final = 200  # requests a second of the right user whose verdict is cached
_NEW: Final = 5  # right users a second who come for the first time, of each kind

#: How many addresses the wrong passwords come from. A right user from elsewhere waits for one turn
#: of each of them at the most.
_SOURCES: Final = 16
_PATIENCE: Final = 10.0  # seconds, for one answer

_PASSWORD: Final = "a right one"  # noqa: S105 - everybody's, and of this run only


@dataclass
class Tally:
    """What clients of one kind got: counts by status (0: no answer).

    ``waits`` are the seconds that those waited who got a 200.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    def add(self, status: int, wait: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        if status == 200:
            self.waits.append(wait)

    @property
    def served(self) -> float:
        """The share that got a 200, in percent."""
        return 100 * self.statuses[200] / max(1, self.statuses.total())


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so large a share of them (0 to 1) does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Crowd:
    """The clients of one run against one daemon; ``names`` are users that it does not know yet."""

    def __init__(self, port: int, names: Callable[[], str]) -> None:
        self.known, self.new, self.neighbours, self.wrong = (Tally() for _ in range(4))
        self.late = 0.0  # seconds that we were late ourselves, at the most
        self._port = port
        self._names = names
        self._tries, self._arrivals, self._turns = (itertools.count() for _ in range(3))
        self._running: set[asyncio.Task[None]] = set()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._beginning = math.inf  # of what is counted

    async def run(self, seconds: float, warm_up: float, *, flood: bool) -> None:
        """Send for ``warm_up`` seconds what is not counted, then for ``seconds`` what is.

        :raises NotMeasuredError: the right user is not let in.
        """
        status = await self._visit("right", _PASSWORD, "127.0.0.1")
        if status != 200:
            raise NotMeasuredError(f"the right user gets {status or 'no answer'}")
        end = time.perf_counter() + warm_up + seconds
        beginning = self._beginning = end - seconds
        first = beginning - warm_up
        regular = [self._regularly(_KNOWN, first, end, self._ask_again)]
        if flood:
            regular.append(self._regularly(_WRONG, first, end, self._try_wrong))
            regular.append(self._regularly(_NEW, beginning, end, self._come_from_the_flood))
        regular.append(self._regularly(_NEW, beginning, end, self._come_from_elsewhere))
        regular.append(self._watch_ourselves(beginning, end))
        await asyncio.gather(*regular)
        await asyncio.gather(*self._running)
        for _, writer in self._idle:
            writer.close()

    async def _ask_again(self, due: float) -> None:
        """The user whose verdict is cached asks, on a kept connection that nobody waits on.

        The wait counts from when it was due: requests do not wait for each other here, so the
        longest one is the longest time that the daemon served nobody.
        """
        if not self._idle:
            self._idle.append(await asyncio.open_connection("127.0.0.1", self._port))
        reader, writer = self._idle.pop()
        writer.write(self._request("right", _PASSWORD, close=False))
        try:
            status = await asyncio.wait_for(_read_answer(reader), _PATIENCE)
        except (OSError, EOFError, TimeoutError):
            self.known.add(0, _PATIENCE)
            writer.close()
            return
        self._idle.append((reader, writer))
        if due >= self._beginning:
            self.known.add(status, time.perf_counter() - due)

    async def _watch_ourselves(self, beginning: float, end: float) -> None:
        """What holds us up makes the daemon's answers seem late, too."""
        due = beginning
        while due < end:
            await asyncio.sleep(due - time.perf_counter())
            now = time.perf_counter()
            self.late = max(self.late, now - due)
            due = now + 1 / _KNOWN

    async def _regularly(
        self, rate: float, due: float, end: float, act: Callable[[float], Coroutine[Any, Any, None]]
    ) -> None:
        """Act so many times a second, whether the last one has ended or not.

        ``act`` is told when it was due.
        """
        while due < end:
            await asyncio.sleep(due - time.perf_counter())
            task = asyncio.create_task(act(due))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            due += 1 / rate

    async def _try_wrong(self, _: float) -> None:
        """Half of them try a user who exists, half of them others."""
        number = next(self._tries)
        user = f"nobody-{number}" if number % 2 else "right"
        await self._tell(self.wrong, user, f"wrong {number}", self._source())

    async def _come_from_elsewhere(self, _: float) -> None:
        """A right user at an address of its own."""
        number = next(self._arrivals)
        source = f"127.1.{number // 250 % 250}.{number % 250 + 1}"
        await self._tell(self.new, self._names(), _PASSWORD, source)

    async def _come_from_the_flood(self, _: float) -> None:
        """A right user who shares an address with somebody else."""
        await self._tell(self.neighbours, self._names(), _PASSWORD, self._source())

    def _source(self) -> str:
        """Each of the flood's addresses in turn."""
        return f"127.0.1.{next(self._turns) % _SOURCES + 1}"

    async def _tell(self, tally: Tally, user: str, password: str, source: str) -> None:
        begun = time.perf_counter()
        status = await self._visit(user, password, source)
        tally.add(status, time.perf_counter() - begun)

    async def _visit(self, user: str, password: str, source: str) -> int:
        """Send one request on a connection of its own; its status, 0 where there is none."""
        writer = None
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(source, 0)
                )
                writer.write(self._request(user, password, close=True))
                return await _read_answer(reader)
        except (OSError, EOFError, TimeoutError):
            return 0
        finally:
            if writer is not None:
                writer.close()

    def _request(self, user: str, password: str, *, close: bool) -> bytes:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        return (
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"{'Connection: close' if close else 'Accept: */*'}\r\n"
            f"Authorization: Basic {credentials}\r\n\r\n"
        ).encode("ascii")


def flood(bench: Bench, results: Results) -> None:
    """Requests of right users while 100 wrong passwords a second arrive, and while none do."""
    count = 1 + 3 * _NEW * (bench.seconds + 1)
    names = iter([f"new-{number}" for number in range(count)])
    hashed = hash_password(_PASSWORD)  # one for all of them: what it costs to check is the same
    users = dict.fromkeys(["right", *(f"new-{number}" for number in range(count))], hashed)
    with (
        servers.origin(bench) as origin,
        servers.gatekeeper(bench, origin, users=users) as server,
    ):
        for name, flooding in (("quiet", False), ("flood", True)):
            print(f"{ROW}: {name} …", file=sys.stderr, flush=True)
            crowd = Crowd(server.port, names.__next__)
            others = _measure(bench, server, crowd, flooding)
            _keep(results, name, crowd, others)


def _measure(bench: Bench, server: Server, crowd: Crowd, flooding: bool) -> float | None:
    """Let the crowd in; gives the share of the proxy's core that others took."""
    stopwatch = Stopwatch(server.program, bench.cores.proxy)
    gc.collect()
    gc.disable()  # or our own pauses would count as the daemon's
    try:
        asyncio.run(crowd.run(bench.seconds, bench.warm_up, flood=flooding))
    finally:
        gc.enable()
    return stopwatch.read().others


def _keep(results: Results, name: str, crowd: Crowd, others: float | None) -> None:
    def add(what: str, unit: str, value: float) -> None:
        results.add(Figure(ROW, f"{name}: {what}", unit, (value,), None, others))

    if crowd.known.served < 100:
        raise NotMeasuredError(f"the right user got {dict(crowd.known.statuses)}")
    add("cached, p99", "ms", 1000 * percentile(crowd.known.waits, 0.99))
    add("cached, slowest", "ms", 1000 * max(crowd.known.waits))
    add("the load itself, slowest", "ms", 1000 * crowd.late)
    for who, tally in [("new", crowd.new), ("new, its address", crowd.neighbours)]:
        if tally.statuses:
            add(f"{who}, served", "%", tally.served)
        if tally.waits:
            add(f"{who}, median", "ms", 1000 * percentile(tally.waits, 0.5))
            add(f"{who}, slowest", "ms", 1000 * max(tally.waits))
    for status, count in sorted(crowd.wrong.statuses.items()):
        add(f"wrong, got {status}" if status else "wrong, no answer", "", count)


async def _read_answer(reader: asyncio.StreamReader) -> int:
    """Read one answer with a Content-Length; its status.

    :raises EOFError: it is not whole.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                await reader.readexactly(int(value))
    except asyncio.IncompleteReadError as error:
        raise EOFError from error
    return int(head.split(b" ", 2)[1])
