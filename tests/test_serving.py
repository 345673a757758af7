"""Stored services come and go, and their addresses with them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gatekeeper.auth.registry import checker_types
from gatekeeper.doors import Gateway
from gatekeeper.errors import ConfigurationError, Refusal
from gatekeeper.listening import Listening
from gatekeeper.net.destinations import OwnAddresses
from gatekeeper.net.listeners import Listener
from gatekeeper.net.server import ClientConnection
from gatekeeper.net.transports import LoopProtocol
from gatekeeper.serving import Serving
from gatekeeper.store.state import StoredService
from tests.daemon import free_port
from tests.net.messages import OK
from tests.world import CLIENT, World, worlds

make_world = pytest.fixture(worlds)

MakeWorld = Callable[..., World]


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(services=[])


@pytest.fixture
def own() -> OwnAddresses:
    return OwnAddresses()


@pytest.fixture
def listening(
    world: World, own: OwnAddresses, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listening]:
    async def start(listener: Listener, loop: object) -> None:
        """What listens is enough here; nothing is accepted."""

    monkeypatch.setattr(Listener, "start", start)
    made = Listening(
        world.settings.state_dir, world.assembly, world.plane, world.connections, world.loop, own
    )
    yield made
    made.stop()


@pytest.fixture
def serving(world: World, listening: Listening) -> Iterator[Serving]:
    made = Serving(
        world.settings,
        checker_types(),
        world.assembly._checkers,  # type: ignore[arg-type]
        world.assembly,
        listening,
        world.loop.time,
    )
    world.assembly._checkers["golem"] = world.gate  # type: ignore[index]
    yield made
    world.loop.settle()
    made.stop()
    # What could not be served was logged, and nothing else.
    assert all(event["log_format"].startswith("Service {name} is not") for event in world.problems)
    world.problems.clear()


def golem(name: str, port: int, **fields: Any) -> StoredService:
    raw = {"from": f"/{name}", "to": "http://origin.example", "bindHttp": f"127.0.0.1:{port}"}
    return StoredService(name, "golem", json.dumps({"name": name, **raw, **fields}), 1.0)


def v1(name: str, **fields: Any) -> StoredService:
    raw = {"from": f"/{name}", "to": "http://origin.example", "checkers": []}
    return StoredService(name, "v1", json.dumps({"name": name, **raw, **fields}), 1.0)


def named(*services: StoredService) -> dict[str, StoredService]:
    return {each.name: each for each in services}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def finds(world: World, path: bytes) -> bool:
    door = world.door("public")
    try:
        return bool(door.services.find("x", path))
    except Refusal:
        return False


def test_a_service_is_found_at_once_and_no_more_when_it_is_gone(
    world: World, serving: Serving, listening: Listening
) -> None:
    serving.apply(named(v1("a"), v1("b")))
    assert finds(world, b"/a")
    assert finds(world, b"/b")
    serving.apply(named(v1("b")))
    assert not finds(world, b"/a")
    assert listening.listeners == []


def test_an_address_is_open_while_a_service_has_it(
    world: World, serving: Serving, listening: Listening, own: OwnAddresses
) -> None:
    port = free_port()
    a, b = golem("a", port), golem("b", port)
    serving.apply(named(a))
    (listener,) = listening.listeners
    assert listens(port)
    assert own.at(port)
    assert isinstance(listener.door, Gateway)
    serving.apply(named(a, b))
    assert listening.listeners == [listener]
    assert listener.door.services.find("x", b"/b")
    serving.apply(named(b))
    assert listens(port)
    serving.apply({})
    assert (listens(port), listening.listeners, own.at(port)) == (False, [], [])


def test_what_runs_on_a_closed_address_may_end(
    world: World, serving: Serving, listening: Listening
) -> None:
    serving.apply(named(golem("a", free_port())))
    door = listening.listeners[0].door
    running, idle = (
        world.loop.connect(
            LoopProtocol(ClientConnection(world.plane, door, world.connections)),
            (CLIENT, 50000),
            can_half_close=True,
        )
        for _ in range(2)
    )
    request = b"GET /a HTTP/1.1\r\nhost: x\r\nauthorization: Basic YTpi\r\n\r\n"
    running.sends(request)
    upstream = world.upstream()
    serving.apply({})
    world.loop.settle()
    assert idle.is_open  # he has been told nothing, and may be about to ask
    world.advance(6)
    assert idle.was_closed
    assert running.is_open
    upstream.sends(OK)
    assert running.message().status == 200
    running.shuts_down()
    assert running.was_closed


def test_preparing_binds_and_applying_takes_what_is_bound(serving: Serving) -> None:
    port = free_port()
    a = golem("a", port)
    prepared = serving.prepare(named(a))
    assert listens(port)
    serving.check(golem("b", free_port()))  # somebody else's question in between
    serving.apply(named(a))
    assert listens(port)
    assert not prepared.bound
    assert not serving.problems


def test_what_does_not_come_leaves_nothing_open(serving: Serving) -> None:
    ports = free_port(), free_port()
    serving.check(golem("a", ports[0]))
    serving.prepare(named(golem("a", ports[1]))).cancel()
    assert not any(map(listens, ports))


def test_a_taken_address(serving: Serving, world: World) -> None:
    port, other = free_port(), free_port()
    addresses = [f"127.0.0.1:{other}", f"127.0.0.1:{port}"]
    a = golem("a", port, bindHttp=addresses)
    with socket.create_server(("127.0.0.1", port)):
        for ask in (lambda: serving.check(a), lambda: serving.prepare(named(a))):
            with pytest.raises(ConfigurationError, match=rf"^bindHttp: cannot listen on .*{port}"):
                ask()
        assert not listens(other)
        # Another process has stored it: the rest is served, and it is tried again.
        serving.apply(named(a, v1("b")))
        assert finds(world, b"/b")
        assert list(serving.problems) == ["a"]
    world.loop.now += 10
    serving.reload()
    assert not serving.problems
    assert listens(port)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (v1("a", to="https://origin.example", ca_file=__file__), "^ca_file: "),
        (v1("a", checkers=["nobody"]), r"^checkers\[0\]: "),
        (
            golem(
                "a", 1, bindHttp=None, bindHttps="127.0.0.1:1", cert={"path": "/a", "keyPath": "/b"}
            ),
            "^cert.path: ",
        ),
    ],
)
def test_what_cannot_be_served(
    serving: Serving, world: World, service: StoredService, expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        serving.check(service)
    serving.apply(named(service, v1("b")))
    assert list(serving.problems) == ["a"]
    assert finds(world, b"/b")


def test_what_another_service_suffers_from_does_not_matter(serving: Serving) -> None:
    bad = v1("bad", checkers=["nobody"])
    serving.apply(named(bad))
    serving.prepare(named(bad, v1("good"))).cancel()


def test_checkers_that_only_a_stored_service_names_are_made(serving: Serving, world: World) -> None:
    serving.apply(named(v1("a", checkers=["null://"])))
    assert finds(world, b"/a")
    assert "null://" in world.assembly._checkers


def test_a_certificate_that_changes_opens_the_address_anew(
    serving: Serving, listening: Listening
) -> None:
    port = free_port()
    serving.apply(named(golem("a", port)))
    (before,) = listening.listeners
    # The same address without its only service in between.
    serving.apply({})
    serving.apply(named(golem("a", port, to="http://other.example")))
    assert before not in listening.listeners
    assert listens(port)


def test_nothing_opens_after_the_stop(serving: Serving) -> None:
    serving.stop()
    port = free_port()
    serving.apply(named(golem("a", port)))
    assert not listens(port)
