"""What the two nodes of docs/cluster ask of PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gatekeeper.auth.redis_commands import RedisCommands
from gatekeeper.auth.redis_scripts import Keys
from tests.cluster.example import CLUSTER
from tests.cluster.house import House
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import curl
from tests.e2e.test_e2e_management import with_token
from tests.servers import PostgresServer
from tests.sizing.spies import OPERATOR, PostgresSpy, RedisSpy

#: Seconds that nobody asks for anything.
QUIET: Final = 20.0

_KEYVALS: Final = "/api/8/http/keyvals/tokens/"


class Traffic:
    """Both nodes, and who watches. ``processes`` serve requests, of all nodes together."""

    def __init__(self, house: House, spy: PostgresSpy) -> None:
        self.house = house
        self.spy = spy
        self.redis = RedisSpy(house.redis.port)
        self.processes = sum(node.log.count(") serves requests") for node in house.nodes)

    def quiet(self) -> tuple[Counter[str], Counter[str], float]:
        """Nobody asks for anything, but for HAProxy; and the CPU seconds of Redis a second."""
        before = self.redis.cpu
        with self.spy.listening() as asked, self.redis.watching() as commands:
            time.sleep(QUIET)
        return asked, commands, (self.redis.cpu - before) / QUIET

    def add_a_user(self) -> Counter[str]:
        """An operator makes a user on one node."""
        here, there = self.house.nodes
        with self.spy.listening() as asked:
            words = ("user", "add", "shop", "alice", "--password-stdin")
            self.house.command(here, *words, stdin="wonderland\n")
            wait_until(lambda: self._ask(there, "alice") == 200, "alice is known there")
            time.sleep(1)
        return asked

    def fetch_tokens(self, requests: int = 40) -> Counter[str]:
        """So many requests, spread over all processes, with one credential for a token."""
        with self.redis.watching() as commands:
            for _ in range(requests // 2):
                for node in self.house.nodes:
                    field = "Authorization: Bearer demo-acme"
                    assert curl(node.url("gateway", "/partners/x"), "-H", field).status == 200
        return commands

    def look_up(self, times: int = 2000) -> tuple[float, int]:
        """CPU seconds of Redis for one question for a token, as a process asks it.

        And the bytes that it needs for one, beside the token itself.
        """

        async def ask() -> tuple[float, int]:
            commands = RedisCommands(
                f"redis://operator:x@127.0.0.1:{self.house.redis.port}/0", None
            )
            keys = Keys.of("tokens")
            await commands.entry(keys, "add", "somebody", 1000 * "t", 300.0)
            before = self.redis.cpu
            for _ in range(times):
                assert (await commands.entry(keys, "get", "somebody")).value == 1000 * "t"
            used = self.redis.cpu - before
            held = self.redis.client.memory_usage(f"{keys.tokens}somebody")
            await commands.close()
            return used / times, held - 1000

        return asyncio.run(ask())

    def revoke(self) -> Counter[str]:
        """Shut out who has that token."""
        operator = with_token(self.house.nodes[0])
        (key,) = operator.get(_KEYVALS)
        with self.redis.watching() as commands:
            assert operator("PATCH", _KEYVALS, {key: "0"})[0] == 204
        return commands

    @staticmethod
    def _ask(node: Daemon, user: str) -> int:
        return curl(node.url("gateway", "/shop/x"), "-u", f"{user}:wonderland").status


@contextmanager
def running(directory: Path, server: PostgresServer, spy: PostgresSpy) -> Iterator[Traffic]:
    """The example runs, with somebody in its Redis who may look."""
    secrets = directory / "secrets"
    subprocess.run(["sh", CLUSTER / "secrets.sh", secrets], check=True, timeout=PATIENCE)
    users = secrets / "redis_users"
    users.chmod(0o600)
    users.write_text(users.read_text() + OPERATOR)
    (directory / "house").mkdir()
    house = House(directory / "house", secrets, server)
    with house.running():
        yield Traffic(house, spy)
