"""Active health checks: what is asked, when, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gatekeeper import __version__
from gatekeeper.net import balancing_checks
from gatekeeper.net.balancing_checks import CheckPolicy, HealthCheck
from gatekeeper.net.pool import Origin
from gatekeeper.net.sweep import Sweep
from tests.memory import Peer, Server
from tests.net.http2.upstreams import Upstream
from tests.world import SERVICE, World, worlds

make_world = pytest.fixture(worlds)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
BAD = b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
#: In the middle of what jitter makes of it.
INTERVAL = 5.6


class Checked:
    """A service with two upstreams that are checked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.servers = [world.serve("one.example"), world.serve("two.example", 8080)]

    @property
    def states(self) -> list[str]:
        (balancer,) = self.world.assembly.balancers.values()
        return [each.state.value for each in balancer.states]

    def due(self) -> None:
        """Let the time of the next question come."""
        self.world.advance(INTERVAL)

    def question(self, server: Server) -> Peer:
        """The only question that has come."""
        (peer,) = server.peers
        server.peers.clear()
        assert peer.arrived.startswith(b"GET /healthz?full ")
        return peer

    def answer(self, *answers: bytes) -> None:
        """One round of questions and answers."""
        self.due()
        for server, answer in zip(self.servers, answers, strict=True):
            peer = self.question(server)
            peer.received()
            peer.sends(answer)
            assert not peer.is_open


@pytest.fixture
def make(make_world: Callable[..., World]) -> Callable[..., Checked]:
    def make(service: Any = None, **health: Any) -> Checked:
        urls = ["http://one.example/api", "http://two.example:8080/api"]
        health = {"path": "/healthz?full", **health}
        return Checked(
            make_world(services=[{**SERVICE, "to": urls, "health": health, **(service or {})}])
        )

    return make


@pytest.fixture
def checked(make: Callable[..., Checked]) -> Checked:
    return make()


def test_the_question(checked: Checked) -> None:
    checked.due()
    message = checked.question(checked.servers[1]).message()
    assert message.line == b"GET /healthz?full HTTP/1.1"
    assert message.fields == [
        (b"host", b"two.example:8080"),
        (b"user-agent", b"gatekeeper/%b (health check)" % __version__.encode()),
        (b"accept", b"*/*"),
    ]


def test_bad_answers_in_a_row_make_it_down_and_good_ones_up(checked: Checked) -> None:
    seen = []
    for answer in (BAD, BAD, OK, BAD, BAD, BAD, BAD, OK, BAD, OK, OK):
        checked.answer(answer, OK)
        seen.append(checked.states)
    assert [first for first, _ in seen] == ["up"] * 5 + ["down"] * 5 + ["up"]
    assert {second for _, second in seen} == {"up"}


def test_who_is_down_gets_no_requests(checked: Checked) -> None:
    for _ in range(3):
        checked.answer(BAD, OK)
    for _ in range(4):
        client = checked.world.connect()
        client.sends(GET)
        assert checked.servers[1].accepted().received()
    assert checked.servers[0].peers == []


def test_where_all_are_down_one_is_tried(checked: Checked) -> None:
    for _ in range(3):
        checked.answer(BAD, BAD)
    assert checked.states == ["down", "down"]
    client = checked.world.connect()
    client.sends(GET)
    checked.servers[0].accepted().sends(OK)
    assert client.message().status == 200
    assert checked.states == ["down", "down"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n",
    ],
)
def test_answers_that_are_no_good(make: Callable[..., Checked], answer: bytes) -> None:
    checked = make(unhealthy=1)
    checked.answer(answer, OK)
    assert checked.states == ["down", "up"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-a: 1\r\n\r\n",
    ],
)
def test_answers_that_are_good(make: Callable[..., Checked], answer: bytes) -> None:
    checked = make(unhealthy=1, status=[200, 204])
    checked.answer(answer, OK)
    assert checked.states == ["up", "up"]


def test_who_cannot_be_reached_is_down(make: Callable[..., Checked]) -> None:
    checked = make(unhealthy=2)
    del checked.world.loop.servers["one.example", 80]
    for _ in range(2):
        checked.due()
        checked.question(checked.servers[1]).sends(OK)
    assert checked.states == ["down", "up"]


def test_who_hangs_up_is_down(make: Callable[..., Checked]) -> None:
    checked = make(unhealthy=1)
    checked.due()
    checked.question(checked.servers[0]).hangs_up()
    assert checked.states == ["down", "up"]


