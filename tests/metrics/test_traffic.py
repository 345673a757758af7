"""What goes through the data plane, as a scrape tells it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, fail, succeed

from gatekeeper import __version__
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.chain import Chain
from gatekeeper.auth.interfaces import ABSTAIN, Credentials, Deny, IChecker, Unavailable
from gatekeeper.auth.registry import make_chain
from gatekeeper.auth.token_cache import ITokenCache, MemoryTokenCache
from gatekeeper.config.model_services import Service
from gatekeeper.metrics.registry import make_registry, register_traffic
from gatekeeper.metrics.traffic import AuthCollector
from gatekeeper.net.listeners import Listener
from gatekeeper.stats import Lateness
from tests.auth.support import credentials
from tests.metrics.reading import Sample, counted, sample, samples
from tests.world import ALICE, GUARDED, PROXY, SERVICE, World

GET = b"GET / HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Scraped(World):
    """A world that is looked at."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
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
            cache=VerdictCache(1, 1, 1),
            zones={},
        )

    def scrape(self) -> dict[Sample, float]:
        return samples(self.registry.collect())

    def read(self, name: str, **labels: str) -> float:
        return self.scrape()[sample(name, **labels)]

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        return counted(self.registry, name)


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
    client.hangs_up()
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
            client.hangs_up()
    world.loop.settle()
    new = world.scrape().keys() - before
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
    upstream.hangs_up()
    client.hangs_up()
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
    clients[0].hangs_up()
    world.loop.settle()
    assert world.counted("client_connections") == {("public",): 1}
    assert world.read("client_connections", listener="proxy") == 0


# --- who may pass -------------------------------------------------------------------------


def test_decisions_of_checkers(world: Scraped) -> None:
    for answer in (Deny("no", "no"), Unavailable("away", "away"), ABSTAIN, Deny("no", "no", 403)):
        world.gate.answer = answer
        client = world.connect()
        client.sends(GET)
        assert client.received()
    world.gate.answer = ALICE
    world.exchange(world.connect(), GET, OK)
    assert world.counted("auth_decisions_total") == {
        ("", "shop", "denied"): 1,
        ("gate", "shop", "denied"): 2,
        ("gate", "shop", "granted"): 1,
        ("gate", "shop", "unavailable"): 1,
    }


