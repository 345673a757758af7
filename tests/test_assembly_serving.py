"""Services come and go while the listeners stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.config.model_services import Service
from gatekeeper.errors import ConfigurationError
from tests.memory import Peer
from tests.net.messages import GET, OK
from tests.world import GUARDED, PROXY, SERVICE, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]

OTHER = {**SERVICE, "name": "other", "from": "/other", "to": "http://other.example"}


def serve(world: World, *services: object) -> None:
    world.assembly.serve([Service.model_validate(service) for service in services])


def status(world: World, request: bytes) -> int:
    client = world.connect()
    client.sends(request)
    return client.message().status


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


def test_a_new_one_is_found_at_once_also_by_clients_who_are_connected(world: World) -> None:
    request = GET.replace(b"/a", b"/other")
    other = world.serve("other.example")
    client = world.connect()
    client.sends(request)
    world.upstream().sends(OK)  # so far it was the service of /
    client.received()
    serve(world, SERVICE, OTHER)
    client.sends(request)
    assert other.accepted().received().startswith(b"GET / HTTP/1.1\r\nhost: other.example\r\n")


def test_one_that_is_gone_is_found_no_more(world: World) -> None:
    serve(world, OTHER)
    assert status(world, GET) == 404
    serve(world)
    assert status(world, GET.replace(b"/a", b"/other")) == 421  # no host is served any more


def test_one_that_has_not_changed_keeps_its_connections_and_numbers(world: World) -> None:
    world.exchange(world.connect(), GET, OK)
    (before,) = (each for each in world.assembly.served if each.service)
    serve(world, OTHER, SERVICE)
    assert before in world.assembly.served
    assert world.pool == "0 active, 1 idle, 0 connecting, 0 queued"


def test_what_runs_ends_under_what_it_began_with(world: World) -> None:
    client = world.connect()
    client.sends(GET)
    upstream = world.upstream()
    upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh")
    serve(world, OTHER)
    upstream.sends(b"i")
    assert client.message().body == b"hi"
    assert not upstream.is_open  # and then nobody keeps the connection


def test_idle_connections_of_one_that_is_gone_are_closed(world: World) -> None:
    upstream = world.exchange(world.connect(), GET, OK)
    serve(world)
    world.loop.settle()
    assert not upstream.is_open


def test_a_changed_one_takes_effect(world: World) -> None:
    world.exchange(world.connect(), GET, OK)
    serve(world, GUARDED)
    world.gate.answer = None
    client = world.connect()
    client.sends(GET)
    assert len(world.gate.waiting) == 1


def test_where_one_cannot_be_used_nothing_changes(world: World) -> None:
    broken = {**OTHER, "to": "https://other.example", "ca_file": Path("/nowhere/ca.pem")}
    with pytest.raises(ConfigurationError, match=r"services\[1\]"):
        serve(world, OTHER, broken)
    world.exchange(world.connect(), GET, OK)


def test_the_forward_proxy_knows_them_too(world: World) -> None:
    def ask() -> Peer:
        client = world.connect("proxy")
        client.sends(b"GET http://shop.example/a HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        return client

    serve(world, {**SERVICE, "hosts": ["shop.example"]})
    ask()
    assert world.upstream().received().startswith(b"GET /a HTTP/1.1\r\nhost: origin.example\r\n")
    serve(world)
    ask()  # now it is a destination as any other, and nobody is let in
    assert [asked.service for asked in world.gate.asked] == [PROXY["name"]]


def test_a_listener_that_is_gone_keeps_no_connection(world: World) -> None:
    proxies = [each for each in world.assembly.served if each.service is None]
    assert [each.route.name for each in proxies] == ["proxy"]
    world.assembly.forget("proxy")
    assert all(each.service for each in world.assembly.served)
    serve(world, OTHER)  # which does not reach its door any more
    assert world.door("public").services.find(None, b"/other")
