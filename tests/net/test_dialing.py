"""Where a forward proxy's requests go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.net.dialing import Dialer
from tests.memory import Peer
from tests.world import PROXY, SERVICE, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

OPEN = PROXY | {"checkers": []}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world(listeners=[OPEN], services=[])
    world.names["far.example"] = ["8.8.4.4"]
    world.server = world.serve("8.8.4.4", 80)
    return world


def get(url: bytes, method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: far.example\r\n\r\n" % (method, url)


def ask(world: World, request: bytes = get(b"http://far.example/a")) -> Peer:
    client = world.connect("proxy")
    client.sends(request)
    return client


def dialer(world: World) -> Dialer:
    (dialer,) = (
        each.upstream for each in world.assembly.served if isinstance(each.upstream, Dialer)
    )
    return dialer


def pools(world: World) -> list[str]:
    return [repr(origin) for _, origin in dialer(world)._origins.values()]


class TestRequests:
    def test_go_to_what_the_url_names(self, world: World) -> None:
        client = ask(world, get(b"http://FAR.example:80/a?b"))
        upstream = world.upstream()
        request = upstream.message()
        assert request.line == b"GET /a?b HTTP/1.1"
        assert request.values(b"host") == [b"far.example"]
        upstream.sends(OK)
        assert client.message().body == b"hi"
        assert pools(world) == ["<Origin far.example:80: 0 active, 1 idle, 0 connecting, 0 queued>"]

    def test_connections_are_shared(self, world: World) -> None:
        ask(world)
        upstream = world.upstream()
        upstream.sends(OK)
        assert upstream.received().count(b"GET /a HTTP/1.1\r\n") == 1
        ask(world)
        assert upstream.received().count(b"GET /a HTTP/1.1\r\n") == 1
        assert world.server.dialed == 1

    def test_another_port_is_another_origin(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[OPEN | {"allow": ["*:*"]}], services=[])
        world.names["far.example"] = ["8.8.4.4"]
        other = world.serve("8.8.4.4", 8080)
        ask(world, get(b"http://far.example:8080/"))
        assert other.accepted().message().values(b"host") == [b"far.example:8080"]

    def test_each_address_is_tried(self, world: World) -> None:
        world.names["far.example"] = ["8.8.8.8", "8.8.4.4"]
        ask(world)
        assert world.upstream().message()

    @pytest.mark.parametrize(
        ("addresses", "status", "reason"),
        [
            ([], 502, "name_not_resolved"),
            (["8.8.4.4", "127.0.0.1"], 403, "destination_private"),
            (["169.254.169.254"], 403, "destination_private"),
            (["8.8.8.8"], 502, "connect_failed"),
        ],
    )
    @pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
    def test_refused(
        self, world: World, method: bytes, addresses: list[str], status: int, reason: str
    ) -> None:
        world.names["far.example"] = addresses
        url = b"far.example:80" if method == b"CONNECT" else b"http://far.example/"
        assert ask(world, get(url, method)).message().status == status
        assert world.entry.reason == reason
        assert world.server.dialed == 0
        assert pools(world) == []

    def test_ports_that_no_rule_has(self, world: World) -> None:
        assert ask(world, get(b"http://far.example:25/")).message().status == 403
        assert ask(world, get(b"far.example:22", b"CONNECT")).message().status == 403

    @pytest.mark.parametrize("port", [8000, 3128])
    def test_our_own_listeners(self, make_world: MakeWorld, port: int) -> None:
        world = make_world(listeners=[OPEN | {"allow": ["*:*", "127.0.0.0/8:*"]}], services=[])
        world.serve("127.0.0.1", port)
        client = ask(world, get(b"http://127.0.0.1:%d/" % port))
        assert client.message().status == 403

    def test_a_retry_resolves_again(self, world: World) -> None:
        client = ask(world)
        stale = world.upstream()
        stale.sends(OK)
        client.received()
        world.names["far.example"] = ["8.8.8.8"]
        fresh = world.serve("8.8.8.8", 80)
        client.sends(get(b"http://far.example/"))
        world.advance(6)  # the first look-up is not believed any longer
        stale.hangs_up()
        assert fresh.accepted().message()


class TestOrigins:
    def test_one_that_is_not_used_any_more_is_forgotten(self, world: World) -> None:
        ask(world)
        world.upstream().sends(OK)
        assert len(pools(world)) == 1
        world.advance(31)
        assert pools(world) == []

    def test_changed_addresses_make_a_new_one(self, world: World) -> None:
        ask(world)
        old = world.upstream()
        old.sends(OK)
        world.names["far.example"] = ["8.8.8.8"]
        new = world.serve("8.8.8.8", 80)
        world.advance(6)
        ask(world)
        assert new.accepted().message()
        assert old.was_closed

    def test_the_end_of_the_old_one_is_not_the_end_of_the_new(self, world: World) -> None:
        ask(world)
        old = world.upstream()
        world.names["far.example"] = ["8.8.8.8"]
        new = world.serve("8.8.8.8", 80)
        world.advance(6)
        ask(world)
        new.accepted().sends(OK)
        old.sends(OK)
        assert old.was_closed
        assert pools(world) == ["<Origin far.example:80: 0 active, 1 idle, 0 connecting, 0 queued>"]

    def test_there_are_only_so_many(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gatekeeper.net.dialing._MOST_ORIGINS", 2)
        world = make_world(listeners=[OPEN | {"allow": ["*:*"]}], services=[])
        world.names["far.example"] = ["8.8.4.4"]
        peers = []
        for port in (1, 2, 3):
            server = world.serve("8.8.4.4", port)
            ask(world, get(b"http://far.example:%d/" % port))
            peers.append(server.accepted())
            peers[-1].sends(OK)
        assert [peer.is_open for peer in peers] == [False, True, True]
        assert len(pools(world)) == 2

    def test_closing_closes_all(self, world: World) -> None:
        ask(world)
        upstream = world.upstream()
        upstream.sends(OK)
        world.assembly.close()
        world.loop.settle()
        assert upstream.was_closed
        assert pools(world) == []


def test_services_named_by_the_proxys_clients_are_not_dialed(make_world: MakeWorld) -> None:
    world = make_world(
        listeners=[OPEN], services=[{**SERVICE, "hosts": ["shop.example"], "from": "/in"}]
    )
    ask(world, get(b"http://shop.example/in/a"))
    assert world.upstream().message().line == b"GET /a HTTP/1.1"
