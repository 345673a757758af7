"""Measures gatekeeper beside nginx, HAProxy and squid, and prints what came out.

A benchmark, not a test: a goal that is not reached is no failure, and what cannot be measured here
is named. All servers are private ones on free ports of 127.0.0.1, with their files in a temporary
directory; all of them have ended, and the directory is gone, when this ends.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import bodies, counters, flood, gas, idle, requests, workers
from benchmarks.bench import MIB, Bench, Cores
from benchmarks.goals import judge
from benchmarks.machine import facts
from benchmarks.report import as_document, as_text
from benchmarks.results import NotMeasuredError, Results

_WARM_UP: Final = 2  # seconds
_SIZE_OF_A_CONNECTION: Final = 4  # open files for it: ours, the proxy's two, the origin's


ROWS: Final[Mapping[str, Callable[[Bench, Results], None]]] = {
    "get": requests.get,
    "tls": requests.tls,
    "metering": requests.metering,
    "scale": requests.scale,
    "down": bodies.down,
    "up": bodies.up,
    "down-tls": bodies.down_tls,
    "tunnel": bodies.tunnel,
    "forward": requests.forward,
    "forward-down": bodies.forward_down,
    "idle": idle.idle,
    "counters": counters.counters,
    "flood": flood.flood,
    "gas": gas.gas,
    "workers": workers.workers,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status: 0, or 130 when it was interrupted."""
    options = _parse(arguments)
    chosen = frozenset(options.only or ROWS)
    results, machine = Results(), facts()
    if options.quick:
        print("--quick: sizes are small and times short, the figures mean little", file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    interrupted = False
    try:
        _measure(options, chosen, results)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: this is what there is", file=sys.stderr)
    outcomes = judge(results, chosen)
    print(as_text(machine, results, outcomes))
    if options.json is not None:
        document = as_document(
            machine,
            {"seconds": options.seconds, "quick": options.quick, "rows": sorted(chosen)},
            results,
            outcomes,
        )
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 130 if interrupted else 0


def _interrupt(number: int, frame: object) -> None:
    """End the run; a second Ctrl-C does not keep us from ending what we have started."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _measure(options: argparse.Namespace, chosen: frozenset[str], results: Results) -> None:
    cores = Cores.choose()
    if cores.load is None:
        results.miss("all", "a core for the proxy alone", "this machine has one core only")
    else:
        os.sched_setaffinity(0, {cores.load})  # and so all that is not the proxy
    _allow_open_files(_SIZE_OF_A_CONNECTION * Bench.idle_connections)
    with tempfile.TemporaryDirectory(prefix="gatekeeper-benchmarks-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        if options.quick:
            bench = Bench(
                directory, cores, 1, 1, body=64 * MIB, idle_connections=200, keys=1000,
                services=100, active_keys=100, counters=10_000, burns=10,
            )  # fmt: skip
        else:
            bench = Bench(directory, cores, options.seconds, _WARM_UP)
        for row, measure in ROWS.items():
            if row in chosen:
                try:
                    measure(bench, results)
                except NotMeasuredError as error:
                    results.miss(row, "the rest" if _has(results, row) else "the row", error)


def _has(results: Results, row: str) -> bool:
    return any(figure.row == row for figure in results.figures)


def _allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Rows:\n"
        + "\n".join(
            f"  {name:13} {(row.__doc__ or '').splitlines()[0]}" for name, row in ROWS.items()
        ),
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=5, help="what is counted of each (default: 5)"
    )
    parser.add_argument(
        "--only", type=_rows, metavar="ROWS", help="some of the rows, with commas between"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--quick", action="store_true", help="one second each and small sizes: to see that it runs"
    )
    return parser.parse_args(arguments)


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError("a whole number from 1 to 3600")
    return int(text)


def _rows(text: str) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(wrong)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
