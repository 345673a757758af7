"""``python -m tests.sizing``: the figures of docs/sizing.rst that are measured or computed here."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from gatekeeper.usage.journal import SEGMENT_RECORDS
from tests.servers import PostgresServer, running_postgres
from tests.sizing.flushing import Kind, batches, leases, names_of_batches, reading
from tests.sizing.leasing import spread, transactions
from tests.sizing.spies import PostgresSpy
from tests.sizing.traffic import QUIET, running

_KINDS: Final = {
    "50 counters": Kind(50),
    "2 000 counters that are there": Kind(2000),
    "2 000 counters that are new": Kind(2000, new=True),
    "2 000 counters, each of a user with a quota": Kind(2000, drawn=True),
    "50 counters, and usage.records": Kind(50, records=True),
}


async def main(_: Any) -> None:
    """Measure everything, and print it."""
    for server in running_postgres():
        spy = PostgresSpy(server)
        await usage(server, spy)
        await accounts_and_users(server, spy)
        nodes(server, spy)
    computed()


async def usage(server: PostgresServer, spy: PostgresSpy) -> None:
    """What a flush costs."""
    print(f"A batch of {SEGMENT_RECORDS} requests:")
    for name, kind in _KINDS.items():
        cost, grown = await batches(server, spy, kind)
        print(f"  {name}: {cost}, {grown / 1024:.0f} KiB more in tables")
    print(f"  {await names_of_batches(server):.0f} bytes to know it again")


async def accounts_and_users(server: PostgresServer, spy: PostgresSpy) -> None:
    """What leases cost, and changes of operators."""
    for at_once in (1, 100):
        print(f"A transaction that leases of {at_once}: {await leases(server, spy, at_once)}")
    for users in (1_000, 10_000):
        cost, size = await reading(server, spy, users)
        print(f"Reading {users} users: {cost}, {size / 1024:.0f} KiB")


def nodes(server: PostgresServer, spy: PostgresSpy) -> None:
    """What the example asks for."""
    with tempfile.TemporaryDirectory() as name, running(Path(name), server, spy) as two:
        print(f"Two nodes with {two.processes} workers in all, quiet for {QUIET:g} s:")
        fewest = spy.connections
        asked, commands, cpu = two.quiet()
        _print(asked)
        _print(commands)
        print(f"  {1000 * cpu:.2f} ms of CPU of Redis a second")
        print("A user is made:")
        _print(two.add_a_user())
        print("40 requests with one token:")
        _print(two.fetch_tokens())
        print("The token is revoked:")
        _print(two.revoke())
        cpu, held = two.look_up()
        print(f"A question for a token: {1e6 * cpu:.0f} µs of CPU of Redis; {held} bytes beside it")
        print(
            f"Connections: {fewest} to {spy.connections} to PostgreSQL, {spy.memory() / 2**20:.1f} "
            f"MiB there for each; {two.redis.connections} to Redis"
        )


def computed() -> None:
    """What needs no server."""
    print("Transactions of a process for one user: in the first minute, and in each later one")
    for rate in (0.01, 0.1, 1, 10, 100, 1000):
        for ttl in (30.0, 300.0):
            first, later = transactions(rate, ttl)
            print(f"  {rate:g} requests/s, balance_ttl {ttl:g}: {first}, {later:.1f}")
    print("One request to each process: let through at once, and a minute later")
    for credits in (20, 100, 500, 1000, 5000):
        for processes in (4, 100, 800):
            print(f"  {credits} credits, {processes} processes: {spread(credits, processes)}")


def _print(counts: Counter[str]) -> None:
    for text, number in counts.most_common():
        print(f"  {number:5} {text[:100]}")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
