"""``python -m tests.faults``: many rounds of every fault, and a table of what they came to."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from shutil import which
from typing import Any

from tests.auth.redis_server import RedisServer
from tests.faults import house, node_faults, rounds
from tests.faults.nodes import Nodes
from tests.faults.table import write_table
from tests.servers import PostgresServer


def one_node(
    faults: Collection[Callable[[house.House], None]],
    server: PostgresServer,
    fsync: str,
    disk_latency: float,
) -> Iterator[house.Result]:
    """A round of each fault, with a node of its own."""
    for fault in faults:
        with tempfile.TemporaryDirectory(prefix="gatekeeper-faults-") as directory:
            yield house.run(fault, Path(directory), server, fsync, disk_latency)


def two_nodes(
    faults: Collection[Callable[[Nodes, rounds.Round], None]], server: PostgresServer, fsync: str
) -> Iterator[rounds.Result]:
    """A round of each fault, all with the same two nodes."""
    redis = RedisServer()
    try:
        redis.start()
        with (
            tempfile.TemporaryDirectory(prefix="gatekeeper-faults-") as directory,
            Nodes(Path(directory), server, redis, len(faults), fsync) as nodes,
        ):
            for number, fault in enumerate(faults, 1):
                yield node_faults.run(fault, nodes, number)
            leases = nodes.finish()
            assert leases == 0, "something is leased by nobody"
    finally:
        redis.destroy()


def main() -> int:
    """Run it; the exit status is 1 where an answer was not counted, or twice, and the like."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each fault (20)")
    parser.add_argument("--fsync", choices=("none", "interval", "always"), default="interval")
    parser.add_argument(
        "--disk-latency",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="that each fsync takes longer (one node; 0)",
    )
    parser.add_argument(
        "--nodes", action="store_true", help="two nodes with a Redis, instead of one"
    )
    parser.add_argument("--only", metavar="FAULT", help="one fault instead of all")
    options = parser.parse_args()
    programs = PostgresServer.find_programs()
    if programs is None:
        parser.exit(2, "PostgreSQL's programs (initdb, postgres) are missing\n")
    if options.nodes and which("redis-server") is None:
        parser.exit(2, "redis-server is missing\n")
    of_two = (*node_faults.FAULTS, *node_faults.MORE_FAULTS)
    known: dict[str, Any] = {
        fault.__name__: fault for fault in (of_two if options.nodes else house.FAULTS)
    }
    if options.only is not None and options.only not in known:
        parser.error(f"--only: choose from {', '.join(known)}")
    faults = [known[name] for name in known if options.only in (None, name)]
    results: list[Any] = []
    round_: Iterator[Any]
    server = PostgresServer(programs)
    try:
        server.start()
        for number in range(1, options.rounds + 1):
            if options.nodes:
                round_ = two_nodes(faults, server, options.fsync)
            else:
                round_ = one_node(faults, server, options.fsync, options.disk_latency)
            for result in round_:
                results.append(result)
                print(f"round {number} of {options.rounds}: {result}", file=sys.stderr)
    finally:
        server.destroy()
        write_table(results)
    return int(any(result.is_wrong for result in results))


if __name__ == "__main__":
    sys.exit(main())
