"""Move distinct counters from a journal into a store and print the seconds: ``flushing COUNT``.

The store's URL comes on standard input.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gatekeeper.config.model import Store
from gatekeeper.process.reactor import install_reactor
from gatekeeper.usage.records import UsageRecord

_PATHS = 1000  # of each user
_TURN = 20  # records in one turn of the loop, under load


async def _flush(reactor: Any, url: str, count: int) -> None:
    from gatekeeper.store.opening import make_store
    from gatekeeper.usage.counters import Counters
    from gatekeeper.usage.flushing import Flusher
    from gatekeeper.usage.journal import Journal

    store = make_store(Store(url=url), reactor)
    await store.open()
    with TemporaryDirectory() as directory:
        journal = Journal(Path(directory), size=1 << 40, fsync="none")
        now = time.time()
        for begin in range(0, count, _TURN):
            journal.append(
                [
                    UsageRecord(
                        "", now, 0.001, "service", f"user-{number // _PATHS}", "", "GET",
                        f"/service/v0/things/{number % _PATHS}", 200, 200, 0, 1000, 1, "ok",
                    )
                    for number in range(begin, min(begin + _TURN, count))
                ]
            )  # fmt: skip
        flusher = Flusher(store, journal, Counters(_PATHS), reactor)
        begun = time.perf_counter()
        remaining = await flusher.stop(timeout=100.0)
        taken = time.perf_counter() - begun
        journal.close()
    await store.close()
    if remaining:
        raise SystemExit(f"{remaining} records did not get into the store")
    print(taken)


def main() -> None:
    """Run with the daemon's own reactor."""
    install_reactor()
    from twisted.internet import task
    from twisted.internet.defer import Deferred

    url, count = sys.stdin.read().strip(), int(sys.argv[1])
    task.react(lambda reactor: Deferred.fromCoroutine(_flush(reactor, url, count)))


if __name__ == "__main__":
    main()
