"""How long a full load of usage counters takes into the store."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from benchmarks.bench import Bench
from benchmarks.results import Figure, NotMeasuredError, Results
from benchmarks.servers import ROOT

_LONGEST: Final = 120.0  # seconds


def counters(bench: Bench, results: Results) -> None:
    """Distinct counters into a private PostgreSQL, and into SQLite for comparison."""
    sqlite = f"sqlite:///{bench.directory / 'counters.sqlite'}"
    results.add(Figure("counters", "gatekeeper, SQLite", "s", (_flush(sqlite, bench),)))
    results.add(Figure("counters", "gatekeeper", "s", (_into_postgres(bench),)))


def _into_postgres(bench: Bench) -> float:
    try:
        from tests.servers import PostgresServer
    except ImportError as error:
        raise NotMeasuredError(f"PostgreSQL needs a package: pip install {error.name}") from error
    programs = PostgresServer.find_programs()
    if programs is None:
        raise NotMeasuredError("PostgreSQL is not installed (Debian package postgresql)")
    server = PostgresServer(programs)
    try:
        server.start()
        return _flush(server.create_database(), bench)
    except AssertionError as error:
        raise NotMeasuredError(str(error)) from error
    finally:
        server.destroy()


def _flush(url: str, bench: Bench) -> float:
    """Seconds, measured by a process of its own: the reactor cannot be started twice."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.flushing", str(bench.counters)],
        input=url,  # it holds a password, which a command line would show
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise NotMeasuredError(f"flushing fails: {lines[-1]}")
    return float(done.stdout)
