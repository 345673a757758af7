"""The results as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from tests.faults.house import Result
from tests.faults.rounds import Result as NodesResult


def write_table(results: Sequence[Result] | Sequence[NodesResult]) -> None:
    """Print one line for each fault, its rounds added up; of ``lag`` it is the longest."""
    if not results:
        return
    table = Table(title="Answers to clients, and usage in the store")
    table.add_column("fault", no_wrap=True)
    columns = [each.name for each in fields(results[0]) if each.type == "int"]
    for name in ("rounds", *columns):
        table.add_column(name.replace("_", " "), justify="right")
    for fault in dict.fromkeys(result.fault for result in results):
        rounds = [result for result in results if result.fault == fault]
        row = [str(len(rounds))]
        for name in columns:
            values = [getattr(result, name) for result in rounds]
            row.append(f"{max(values) if name == 'lag' else sum(values):,d}")
        table.add_row(fault, *row)
    Console(width=200).print(table)
