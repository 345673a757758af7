"""The metrics of several processes as those of one daemon.

What is counted adds up, and so does what there is now; but for a few, of which the greatest or the
smallest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from prometheus_client.core import Metric

from gatekeeper.metrics import families

#: A metric in plain values, to be sent to another process: name, help, kind, and samples (name,
#: labels, value).
Plain: TypeAlias = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]

_Pick: TypeAlias = Callable[[float, float], float]

_RULES: Final[Mapping[str, _Pick]] = {
    families.BUILD.name: max,
    families.LATENESS.name: max,
    families.JOURNAL_AGE.name: max,
    families.JOURNAL_FAILING.name: max,
    families.JOURNAL_FULL.name: max,
    families.TOKEN_CACHE_ENTRIES.name: max,  # each process has the same ones
    families.TOKEN_CACHE_CAUGHT_UP.name: min,
    families.STATE_VERSION.name: min,
    families.STATE_LISTENING.name: min,
    families.UPSTREAM_HEALTHY.name: min,
    "process_max_fds": min,
    "process_start_time_seconds": min,
    "python_info": max,
}

#: These go on counting where a process has ended: what it has counted stays in the sums.
_COUNTED: Final = ("counter", "histogram")


def to_plain(metrics: Iterable[Metric]) -> list[Plain]:
    """What MessagePack can send."""
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def counted(metrics: Iterable[Plain]) -> list[Plain]:
    """What of the metrics of a process stays when it has ended."""
    return [each for each in metrics if each[2] in _COUNTED and each[0] not in _RULES]


def merge(parts: Iterable[Iterable[Plain]]) -> list[Plain]:
    """Make one of the metrics of several processes."""
    heads: dict[str, tuple[str, str]] = {}
    values: dict[str, dict[tuple[Any, ...], float]] = {}
    for part in parts:
        for name, help_text, kind, samples in part:
            heads.setdefault(name, (help_text, kind))
            merged = values.setdefault(name, {})
            pick = _RULES.get(name, float.__add__)
            for sample, labels, value in samples:
                key = (sample, *labels.items())
                number = float(value)
                merged[key] = pick(merged[key], number) if key in merged else number
    return [
        (
            name,
            *heads[name],
            [(sample, dict(labels), value) for (sample, *labels), value in merged.items()],
        )
        for name, merged in values.items()
    ]


def from_plain(metrics: Iterable[Plain]) -> list[Metric]:
    """What can be shown."""
    shown = []
    for name, help_text, kind, samples in metrics:
        metric = Metric(name, help_text, kind)
        for sample, labels, value in samples:
            metric.add_sample(sample, labels, value)
        shown.append(metric)
    return shown
