"""What a scrape says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

#: A sample's name and its labels, by name.
Sample: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


def samples(metrics: Iterable[Metric]) -> dict[Sample, float]:
    """The samples of some metrics; none is there twice."""
    found: dict[Sample, float] = {}
    for metric in metrics:
        for sample in metric.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def sample(name: str, **labels: str) -> Sample:
    """A key of :func:`samples`; ``name`` without its prefix."""
    return f"gatekeeper_{name}", tuple(sorted(labels.items()))


def counted(collector: Collector, name: str) -> dict[tuple[str, ...], float]:
    """Samples of one name that are not 0, by their labels' values in the order of the labels."""
    return {
        tuple(value for _, value in labels): number
        for (full_name, labels), number in samples(collector.collect()).items()
        if full_name == f"gatekeeper_{name}" and number
    }
