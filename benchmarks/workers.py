"""Two workers beside one process: requests a second, and what a request costs.

Nothing is bound to a core here: on a machine with two, the load and the origin take from what the
workers would have, so that the ratio of requests a second is below what two free cores would give.
What a request costs tells that apart: if that stays as it is, workers are not in each other's way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks import servers
from benchmarks.bench import Bench, Cores
from benchmarks.comparing import Measure, Sample, compare
from benchmarks.load import Load, Request
from benchmarks.processes import Stopwatch
from benchmarks.results import Figure, NotMeasuredError, Results
from benchmarks.servers import Server

UNIT = "requests/s"


def workers(bench: Bench, results: Results) -> None:
    """The small GET of the first row, with one process and with two workers."""
    if bench.cores.proxy is None or bench.cores.load is None:
        raise NotMeasuredError("two workers need two cores")
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {bench.cores.proxy, bench.cores.load})
    free = replace(bench, cores=Cores(None, None))
    costs: dict[str, list[float]] = {}
    try:
        with servers.origin(free) as origin:
            compare(
                results,
                "workers",
                UNIT,
                [(name, _measured(free, origin, name, number, costs)) for name, number in _BOTH],
            )
    finally:
        os.sched_setaffinity(0, ours)
    for name, values in costs.items():
        results.add(Figure("workers", f"{name}, CPU", "µs/request", tuple(values)))


_BOTH = (("one", 1), ("two", 2))


@contextmanager
def _measured(
    bench: Bench, origin: Server, name: str, number: int, costs: dict[str, list[float]]
) -> Iterator[Measure]:
    with servers.gatekeeper(bench, origin, workers=number) as server:
        host = f"127.0.0.1:{server.port}"
        request = Request("/", host, "Authorization", f"Bearer {bench.key.token()}")
        load = Load(bench, server.port, [request], "http")
        load.check(checks=True)

        def measure() -> Sample:
            load.run(bench.warm_up)
            stopwatch = Stopwatch(server.program, None)
            sent = load.run(bench.seconds)
            cost = stopwatch.read().cpu / sent.requests * 1e6
            costs.setdefault(name, []).append(cost)
            return Sample(sent.per_second)

        yield measure
