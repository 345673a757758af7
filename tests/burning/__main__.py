"""``python -m tests.burning``: many rounds of every fault, and a table of what they came to."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.burning.faults import FAULTS, run
from tests.burning.house import House, Result
from tests.burning.table import write_table
from tests.servers import PostgresServer

_NAMES: Final = [fault.__name__ for fault in FAULTS]


def main() -> int:
    """Run it; the exit status is 1 where a credit is missing, or was burned twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.burning", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each fault (5)")
    parser.add_argument("--only", nargs="+", choices=_NAMES, help="not all of them")
    parser.add_argument("--sqlite", action="store_true", help="SQLite in place of PostgreSQL")
    options = parser.parse_args()
    programs = PostgresServer.find_programs()
    if programs is None and not options.sqlite:
        parser.exit(2, "PostgreSQL's programs (initdb, postgres) are missing\n")
    server = PostgresServer(programs) if programs is not None and not options.sqlite else None
    faults = [fault for fault in FAULTS if fault.__name__ in (options.only or _NAMES)]
    if server is None:
        faults = [fault for fault in faults if fault.__name__ != "store_crashes"]
    results: list[Result] = []
    try:
        if server is not None:
            server.start()
        with (
            tempfile.TemporaryDirectory(prefix="gatekeeper-burning-") as directory,
            House(Path(directory), server) as house,
        ):
            for number in range(1, options.rounds + 1):
                for fault in faults:
                    results.append(run(fault, house))
                    print(f"round {number} of {options.rounds}: {results[-1]}", file=sys.stderr)
            house.finish()
    finally:
        if server is not None:
            server.destroy()
        write_table(results)
    return int(any(result.missing or result.twice for result in results))


if __name__ == "__main__":
    sys.exit(main())
