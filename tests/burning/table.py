"""The results as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.burning.house import Result

_COLUMNS = ("requests", "metered", "burned", "uncollected", "error", "missing", "twice")


def write_table(results: Sequence[Result]) -> None:
    """Print one line for each fault, its rounds added up; credits, and seconds."""
    table = Table(title="Credits metered, and what became of them on the chain")
    table.add_column("fault")
    for name in ("rounds", *_COLUMNS, "seconds"):
        table.add_column(name, justify="right")
    for fault in dict.fromkeys(result.fault for result in results):
        rounds = [result for result in results if result.fault == fault]
        sums = (sum(getattr(result, name) for result in rounds) for name in _COLUMNS)
        seconds = sum(result.seconds for result in rounds)
        table.add_row(fault, str(len(rounds)), *(f"{value:,d}" for value in sums), f"{seconds:.1f}")
    Console(width=130).print(table)
