"""The two ways in: what a request means on a listener."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.auth.interfaces import Deny
from tests.memory import Message, Peer, Server
from tests.world import (
    CLIENT,
    GATEWAY,
    GUARDED,
    PROXY,
    SERVICE,
    VIA,
    World,
    public_world,
    worlds,
)

world = pytest.fixture(public_world)
make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]


def get(*fields: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    lines = b"".join(field + b"\r\n" for field in (b"host: shop.example", *fields))
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines)


def forwarded(
    world: World, request: bytes, listener: str = "public", peer: str = CLIENT
) -> Message:
    """What goes upstream for a request."""
    world.connect(listener, peer).sends(request)
    return world.upstream().message()


def refused(world: World, request: bytes, listener: str = "public") -> tuple[int, str]:
    """The status and the reason that a request is refused with."""
    client = world.connect(listener)
    client.sends(request)
    answer = client.message()
    assert world.server.dialed == 0
    return answer.status, world.log.entries[-1].reason


class TestBothDoors:
    @pytest.mark.parametrize(
        ("listener", "target"), [("public", b"/"), ("proxy", b"http://far.example/")]
    )
    def test_trace(self, world: World, listener: str, target: bytes) -> None:
        client = world.connect(listener)
        client.sends(get(target=target, method=b"TRACE"))
        answer = client.message()
        assert answer.status == 405
        assert answer.values(b"allow") == [b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"]

    @pytest.mark.parametrize(
        ("listener", "target"), [("public", b"/"), ("proxy", b"http://far.example/")]
    )
    @pytest.mark.parametrize(
        "via", [VIA, b"1.0 fred, " + VIA + b", 1.1 x", b"1.0 x\r\nVia: " + VIA]
    )
    def test_a_loop(self, world: World, listener: str, target: bytes, via: bytes) -> None:
        request = get(b"via: " + via, target=target)
        assert refused(world, request, listener) == (508, "loop")

    def test_a_loop_through_a_request_that_was_understood_before(self, world: World) -> None:
        client = world.connect()
        world.exchange(client, get(), b"HTTP/1.1 204 No Content\r\n\r\n")
        client.sends(get(b"via: " + VIA))
        assert client.message().status == 508


class TestGateway:
    def test_the_host_field_goes_to_the_service_as_its_own(self, world: World) -> None:
        request = forwarded(world, get().replace(b"shop.example", b"SHOP.example.:8443"))
        assert request.values(b"host") == [b"origin.example"]
        assert request.values(b"x-forwarded-host") == [b"shop.example:8443"]

    @pytest.mark.parametrize("target", [b"http://shop.example/a?b", b"HTTPS://SHOP.example:99/a?b"])
    def test_absolute_form(self, make_world: MakeWorld, target: bytes) -> None:
        world = make_world(services=[SERVICE | {"hosts": ["shop.example"]}])
        request = forwarded(world, b"GET %b HTTP/1.1\r\nhost: other.example\r\n\r\n" % target)
        assert request.line == b"GET /a?b HTTP/1.1"
        assert request.values(b"x-forwarded-host")[0].startswith(b"shop.example")

    @pytest.mark.parametrize(
        ("request_", "outcome"),
        [
            (get(target=b"http://other.example/"), (421, "misdirected")),
            (get(target=b"ftp://shop.example/"), (421, "misdirected")),
            (get().replace(b"shop", b"other"), (421, "misdirected")),
            (get(target=b"/elsewhere"), (404, "no_service")),
            (get(target=b"/inn"), (404, "no_service")),
            (get(target=b"shop.example:443", method=b"CONNECT"), (405, "connect")),
            (get(target=b"*", method=b"OPTIONS"), (400, "bad_target")),
            (get(target=b"/in/../x"), (400, "bad_target")),
            (get(target=b"/in#x"), (400, "bad_target")),
            (get(target=b"in"), (400, "bad_request")),
            (get(target=b"http://root@shop.example/in"), (400, "bad_target")),
            (b"GET /in HTTP/1.1\r\nhost: \r\n\r\n", (400, "bad_host")),
            (b"GET /in HTTP/1.1\r\nhost: a b\r\n\r\n", (400, "bad_host")),
            (b"GET /in HTTP/1.0\r\n\r\n", (421, "misdirected")),
        ],
    )
    def test_refused(
        self, make_world: MakeWorld, request_: bytes, outcome: tuple[int, str]
    ) -> None:
        world = make_world(services=[SERVICE | {"hosts": ["shop.example"], "from": "/in"}])
        assert refused(world, request_) == outcome

    def test_a_malformed_target_ends_the_connection(self, world: World) -> None:
        client = world.connect()
        client.sends(get(target=b"/a/../b") + get())
        assert client.message().values(b"connection") == [b"close"]
        assert client.saw_end
        assert world.server.dialed == 0

    def test_an_old_client_without_host_reaches_a_service_of_any_host(self, world: World) -> None:
        request = forwarded(world, b"GET / HTTP/1.0\r\n\r\n")
        assert request.values(b"host") == [b"origin.example"]

    def test_what_was_understood_once_is_not_mixed_up(self, make_world: MakeWorld) -> None:
        world = make_world(
            services=[
                SERVICE | {"hosts": ["a.example"], "from": "/a"},
                SERVICE
                | {"name": "b", "hosts": ["b.example"], "from": "/a", "to": "http://b.example"},
            ]
        )
        other = world.serve("b.example")
        client = world.connect()
        for _ in range(2):
            for server, host in ((world.server, b"a.example"), (other, b"b.example")):
                client.sends(b"GET /a/x?y HTTP/1.1\r\nhost: %b\r\n\r\n" % host)
                if server.peers:
                    upstream = server.accepted()
                    assert upstream.message().line == b"GET /x?y HTTP/1.1"
                    upstream.sends(
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    )
                assert client.message().status == 200

    def test_it_remembers_only_so_much(
        self, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gatekeeper.doors._KNOWN_REQUESTS", 3)
        world = make_world(services=[SERVICE])
        world.server.error = ConnectionRefusedError()
        client = world.connect()
        for number in range(10):
            client.sends(get(target=b"/%d" % number))
        client.sends(get(target=b"/" + b"x" * 1000))
        known = world.door("public")._known  # type: ignore[attr-defined]
        assert len(known) <= 3
        assert all(len(target) < 300 for _, target in known)


class TestForwardProxy:
    far: Server  # far.example

    @pytest.fixture
    def proxy(self, make_world: MakeWorld) -> World:
        return self.make(make_world)

    def make(self, make_world: MakeWorld, **listener: object) -> World:
        world = make_world(
            listeners=[GATEWAY | {"bind": "127.0.0.1:8443"}, PROXY | listener],
            services=[GUARDED | {"hosts": ["shop.example"], "from": "/in"}],
        )
        world.names["far.example"] = ["8.8.4.4"]
        self.far = world.serve("8.8.4.4", 80)
        world.serve("8.8.4.4", 443)
        return world

    def ask(self, world: World, request: bytes) -> Peer:
        client = world.connect("proxy")
        client.sends(request)
        return client

    @pytest.mark.parametrize(
        ("target", "method", "outcome"),
        [
            (b"/in", b"GET", (400, "not_a_proxy_request")),
            (b"*", b"OPTIONS", (400, "not_a_proxy_request")),
            (b"https://far.example/", b"GET", (400, "bad_request")),
            (b"ftp://far.example/", b"GET", (400, "bad_request")),
            (b"http:///x", b"GET", (400, "bad_host")),
            (b"http://far.example/../x", b"GET", (400, "bad_target")),
            (b"far.example", b"CONNECT", (400, "bad_request")),
            (b"far.example:0", b"CONNECT", (400, "bad_host")),
            (b"http://far.example/", b"CONNECT", (400, "bad_host")),
            (b"/", b"CONNECT", (400, "bad_host")),
        ],
    )
    def test_refused(
        self, proxy: World, target: bytes, method: bytes, outcome: tuple[int, str]
    ) -> None:
        assert refused(proxy, get(target=target, method=method), "proxy") == outcome
        assert proxy.gate.asked == []

    @pytest.mark.parametrize("body", [b"content-length: 5", b"transfer-encoding: chunked"])
    def test_a_tunnel_with_a_body(self, proxy: World, body: bytes) -> None:
        request = get(body, target=b"far.example:443", method=b"CONNECT")
        assert refused(proxy, request, "proxy") == (400, "bad_request")

    def test_an_url_goes_where_it_says(self, proxy: World) -> None:
        self.ask(proxy, get(target=b"http://FAR.example/a?b"))
        request = self.far.accepted().message()
        assert request.line == b"GET /a?b HTTP/1.1"
        assert request.values(b"host") == [b"far.example"]
        assert b"x-forwarded-user" not in request.names()

    def test_it_is_logged_with_its_host(self, proxy: World) -> None:
        self.ask(proxy, get(target=b"http://far.example:80/a?secret"))
        self.far.accepted().sends(b"HTTP/1.1 204 No Content\r\n\r\n")
        entry = proxy.entry
        assert (entry.listener, entry.service) == ("proxy", "proxy")
        assert (entry.host, entry.path) == ("far.example:80", "far.example/a")

    @pytest.mark.parametrize(
        "target",
        [
            b"http://shop.example/in/x",
            b"http://SHOP.example:80/in/x",
            b"http://shop.example:443/in/x",
            b"https://shop.example/in/x",
            b"https://shop.example:8443/in/x",
        ],
    )
    def test_a_services_authority_is_the_service(self, proxy: World, target: bytes) -> None:
        self.ask(proxy, get(b"authorization: Basic eDp5", target=target))
        request = proxy.upstream().message()
        assert request.line == b"GET /x HTTP/1.1"
        assert request.values(b"host") == [b"origin.example"]
        assert request.values(b"x-forwarded-user") == [b"alice"]
        (asked,) = proxy.gate.asked
        assert (asked.service, asked.url, asked.presented) == ("shop", b"/in/x", b"Basic eDp5")

    def test_at_another_port_it_is_not(self, proxy: World) -> None:
        client = self.ask(proxy, get(target=b"http://shop.example:8080/in/x"))
        assert client.message().status == 403  # no rule has that port
        assert proxy.gate.asked[0].service == "proxy"

    def test_a_path_without_a_service_is_not_found(self, proxy: World) -> None:
        assert refused(proxy, get(target=b"http://shop.example/out"), "proxy") == (
            404,
            "no_service",
        )

    @pytest.mark.parametrize(
        ("credentials_from", "fields", "presented", "authorization"),
        [
            (["proxy-authorization"], "P", b"P", []),
            (["proxy-authorization"], "A", b"", [b"A"]),
            (["proxy-authorization"], "PA", b"P", [b"A"]),
            (["authorization"], "P", b"", []),
            (["authorization"], "A", b"A", []),
            (["authorization"], "PA", b"A", []),
            (["proxy-authorization", "authorization"], "P", b"P", []),
            (["proxy-authorization", "authorization"], "A", b"A", []),
            (["proxy-authorization", "authorization"], "PA", b"P", [b"A"]),
            (["authorization", "proxy-authorization"], "PA", b"A", []),
            (["authorization", "proxy-authorization"], "P", b"P", []),
        ],
    )
    def test_where_credentials_come_from(
        self,
        make_world: MakeWorld,
        credentials_from: list[str],
        fields: str,
        presented: bytes,
        authorization: list[bytes],
    ) -> None:
        """What was for us stays here; what was for the origin goes there."""
        proxy = self.make(make_world, credentials_from=credentials_from)
        given = {"P": b"Proxy-Authorization: P", "A": b"Authorization: A"}
        self.ask(proxy, get(*(given[each] for each in fields), target=b"http://far.example/"))
        assert proxy.gate.asked[0].presented == presented
        request = self.far.accepted().message()
        assert request.values(b"authorization") == authorization
        assert b"proxy-authorization" not in request.names()

    def test_for_a_service_either_will_do(self, proxy: World) -> None:
        target = b"http://shop.example/in"
        self.ask(proxy, get(b"proxy-authorization: P", target=target))
        self.ask(proxy, get(b"authorization: A", target=target))
        self.ask(proxy, get(b"authorization: A", b"proxy-authorization: P", target=target))
        assert [asked.presented for asked in proxy.gate.asked] == [b"P", b"A", b"P"]
        for _ in range(3):
            names = proxy.upstream().message().names()
            assert names.isdisjoint({b"authorization", b"proxy-authorization"})

    def test_without_checkers_all_authorization_is_the_origins(self, make_world: MakeWorld) -> None:
        proxy = self.make(make_world, checkers=[], credentials_from=["authorization"])
        self.ask(proxy, get(b"authorization: A", target=b"http://far.example/"))
        assert self.far.accepted().message().values(b"authorization") == [b"A"]

    @pytest.mark.parametrize(
        ("method", "target"),
        [(b"GET", b"http://far.example/"), (b"CONNECT", b"far.example:443")],
    )
    def test_challenges_are_a_proxys(self, proxy: World, method: bytes, target: bytes) -> None:
        proxy.gate.answer = Deny("no_credentials", "Credentials are required.")
        client = self.ask(proxy, get(target=target, method=method))
        answer = client.message()
        assert answer.status == 407
        assert answer.values(b"proxy-authenticate") == [
            b'Basic realm="here"',
            b'Bearer realm="here"',
        ]
        assert b"www-authenticate" not in answer.names()
        assert self.far.dialed == 0
        assert proxy.journal.records == []
