"""The whole data plane over connections in memory, put together from settings as the daemon does.

A test module makes its fixtures of the functions at the end:
``world = pytest.fixture(public_world)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from gatekeeper.assembly import Assembly
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.interfaces import Credentials, Grant, IChecker, Verdict
from gatekeeper.config.model import Settings
from gatekeeper.doors import Door, Gateway
from gatekeeper.errors import ConfigurationError
from gatekeeper.net.listeners import Connections
from gatekeeper.net.pool import Origin
from gatekeeper.net.resolver import Resolver
from gatekeeper.net.server import ClientConnection
from gatekeeper.net.sweep import Sweep
from gatekeeper.net.transports import LoopProtocol
from gatekeeper.plane import Plane
from gatekeeper.usage.accesslog import AccessEntry, AccessLog
from gatekeeper.usage.meter import Meter
from gatekeeper.usage.records import UsageRecord
from gatekeeper.usage.undelivered import Undelivered
from tests.memory import ManualLoop, Peer, Server

NOW = 784111777.0
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
VIA = b"1.1 gatekeeper-test"
CLIENT = "198.51.100.7"
ALICE = Grant(user="alice", key_id="k1")

Table: TypeAlias = dict[str, Any]

GATEWAY: Table = {"name": "public", "role": "gateway", "bind": "127.0.0.1:8000"}
PROXY: Table = {"name": "proxy", "role": "forward", "bind": "127.0.0.1:3128", "checkers": ["gate"]}
SERVICE: Table = {"name": "shop", "to": "http://origin.example", "checkers": []}
GUARDED: Table = {**SERVICE, "checkers": ["gate"]}


@implementer(IChecker)
class Gate:
    """A checker that says what the test wants, at once or, with ``answer = None``, later."""

    challenges: Sequence[bytes] = (b'Basic realm="here"', b'Bearer realm="here"')
    varies: frozenset[bytes] | None = None

    def __init__(self) -> None:
        self.answer: Verdict | Exception | None = ALICE
        self.asked: list[Credentials] = []
        self.waiting: list[Deferred[Verdict]] = []

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        self.asked.append(credentials)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        waiting: Deferred[Verdict] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def close(self) -> None:
        """Nothing is held."""


class RecordingJournal:
    """Keeps every record in memory."""

    fsync = "none"

    def __init__(self) -> None:
        self.full = False
        self.records: list[UsageRecord] = []
        self.undelivered = Undelivered()

    def append(self, records: Sequence[UsageRecord], held: Sequence[object]) -> int:
        self.records += records
        return self.undelivered.begin(1, 0, held)

    def sync(self) -> Deferred[None]:
        return succeed(None)

    def withdraw(self) -> bool:
        raise AssertionError


class RecordingLog(AccessLog):
    """Keeps every entry."""

    def __init__(self) -> None:
        self.entries: list[AccessEntry] = []

    def write(self, entry: AccessEntry) -> None:
        self.entries.append(entry)


@implementer(ILogObserver)
class Problems(list[LogEvent]):
    """What an operator would have to look at."""

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event or event["log_level"].name in ("error", "critical"):
            self.append(event)


class CountingPlane(Plane):
    """Request ids that a test can know: 1, 2, 3."""

    ids = 0

    def next_id(self) -> bytes:
        self.ids += 1
        return b"%032x" % self.ids


class _AtOnce(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except OSError as error:
            future.set_exception(error)
        return future


class World:
    """Doors, pools, clients and upstreams. ``settings`` are tables of the configuration."""

    def __init__(
        self,
        *,
        services: Sequence[Table] = (SERVICE,),
        listeners: Sequence[Table] = (GATEWAY, PROXY),
        **settings: Any,
    ) -> None:
        self.loop = ManualLoop()
        self.settings = Settings.model_validate(
            {
                "state_dir": Path("/nowhere"),
                "listeners": list(listeners),
                "services": list(services),
                **settings,
            }
        )
        self.journal = RecordingJournal()
        self.log = RecordingLog()
        self.sweep = Sweep(self.loop.time)
        self.plane = CountingPlane(
            sweep=self.sweep,
            limits=self.settings.limits,
            timeouts=self.settings.timeouts,
            meter=Meter(self.journal, self.loop.call_soon),
            access_log=self.log,
            wall_clock=lambda: NOW,
            monotonic=self.loop.time,
        )
        self.plane.pseudonym = VIA.partition(b" ")[2]
        self.plane.via = VIA
        self.gate = Gate()
        self.names: dict[str, list[str]] = {}  # what the resolver knows
        self.resolver = Resolver(self.loop, executor=_AtOnce(), look_up=self._look_up)
        try:
            self.assembly = Assembly(
                self.settings,
                self.plane,
                {"gate": IChecker(self.gate)},
                VerdictCache(100, 300.0, 5.0),
                self.loop,
                self.resolver,
                [("127.0.0.1", 8000), ("127.0.0.1", 3128)],
            )
        except ConfigurationError:
            self.loop.close()
            raise
        self.doors = {each.name: self.assembly.door(each) for each in self.settings.listeners}
        self.connections = Connections(self.settings.limits, self.loop.call_soon)
        self.server = self.serve("origin.example")
        self.problems = Problems()
        globalLogPublisher.addObserver(self.problems)

    def _look_up(self, host: str) -> list[str]:
        if host not in self.names:
            raise OSError(f"no such name: {host}")
        return self.names[host]

    def close(self) -> None:
        """Give everything back, and see that nothing went wrong unnoticed."""
        globalLogPublisher.removeObserver(self.problems)
        self.loop.settle()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        self.loop.close()
        assert self.loop.errors == []
        assert self.problems == []

    # --- who takes part -------------------------------------------------------------------

    def connect(
        self, listener: str = "public", peer: str = CLIENT, *, can_half_close: bool = True
    ) -> Peer:
        """A client connects."""
        connection = ClientConnection(self.plane, self.doors[listener], self.connections)
        return self.loop.connect(
            LoopProtocol(connection), (peer, 50000), can_half_close=can_half_close
        )

    def serve(self, host: str, port: int = 80, **options: Any) -> Server:
        """Somebody listens there."""
        server = self.loop.servers[host, port] = Server(**options)
        return server

    def upstream(self) -> Peer:
        """The connection that the origin has accepted."""
        return self.server.accepted()

    def exchange(self, client: Peer, request: bytes, response: bytes) -> Peer:
        """One request and its response, over a new connection to the origin."""
        client.sends(request)
        upstream = self.upstream()
        upstream.sends(response)
        assert upstream.received()
        assert client.received()
        return upstream

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.now += seconds
        self.loop.settle()
        self.sweep.run()
        self.loop.settle()

    # --- what there is to see -------------------------------------------------------------

    def door(self, name: str) -> Door:
        return self.doors[name]

    @property
    def origin(self) -> Origin:
        """The pool of the first service."""
        gateway = self.doors["public"]
        assert isinstance(gateway, Gateway)
        hosts = self.settings.services[0].hosts
        origin = gateway.services.find(hosts[0] if hosts else None, b"/").origin
        assert isinstance(origin, Origin)
        return origin

    @property
    def pool(self) -> str:
        """``1 active, 0 idle, 0 connecting, 0 queued``."""
        return repr(self.origin).partition(": ")[2][:-1]

    @property
    def entry(self) -> AccessEntry:
        """The only line of the access log."""
        (entry,) = self.log.entries
        return entry

    @property
    def record(self) -> UsageRecord:
        """The only usage record."""
        (record,) = self.journal.records
        return record


def worlds() -> Iterator[Callable[..., World]]:
    """A fixture: makes worlds, and closes them."""
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(**settings))
        return made[-1]

    yield make
    for world in made:
        world.close()


def public_world() -> Iterator[World]:
    """A fixture: a public service at an origin, and a forward proxy."""
    world = World()
    yield world
    world.close()


def guarded_world() -> Iterator[World]:
    """A fixture: the same, with a checker before the service."""
    world = World(services=[GUARDED])
    yield world
    world.close()
