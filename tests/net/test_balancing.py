"""Several upstreams behind one service: who gets what, and what becomes of those who fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatekeeper.net.balancing import Balancer
from tests.memory import Peer, Server
from tests.world import SERVICE, World, worlds

make_world = pytest.fixture(worlds)

GET = b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
POST = b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 2\r\n\r\n"
UPGRADE = b"GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n"
NAMES = ("one", "two", "three")


class Shop:
    """A service whose upstreams are called ``one.example``, ``two.example``, …"""

    def __init__(self, world: World, names: tuple[str, ...]) -> None:
        self.world = world
        self.names = names
        self.servers = {name: world.serve(f"{name}.example") for name in names}

    @property
    def balancer(self) -> Balancer:
        (balancer,) = self.world.assembly.balancers.values()
        return balancer

    @property
    def states(self) -> list[str]:
        return [each.state.value for each in self.balancer.states]

    @property
    def outstanding(self) -> list[int]:
        return [each.outstanding for each in self.balancer.states]

    def dies(self, name: str) -> None:
        """Nobody listens there any more."""
        del self.world.loop.servers[f"{name}.example", 80]

    def comes_back(self, name: str) -> Server:
        server = self.servers[name] = self.world.serve(f"{name}.example")
        return server

    def ask(self, request: bytes = GET) -> Peer:
        client = self.world.connect()
        client.sends(request)
        return client

    def answering(self) -> dict[str, Peer]:
        """Who has got a request since the last time."""
        asked = {}
        for name, server in self.servers.items():
            for peer in server.peers:
                if peer.arrived:
                    assert name not in asked
                    asked[name] = peer
        return asked

    def serve(self, request: bytes = GET) -> str:
        """Have a request answered; by whom."""
        client = self.ask(request)
        ((name, peer),) = self.answering().items()
        peer.received()
        peer.sends(OK)
        assert client.message().status == 200
        return name

    def fail(self, name: str, times: int = 1, request: bytes = GET) -> None:
        """Have requests come to this upstream that it breaks off; the others answer theirs."""
        while times:
            client = self.ask(request)
            ((asked, peer),) = self.answering().items()
            peer.received()
            if asked == name:
                peer.hangs_up()
                assert client.message().status == 502
                times -= 1
            else:
                peer.sends(OK)
                assert client.message().status == 200


Open = Callable[..., Shop]


@pytest.fixture
def make(make_world: Callable[..., World]) -> Open:
    def make(names: tuple[str, ...] = NAMES, settings: Any = None, **options: Any) -> Shop:
        urls = [f"http://{name}.example" for name in names]
        service = {**SERVICE, "to": urls, **options}
        return Shop(make_world(services=[service], **(settings or {})), names)

    return make


@pytest.fixture
def shop(make: Open) -> Shop:
    return make()


# --- who is chosen ------------------------------------------------------------------------


def test_each_in_its_turn(shop: Shop) -> None:
    assert [shop.serve() for _ in range(6)] == [*NAMES, *NAMES]


def test_the_one_with_the_fewest_outstanding_requests(shop: Shop) -> None:
    for _ in range(3):
        shop.ask()
    busy = shop.answering()
    assert set(busy) == set(NAMES)
    assert shop.outstanding == [1, 1, 1]
    busy["two"].received()
    busy["two"].sends(OK)
    assert shop.outstanding == [1, 0, 1]
    for peer in busy.values():
        peer.received()
    assert [shop.serve() for _ in range(3)] == ["two", "two", "two"]


def test_requests_that_wait_count(make: Open) -> None:
    shop = make(("one", "two"), {"pool": {"connections": 1}})
    shop.servers["one"].silent = True
    for _ in range(6):
        shop.ask()
    assert shop.outstanding == [3, 3]


def test_tunnels_count(shop: Shop) -> None:
    client = shop.ask(UPGRADE)
    peer = shop.answering()["one"]
    peer.received()
    peer.sends(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n")
    assert client.message().status == 101
    assert shop.outstanding == [1, 0, 0]
    client.sends(b"over")
    assert peer.received() == b"over"
    assert [shop.serve() for _ in range(3)] == ["two", "three", "two"]
    client.hangs_up()
    peer.hangs_up()
    assert shop.outstanding == [0, 0, 0]
    (tunnel,) = [entry for entry in shop.world.log.entries if entry.status == 101]
    assert tunnel.reason == "ok"


def test_each_has_its_own_host(shop: Shop) -> None:
    for name in NAMES:
        shop.ask(b"GET /a HTTP/1.1\r\nhost: shop\r\nx-host: a\r\n\r\n")
        message = shop.answering()[name].message()
        assert message.values(b"host") == [f"{name}.example".encode()]
        assert message.fields[0][0] == b"host"
        assert message.line == b"GET /a HTTP/1.1"


def test_each_has_its_own_name_in_tls(make_world: Callable[..., World]) -> None:
    urls = [f"https://{name}.example" for name in NAMES]
    world = make_world(services=[{**SERVICE, "to": urls}])
    servers = [world.serve(f"{name}.example", 443) for name in NAMES]
    for name, server in zip(NAMES, servers, strict=True):
        client = world.connect()
        client.sends(GET)
        assert server.names == [f"{name}.example"]
        assert server.accepted().message().values(b"host") == [f"{name}.example".encode()]


def test_a_path_is_that_of_all(make_world: Callable[..., World]) -> None:
    urls = ["http://one.example/api", "http://two.example/api"]
    shop = Shop(make_world(services=[{**SERVICE, "to": urls}]), ("one", "two"))
    for name in ("one", "two"):
        shop.ask()
        assert shop.answering()[name].message().line == b"GET /api/a HTTP/1.1"


def test_bodies_and_informational_responses_pass(shop: Shop) -> None:
    client = shop.ask(POST)
    peer = shop.answering()["one"]
    assert peer.received()
    client.sends(b"hi")
    assert peer.received() == b"hi"
    peer.sends(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n")
    assert client.message().status == 103
    peer.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"2\r\nhi\r\n0\r\n\r\n")
    assert client.message().body == b"2\r\nhi\r\n0\r\n\r\n"
    assert shop.outstanding == [0, 0, 0]


def test_chunked_bodies_pass(shop: Shop) -> None:
    client = shop.ask(b"POST /a HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n")
    peer = shop.answering()["one"]
    assert peer.received()
    client.sends(b"2\r\nhi\r\n", b"0\r\nx-a: 1\r\n\r\n")
    assert peer.received() == b"2\r\nhi\r\n0\r\nx-a: 1\r\n\r\n"


def test_a_client_that_goes_away_leaves_nothing(make: Open) -> None:
    shop = make(("one",))
    shop.servers["one"].silent = True
    client = shop.ask()
    assert shop.outstanding == [1]
    client.hangs_up()
    assert shop.outstanding == [0]
    shop.servers["one"].answers()
    shop.world.loop.settle()
    client = shop.ask()
    assert shop.outstanding == [1]
    client.hangs_up()
    assert shop.outstanding == [0]
    assert shop.states == ["up"]
    assert [entry.reason for entry in shop.world.log.entries] == ["client_gone", "client_gone"]


# --- moving on ----------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [GET, POST + b"hi"])
def test_what_was_not_sent_moves_on(shop: Shop, request_: bytes) -> None:
    shop.dies("one")
    shop.dies("two")
    client = shop.ask(request_)
    peer = shop.answering()["three"]
    assert peer.message().body == request_.partition(b"\r\n\r\n")[2]
    peer.sends(OK)
    assert client.message().status == 200
    assert shop.world.entry.reason == "ok"
    assert shop.balancer.stats.failures["connect_failed"] == 2


def test_what_was_sent_is_not_repeated(shop: Shop) -> None:
    client = shop.ask(POST + b"hi")
    shop.answering()["one"].hangs_up()
    assert client.message().status == 502
    assert shop.world.entry.reason == "upstream_lost"
    assert set(shop.answering()) == {"one"}


def test_a_safe_request_on_a_stale_connection_is_sent_again(shop: Shop) -> None:
    assert shop.serve() == "one"
    for _ in range(2):
        shop.ask()
    for peer in shop.answering().values():
        peer.received()
    client = shop.ask()
    (peer,) = shop.servers["one"].peers
    assert peer.received()
    shop.dies("one")
    peer.hangs_up()
    ((name, again),) = shop.answering().items()
    assert name == "two"
    assert again.received()
    again.sends(OK)
    assert client.message().status == 200
    assert shop.states == ["up"] * 3


def test_none_is_left(shop: Shop) -> None:
    for name in NAMES:
        shop.dies(name)
    answer = shop.ask().message()
    assert answer.status == 503
    assert answer.values(b"retry-after") == [b"1"]
    assert shop.world.entry.reason == "no_upstream"
    assert shop.balancer.stats.dials == 3


def test_all_are_ejected(shop: Shop) -> None:
    for name in NAMES:
        shop.dies(name)
    for _ in range(3):
        assert shop.ask().message().status == 503
    assert shop.states == ["ejected"] * 3
    answer = shop.ask().message()
    assert answer.status == 503
    assert answer.values(b"retry-after") == [b"10"]
    assert shop.balancer.stats.dials == 10  # one last resort


def test_time_outs_of_connecting_move_on(shop: Shop) -> None:
    shop.servers["one"].error = TimeoutError()
    assert shop.serve() == "two"
    assert shop.balancer.stats.failures == {"connect_timeout": 1}


def test_a_full_queue_moves_on(make: Open) -> None:
    shop = make(("one", "two"), {"pool": {"connections": 1, "queue": 1}})
    for _ in range(4):
        shop.ask()
    assert shop.outstanding == [2, 2]
    answer = shop.ask().message()
    assert answer.status == 503
    assert shop.world.entry.reason == "upstream_busy"
    assert shop.states == ["up", "up"]


def test_who_has_waited_too_long_does_not_wait_elsewhere(make: Open) -> None:
    shop = make(("one", "two"), {"pool": {"connections": 1}, "timeouts": {"body": 1000.0}})
    for _ in range(2):
        shop.ask()
    for peer in shop.answering().values():
        peer.received()
        peer.sends(b"HTTP/1.1 200 OK\r\n\r\nall day long")
    waiting = shop.ask()
    shop.world.advance(61)
    assert waiting.message().status == 503
    assert shop.outstanding == [1, 1]
    assert shop.states == ["up", "up"]


# --- ejection -----------------------------------------------------------------------------


def test_who_cannot_be_reached_is_left_alone(shop: Shop) -> None:
    shop.dies("one")
    served = [shop.serve() for _ in range(20)]
    assert set(served) == {"two", "three"}
    assert shop.states == ["ejected", "up", "up"]
    assert shop.balancer.stats.failures["connect_failed"] == 3


def test_the_probe_brings_it_back(shop: Shop) -> None:
    shop.dies("one")
    for _ in range(9):
        shop.serve()
    server = shop.comes_back("one")
    shop.world.advance(9)
    assert {shop.serve() for _ in range(6)} == {"two", "three"}
    assert server.dialed == 0
    shop.world.advance(2)
    clients = [shop.ask() for _ in range(5)]
    assert server.dialed == 1  # and no other while that one runs
    assert shop.states == ["ejected", "up", "up"]
    (probe,) = server.peers
    assert probe.received()
    probe.sends(OK)
    assert shop.states == ["up", "up", "up"]
    assert [client.received() for client in clients].count(b"") == 4
    shop.ask()
    assert probe.received()


def test_a_probe_that_fails_moves_on_and_waits_longer(shop: Shop) -> None:
    shop.dies("one")
    for _ in range(9):
        shop.serve()
    shop.world.advance(11)
    assert {shop.serve() for _ in range(3)} == {"two", "three"}
    assert shop.balancer.states[0].ejections == 2
    shop.comes_back("one")
    shop.world.advance(19)
    assert {shop.serve() for _ in range(3)} == {"two", "three"}
    shop.world.advance(2)
    assert "one" in {shop.serve() for _ in range(3)}


def test_who_breaks_off_is_left_alone(shop: Shop) -> None:
    shop.fail("one", 3)
    assert shop.states == ["ejected", "up", "up"]
    assert {shop.serve() for _ in range(9)} == {"two", "three"}


def test_who_is_silent_is_left_alone(shop: Shop) -> None:
    clients = [shop.ask() for _ in range(3)]
    for name, peer in shop.answering().items():
        peer.received()
        if name != "one":
            peer.sends(OK)
    clients += [shop.ask() for _ in range(6)]
    for name, server in shop.servers.items():
        for peer in server.peers:
            if peer.received() and name != "one":
                peer.sends(OK)
    shop.world.advance(61)
    statuses = [client.message().status for client in clients]
    assert statuses.count(504) >= 3
    assert shop.states[0] == "ejected"


def test_nonsense_counts(shop: Shop) -> None:
    for _ in range(3):
        client = shop.ask()
        while "one" not in (asked := shop.answering()):
            ((_, peer),) = asked.items()
            peer.received()
            peer.sends(OK)
            client = shop.ask()
        asked["one"].received()
        asked["one"].sends(b"nonsense\r\n\r\n")
        assert client.message().status == 502
    assert shop.states == ["ejected", "up", "up"]


def test_an_answer_that_breaks_off_later_does_not_count(make: Open) -> None:
    shop = make(("one", "two"), ejection={"failures": 1})
    client = shop.ask()
    peer = shop.answering()["one"]
    peer.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi")
    peer.hangs_up()
    assert client.was_aborted
    assert shop.states == ["up", "up"]


def test_any_status_is_an_answer(make: Open) -> None:
    shop = make(("one", "two"), ejection={"failures": 1})
    client = shop.ask()
    shop.answering()["one"].sends(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")
    assert client.message().status == 500
    assert shop.states == ["up", "up"]


def test_clients_who_dawdle_eject_nobody(make: Open) -> None:
    """The upstream has lost patience with half a request."""
    shop = make(("one", "two"), ejection={"failures": 1})
    client = shop.ask(POST + b"h")
    shop.answering()["one"].hangs_up()
    assert client.message().status == 502
    assert shop.states == ["up", "up"]


def test_clients_who_go_away_eject_nobody(make: Open) -> None:
    shop = make(("one", "two"), ejection={"failures": 1})
    shop.ask().hangs_up()
    shop.ask().hangs_up()
    assert shop.states == ["up", "up"]


def test_where_none_is_well_one_is_tried_all_the_same(make: Open) -> None:
    shop = make(("one", "two"), ejection={"failures": 1})
    shop.fail("one")
    shop.world.advance(1)
    shop.fail("two")
    assert shop.states == ["ejected", "ejected"]
    assert shop.serve() == "one"  # it would be due first
    assert shop.states == ["up", "ejected"]


def test_one_alone_is_never_refused_untried(make: Open) -> None:
    shop = make(("one",), ejection={"failures": 1})
    shop.fail("one")
    assert shop.states == ["ejected"]
    assert shop.serve() == "one"


def test_who_waits_where_it_is_hopeless_waits_elsewhere(make: Open) -> None:
    shop = make(("one", "two"), {"pool": {"connections": 1}}, ejection={"failures": 1})
    first, second = shop.ask(), shop.ask()
    third, fourth = shop.ask(), shop.ask()
    assert shop.outstanding == [2, 2]
    asked = shop.answering()
    asked["one"].received()
    asked["two"].received()
    asked["one"].sends(b"nonsense\r\n\r\n")
    assert first.message().status == 502
    assert shop.outstanding == [0, 3]
    for client in (second, fourth, third):
        asked["two"].sends(OK)
        assert client.message().status == 200
        asked["two"].received()
    assert shop.outstanding == [0, 0]


def test_who_waits_stays_where_there_is_nobody_else(make: Open) -> None:
    shop = make(("one",), {"pool": {"connections": 1}}, ejection={"failures": 1})
    first, second = shop.ask(), shop.ask()
    busy = shop.answering()["one"]
    busy.received()
    busy.sends(b"nonsense\r\n\r\n")
    assert first.message().status == 502
    assert shop.states == ["ejected"]
    shop.answering()["one"].sends(OK)
    assert second.message().status == 200
    assert shop.states == ["up"]


def test_who_was_moved_is_not_moved_again(make: Open) -> None:
    shop = make(("one", "two"), {"pool": {"connections": 1}}, ejection={"failures": 1})
    busy, other, waiting = shop.ask(), shop.ask(), shop.ask()
    (one,), (two,) = shop.servers["one"].peers, shop.servers["two"].peers
    assert one.received()
    assert two.received()
    two.sends(OK)
    one.sends(b"nonsense\r\n\r\n")
    assert (busy.message().status, other.message().status) == (502, 200)
    assert two.received()
    two.sends(OK)
    assert waiting.message().status == 200
    shop.world.advance(11)
    shop.fail("one")
    assert shop.states == ["ejected", "up"]
    assert two.received() == b""
    assert shop.outstanding == [0, 0]


def test_connections_are_not_kept_to_who_is_ejected(make: Open) -> None:
    shop = make(("one", "two"), ejection={"failures": 1})
    clients = [shop.ask() for _ in range(4)]
    one, other = shop.servers["one"].peers
    for peer in (one, other, *shop.servers["two"].peers):
        peer.received()
    other.sends(OK)
    assert other.is_open
    one.hangs_up()
    assert not other.is_open
    assert [client.message().status for client in (clients[0], clients[2])] == [502, 200]


def test_what_is_closed_keeps_no_connection(shop: Shop) -> None:
    shop.serve()
    (peer,) = shop.servers["one"].peers
    assert peer.is_open
    shop.balancer.close()
    shop.world.loop.settle()
    assert not peer.is_open


# --- how it looks -------------------------------------------------------------------------


def test_what_can_be_seen(shop: Shop) -> None:
    shop.dies("two")
    shop.serve()
    assert repr(shop.balancer) == (
        "<Balancer shop: http://one.example up, http://two.example up, http://three.example up>"
    )
    assert tuple(shop.balancer.use) == (0, 1, 0, 0)
    assert [each.url for each in shop.balancer.states] == [
        f"http://{name}.example" for name in NAMES
    ]
    assert list(shop.world.assembly.upstream_states("shop")) == shop.balancer.states
    assert shop.world.assembly.upstream_states("other") == ()


def test_one_url_is_no_balancer(make_world: Callable[..., World]) -> None:
    world = make_world()
    assert world.assembly.balancers == {}
    assert world.assembly.upstream_states("shop") == ()
    del world.loop.servers["origin.example", 80]
    client = world.connect()
    client.sends(GET)
    assert client.message().status == 502
    assert world.entry.reason == "connect_failed"
