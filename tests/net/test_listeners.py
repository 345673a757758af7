"""Listening sockets, and the connections that come in through them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import uvloop

from gatekeeper.config.model import Limits
from gatekeeper.errors import ConfigurationError
from gatekeeper.net.binding import listening_socket
from gatekeeper.net.listeners import Connections, Listener
from gatekeeper.net.server import ClientConnection
from tests.world import World, public_world

world = pytest.fixture(public_world)


class TestBinding:
    def test_a_port_that_is_taken(self) -> None:
        with listening_socket("127.0.0.1:0", "bind") as first:
            taken = f"127.0.0.1:{first.getsockname()[1]}"
            with pytest.raises(ConfigurationError) as caught:
                listening_socket(taken, "listeners[0].bind")
        assert str(caught.value) == (
            f"listeners[0].bind: cannot listen on {taken}: Address already in use"
        )

    def test_an_address_that_is_not_ours(self) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0"):
            listening_socket("192.0.2.1:0", "bind")

    @pytest.mark.parametrize(
        ("where", "host"), [("127.0.0.1:0", "127.0.0.1"), ("localhost:0", "127.0.0.1")]
    )
    def test_it_listens_and_does_not_block(self, where: str, host: str) -> None:
        with listening_socket(where, "bind") as listening:
            assert listening.getsockname()[0] == host
            assert not listening.getblocking()
            with pytest.raises(BlockingIOError):
                listening.accept()


class TestConnections:
    @pytest.fixture
    def connection(self, world: World) -> Callable[[str], ClientConnection]:
        def connection(peer: str) -> ClientConnection:
            made = ClientConnection(world.plane, world.door("public"), world.connections)
            made.peer = peer
            return made

        return connection

    def make(self, **limits: int) -> Connections:
        return Connections(Limits(**limits), lambda call: None)

    def test_are_counted_in_all_and_by_peer(
        self, connection: Callable[[str], ClientConnection]
    ) -> None:
        connections = self.make(connections=3, connections_per_peer=2)
        first = connection("a")
        assert connections.admit(first)
        assert connections.admit(connection("a"))
        assert not connections.admit(connection("a"))
        assert connections.admit(connection("b"))
        assert not connections.admit(connection("c"))
        assert len(connections) == 3
        connections.forget(first)
        assert connections.admit(connection("a"))

    def test_forgetting_one_that_was_never_admitted_changes_nothing(
        self, connection: Callable[[str], ClientConnection]
    ) -> None:
        connections = self.make(connections_per_peer=1)
        connections.admit(connection("a"))
        turned_away = connection("a")
        assert not connections.admit(turned_away)
        connections.forget(turned_away)
        assert not connections.admit(connection("a"))
        assert len(connections) == 1

    def test_peers_that_have_gone_leave_nothing_behind(
        self, connection: Callable[[str], ClientConnection]
    ) -> None:
        connections = self.make()
        for number in range(100):
            one = connection(f"peer{number}")
            connections.admit(one)
            connections.forget(one)
            connections.forget(one)
        assert len(connections) == 0
        assert not connections._per_peer

    def test_a_connection_turned_away_hears_nothing_more(self, world: World) -> None:
        world.connections.limits = Limits(connections=1)
        world.connect()
        client = world.connect()
        client.sends(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        assert client.received() == b""
        assert world.log.entries == []


class TestListener:
    @pytest.fixture
    def loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        loop = uvloop.new_event_loop()
        yield loop
        loop.close()

    def test_accepts_until_it_is_stopped(
        self, world: World, loop: asyncio.AbstractEventLoop
    ) -> None:
        listening = listening_socket("127.0.0.1:0", "bind")
        listener = Listener(
            listening, world.door("public"), world.plane, world.connections, tls=None
        )
        host, port = listener.address
        assert repr(listener) == f"<Listener public 127.0.0.1:{port}>"

        async def converse() -> bytes:
            await listener.start(loop)
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"nonsense\r\n\r\n")
            answer = await reader.read()
            writer.close()
            listener.stop()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, port)
            return answer

        assert loop.run_until_complete(converse()).startswith(b"HTTP/1.1 400 Bad Request\r\n")

    def test_it_can_be_stopped_before_it_is_started(self, world: World) -> None:
        listening = listening_socket("127.0.0.1:0", "bind")
        Listener(listening, world.door("public"), world.plane, world.connections, None).stop()
        assert listening.fileno() == -1
