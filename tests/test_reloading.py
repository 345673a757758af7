"""From one configuration to another in a running core, over connections in memory."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from gatekeeper.auth import basic
from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.registry import checker_types
from gatekeeper.auth.token_cache import IUsesTokenCache
from gatekeeper.config.loading import load
from gatekeeper.core import Core
from gatekeeper.errors import ConfigurationError
from gatekeeper.management.introspection_service import IntrospectionService
from gatekeeper.management.managed import Managed
from gatekeeper.net.listeners import Listener
from gatekeeper.net.server import ClientConnection
from gatekeeper.net.transports import LoopProtocol
from gatekeeper.reloading import Reloading
from gatekeeper.store.state import StoredService
from gatekeeper.wiring import Wiring
from tests.daemon import free_port
from tests.management.api_house import Threads
from tests.memory import ManualLoop, Peer, Server
from tests.net.messages import OK
from tests.world import CLIENT, Problems

_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class House:
    """A core with a configuration file. ``ports`` are what ``@NAME@`` stands for in it."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "gatekeeper.toml"
        self.ports: dict[str, int] = {}
        self.loop = ManualLoop()
        self.problems = Problems()
        globalLogPublisher.addObserver(self.problems)
        self.server = self.loop.servers["origin.example", 80] = Server()
        self.core: Core
        self.wiring: Wiring

    def start(self, *parts: str) -> Core:
        """Put the core together."""
        self.configure(*parts)
        clock = Clock()
        clock.callFromThread = lambda call: call()  # type: ignore[attr-defined]
        self.core = Core(self.read(), clock, self.loop)
        self.wiring = Wiring(self.core, clock, self.reload_later, lambda: None)
        self.reloading = Reloading(self.core, self.wiring, self.read)
        return self.core

    def configure(self, *parts: str) -> None:
        """Write the file."""
        text = f'state_dir = "state"\nmanagement.bind = "{self.bind("management")}"\n'
        text += "".join(parts)
        for name in ("one", "two", "three", "ask"):
            text = text.replace(f"@{name}@", self.bind(name))
        self.file.write_text(text)

    def bind(self, name: str) -> str:
        return f"127.0.0.1:{self.ports.setdefault(name, free_port())}"

    def read(self) -> Any:
        return load(self.file, checker_types(), environ={})

    def reload_later(self) -> Awaitable[Sequence[str]]:
        raise AssertionError("nobody asks the management")

    def reload(self, *parts: str) -> Sequence[str]:
        """Change the file, and have it read."""
        self.configure(*parts)
        results: list[Any] = []
        done: Deferred[Sequence[str]] = self.reloading.reload()
        done.addBoth(results.append)
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        self.loop.settle()
        keys: Sequence[str] = result
        return keys

    def refuse(self, *parts: str) -> list[str]:
        """Change the file to what is no good: the problems."""
        with pytest.raises(ConfigurationError) as caught:
            self.reload(*parts)
        assert self.problems.pop()["log_format"].startswith("The configuration is not reloaded")
        return [str(problem) for problem in caught.value.problems]

    def connect(self, listener: str = "one") -> Peer:
        """A client connects."""
        door = self.core.listening.opened[listener].listener.door
        connection = ClientConnection(self.core.plane, door, self.core.connections)
        return self.loop.connect(LoopProtocol(connection), (CLIENT, 50000), can_half_close=True)

    def ask(self, client: Peer, path: str = "/a", credentials: str = "Bearer s3cret") -> int:
        """Make a request; where it goes to the origin, that answers. The status."""
        client.sends(request(path, credentials))
        for upstream in self.server.peers:
            if upstream.received():
                upstream.sends(OK)
        self.loop.settle()
        return client.message().status

    def listens(self, name: str) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

    def close(self) -> None:
        self.core.listening.stop()
        for answering in self.core.introspecting.answering.values():
            answering.socket.close()
        if self.wiring.service is not None:
            self.wiring.service.socket.close()
        closing: Deferred[None] = Deferred.fromCoroutine(self.core.close())
        assert closing.called
        if self.core.metering is not None:
            self.core.metering.journal.close()
        self.loop.settle()
        self.loop.close()
        globalLogPublisher.removeObserver(self.problems)
        assert self.loop.errors == []
        assert self.problems == []


