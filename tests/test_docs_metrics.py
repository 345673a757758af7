"""docs/metrics.rst lists every metric as it is, and every alert that there is a rule for.

Who adds a metric adds a row there.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry

from gatekeeper.config.model import Management
from gatekeeper.config.model_services import Service
from gatekeeper.metrics import families
from gatekeeper.metrics.families import Family, all_families
from gatekeeper.metrics.registry import make_registry
from gatekeeper.stats import MOST_REASONS, SAID, Lateness
from tests.documents import BLOCKS, LITERAL, ROOT, TEXTS, table

PAGE = "docs/metrics.rst"
SECTIONS = (
    "Requests",
    "Clients' connections",
    "Who may pass",
    "Upstreams",
    "Usage",
    "Burning credits",
    "Workers",
    "The process",
)
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "etc" / "prometheus-alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


class Listed(NamedTuple):
    """A row of the page, or a metric as it would have to be there."""

    name: str
    kind: str
    labels: frozenset[str]


def of_family(family: Family) -> Listed:
    histogram = family is families.REQUEST_DURATION
    kind = "histogram" if histogram else "counter" if family.is_counter else "gauge"
    return Listed(family.name, kind, frozenset(family.labels))


def of_registry(registry: CollectorRegistry) -> set[Listed]:
    """What the library tells of a process."""
    return {
        Listed(sample.name, metric.type, frozenset(sample.labels))
        for metric in registry.collect()
        for sample in metric.samples
    }


def listed() -> list[Listed]:
    return [
        Listed(LITERAL.findall(name)[0], kind, frozenset(LITERAL.findall(labels)))
        for section in SECTIONS
        for name, kind, labels, _ in table(PAGE, section)
    ]


def test_every_metric_is_listed_as_it_is() -> None:
    rows = listed()
    assert len({row.name for row in rows}) == len(rows)
    ours = {of_family(family) for family in all_families()}
    assert set(rows) == ours | of_registry(make_registry(Lateness(1.0)))


def test_no_metric_stands_outside_of_the_tables() -> None:
    known = {row.name for row in listed()}
    for name in re.findall(r"\b(?:gatekeeper|process|python)_[a-z_]+", TEXTS[PAGE]):
        assert re.sub(r"_(bucket|count|sum)$", "", name) in known, name


def test_labels() -> None:
    rows = {LITERAL.findall(name)[0]: meaning for name, meaning in table(PAGE, "Labels")}
    assert set(rows) == {label for family in all_families() for label in family.labels}
    assert set(SAID) <= set(LITERAL.findall(rows["verdict"]))
    assert str(MOST_REASONS) in rows["reason"]


def test_what_is_said_of_settings() -> None:
    text = TEXTS[PAGE]
    assert Management.model_fields["metrics"].default == "token"
    assert "unless ``management.metrics`` is ``open``" in " ".join(text.split())
    assert "admit" in str(Service.model_fields["on_journal_full"].annotation)


def test_the_configuration_of_prometheus() -> None:
    (block,) = (block for block in BLOCKS if block.page == PAGE and block.language == "yaml")
    configuration = yaml.safe_load(block.text)
    (job,) = configuration["scrape_configs"]
    assert job["job_name"] == "gatekeeper"
    address = Management.model_fields["bind"].default
    assert job["static_configs"] == [{"targets": [address]}]
    assert configuration["rule_files"] == ["prometheus-alerts.yml"]


def test_every_alert_is_listed() -> None:
    rows = [LITERAL.findall(name)[0] for name, _ in table(PAGE, "What to alarm on")]
    assert rows == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_about_what_there_is(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "warning")
    known = {row.name: row.labels for row in listed()}
    metrics = re.findall(r"\b((?:gatekeeper|process)_[a-z_]+)(?:\{([^}]*)\})?", rule["expr"])
    assert metrics or rule["alert"] == "GatekeeperDown"
    labels: set[str] = {"instance"}
    for name, matchers in metrics:
        assert name in known
        labels |= known[name]
        assert set(re.findall(r"(\w+)=", matchers)) <= known[name] | {"job"}
    by = [
        name for names in re.findall(r"by \(([^)]+)\)", rule["expr"]) for name in names.split(", ")
    ]
    shown = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    assert {*by, *shown} <= labels
    assert not by or set(shown) <= set(by)


def test_reasons_and_verdicts_in_alerts_exist() -> None:
    codes = {
        code
        for row in table("docs/operations.rst", "Reason codes")
        for code in LITERAL.findall(row[0])
    }
    named = {
        label: {
            value
            for rule in RULES
            for values in re.findall(rf'\b{label}=~?"([^"]+)"', rule["expr"])
            for value in values.split("|")
        }
        for label in ("reason", "verdict")
    }
    assert len(named["reason"]) > 5
    assert named["reason"] <= codes
    assert named["verdict"]
    assert named["verdict"] <= set(SAID)
