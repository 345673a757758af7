"""From the settings to the data plane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.doors import ForwardProxy, Gateway
from gatekeeper.errors import ConfigurationError
from gatekeeper.net.pool import PoolLimits, UpstreamTimeouts
from tests.world import GATEWAY, GUARDED, PROXY, SERVICE, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

GET = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n"


class TestListeners:
    def test_each_role_has_its_door(self, make_world: MakeWorld) -> None:
        world = make_world()
        public, proxy = world.door("public"), world.door("proxy")
        assert isinstance(public, Gateway)
        assert isinstance(proxy, ForwardProxy)
        assert (public.name, public.scheme, public.is_proxy) == ("public", b"http", False)
        assert (proxy.name, proxy.is_proxy) == ("proxy", True)

    def test_a_tls_listener_is_https_for_upstreams(self, make_world: MakeWorld) -> None:
        world = make_world(listeners=[GATEWAY | {"tls": {"self_signed": True}}])
        world.connect().sends(GET)
        assert world.upstream().message().values(b"x-forwarded-proto") == [b"https"]

    def test_services_are_found_where_they_are_told_to_be(self, make_world: MakeWorld) -> None:
        inside = GATEWAY | {"name": "inside"}
        world = make_world(
            listeners=[GATEWAY, inside],
            services=[
                SERVICE | {"from": "/both"},
                SERVICE | {"name": "secret", "from": "/secret", "listeners": ["inside"]},
            ],
        )
        world.server.error = ConnectionRefusedError()
        for listener, path, status in (
            ("public", b"/both", 502),
            ("public", b"/secret", 404),
            ("inside", b"/both", 502),
            ("inside", b"/secret", 502),
        ):
            client = world.connect(listener)
            client.sends(GET.replace(b"/", path, 1))
            assert client.message().status == status


class TestServices:
    @pytest.mark.parametrize(
        ("to", "dialed", "host"),
        [
            ("http://origin.example", ("origin.example", 80), b"origin.example"),
            ("http://origin.example:80/x", ("origin.example", 80), b"origin.example"),
            ("http://origin.example:8080", ("origin.example", 8080), b"origin.example:8080"),
            ("http://[2001:db8::1]:81", ("2001:db8::1", 81), b"[2001:db8::1]:81"),
            ("https://origin.example", ("origin.example", 443), b"origin.example"),
            ("https://origin.example:80", ("origin.example", 80), b"origin.example:80"),
        ],
    )
    def test_are_dialed_where_they_say(
        self, make_world: MakeWorld, to: str, dialed: tuple[str, int], host: bytes
    ) -> None:
        world = make_world(services=[SERVICE | {"to": to}])
        server = world.serve(*dialed)
        world.connect().sends(GET)
        assert server.accepted().message().values(b"host") == [host]
        assert server.names == [dialed[0] if to.startswith("https") else None]

    def test_their_own_time_outs_go_before_the_common_ones(self, make_world: MakeWorld) -> None:
        world = make_world(
            services=[SERVICE | {"timeouts": {"body": 1.0, "tunnel": 2.0}}],
            timeouts={"body": 10.0, "tunnel": 20.0, "response": 30.0, "connect": 40.0},
        )
        assert world.origin.timeouts == UpstreamTimeouts(40.0, 30.0, 1.0, 2.0)

    def test_their_own_bound_on_bodies_goes_before_the_common_one(
        self, make_world: MakeWorld
    ) -> None:
        world = make_world(
            services=[SERVICE | {"limits": {"body": 5}}, SERVICE | {"name": "b", "from": "/b"}],
            limits={"body": 3},
        )
        door = world.door("public")
        assert isinstance(door, Gateway)
        assert door.services.find("x", b"/").max_body == 5
        assert door.services.find("x", b"/b").max_body == 3

    def test_pool_settings_arrive(self, make_world: MakeWorld) -> None:
        world = make_world(pool={"connections": 1, "idle": 2, "idle_timeout": 3.0, "queue": 4})
        assert world.origin.limits == PoolLimits(1, 2, 3.0, 4)

    def test_without_checkers_a_service_is_public(self, make_world: MakeWorld) -> None:
        world = make_world(services=[SERVICE, GUARDED | {"name": "b", "from": "/b"}])
        door = world.door("public")
        assert isinstance(door, Gateway)
        assert door.services.find("x", b"/").chain is None
        assert door.services.find("x", b"/b").chain is not None

    def test_all_problems_are_told_at_once(self, tmp_path: Path) -> None:
        nonsense = tmp_path / "ca.pem"
        nonsense.write_text("nonsense")
        bad = SERVICE | {"to": "https://origin.example", "ca_file": nonsense}
        with pytest.raises(ConfigurationError) as caught:
            World(services=[bad, SERVICE | {"name": "good"}, bad | {"name": "worse"}])
        assert [problem.path for problem in caught.value.problems] == [
            "services[0].ca_file",
            "services[2].ca_file",
        ]


class TestForwardProxies:
    def test_have_their_own_rules(self, make_world: MakeWorld) -> None:
        listeners = [
            PROXY | {"checkers": [], "allow": ["far.example:80"]},
            PROXY | {"name": "other", "checkers": [], "allow": ["near.example:80"]},
        ]
        world = make_world(listeners=listeners, services=[])
        world.names |= {"far.example": ["8.8.4.4"], "near.example": ["8.8.8.8"]}
        world.serve("8.8.4.4", 80)
        clients = [world.connect("proxy"), world.connect("other")]
        for client in clients:
            client.sends(b"GET http://far.example/ HTTP/1.1\r\nhost: far.example\r\n\r\n")
        assert clients[0].received() == b""
        assert clients[1].message().status == 403
