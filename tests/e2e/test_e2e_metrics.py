"""A real daemon, scraped as Prometheus does it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gatekeeper.metrics.families import all_families
from tests.daemon import Daemon, wait_until
from tests.e2e.plain import PLAIN, USER, curl
from tests.metrics.reading import Sample, sample, samples
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

SECRET = "5f0bd2s3cret"
GUARDED = f"""
[[services]]
name = "guarded"
from = "/guarded"
to = "http://@origin@/private-path"
checkers = ["secret://{SECRET}?user_id=opsuser"]

[[services]]
name = "nowhere"
from = "/nowhere"
to = "http://@nowhere@"
checkers = []
"""
#: What is told of parts that this daemon does not have.
ELSEWHERE = ("gatekeeper_burner_", "gatekeeper_worker_")
NAMES = {
    family.name.removesuffix("_total")
    for family in all_families()
    if not family.name.startswith(ELSEWHERE)
}


def token(daemon: Daemon) -> str:
    return (daemon.state_dir / "management.token").read_text().strip()


def scrape(daemon: Daemon, *options: str) -> str:
    bearer = f"Authorization: Bearer {token(daemon)}"
    scraped = curl(daemon.url("management", "/metrics"), "-H", bearer, *options)
    assert scraped.status == 200, scraped
    return scraped.body.decode()


def numbers(daemon: Daemon) -> dict[Sample, float]:
    return samples(parse_text(scrape(daemon)))


def test_what_was_done_is_what_is_told(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, PLAIN + GUARDED, ports={"origin": origin.port}) as daemon:
        body = os.urandom(1000)
        (tmp_path / "body").write_bytes(body)
        gateway, proxy = daemon.url("gateway"), daemon.url("proxy")
        for _ in range(3):
            posted = curl(f"{gateway}/echo/a", "-u", USER, "--data-binary", f"@{tmp_path / 'body'}")
            assert posted.status == 200
        assert curl(f"{gateway}/echo/a", "-u", "alice:wrong").status == 401
        assert curl(f"{gateway}/guarded", "-H", f"Authorization: Bearer {SECRET}").status == 200
        assert curl(f"{gateway}/nothing").status == 404
        assert curl(f"{gateway}/nowhere").status == 502
        target = f"http://127.0.0.1:{origin.port}/p"
        assert curl(target, "-x", proxy, "--proxy-user", USER).status == 200
        assert curl(target, "-x", proxy, "--proxy-user", USER, "-p").status == 200
        wait_until(
            lambda: numbers(daemon)[sample("flush_batches_total")], "the store has the usage"
        )
        told = numbers(daemon)
        text = scrape(daemon)

    def requests(service: str, status: str, reason: str) -> float:
        return told[sample("requests_total", service=service, status=status, reason=reason)]

    assert requests("echo", "2xx", "ok") == 3
    assert requests("echo", "4xx", "wrong_password") == 1
    assert requests("guarded", "2xx", "ok") == 1
    assert requests("", "4xx", "no_service") == 1
    assert requests("nowhere", "5xx", "connect_failed") == 1
    assert requests("proxy", "2xx", "ok") == 2
    assert told[sample("request_duration_seconds_count", service="echo")] == 4
    assert told[sample("request_duration_seconds_count", service="proxy")] == 1  # not the tunnel
    assert told[sample("request_bytes_total", service="echo")] == 3000
    assert told[sample("response_bytes_total", service="echo")] > 3000
    assert told[sample("live_tunnels", service="proxy")] == 0
    assert told[sample("client_connections_accepted_total", listener="gateway")] == 7
    assert told[sample("client_connections_accepted_total", listener="proxy")] == 2
    decisions = sample("auth_decisions_total", service="echo", checker="users", verdict="granted")
    assert told[decisions] == 1
    assert told[sample("verdict_cache_hits_total", service="echo", verdict="granted")] == 2
    assert told[sample("upstream_dials_total", service="proxy")] == 2
    failures = sample("upstream_dial_failures_total", service="nowhere", reason="connect_failed")
    assert told[failures] == 1
    assert told[sample("journal_appended_records_total")] == 6
    assert told[sample("journal_failing")] == told[sample("flush_failing")] == 0
    assert told[sample("flush_failures_total")] == 0

    for secret in (SECRET, "alice", "wonderland", "opsuser", "private-path", "127.0.0.1"):
        assert secret not in text


def test_both_formats(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, PLAIN, ports={"origin": origin.port}) as daemon:
        text = scrape(daemon)
        openmetrics = scrape(daemon, "-H", "Accept: application/openmetrics-text; version=1.0.0")
    # The age of the process and the like have changed meanwhile.
    plain = {family.name: family.type for family in parse_text(text)}
    strict = {family.name: family.type for family in parse_openmetrics(openmetrics)}  # type: ignore[no-untyped-call]
    assert plain == strict
    assert {name for name in plain if name.startswith("gatekeeper_")} == NAMES


def test_without_usage(tmp_path: Path, origin: Origin) -> None:
    configuration = re.sub(r"(?m)^usage = .*$", "usage = { enabled = false }", PLAIN)
    assert "enabled = false" in configuration
    with Daemon(tmp_path, configuration, ports={"origin": origin.port}) as daemon:
        assert curl(daemon.url("gateway", "/echo/a"), "-u", USER).status == 200
        told = numbers(daemon)
    assert told[sample("requests_total", service="echo", status="2xx", reason="ok")] == 1
    assert not [name for name, _ in told if re.match("gatekeeper_(journal|flush)_", name)]


@pytest.mark.parametrize(
    ("keys", "status"),
    [("", 401), (', metrics = "open"', 200), (', auth = "none"', 200)],
)
def test_who_may_read(tmp_path: Path, origin: Origin, keys: str, status: int) -> None:
    configuration = PLAIN.replace('"@management@"', f'"@management@"{keys}')
    with Daemon(tmp_path, configuration, ports={"origin": origin.port}) as daemon:
        scraped = curl(daemon.url("management", "/metrics"))
        assert scraped.status == status
        assert (b"gatekeeper_requests_total" in scraped.body) == (status == 200)
