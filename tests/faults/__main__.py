"""``python -m tests.faults``: many rounds of every fault, and a table of what they came to."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.house import FAULTS, Result, run
from tests.faults.table import write_table
from tests.servers import PostgresServer


def main() -> int:
    """Run it; the exit status is 1 where an answer was not counted, or twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each fault (20)")
    parser.add_argument("--fsync", choices=("none", "interval", "always"), default="interval")
    parser.add_argument(
        "--only", choices=[fault.__name__ for fault in FAULTS], help="one fault instead of all"
    )
    options = parser.parse_args()
    programs = PostgresServer.find_programs()
    if programs is None:
        parser.exit(2, "PostgreSQL's programs (initdb, postgres) are missing\n")
    faults = [fault for fault in FAULTS if options.only in (None, fault.__name__)]
    results: list[Result] = []
    server = PostgresServer(programs)
    try:
        server.start()
        for number in range(1, options.rounds + 1):
            for fault in faults:
                with tempfile.TemporaryDirectory(prefix="gatekeeper-faults-") as directory:
                    result = run(fault, Path(directory), server, options.fsync)
                results.append(result)
                print(f"round {number} of {options.rounds}: {result}", file=sys.stderr)
    finally:
        server.destroy()
        write_table(results)
    return int(any(result.missing or result.twice for result in results))


if __name__ == "__main__":
    sys.exit(main())
