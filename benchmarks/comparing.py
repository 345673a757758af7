"""One row: several contenders measured one after the other, the first of them again at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple, TypeAlias

from benchmarks.results import Figure, NotMeasuredError, Results


class Sample(NamedTuple):
    """What one measurement gave.

    The figure, how many a second, by how much the peak of memory grew (MiB), and the share of the
    core's time that others took.
    """

    value: float
    per_second: float | None = None
    growth: float | None = None
    others: float | None = None


Measure: TypeAlias = Callable[[], Sample]

#: A name, and the context in which its server runs and gives what measures it.
Contender: TypeAlias = tuple[str, AbstractContextManager[Measure]]


def compare(
    results: Results, row: str, unit: str, contenders: Sequence[Contender], *, rounds: int = 2
) -> None:
    """Measure them and keep their figures, in ``unit``; what cannot be measured is kept as that.

    All are measured ``rounds`` times, in turns, and the first, which the others are compared with,
    once again at the end. 0: each is measured once, and none again.
    """
    samples: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        ready: list[tuple[str, Measure]] = []
        for name, context in contenders:
            try:
                ready.append((name, stack.enter_context(context)))
            except NotMeasuredError as error:
                results.miss(row, name, error)
        turns = ready * rounds + ready[:1] if rounds else ready
        try:
            for name, measure in turns:
                print(f"{row}: {name} …", file=sys.stderr, flush=True)
                try:
                    samples.setdefault(name, []).append(measure())
                except NotMeasuredError as error:
                    results.miss(row, name, error)
        finally:  # what there is when somebody interrupts us, too
            for name, found in samples.items():
                _keep(results, row, name, unit, found)


def compare_together(
    results: Results, row: str, unit: str, contenders: Sequence[Contender], *, rounds: int
) -> None:
    """Measure all of them at the same time, on the one core that they share, ``rounds`` times.

    What the machine does meanwhile, it does to all of them: small differences show, though each
    figure is higher than that of one who has the core, and its caches, to itself.
    """
    samples: dict[str, list[Sample]] = {name: [] for name, _ in contenders}
    with ExitStack() as stack:
        try:
            measures = [stack.enter_context(context) for _, context in contenders]
            with ThreadPoolExecutor(len(measures)) as pool:
                for number in range(1, rounds + 1):
                    print(f"{row}: round {number} of {rounds} …", file=sys.stderr, flush=True)
                    found = pool.map(lambda measure: measure(), measures)
                    for name, sample in zip(samples, found, strict=True):
                        samples[name].append(sample._replace(others=None))
        except NotMeasuredError as error:
            for name in samples:
                results.miss(row, name, error)
        finally:
            for name, values in samples.items():
                _keep(results, row, name, unit, values)


def _keep(results: Results, row: str, name: str, unit: str, samples: Sequence[Sample]) -> None:
    if not samples:
        return
    values = tuple(sample.value for sample in samples)
    rates = [sample.per_second for sample in samples if sample.per_second is not None]
    others = [sample.others for sample in samples if sample.others is not None]
    rate = sum(rates) / len(rates) if rates else None
    results.add(Figure(row, name, unit, values, rate, max(others, default=None)))
    growths = tuple(sample.growth for sample in samples if sample.growth is not None)
    if growths:
        results.add(Figure(row, f"{name}, memory", "MiB", (max(growths),)))
