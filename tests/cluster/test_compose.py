"""The compose file and what it names: right by themselves, and fitting together."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.config.model import Settings
from gatekeeper.config.values import MOST_WORKERS
from tests.cluster.example import CLUSTER, COMPOSE, HAPROXY, NODES, SERVICES, mounts, seconds
from tests.commands import invoke
from tests.daemon import PATIENCE, ROOT

#: Seconds that a stop may take for the last usage, after `timeouts.drain`.
LAST_FLUSH = 10.0


def test_the_file_is_one_by_the_compose_specification() -> None:
    """Its JSON schema is in check-jsonschema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [*command, CLUSTER / "compose.yaml"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    text = (CLUSTER / "compose.yaml").read_text()
    file.write_text(text.replace("stop_grace_period: 60s", "stop_grace: 60s", 1))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, file], capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 1
    assert "stop_grace" in checked.stdout


def test_the_configuration_is_right(settings: Settings, secrets: Path) -> None:
    checked = invoke("check-config", secrets.parent / "gatekeeper.toml")
    assert checked.exit_code == 0, checked.output
    assert settings.store.url == (secrets / "store_url").read_text()
    assert settings.cache.url == (secrets / "cache_url").read_text()


@pytest.mark.parametrize("kind", ["networks", "secrets", "volumes"])
def test_what_services_use_is_declared_and_what_is_declared_is_used(kind: str) -> None:
    used: set[str] = set()
    for service in SERVICES.values():
        named = [source for source, _ in mounts(service).values()]
        used |= set(named if kind == "volumes" else service.get(kind, ()))
    assert {name for name in used if not name.startswith("./")} == COMPOSE[kind].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert "image" in service
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # What is built here has its user in the Dockerfile.
    assert ("build" in service) != ("user" in service)
    assert service.get("user") not in ("root", "0")
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] in ("service_healthy", "service_started")
    for source, mode in mounts(service).values():
        if source.startswith("./"):
            assert (CLUSTER / source).is_dir(), "a file that is replaced by renaming is not seen"
            assert mode == "ro"
    assert service.get("ports", []) == (["443:8443"] if name == "balancer" else [])


def test_the_nodes_keep_what_they_must_not_lose(settings: Settings) -> None:
    kept = [mounts(SERVICES[name])[str(settings.state_dir)] for name in NODES]
    assert len({source for source, _ in kept}) == len(NODES), "a journal is one node's"
    assert all(source in COMPOSE["volumes"] and mode == "rw" for source, mode in kept)
    for name in NODES:
        service = SERVICES[name]
        assert seconds(service["stop_grace_period"]) > settings.timeouts.drain + LAST_FLUSH
        assert service["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
        }


def test_only_the_nodes_are_in_both_networks(settings: Settings) -> None:
    assert [name for name in SERVICES if SERVICES[name]["networks"] == ["front", "back"]] == [
        *NODES
    ]
    assert [name for name in SERVICES if SERVICES[name]["networks"] == ["front"]] == ["balancer"]
    assert COMPOSE["networks"]["back"]["internal"] is True
    (network,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert [listener.trusted_peers for listener in settings.listeners] == [(network["subnet"],)]


def test_no_secret_is_in_a_file_that_is_shipped(secrets: Path) -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert COMPOSE["secrets"].keys() == {each.name for each in secrets.iterdir()}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o444 for each in secrets.iterdir())
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or value.startswith("/run/secrets/")
    assert "/secrets/" in (CLUSTER / ".gitignore").read_text().split()
    assert "docs/cluster/secrets" in (ROOT / ".dockerignore").read_text().split()


def test_secrets_are_made_once_and_each_its_own(secrets: Path) -> None:
    password = (secrets / "postgres_password").read_text()
    assert len(password) >= 32
    assert f":{password}@postgres:5432/" in (secrets / "store_url").read_text()
    (other,) = re.findall(r":(\w{32,})@redis:6379/", (secrets / "cache_url").read_text())
    assert other != password
    assert other not in (secrets / "redis_users").read_text(), "there it is a hash"
    again = subprocess.run(["sh", CLUSTER / "secrets.sh", secrets], capture_output=True)
    assert again.returncode != 0
    assert (secrets / "postgres_password").read_text() == password


def test_haproxy_waits_for_longer_than_gatekeeper(settings: Settings) -> None:
    """So that it is gatekeeper that says what took too long."""
    spans = {name: int(span) for name, span in re.findall(r"timeout (\S+) (\d+)s\n", HAPROXY)}
    timeouts = settings.timeouts
    assert spans["http-request"] > timeouts.head
    assert spans["client"] > max(timeouts.body, timeouts.idle)
    assert spans["server"] > max(timeouts.response, timeouts.body)
    assert spans["tunnel"] > timeouts.tunnel
    (hard,) = re.findall(r"hard-stop-after (\d+)s", HAPROXY)
    assert int(hard) < seconds(SERVICES["balancer"]["stop_grace_period"])


def test_there_are_descriptors_for_all_connections(settings: Settings) -> None:
    """Two for each request that is passed on, and some more; HAProxy does not start otherwise."""
    (most,) = re.findall(r"^ +maxconn (\d+)$", HAPROXY, re.MULTILINE)
    assert SERVICES["balancer"]["ulimits"]["nofile"] > 2 * int(most) + 1000
    for name in NODES:
        assert SERVICES[name]["ulimits"]["nofile"] > 2 * settings.limits.connections + 1000
    assert settings.limits.connections_per_peer == settings.limits.connections


def test_there_are_connections_for_all_processes() -> None:
    """5 for a node, and 3 for each of its workers; some are left for operators."""
    program, flag, setting = SERVICES["postgres"]["command"]
    assert (program, flag) == ("postgres", "-c")
    name, _, most = setting.partition("=")
    assert name == "max_connections"
    assert int(most) >= len(NODES) * (5 + 3 * MOST_WORKERS) + 20
