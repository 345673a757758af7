"""The metrics of several processes as those of one daemon."""

from __future__ import annotations

import msgspec
from prometheus_client.core import Metric

from gatekeeper.metrics import families
from gatekeeper.metrics.merging import Plain, counted, from_plain, merge, to_plain
from gatekeeper.metrics.registry import make_registry
from gatekeeper.stats import Lateness, RequestStats


def process(requests: int, live: int, duration: float, healthy: bool) -> list[Plain]:
    """What a process tells, as it arrives elsewhere."""
    stats = RequestStats()
    stats.finished(200, duration, "ok", 1, 2)
    metrics: list[Metric] = [
        families.REQUESTS.of([(("a", "2xx", "ok"), requests)]),
        families.REQUEST_DURATION.durations([(("a",), stats)]),
        families.LIVE_EXCHANGES.of([(("a",), live)]),
        families.UPSTREAM_HEALTHY.of([(("a", "http://1"), healthy)]),
        families.JOURNAL_AGE.one(duration),
    ]
    plain: list[Plain] = msgspec.msgpack.decode(msgspec.msgpack.encode(to_plain(metrics)))
    return plain


def values(metrics: list[Plain]) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for metric in from_plain(metrics)
        for sample in metric.samples
    }


def test_they_add_up_but_for_those_that_do_not() -> None:
    merged = values(merge([process(3, 1, 0.3, True), process(4, 2, 0.004, False)]))
    assert merged["gatekeeper_requests_total a 2xx ok"] == 7
    assert merged["gatekeeper_live_exchanges a"] == 3
    assert merged["gatekeeper_upstream_healthy a http://1"] == 0
    assert merged["gatekeeper_journal_age_seconds"] == 0.3
    assert merged["gatekeeper_request_duration_seconds_bucket a 0.005"] == 1
    assert merged["gatekeeper_request_duration_seconds_bucket a 0.5"] == 2
    assert merged["gatekeeper_request_duration_seconds_count a"] == 2


def test_what_only_one_has() -> None:
    merged = values(merge([process(3, 1, 0.3, True), []]))
    assert merged == values(process(3, 1, 0.3, True))


def test_who_has_ended_has_counted_all_the_same() -> None:
    merged = values(merge([process(3, 1, 0.3, False), counted(process(4, 2, 0.3, False))]))
    assert merged["gatekeeper_requests_total a 2xx ok"] == 7
    assert merged["gatekeeper_request_duration_seconds_count a"] == 2
    assert merged["gatekeeper_live_exchanges a"] == 1


def test_of_the_process() -> None:
    one = to_plain(make_registry(Lateness(0.25)).collect())
    merged = values(merge([one, one]))
    alone = values(one)
    assert merged["process_start_time_seconds"] == alone["process_start_time_seconds"]
    assert merged["process_cpu_seconds_total"] == 2 * alone["process_cpu_seconds_total"]
    version = next(name for name in alone if name.startswith("gatekeeper_build_info"))
    assert merged[version] == 1


def test_samples_keep_their_names_and_labels() -> None:
    one = process(3, 1, 0.3, True)
    assert [metric.type for metric in from_plain(merge([one]))] == [
        "counter", "histogram", "gauge", "gauge", "gauge",
    ]  # fmt: skip