def request(path: str, credentials: str = "Bearer s3cret") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {credentials}\r\n\r\n".encode()


def password(word: str) -> str:
    return f"Basic {base64.b64encode(f'x:{word}'.encode()).decode()}"


def listener(name: str, **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    bind = "" if "bind" in keys else f'bind = "@{name}@"\n'
    role = "" if "role" in keys else 'role = "gateway"\n'
    return f'[[listeners]]\nname = "{name}"\n{role}{bind}{more}'


def service(name: str, checkers: str = "", **keys: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return (
        f'[[services]]\nname = "{name}"\nfrom = "/{name}"\nto = "http://origin.example"\n'
        f"checkers = [{checkers}]\n{more}"
    )


def users(name: str = "users", **passwords: str) -> str:
    hashes = ", ".join(f"{user} = '{_HASHER.hash(word)}'" for user, word in passwords.items())
    return f'[checkers.{name}]\ntype = "basic"\nusers = {{ {hashes} }}\n'


ONE = listener("one")
SECRET = '"secret://s3cret?user_id=ops"'
A = service("a", SECRET)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    async def start(listener: Listener, loop: object) -> None:
        """What listens is enough here; nothing is accepted."""

    def started(service: IntrospectionService) -> None:
        """The same."""

    monkeypatch.setattr(basic, "ReactorThreads", Threads)
    monkeypatch.setattr(Listener, "start", start)
    monkeypatch.setattr(IntrospectionService, "startService", started)
    monkeypatch.setattr(IntrospectionService, "stopService", lambda self: self.socket.close())
    made = House(tmp_path)
    yield made
    made.close()


class TestCheckers:
    def test_what_has_not_changed_stays_with_all_that_it_knows(self, house: House) -> None:
        core = house.start(ONE, A, service("b", '"users"'), users(alice="w"))
        client = house.connect()
        assert house.ask(client) == 200
        before = dict(core.checkers.by_name)
        (route,) = (route for route in core.assembly.routes if route.name == "a")
        assert route.chain is not None
        assert (route.chain.stats.misses, route.stats.requests[2, "ok"]) == (1, 1)
        origin = route.origin
        changed = service("b", '"users"', cors="true")
        assert house.reload(ONE, A, changed, users(alice="other")) == []
        after = core.checkers.by_name
        assert after[SECRET[1:-1]] is before[SECRET[1:-1]]
        assert after["users"] is not before["users"]
        # The same service, with its verdicts, numbers and upstream connections.
        assert house.ask(client) == 200
        (route,) = (route for route in core.assembly.routes if route.name == "a")
        assert route.origin is origin
        assert len(house.server.peers) == 1
        assert route.stats.requests[2, "ok"] == 2

    def test_a_chain_believes_what_it_knew_while_its_checkers_stay(self, house: House) -> None:
        core = house.start(ONE, A)
        client = house.connect()
        assert house.ask(client) == 200
        assert house.reload(ONE, service("a", SECRET, cors="true")) == []
        assert house.ask(client) == 200
        (route,) = core.assembly.routes
        assert route.chain is not None
        assert (route.chain.stats.misses, route.chain.stats.cached_grants) == (0, 1)

    def test_what_another_checker_said_does_not_count(self, house: House) -> None:
        """The cache still has the verdict that the former one has given."""
        house.start(ONE, service("a", '"users"'), users(x="one"))
        client = house.connect()
        assert house.ask(client, "/a", password("one")) == 200
        house.reload(ONE, service("a", '"users"'), users(x="two"))
        assert house.ask(client, "/a", password("one")) == 401
        assert house.ask(client, "/a", password("two")) == 200
        # And neither does what it had said before it was changed.
        house.reload(ONE, service("a", '"users"'), users(x="one"))
        assert house.ask(client, "/a", password("two")) == 401

    def test_who_is_gone_is_closed_when_nothing_needs_it(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        core = house.start(ONE, A, service("b", '"users"'), users(alice="w"))
        closed: list[IChecker] = []
        secret, basic = core.checkers.by_name[SECRET[1:-1]], core.checkers.by_name["users"]
        for checker in (secret, basic):
            monkeypatch.setattr(type(checker), "close", lambda self: closed.append(self))
        client = house.connect()
        client.sends(request("/a"))
        upstream = house.server.accepted()
        house.reload(ONE, service("c"))
        assert SECRET[1:-1] not in core.checkers.by_name
        core.check_files()
        assert closed == []  # somebody may have been asked
        house.loop.now += 1000
        core.check_files()
        assert closed == [basic]
        upstream.sends(OK)
        house.loop.settle()
        core.check_files()
        assert closed == [basic, secret]
        core.check_files()
        assert len(closed) == 2

    def test_token_caches(self, house: House) -> None:
        """A zone lives as long as its checker: another server's tokens are not believed."""
        core = house.start(ONE, A, exchange("one"), exchange("two"))
        zones = dict(core.checkers.zones)
        house.reload(ONE, A, exchange("one"), exchange("two", url="https://other.example/"))
        assert core.checkers.zones["one"] is zones["one"]
        assert core.checkers.zones["two"] is not zones["two"]
        assert IUsesTokenCache(core.checkers.by_name["two"]).zone == "two"
        assert house.refuse(ONE, A, exchange("one"), exchange("x", zone="one")) == [
            "checkers.x.zone: another checker has the zone `one` already"
        ]
        house.reload(ONE, A, exchange("one"))
        assert list(core.checkers.zones) == ["one"]


def exchange(name: str, url: str = "https://auth.example/", zone: str = "") -> str:
    return (
        f'[checkers.{name}]\ntype = "exchange"\nurl = "{url}"\nzone = "{zone or name}"\n'
        'credential = ["authorization"]\n'
    )


class TestListeners:
    def test_what_has_not_changed_stays(self, house: House) -> None:
        core = house.start(ONE, listener("two"), A)
        one = core.listening.opened["one"].listener
        client = house.connect()
        house.reload(listener("three"), ONE, A)
        assert core.listening.opened["one"].listener is one
        assert [house.listens(name) for name in ("one", "two", "three")] == [True, False, True]
        assert set(core.listening.listeners) == {
            opened.listener for opened in core.listening.opened.values()
        }
        assert house.ask(client) == 200

    def test_trusted_peers(self, house: House) -> None:
        """Whom we believe may change for the connections that there are."""
        core = house.start(ONE, A)
        one = core.listening.opened["one"].listener
        assert not one.door.trusts(CLIENT)
        house.reload(listener("one", trusted_peers=f'["{CLIENT}/32"]'), A)
        assert core.listening.opened["one"].listener is one
        assert one.door.trusts(CLIENT)

    def test_the_protocols_of_the_same_clients(self, house: House) -> None:
        """Another socket for the same address, the same door behind it."""
        core = house.start(ONE, A)
        one = core.listening.opened["one"].listener
        client = house.connect()
        house.reload(listener("one", http2="false"), A)
        anew = core.listening.opened["one"].listener
        assert anew is not one
        assert anew.door is one.door
        assert house.listens("one")
        assert house.ask(client) == 200
        assert client.is_open

    def test_other_services_and_no_more_of_those(self, house: House) -> None:
        house.start(ONE, A)
        client = house.connect()
        house.reload(ONE, service("b", SECRET))
        assert house.ask(client) == 404
        assert house.ask(client, "/b") == 200

    def test_a_forward_proxy(self, house: House) -> None:
        proxy = listener("two", role='"forward"', checkers=f"[{SECRET}]", allow='["*:*"]')
        core = house.start(ONE, proxy, A)
        door = core.listening.opened["two"].listener.door
        route = core.assembly.routes[-1]
        house.reload(ONE, proxy, A)
        assert core.assembly.routes[-1] is route
        house.reload(ONE, proxy.replace("*:*", "example.com:80"), A)
        assert core.assembly.routes[-1] is not route
        assert core.assembly.routes[-1].stats is route.stats
        assert core.listening.opened["two"].listener.door is door
        house.reload(ONE, A)
        assert [each.name for each in core.assembly.routes] == ["a"]

    def test_introspection(self, house: House) -> None:
        ask = listener("ask", role='"introspection"', checkers='["users"]')
        core = house.start(ONE, ask, users(alice="w"))
        services = core.introspecting.services
        (first,) = services
        house.reload(ONE, ask, users(alice="w").replace("\n", "\n", 1))  # another salt
        (second,) = services
        assert second is not first
        assert house.listens("ask")
        text = self._as_it_is(house)
        house.file.write_text(text)
        assert house.reloading.reload().called
        assert services == [second]
        assert core.own.at(house.ports["ask"])
        house.reload(ONE)
        assert services == []
        assert not house.listens("ask")
        assert not core.own.at(house.ports["ask"])

    @staticmethod
    def _as_it_is(house: House) -> str:
        return house.file.read_text()


class TestAllOrNothing:
    def test_everything_that_is_wrong_and_nothing_left_open(self, house: House) -> None:
        core = house.start(ONE, A)
        before = (
            dict(core.checkers.by_name),
            core.assembly.served,
            core.listening.opened.copy(),
            core.settings,
        )
        ask = listener("ask", role='"introspection"', checkers='["users"]')
        house.bind("two")
        with (
            socket.create_server(("127.0.0.1", house.ports["two"])),
            socket.create_server(("127.0.0.1", house.ports.setdefault("ask", free_port()))),
        ):
            problems = house.refuse(
                listener("three"), listener("two"), ask, service("b", '"users"'), users(alice="w")
            )
        assert [problem.partition(":")[0] for problem in problems] == [
            "listeners[1].bind",
            "listeners[2].bind",
        ]
        assert before == (
            dict(core.checkers.by_name),
            core.assembly.served,
            core.listening.opened,
            core.settings,
        )
        assert not house.listens("three")
        assert house.ask(house.connect()) == 200

    def test_not_while_it_stops(self, house: House) -> None:
        core = house.start(ONE, A)
        core.plane.draining = True
        assert house.refuse(ONE) == ["the daemon is stopping"]

    def test_one_at_a_time(self, house: House) -> None:
        house.start(ONE, A)
        opening: Deferred[None] = Deferred()

        async def open_doors() -> None:
            await opening

        house.reloading.alone(open_doors)
        done = house.reloading.reload()
        assert not done.called
        opening.callback(None)
        assert done.called


class TestStoredServices:
    """They stay as they are, unless they are at odds with the file: then that wins."""

    def v1(self, name: str, **fields: Any) -> StoredService:
        raw = {"from": f"/{name}", "to": "http://origin.example", "checkers": []}
        return StoredService(name, "v1", json.dumps({"name": name, **raw, **fields}), 1.0)

    def golem(self, name: str, port: int) -> StoredService:
        raw = {"name": name, "from": f"/{name}", "to": "http://origin.example"}
        definition = json.dumps({**raw, "bindHttp": f"127.0.0.1:{port}"})
        return StoredService(name, "golem", definition, 1.0)

    def served(self, house: House) -> set[str]:
        return {route.name for route in house.core.assembly.routes}

    def test_they_stay(self, house: House) -> None:
        core = house.start(ONE, A)
        core.serving.apply({"s": self.v1("s", checkers=["null://"])})
        route = next(route for route in core.assembly.routes if route.name == "s")
        house.reload(ONE, service("b"))
        assert self.served(house) == {"b", "s"}
        assert route in core.assembly.routes
        assert "null://" in core.checkers.by_name

    def test_a_name_or_a_path_that_the_file_takes(self, house: House) -> None:
        core = house.start(ONE, A)
        core.serving.apply({"s": self.v1("s"), "t": self.v1("t")})
        house.reload(ONE, service("s"), service("x").replace('"/x"', '"/t"'))
        assert self.served(house) == {"s", "x"}
        assert set(core.serving.problems) == {"s", "t"}
        told = [event["name"] for event in house.problems]
        assert sorted(told) == ["s", "t"]
        house.problems.clear()
        # They come back when the file leaves them room.
        house.reload(ONE, A)
        assert self.served(house) == {"a", "s", "t"}
        assert not core.serving.problems

    def test_a_checker_that_the_file_has_no_more(self, house: House) -> None:
        core = house.start(ONE, A, users(alice="w"))
        core.serving.apply({"s": self.v1("s", checkers=["users"])})
        assert self.served(house) == {"a", "s"}
        house.reload(ONE, A)
        assert self.served(house) == {"a"}
        assert house.problems.pop()["name"] == "s"

    def test_an_address_that_the_file_takes(self, house: House) -> None:
        """Nobody is turned away there meanwhile."""
        core = house.start(ONE, A)
        house.bind("two")
        core.serving.apply({"s": self.golem("s", house.ports["two"])})
        assert house.listens("two")
        house.reload(ONE, listener("two"), A)
        assert core.listening.opened["two"].settings.name == "two"
        assert set(core.listening.opened) == {"one", "two"}
        assert house.listens("two")
        assert house.problems.pop()["name"] == "s"
        # And gives back.
        house.reload(ONE, A)
        assert self.served(house) == {"a", "s"}
        assert house.listens("two")

    def test_a_listener_that_both_have(self, house: House) -> None:
        core = house.start(ONE, A)
        house.bind("two")
        name = f"golem-127.0.0.1-{house.ports['two']}"
        core.serving.apply({"s": self.golem("s", house.ports["two"])})
        opened = core.listening.opened[name].listener
        same = listener(name, bind='"@two@"')
        house.reload(ONE, same, A)
        assert core.listening.opened[name].listener is opened
        assert self.served(house) == {"a", "s"}
        core.serving.apply({})
        assert core.listening.opened[name].listener is opened  # it is the file's now
        core.serving.apply({"s": self.golem("s", house.ports["two"])})
        house.reload(ONE, A)
        assert house.listens("two")
        assert self.served(house) == {"a", "s"}
        core.serving.apply({})
        house.loop.settle()
        assert not house.listens("two")


class TestOperators:
    def test_what_they_see_is_what_holds(self, house: House) -> None:
        house.start(ONE, A)
        service_ = house.wiring.service
        assert service_ is not None
        managed = service_.managed
        assert isinstance(managed, Managed)
        house.reload(ONE, service("b"), "[timeouts]\nidle = 3.0\n")
        assert [each.name for each in managed.settings.services] == ["b"]
        assert managed.settings.timeouts.idle == 3.0
        assert house.core.plane.timeouts.idle == 3.0

    def test_definitions(self, house: House, tmp_path: Path) -> None:
        definitions = tmp_path / "services"
        definitions.mkdir()
        house.start(ONE, A)
        house.bind("two")
        definition = {"name": "g", "from": "/g", "to": "http://origin.example"}
        definition |= {"bindHttp": house.bind("two"), "serverName": "provider.example"}
        (definitions / "g.json").write_text(json.dumps(definition))
        house.reload(f'services_dir = "{definitions}"\n', ONE, A)
        assert {route.name for route in house.core.assembly.routes} == {"a", "g"}
        assert house.listens("two")
        service_ = house.wiring.service
        assert service_ is not None
        assert service_.managed is not None
        assert list(service_.managed.definitions) == ["g"]
