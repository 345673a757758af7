"""Two workers beside one process: requests a second, and what a request costs.

Each process of ours is held to a portion of a core, so that the load and the origin, which need the
rest of the machine, take nothing from what the workers have. Without that, on a machine with two
cores, all of them share these; such figures are given, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from benchmarks import servers
from benchmarks.bench import Bench, Cores
from benchmarks.comparing import Contender, Measure, Sample, compare
from benchmarks.load import Load, Request
from benchmarks.portions import Portions
from benchmarks.processes import Stopwatch
from benchmarks.results import Figure, NotMeasuredError, Results
from benchmarks.servers import Server

UNIT = "requests/s"

#: Of a core, for each process: two of them leave more than half of two cores to the others.
PORTION: Final = 0.3

_NUMBERS: Final = {"one": 1, "two": 2}


def workers(bench: Bench, results: Results) -> None:
    """The small GET of the first row, with one process and with two workers."""
    if bench.cores.proxy is None or bench.cores.load is None:
        raise NotMeasuredError("two workers need two cores")
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {bench.cores.proxy, bench.cores.load})
    free = replace(bench, cores=Cores(None, None))
    costs: dict[str, list[float]] = {}

    def contender(name: str, number: int, portion: float | None) -> Contender:
        return name, _measured(free, origin, number, portion, costs.setdefault(name, []))

    try:
        with servers.origin(free) as origin:
            contenders = [
                *(contender(name, number, PORTION) for name, number in _NUMBERS.items()),
                *(contender(f"{name}, free", number, None) for name, number in _NUMBERS.items()),
            ]
            compare(results, "workers", UNIT, contenders)
    finally:
        os.sched_setaffinity(0, ours)
    for name, values in costs.items():
        if values:
            results.add(Figure("workers", f"{name}, CPU", "µs/request", tuple(values)))


@contextmanager
def _measured(
    bench: Bench, origin: Server, number: int, portion: float | None, costs: list[float]
) -> Iterator[Measure]:
    with ExitStack() as stack:
        portions = None if portion is None else stack.enter_context(Portions(portion))
        server = stack.enter_context(servers.gatekeeper(bench, origin, workers=number))
        processes = server.program.wait_for_processes(1 if number == 1 else 1 + number)
        if portions is not None:
            portions.give(processes)
        host = f"127.0.0.1:{server.port}"
        request = Request("/", host, "Authorization", f"Bearer {bench.key.token()}")
        load = Load(bench, server.port, [request], "http")
        load.check(checks=True)

        def measure() -> Sample:
            load.run(bench.warm_up)
            stopwatch = Stopwatch(server.program, None)
            sent = load.run(bench.seconds)
            costs.append(stopwatch.read().cpu / sent.requests * 1e6)
            return Sample(sent.per_second)

        yield measure
