"""The example, run: what it promises is so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.house import House, find_haproxy
from tests.daemon import Daemon, wait_until
from tests.e2e.plain import Curled, curl
from tests.e2e.test_e2e_management import with_token
from tests.servers import PostgresServer

pytestmark = pytest.mark.usefixtures("unmeasured")

ALICE = ("-u", "alice:wonderland")
PARTNER = ("-H", "Authorization: Bearer demo-acme")


@pytest.fixture
def house(tmp_path: Path, secrets: Path, postgres: PostgresServer) -> Iterator[House]:
    find_haproxy()
    house = House(tmp_path, secrets, postgres)
    with house.running():
        yield house


def ask(node: Daemon, path: str, *options: str | Path) -> Curled:
    return patiently(node.url("gateway", path), *options)


def through(house: House, path: str, *options: str | Path) -> Curled:
    """Ask as clients do, by way of HAProxy."""
    url = f"https://127.0.0.1:{house.ports['https']}{path}"
    return patiently(url, "--cacert", house.secrets / "certificate.pem", *options)


def patiently(url: str, *options: str | Path) -> Curled:
    """Ask again after a 503: on a busy machine something may be away for a moment.

    Such requests are not counted.
    """
    answers: list[Curled] = []

    def answered() -> bool:
        answers.append(curl(url, *options))
        return answers[-1].status != 503

    wait_until(answered, f"an answer of {url}")
    return answers[-1]


def readiness(node: Daemon) -> int:
    return node.management("/readyz")[0]


def records(house: House) -> dict[tuple[str, str], int]:
    """Requests by service and path, as the store has them."""
    rows: list[dict[str, Any]] = house.nodes[0].usage("--by", "service", "--by", "path")
    return {(row["service"], row["path"]): row["requests"] for row in rows}


def access_log(node: Daemon) -> list[dict[str, Any]]:
    """It goes to standard output here."""
    lines = [line[line.index("{") :] for line in node.stdout.splitlines() if '"listener":' in line]
    return [json.loads(line) for line in lines]


def test_two_nodes_are_one_gateway(house: House, postgres: PostgresServer) -> None:
    here, there = house.nodes
    assert house.healthy("gate1", {"6668": str(here.port("management"))})
    assert house.healthy("redis", {"redis-cli": f"redis-cli -p {house.redis.port}"})
    assert house.healthy("postgres", {})
    wait_until(lambda: readiness(here) == readiness(there) == 200, "both are ready")

    # Who is made on one node is let in by the other, and by both through HAProxy.
    assert ask(there, "/shop/a", *ALICE).status == 401
    house.command(here, "user", "add", "shop", "alice", "--password-stdin", stdin="wonderland\n")
    wait_until(lambda: ask(there, "/shop/a", *ALICE).status == 200, "alice is known there")
    assert ask(here, "/shop/b", *ALICE).status == 200
    spoofed = ("-H", "X-Forwarded-For: 192.0.2.1, 192.0.2.2", "-H", "X-Real-IP: 192.0.2.3")
    answered = [through(house, "/shop/c", *ALICE, *spoofed) for _ in range(6)]
    assert [each.status for each in answered] == [200] * 6
    told = json.loads(answered[0].body)
    assert told["X-Forwarded-Proto"] == "https"
    assert set(told["X-Forwarded-For"].split(", ")) == {"127.0.0.1"}

    # A token is asked for once, and whoever is shut out on one node is shut out on the other.
    tokens = [ask(node, "/partners/x", *PARTNER) for node in (here, there)]
    assert [json.loads(each.body)["X-Authkey"] for each in tokens] == ["token-of-demo-acme"] * 2
    keyvals = "/api/8/http/keyvals/tokens/"
    ((key, _),) = with_token(there).get(keyvals).items()
    assert with_token(here)("PATCH", keyvals, {key: "0"})[0] == 204
    assert ask(here, "/partners/x", *PARTNER).status == 403
    wait_until(lambda: ask(there, "/partners/z", *PARTNER).status == 403, "the other one knows")

    # Without PostgreSQL no node is ready, and both are used all the same: here, with a new token.
    postgres.stop()
    house.wait_for("backend ready has no server available")
    assert house.healthy("gate1", {"6668": str(here.port("management"))})
    assert not house.healthy("postgres", {})
    other = ("-H", "Authorization: Bearer demo-other")
    assert through(house, "/partners/y", *other).status == 200
    postgres.start()
    house.wait_for("Server ready/gate1 is UP")
    house.wait_for("Server ready/gate2 is UP")

    # A node that stops takes no request with it, and gives up what it has counted.
    here.stop()
    assert [through(house, "/shop/e", *ALICE).status for _ in range(6)] == [200] * 6
    lines = access_log(here) + access_log(there)
    assert {line["client"] for line in lines} == {"127.0.0.1"}
    there.stop()
    counted = records(house)
    counted.pop(("partners", "/partners/z"), None)  # it was asked for until it was refused
    assert counted == {
        ("shop", "/shop/a"): 1,
        ("shop", "/shop/b"): 1,
        ("shop", "/shop/c"): 6,
        ("partners", "/partners/x"): 2,
        ("partners", "/partners/y"): 1,
        ("shop", "/shop/e"): 6,
    }
