"""What is done to two nodes under load, and rounds of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gatekeeper.store.postgres_link import GRACE
from tests.faults.nodes import STATEMENT_TIMEOUT, Nodes
from tests.faults.rounds import Result, Round


def worker_killed(nodes: Nodes, load: Round) -> None:
    """SIGKILL of a worker of each node; a revocation before another one is in its place."""
    for node, number in zip(nodes.both, (1, 2), strict=True):
        load.serve()
        node.kill_worker(number)
        if node is nodes.here:
            load.revoke(nodes.there)
        node.wait_for_workers()
    load.serve()


def node_killed(nodes: Nodes, load: Round) -> None:
    """SIGKILL of a node, which does not hear of a revocation before it is started again."""
    load.serve()
    nodes.there.kill()
    load.revoke(nodes.here)
    load.serve(nodes.here)
    nodes.there.start()
    load.serve()


def cut_from_redis(nodes: Nodes, load: Round) -> None:
    """A node loses its connections to Redis, and the other one revokes meanwhile.

    A worker that begins in that time knows no more than the others.
    """
    load.serve()
    with load.without_redis(nodes.there):
        load.revoke(nodes.here)
        load.serve(nodes.here)
        nodes.there.kill_worker(1)
        nodes.there.wait_for_workers()
        load.serve(nodes.there, paths=["/shop"])
    load.serve()


def redis_falls_silent(nodes: Nodes, load: Round) -> None:
    """As before, but nothing tells the node that its connections lead nowhere."""
    load.serve()
    with load.without_redis(nodes.there, silent=True):
        load.revoke(nodes.here)
        load.serve(nodes.there, paths=["/shop"])
    load.serve()


def cut_from_postgres(nodes: Nodes, load: Round) -> None:
    """A node loses its connections to the store, and revokes meanwhile."""
    load.serve()
    nodes.there.to_store.sever()
    load.serve()
    load.revoke(nodes.there)
    load.serve()
    nodes.there.to_store.mend()
    load.serve()


def postgres_falls_silent(nodes: Nodes, load: Round) -> None:
    """What a node has asked the store for is done when it has long given it up."""
    load.serve()
    nodes.there.to_store.fall_silent()
    load.serve()
    time.sleep(STATEMENT_TIMEOUT + GRACE + 1.0)
    load.revoke(nodes.here)
    load.serve()
    nodes.there.to_store.mend()
    load.serve()


def cut_from_postgres_and_killed(nodes: Nodes, load: Round) -> None:
    """What is not in the store when a worker is killed, and then the node, gets there later."""
    load.serve()
    nodes.there.to_store.sever()
    load.serve()
    nodes.there.kill_worker(2)
    load.serve()
    nodes.there.kill()
    load.revoke(nodes.here)
    nodes.there.start()
    load.serve()
    nodes.there.to_store.mend()
    load.serve()


def both_restarted(nodes: Nodes, load: Round) -> None:
    """SIGTERM for both, just after a revocation, and a new start."""
    load.serve()
    load.revoke(nodes.here)
    nodes.stop()
    nodes.start()
    load.serve()


def both_killed_and_redis(nodes: Nodes, load: Round) -> None:
    """SIGKILL of both, just after a revocation, and of Redis, which comes back with nothing."""
    load.serve()
    load.revoke(nodes.there)
    nodes.kill()
    nodes.redis.restart()
    nodes.start()
    load.serve()


FAULTS: Final[tuple[Callable[[Nodes, Round], None], ...]] = (
    worker_killed,
    node_killed,
    cut_from_redis,
    redis_falls_silent,
    cut_from_postgres,
    cut_from_postgres_and_killed,
    both_restarted,
    both_killed_and_redis,
)

#: Those that take long.
MORE_FAULTS: Final[tuple[Callable[[Nodes, Round], None], ...]] = (postgres_falls_silent,)

#: Seconds within which a revocation takes effect where both nodes reach Redis, and those within
#: which one that is cut off from it notices that.
PROMISED: Final = 0.1


def run(
    fault: Callable[[Nodes, Round], None], nodes: Nodes, number: int, promised: float = PROMISED
) -> Result:
    """Do one round of a fault, and say what it came to. Each round has a number of its own."""
    load = Round(nodes, number, promised)
    try:
        fault(nodes, load)
        load.run_out()
        load.end()
        nodes.wait_until_flushed()
        return load.compare(fault.__name__.replace("_", " "))
    finally:
        load.end()
        nodes.heal()
