"""The results as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.faults.house import Result

_COLUMNS = ("answered", "stored", "missing", "twice", "doubtful", "refused", "broken")


def write_table(results: Sequence[Result]) -> None:
    """Print one line for each fault, its rounds added up."""
    table = Table(title="Answers to clients, and usage in the store")
    table.add_column("fault")
    for name in ("rounds", *_COLUMNS):
        table.add_column(name, justify="right")
    for fault in dict.fromkeys(result.fault for result in results):
        rounds = [result for result in results if result.fault == fault]
        sums = (sum(getattr(result, name) for result in rounds) for name in _COLUMNS)
        table.add_row(fault, str(len(rounds)), *(f"{value:,d}" for value in sums))
    Console(width=110).print(table)
