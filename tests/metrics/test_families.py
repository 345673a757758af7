from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from gatekeeper.metrics.families import (
    REQUEST_DURATION,
    REQUESTS,
    UPSTREAM_QUEUED,
    Family,
    all_families,
)
from gatekeeper.stats import RequestStats


class Collected:
    def __init__(self, *metrics: Metric) -> None:
        self.metrics = metrics

    def collect(self) -> tuple[Metric, ...]:
        return self.metrics


def registry_of(*metrics: Metric) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Collected(*metrics))
    return registry


def test_equal_labels_add_up() -> None:
    """Prometheus refuses a scrape with a sample twice in it."""
    metric = UPSTREAM_QUEUED.of([(("a",), 1), (("b",), 2), (("a",), 3)])
    assert metric.type == "gauge"
    assert [(sample.labels, sample.value) for sample in metric.samples] == [
        ({"service": "a"}, 4),
        ({"service": "b"}, 2),
    ]


def test_a_counter() -> None:
    metric = REQUESTS.of([(("a", "2xx", "ok"), 5)])
    assert metric.type == "counter"
    (sample,) = metric.samples
    assert sample.name == "gatekeeper_requests_total"
    assert sample.labels == {"service": "a", "status": "2xx", "reason": "ok"}


def test_without_labels() -> None:
    (sample,) = Family("x_seconds", "X.").one(3.5).samples
    assert (sample.name, sample.labels, sample.value) == ("x_seconds", {}, 3.5)


def test_a_histogram_is_cumulative() -> None:
    one, other = RequestStats(), RequestStats()
    for duration in (0.0005, 0.002, 0.3, 1000.0):
        one.finished(200, duration, "ok", 0, 0)
    other.finished(200, 0.3, "ok", 0, 0)
    registry = registry_of(REQUEST_DURATION.durations([(("a",), one), (("a",), other)]))
    name = "gatekeeper_request_duration_seconds"

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value(f"{name}_bucket", {"service": "a", "le": bound})

    bounds = ("0.001", "0.0025", "0.25", "0.5", "180.0", "+Inf")
    assert [bucket(bound) for bound in bounds] == [1, 2, 2, 4, 4, 5]
    assert registry.get_sample_value(f"{name}_count", {"service": "a"}) == 5
    total = registry.get_sample_value(f"{name}_sum", {"service": "a"})
    assert total == pytest.approx(1000.6025)


def test_a_route_that_has_counted_stays_as_it_is() -> None:
    stats = RequestStats()
    stats.finished(200, 0.3, "ok", 0, 0)
    before = list(stats.durations)
    REQUEST_DURATION.durations([(("a",), stats), (("a",), stats)])
    assert stats.durations == before


FAMILIES = all_families()


def test_there_are_families() -> None:
    assert len(FAMILIES) > 30
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_conventions(family: Family) -> None:
    """What promtool would have to say."""
    assert re.fullmatch(r"gatekeeper(_[a-z]+)+", family.name)
    assert not re.search(r"_(count|sum|bucket|created)$", family.name)
    assert not re.search(r"milli|kilo|minutes|percent|_ms_|_ms$", family.name)
    assert family.help.endswith(".")
    assert set(family.labels) <= {
        "checker", "kind", "listener", "outcome", "reason", "service", "state", "status",
        "upstream", "verdict", "version", "worker", "zone",
    }  # fmt: skip
    assert len(set(family.labels)) == len(family.labels)