class Script:
    """A checker that answers with what is in its list, and raises what is an error."""

    challenges = (b'Bearer realm="x"',)
    varies = frozenset[bytes]()

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def check(self, credentials: Credentials) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Nothing is held."""


class Remembering:
    """One chain with a cache of its own, and what is told of them."""

    def __init__(self, *answers: object) -> None:
        self.cache = VerdictCache(100, 300, 5)
        checker = cast("IChecker", Script(*answers))
        self.chain = Chain("shop", [checker], self.cache, ["odd"])
        self.zones: dict[str, ITokenCache] = {}

    def check(self, presented: bytes) -> object:
        return self.chain.lookup(presented) or self.chain.check(credentials(presented))

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        collector = AuthCollector(lambda: [("shop", self.chain.stats)], self.cache, self.zones)
        return counted(collector, name)


def test_checkers_that_fail() -> None:
    """A plug-in may do anything."""
    house = Remembering(
        RuntimeError("broken"), "no verdict", succeed("none either"), fail(OSError())
    )
    for number in range(4):
        house.check(b"Bearer %d" % number)
    assert house.counted("auth_decisions_total") == {("odd", "shop", "failed"): 4}


def test_what_is_remembered() -> None:
    house = Remembering(ALICE, Deny("no", "no"), Unavailable("away", "away"), ALICE)
    for presented in (b"a", b"a", b"a", b"b", b"b", b"c", b"c"):
        house.check(presented)
    assert house.counted("verdict_cache_misses_total") == {("shop",): 4}
    assert house.counted("verdict_cache_hits_total") == {
        ("shop", "granted"): 2,
        ("shop", "denied"): 1,
    }
    assert house.counted("verdict_cache_entries") == {("granted",): 2, ("denied",): 1}
    assert house.counted("auth_decisions_total") == {
        ("odd", "shop", "granted"): 2,
        ("odd", "shop", "denied"): 1,
        ("odd", "shop", "unavailable"): 1,
    }


def test_those_who_wait_for_one_answer_have_missed() -> None:
    later: Deferred[object] = Deferred()
    house = Remembering(later)
    for _ in range(3):
        house.check(b"a")
    later.callback(ALICE)
    assert house.counted("verdict_cache_misses_total") == {("shop",): 3}
    assert house.counted("auth_decisions_total") == {("odd", "shop", "granted"): 1}


def test_token_caches() -> None:
    house = Remembering()
    zone = house.zones["tokens"] = MemoryTokenCache()
    zone.add("k1", "t1")
    zone.add("k2", "t2")
    zone.revoke("k3")
    assert house.counted("token_cache_entries") == {
        ("token", "tokens"): 2,
        ("revocation", "tokens"): 1,
    }
    assert house.counted("token_cache_caught_up") == {("tokens",): 1}
    zone.caught_up, zone.outages = False, 2
    assert house.counted("token_cache_caught_up") == {}
    assert house.counted("token_cache_outages_total") == {("tokens",): 2}


def test_of_a_checker_url_only_the_scheme_is_told() -> None:
    """What follows may be a secret, or a user."""
    url = "secret://s3cret?user_id=alice"
    checkers = {url: cast("IChecker", Script()), "users": cast("IChecker", Script())}
    chain = make_chain("service:shop", [url, "users"], checkers, VerdictCache(9, 300, 5))
    labels = {label for label, _ in chain.stats.decisions}
    assert labels == {"secret://", "users", ""}


# --- upstreams ----------------------------------------------------------------------------


def test_a_pool(make: Callable[..., Scraped]) -> None:
    world = make(pool={"connections": 2})
    world.server.silent = True
    clients = [world.connect() for _ in range(3)]
    for client in clients:
        client.sends(GET)
    assert world.counted("upstream_connections") == {("shop", "connecting"): 2}
    assert world.counted("upstream_queued_requests") == {("shop",): 3}
    world.server.answers()
    world.loop.settle()
    assert world.counted("upstream_connections") == {("shop", "active"): 2}
    assert world.counted("upstream_queued_requests") == {("shop",): 1}
    first, second = world.upstream(), world.upstream()
    first.sends(OK)  # the third request gets this connection
    assert world.counted("upstream_queued_requests") == {}
    first.sends(OK)
    second.sends(OK)
    assert world.counted("upstream_connections") == {("shop", "idle"): 2}
    assert world.counted("upstream_dials_total") == {("shop",): 2}
    assert world.counted("upstream_dial_failures_total") == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(), "connect_failed"),
        (TimeoutError(), "connect_timeout"),
        (ssl.SSLError(), "upstream_tls"),
    ],
)
def test_dials_that_fail(make: Callable[..., Scraped], error: Exception, reason: str) -> None:
    world = make()
    world.server.error = error
    client = world.connect()
    client.sends(GET)
    assert client.received()
    assert world.counted("upstream_dials_total") == {("shop",): 1}
    assert world.counted("upstream_dial_failures_total") == {(reason, "shop"): 1}


def test_several_upstreams(make: Callable[..., Scraped]) -> None:
    one, two = urls = ["http://one.example", "http://two.example"]
    world = make(services=[{**SERVICE, "to": urls, "ejection": {"failures": 1}}])
    server = world.serve("two.example")
    client = world.connect()
    assert world.read("upstream_healthy", service="shop", upstream=one) == 1
    assert world.read("upstream_ejections_total", service="shop", upstream=one) == 0
    client.sends(GET)
    assert world.counted("upstream_healthy") == {("shop", two): 1}
    assert world.counted("upstream_outstanding_requests") == {("shop", two): 1}
    assert world.counted("upstream_ejections_total") == {("shop", one): 1}
    assert world.counted("upstream_dials_total") == {("shop",): 2}
    assert world.counted("upstream_dial_failures_total") == {("connect_failed", "shop"): 1}
    server.accepted().sends(OK)
    assert world.read("upstream_outstanding_requests", service="shop", upstream=two) == 0


def test_one_upstream_is_told_by_its_service(world: Scraped) -> None:
    assert not [name for name in world.scrape() if "upstream_healthy" in str(name)]


def test_a_proxys_destinations_are_told_together(make: Callable[..., Scraped]) -> None:
    world = make(listeners=[{**PROXY, "allow": ["192.0.2.0/24:80"]}])
    for number in range(1, 5):
        server = world.serve(f"192.0.2.{number}")
        client = world.connect("proxy")
        client.sends(b"GET http://192.0.2.%d/ HTTP/1.1\r\nhost: x\r\n\r\n" % number)
        if number < 4:
            server.accepted().sends(OK)
    client.sends()
    nobody = world.connect("proxy")
    nobody.sends(b"CONNECT 192.0.2.9:80 HTTP/1.1\r\nhost: 192.0.2.9:80\r\n\r\n")
    assert world.counted("upstream_connections") == {("proxy", "active"): 1, ("proxy", "idle"): 3}
    assert world.counted("upstream_dials_total") == {("proxy",): 5}
    assert world.counted("upstream_dial_failures_total") == {("connect_failed", "proxy"): 1}


# --- services that come and go ------------------------------------------------------------


def serve(world: World, *services: object) -> None:
    world.assembly.serve([Service.model_validate(service) for service in services])


def test_a_new_service_is_told_of(make: Callable[..., Scraped]) -> None:
    world = make()
    serve(world, SERVICE, {**SERVICE, "name": "other", "from": "/other"})
    assert world.read("live_exchanges", service="other") == 0
    serve(world, {**SERVICE, "name": "other"})
    assert sample("live_exchanges", service="shop") not in world.scrape()


def test_a_changed_service_keeps_its_numbers(make: Callable[..., Scraped]) -> None:
    world = make()
    client = world.connect()
    upstream = world.exchange(client, GET, OK)
    client.sends(GET)
    serve(world, {**SERVICE, "description": "another"})
    upstream.sends(OK)
    assert client.received()
    assert world.read("requests_total", service="shop", status="2xx", reason="ok") == 2


# --- the process --------------------------------------------------------------------------


def test_the_process() -> None:
    lateness = Lateness(0.25)
    lateness.beat(1.0)
    lateness.beat(2.25)
    told = samples(make_registry(lateness).collect())
    assert told[sample("build_info", version=__version__)] == 1
    assert told[sample("loop_lateness_seconds")] == 1.0
    names = {name for name, _ in told}
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= names
