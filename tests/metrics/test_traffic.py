"""What goes through the data plane, as a scrape tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from gatekeeper.auth.interfaces import Deny, Unavailable
from gatekeeper.auth.token_cache import ITokenCache, MemoryTokenCache
from gatekeeper.metrics.registry import make_registry, register_traffic
from gatekeeper.net.listeners import Listener
from gatekeeper.stats import Lateness
from tests.metrics.reading import Sample, sample, samples
from tests.world import GUARDED, PROXY, SERVICE, World, worlds

GET = b"GET / HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"

make_world = pytest.fixture(worlds)


class Scraped(World):
    """A world that is looked at."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.zones: dict[str, ITokenCache] = {}
        self.registry = CollectorRegistry()
        register_traffic(
            self.registry,
            plane=self.plane,
            assembly=self.assembly,
            listeners=[
                cast("Listener", SimpleNamespace(door=door)) for door in self.doors.values()
            ],
            connections=self.connections,
            introspection=[],
            cache=self.cache,
            zones=self.zones,
        )

    def scrape(self) -> dict[Sample, float]:
        return samples(self.registry.collect())

    def read(self, name: str, **labels: str) -> float:
        return self.scrape()[sample(name, **labels)]

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """Samples that are not 0, by their labels' values in the order of their labels."""
        return {
            tuple(value for _, value in labels): number
            for (full_name, labels), number in self.scrape().items()
            if full_name == f"gatekeeper_{name}" and number
        }


@pytest.fixture
def make() -> Iterator[Callable[..., Scraped]]:
    made: list[Scraped] = []

    def make(**settings: Any) -> Scraped:
        made.append(Scraped(**settings))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make: Callable[..., Scraped]) -> Scraped:
    return make(services=[GUARDED])


# --- requests -----------------------------------------------------------------------------


def test_nothing_has_come_yet(world: Scraped) -> None:
    for service in ("shop", "proxy", ""):
        assert world.read("requests_total", service=service, status="2xx", reason="ok") == 0
        assert world.read("request_bytes_total", service=service) == 0
        assert world.read("live_exchanges", service=service) == 0
        assert world.read("request_duration_seconds_count", service=service) == 0


def test_a_request(world: Scraped) -> None:
    client = world.connect()
    client.sends(
        b"POST / HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer x\r\ncontent-length: 3\r\n\r\nabc"
    )
    assert world.read("live_exchanges", service="shop") == 1
    world.upstream().sends(OK)
    assert client.received()
    assert world.counted("requests_total") == {("ok", "shop", "2xx"): 1}
    assert world.counted("request_bytes_total") == {("shop",): 3}
    assert world.counted("response_bytes_total") == {("shop",): 5}
    assert world.counted("request_duration_seconds_count") == {("shop",): 1}
    assert world.read("live_exchanges", service="shop") == 0


def test_its_duration(world: Scraped) -> None:
    client = world.connect()
    client.sends(GET)
    upstream = world.upstream()
    world.loop.now += 0.07
    upstream.sends(OK)
    assert client.received()
    name = "request_duration_seconds_bucket"
    assert world.read(name, service="shop", le="0.05") == 0
    assert world.read(name, service="shop", le="0.1") == 1
    assert world.read("request_duration_seconds_sum", service="shop") == pytest.approx(0.07)


def test_a_client_that_goes(world: Scraped) -> None:
    client = world.connect()
    client.sends(GET)
    world.upstream()
    client.closes()
    world.loop.settle()
    assert world.counted("requests_total") == {("client_gone", "shop", "none"): 1}


@pytest.mark.parametrize(
    ("request_", "reason", "durations"),
    [
        (b"GET /nothing HTTP/1.1\r\nhost: other\r\n\r\n", "misdirected", 1),
        (b"TRACE / HTTP/1.1\r\nhost: shop\r\n\r\n", "trace", 1),
        (b"GET / HTTP/1.1\r\n\r\n", "bad_request", 0),  # it was never understood
    ],
)
def test_what_belongs_to_no_service(
    make: Callable[..., Scraped], request_: bytes, reason: str, durations: int
) -> None:
    world = make(services=[{**SERVICE, "hosts": ["shop"]}])
    client = world.connect()
    client.sends(request_)
    assert client.received()
    assert world.counted("requests_total") == {(reason, "", "4xx"): 1}
    assert world.read("request_duration_seconds_count", service="") == durations


def test_a_client_cannot_make_labels(make: Callable[..., Scraped]) -> None:
    world = make(services=[{**GUARDED, "hosts": ["shop"]}])
    world.gate.answer = Deny("wrong_password", "no")
    before = set(world.scrape())
    for number in range(50):
        for request in (
            b"GET /%d HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer %d\r\n\r\n",
            b"GET /%d HTTP/1.1\r\nhost: h%d.example\r\n\r\n",
            b"X%d / HTTP/1.1\r\nhost: %d\r\n\r\n",
        ):
            client = world.connect(peer=f"192.0.2.{number}")
            client.sends(request % (number, number))
            client.closes()
    world.loop.settle()
    new = {labels for labels in set(world.scrape()) - before}
    assert {name for name, _ in new} == {"gatekeeper_requests_total"}
    assert len(new) == 3


def test_tunnels(make: Callable[..., Scraped]) -> None:
    world = make(listeners=[{**PROXY, "allow": ["192.0.2.1:443"]}])
    far = world.serve("192.0.2.1", 443)
    client = world.connect("proxy")
    client.sends(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nhost: 192.0.2.1:443\r\n\r\n")
    upstream = far.accepted()
    assert client.received().startswith(b"HTTP/1.1 200 ")
    assert world.counted("live_tunnels") == {("proxy",): 1}
    assert world.counted("live_exchanges") == {}
    assert world.counted("client_connections") == {("proxy",): 1}
    client.sends(b"12345")
    assert upstream.received() == b"12345"
    upstream.closes()
    client.closes()
    world.loop.settle()
    assert world.counted("live_tunnels") == {}
    assert world.counted("requests_total") == {("ok", "proxy", "2xx"): 1}
    assert world.counted("request_bytes_total") == {("proxy",): 5}
    assert world.counted("request_duration_seconds_count") == {}
    assert world.counted("upstream_dials_total") == {("proxy",): 1}


def test_a_service_and_a_listener_of_one_name(make: Callable[..., Scraped]) -> None:
    world = make(services=[{**SERVICE, "name": "proxy"}])
    client = world.connect()
    world.exchange(client, GET, OK)
    assert world.read("requests_total", service="proxy", status="2xx", reason="ok") == 1


# --- clients' connections -----------------------------------------------------------------


def test_connections(make: Callable[..., Scraped]) -> None:
    world = make(limits={"connections_per_peer": 2})
    clients = [world.connect() for _ in range(3)]
    world.loop.settle()
    assert world.counted("client_connections") == {("public",): 2}
    assert world.counted("client_connections_accepted_total") == {("public",): 2}
    assert world.counted("client_connections_refused_total") == {("public",): 1}
    clients[0].closes()
    world.loop.settle()
    assert world.counted("client_connections") == {("public",): 1}
    assert world.read("client_connections", listener="proxy") == 0


# --- who may pass -------------------------------------------------------------------------


def test_decisions_and_what_is_remembered(world: Scraped) -> None:
    world.gate.varies = frozenset()
    world.close_chains()
    client = world.connect()
    world.exchange(client, GET, OK)
