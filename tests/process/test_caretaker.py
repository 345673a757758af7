"""What comes for a worker that is not there."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
import uvloop

from gatekeeper.process.caretaker import Caretaker
from gatekeeper.process.link import Link
from tests.daemon import PATIENCE


class Worker:
    """Answers with its name whatever it is told of."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.addresses: list[tuple[str, int]] = []

    def tell(self, name: str, *address: Any, carried: socket.socket) -> None:
        assert name == "connection"
        self.addresses.append(address)
        carried.sendall(self.name)


class House:
    """A loop, sockets that listen, and workers."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.sockets = [self._listen(family) for family in (socket.AF_INET, socket.AF_INET6)]
        self.workers: list[Worker] = []
        self.caretaker = Caretaker(self.loop, lambda: cast("list[Link]", self.workers))

    @staticmethod
    def _listen(family: socket.AddressFamily) -> socket.socket:
        made = socket.socket(family)
        made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        made.listen()
        made.setblocking(False)
        return made

    def watch(self, *numbers: int) -> None:
        self.caretaker.watch([("bind", self.sockets[number]) for number in numbers])

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def answer(self, number: int) -> bytes:
        """What a connection gets."""
        with socket.create_connection(self.sockets[number].getsockname()[:2]) as client:
            client.setblocking(False)
            got = asyncio.wait_for(self.loop.sock_recv(client, 10), PATIENCE)
            return self.loop.run_until_complete(got)

    def waits(self, number: int) -> bool:
        """Whether a connection is there that nobody has accepted."""
        try:
            self.sockets[number].accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def connect(self, number: int) -> None:
        """One that waits."""
        with socket.create_connection(self.sockets[number].getsockname()[:2]):
            pass


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.caretaker.watch([])
    for each in made.sockets:
        each.close()
    made.loop.close()


def test_others_get_them_in_turn(house: House) -> None:
    house.workers = [Worker(b"one"), Worker(b"two")]
    house.watch(0, 1)
    assert sorted(house.answer(0) for _ in range(4)) == [b"one", b"one", b"two", b"two"]
    assert house.answer(1) in (b"one", b"two")
    told = [address for each in house.workers for address in each.addresses]
    assert set(told) == {each.getsockname()[:2] for each in house.sockets}


def test_what_has_come_before_is_served_too(house: House) -> None:
    house.workers = [Worker(b"one")]
    with socket.create_connection(house.sockets[0].getsockname()) as client:
        house.watch(0)
        client.setblocking(False)
        got = asyncio.wait_for(house.loop.sock_recv(client, 10), PATIENCE)
        assert house.loop.run_until_complete(got) == b"one"


def test_nobody_is_there_for_a_while(house: House) -> None:
    house.watch(0)
    house.connect(0)
    house.run(0.05)
    assert house.waits(0)
    house.workers = [Worker(b"one")]
    assert house.answer(0) == b"one"


def test_sockets_come_and_go(house: House) -> None:
    house.workers = [Worker(b"one")]
    house.watch(0)
    house.watch(1)
    house.connect(0)
    assert house.answer(1) == b"one"
    assert house.waits(0)
    house.watch(1, 0)
    assert house.answer(0) == b"one"
    house.watch()
    for number in (0, 1):
        house.connect(number)
    house.run(0.05)
    assert house.waits(0)
    assert house.waits(1)


def test_one_that_waits_for_workers_goes(house: House) -> None:
    house.watch(0)
    house.connect(0)
    house.run(0.05)
    house.watch()
    house.workers = [Worker(b"one")]
    house.run(0.3)
    assert house.waits(0)


def test_too_many_files(house: House) -> None:
    house.workers = [Worker(b"one")]
    house.watch(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def run_short() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await asyncio.sleep(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with socket.create_connection(house.sockets[0].getsockname()) as client:
        client.setblocking(False)
        house.loop.run_until_complete(run_short())
        assert house.workers[0].addresses == []
        got = asyncio.wait_for(house.loop.sock_recv(client, 10), PATIENCE)
        assert house.loop.run_until_complete(got) == b"one"
