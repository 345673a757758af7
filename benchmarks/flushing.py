"""Write distinct counters into a store and print the seconds: ``flushing COUNT``.

The store's URL comes on standard input.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from gatekeeper.config.model import Store
from gatekeeper.tap import install_reactor
from gatekeeper.usage.records import UsageRecord

_PATHS = 1000  # of each user


async def _flush(reactor: Any, url: str, count: int) -> None:
    from gatekeeper.store.opening import make_store
    from gatekeeper.usage.counters import Counters
    from gatekeeper.usage.flushing import Flusher

    counters = Counters(_PATHS, count + 1)
    now = time.time()
    counters.add_all(
        UsageRecord(
            "", now, 0.001, "service", f"user-{number // _PATHS}", "", "GET",
            f"/service/v0/things/{number % _PATHS}", 200, 200, 0, 1000, 1, "ok",
        )
        for number in range(count)
    )  # fmt: skip
    if len(counters) != count:
        raise AssertionError(f"{len(counters)} counters, not {count}")
    store = make_store(Store(url=url), reactor)
    await store.open()
    begun = time.perf_counter()
    lost = await Flusher(store, counters, reactor).stop(timeout=100.0)
    taken = time.perf_counter() - begun
    await store.close()
    if lost:
        raise SystemExit(f"{lost} counters did not get into the store")
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