@pytest.mark.parametrize("silent", [True, False])
def test_who_is_silent_is_down(make: Callable[..., Checked], silent: bool) -> None:
    """Connecting or answering takes too long."""
    checked = make(unhealthy=1)
    checked.servers[0].silent = silent
    checked.due()
    checked.world.advance(1.9)
    assert checked.states == ["up", "up"]
    checked.world.advance(0.2)
    assert checked.states[0] == "down"
    checked.servers[0].answers()
    checked.world.loop.settle()
    assert not any(peer.is_open for peer in checked.servers[0].peers)


def test_each_question_has_a_connection_of_its_own(checked: Checked) -> None:
    for round_ in range(1, 4):
        checked.answer(OK, OK)
        assert [server.dialed for server in checked.servers] == [round_, round_]
    balancer = checked.world.assembly.balancers["shop"]
    assert balancer.stats.dials == 0
    assert tuple(balancer.use) == (0, 0, 0, 0)


def test_the_first_questions_are_spread_over_the_interval() -> None:
    sweep = Sweep(lambda: 100.0)
    policy = CheckPolicy(b"/", 8.0, 2.0, 2, 3, frozenset({200}))

    def nowhere() -> Origin:
        raise AssertionError("nothing is asked yet")

    due = []
    for number in (0.0, 0.5, 1.0):
        check = HealthCheck(policy, b"one", nowhere, sweep, partial(float, number))
        check.start(lambda up, why: None)
        due.append(check.deadline)
    assert due == [100.0, 104.0, 108.0]


@pytest.mark.parametrize(("number", "pause"), [(0.0, 4.5), (0.5, 5.0), (1.0, 5.5)])
def test_the_interval_varies_by_a_tenth(
    make: Callable[..., Checked], monkeypatch: pytest.MonkeyPatch, number: float, pause: float
) -> None:
    monkeypatch.setattr(balancing_checks.HealthCheck.__init__, "__defaults__", (lambda: number,))
    checked = make()
    checked.world.advance(5.1)
    for server in checked.servers:
        checked.question(server).sends(OK)
    checked.world.advance(pause - 0.1)
    assert checked.servers[0].peers == []
    checked.world.advance(0.2)
    assert checked.question(checked.servers[0])


def test_a_fault_does_not_end_it(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(balancing_checks, "_Question", fail)
        checked.due()
        checked.due()
    assert len(checked.world.problems) >= 2
    checked.world.problems.clear()
    checked.answer(OK, OK)


def test_it_ends_with_the_service(checked: Checked) -> None:
    checked.due()
    peers = [checked.question(server) for server in checked.servers]
    checked.world.assembly.serve([])
    checked.world.loop.settle()
    assert not any(peer.is_open for peer in peers)
    for _ in range(5):
        checked.due()
    assert [server.dialed for server in checked.servers] == [1, 1]
    assert not any(isinstance(each, HealthCheck) for each in checked.world.sweep.timed)


def test_a_service_that_is_only_looked_at_asks_nothing(checked: Checked) -> None:
    (service,) = checked.world.settings.services
    before = set(checked.world.sweep.timed)
    checked.world.assembly.check(service.model_copy(update={"description": "another"}))
    assert checked.world.sweep.timed == before


def test_without_health_nothing_is_asked(make: Callable[..., Checked]) -> None:
    checked = make({"health": None})
    for _ in range(10):
        checked.due()
    assert [server.dialed for server in checked.servers] == [0, 0]


def test_over_http2(make: Callable[..., Checked]) -> None:
    checked = make({"http2": "always"}, unhealthy=1, healthy=1)
    for status, state in ((b"503", "down"), (b"200", "up")):
        checked.due()
        for server in checked.servers:
            peer = server.accepted()
            upstream = Upstream(peer)
            assert upstream.request(1).values(b":path") == [b"/healthz?full"]
            upstream.heads(1, (b":status", status))
            upstream.receive()
            assert upstream.goaways
            peer.hangs_up()
        assert checked.states == [state, state]


def test_over_http2_with_somebody_who_does_not_speak_it(make: Callable[..., Checked]) -> None:
    checked = make({"http2": "always"}, unhealthy=1)
    checked.due()
    checked.servers[0].accepted().sends(BAD)
    checked.world.advance(2.1)
    assert checked.states == ["down", "down"]
