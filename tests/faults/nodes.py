"""Two nodes with two workers each, one PostgreSQL and one Redis, which each node reaches by lines
of its own that can be cut.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from argon2 import PasswordHasher

from tests.auth.redis_server import RedisServer
from tests.daemon import Daemon, wait_until
from tests.faults.crowd import Crowd
from tests.faults.load import PASSWORD
from tests.faults.relay import Relay
from tests.hostile.issuers import AuthServer
from tests.process.crew import call, is_there, workers
from tests.servers import PostgresServer

PATIENCE: Final = 60.0

#: What there is for one user in one round, and what a request takes of it.
CREDITS: Final = 2100
PRICE: Final = 7
QUOTA: Final = 300

#: Seconds that the store may take for one statement.
STATEMENT_TIMEOUT: Final = 1.0

#: Seconds after which Redis's silence is noticed: that of one answer, and of a beat.
SILENCE: Final = 3.0

_HASH: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)

_CONFIGURATION: Final = f"""
workers = 2
state_dir = "state"
management = {{ bind = "@management@", auth = "none" }}
store = {{ url = "URL", statement_timeout = {STATEMENT_TIMEOUT} }}
cache = {{ url = "redis://@redis@/0" }}
usage = {{ flush_interval = 0.1, records = true, fsync = "FSYNC" }}
credits = {{ balance_ttl = 1.0 }}
log = {{ access = "none" }}

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[checkers.users]
type = "basic"
users = {{ USERS }}

[checkers.tokens]
type = "exchange"
url = "http://@auth@/auth"

[[services]]
name = "shop"
from = "/shop"
to = "http://@origin@"
checkers = ["users"]

[[services]]
name = "tokened"
from = "/tokened"
to = "http://@origin@"
checkers = ["tokens"]

[[services]]
name = "paid"
from = "/paid"
to = "http://@origin@"
checkers = ["users"]
credits = {{ source = "prepaid", amount = {PRICE} }}

[[services]]
name = "limited"
from = "/limited"
to = "http://@origin@"
checkers = ["users"]
quotas = [{{ units = {QUOTA}, per = "month" }}]
"""


class Node:
    """A daemon with two workers, and its lines ``to_store`` and ``to_redis``."""

    def __init__(self, daemon: Daemon, to_store: Relay, to_redis: Relay) -> None:
        self.daemon = daemon
        self.port = daemon.port("gateway")
        self.to_store = to_store
        self.to_redis = to_redis

    def start(self) -> None:
        """Start it, and wait until both workers serve."""
        try:
            self.daemon.start()
        except AssertionError:
            self.daemon.show()
            raise

    def stop(self) -> None:
        """SIGTERM: it ends by itself, with nothing to complain about."""
        if self.daemon.is_running:
            self.daemon.terminate()
            self.daemon.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL of the supervisor: its workers end by themselves, also those that just begin."""
        self.daemon.kill()
        wait_until(lambda: not any(self._processes()), "the workers' end", PATIENCE)
        self.daemon.pid_file.unlink(missing_ok=True)
        self.daemon.check_log()

    def kill_worker(self, number: int) -> None:
        """SIGKILL of a worker, which is replaced some time later."""
        pid = workers(self.daemon)[number]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_there(pid), "the worker's end")

    def wait_for_workers(self) -> None:
        """Wait until all workers are there."""
        wait_until(lambda: len(workers(self.daemon)) == 2, "two workers", PATIENCE)

    def heal(self) -> None:
        """Whatever was done to it, it runs, and reaches everything."""
        self.to_store.mend()
        self.to_redis.mend()
        if not self.daemon.is_running:
            self.daemon.pid_file.unlink(missing_ok=True)
            self.start()

    def _processes(self) -> Iterator[int]:
        """All that there are of it."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                if (process / "cwd").readlink() == self.daemon.directory.resolve():
                    yield int(process.name)

    @property
    def left_over(self) -> list[Path]:
        """Segments that the store does not have."""
        return sorted((self.daemon.state_dir / "journal").glob("*.journal"))


class Nodes:
    """A context manager: ``here`` and ``there``, with callers and an origin.

    In each of up to ``rounds`` rounds other users call; their names end with the round's number.
    """

    users: Final = ("ann", "bob", "buyer", "guest")

    def __init__(
        self,
        directory: Path,
        postgres: PostgresServer,
        redis: RedisServer,
        rounds: int,
        fsync: str = "interval",
    ) -> None:
        self._postgres = postgres
        self._url = postgres.create_database()
        self.redis = redis
        redis.fresh()
        users = (f"{user}{n} = '{_HASH}'" for user in self.users for n in range(1, rounds + 1))
        self._text = _CONFIGURATION.replace("USERS", ", ".join(users)).replace("FSYNC", fsync)
        self._directory = directory
        self._stack = ExitStack()
        self.crowd = Crowd()
        self.auth = AuthServer()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.crowd)
            stack.enter_context(self.auth)
            self.here, self.there = (self._make(name, stack) for name in ("here", "there"))
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _make(self, name: str, stack: ExitStack) -> Node:
        to_store = stack.enter_context(Relay(self._postgres.port))
        to_redis = stack.enter_context(Relay(self.redis.port))
        parts = urlsplit(self._url)
        netloc = f"{parts.netloc.rpartition(':')[0]}:{to_store.port}"
        text = self._text.replace("URL", parts._replace(netloc=netloc).geturl())
        ports = {
            "origin": self.crowd.origin_port,
            "auth": self.auth.port,
            "redis": to_redis.port,
        }
        daemon = Daemon(self._directory / name, text, ports=ports)
        stack.callback(daemon.kill)
        return Node(daemon, to_store, to_redis)

    @property
    def both(self) -> tuple[Node, Node]:
        """The two nodes."""
        return self.here, self.there

    def start(self) -> None:
        """Start both, at the same time."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(Node.start, self.both))

    def stop(self) -> None:
        """SIGTERM for both, at the same time."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(Node.stop, self.both))

    def kill(self) -> None:
        """SIGKILL for both, at the same time."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(Node.kill, self.both))

    def heal(self) -> None:
        """Whatever was done to them, both run, and reach everything."""
        for node in self.both:
            node.heal()

    def grant(self, user: str) -> None:
        """Give a user the credits of a round."""
        document = {"user": user, "credits": CREDITS}
        status, answered = call(self.here.daemon, "POST", "/v1/credits/grants", document)
        assert status < 300, answered

    def wait_until_flushed(self) -> None:
        """Wait until all usage is in the store; there are no callers now."""
        for node in self.both:
            wait_until(lambda node=node: not node.left_over, "the journal is empty", PATIENCE)  # type: ignore[misc]

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the store."""
        return self._postgres.execute(sql, urlsplit(self._url).path[1:])

    def finish(self) -> int:
        """Stop both for good; how many leases there are then, which should be none."""
        self.stop()
        while any(node.left_over for node in self.both):
            self.start()
            self.stop()
        ((leases,),) = self.query("SELECT count(*) FROM lease")
        assert isinstance(leases, int)
        return leases
