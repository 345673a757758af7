"""Several sockets at one address."""

from __future__ import annotations

import socket

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.net.binding import listening_socket
from gatekeeper.net.inherited import NOTHING, Inherited
from gatekeeper.process.siblings import Siblings, check
from tests.daemon import free_port


def listen() -> tuple[str, socket.socket]:
    bind = f"127.0.0.1:{free_port()}"
    return bind, listening_socket(bind, "bind")


def accepted(listening: socket.socket) -> int:
    count = 0
    while True:
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_the_kernel_spreads_what_comes() -> None:
    bind, first = listen()
    siblings = Siblings(2, NOTHING)
    (group,) = siblings.add([(bind, first)])
    assert group.bind == bind
    clients = [socket.create_connection(first.getsockname()) for _ in range(64)]
    counts = [accepted(each) for each in group.sockets]
    assert sum(counts) == 64
    assert min(counts) > 0
    assert [each for _, each in siblings.all()] == group.sockets
    assert [list(siblings.of_worker(slot)) for slot in (0, 1)] == [
        [(bind, each)] for each in group.sockets
    ]
    for client in clients:
        client.close()
    first.close()
    siblings.close()


def test_it_goes_on_without_the_first_until_it_is_let_go() -> None:
    bind, first = listen()
    address = first.getsockname()
    siblings = Siblings(2, NOTHING)
    siblings.add([(bind, first)])
    again = first.dup()
    assert siblings.add([(bind, again)]) == []
    first.close()
    siblings.keep([(bind, again)])
    socket.create_connection(address).close()
    again.close()
    siblings.keep([])
    assert list(siblings.all()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_a_port_that_is_taken_is_an_error_also_where_it_may_be_shared() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="Address already in use"):
            listening_socket(f"127.0.0.1:{taken.getsockname()[1]}", "bind")


def test_those_that_listened_before() -> None:
    """All of them have a worker; where there are not enough, there are more."""
    bind, first = listen()
    before = Siblings(2, NOTHING)
    before.add([(bind, first)])
    inherited = Inherited((each, one.dup()) for each, one in before.all())
    check(inherited, 2)
    with pytest.raises(ConfigurationError, match="workers: was 2"):
        check(inherited, 1)
    primary = inherited.take(bind)
    assert primary is not None
    after = Siblings(3, inherited)
    (group,) = after.add([(bind, primary)])
    assert len(group.sockets) == 3
    assert list(inherited) == []
    before.close()
    first.close()
    primary.close()
    for _ in range(30):
        socket.create_connection(group.sockets[0].getsockname()).close()
    assert sum(map(accepted, group.sockets)) == 30
    after.close()


def test_what_cannot_be_bound_again_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket of another user's, as the kernel sees it."""
    bind, first = listen()

    def bound(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bound)
    siblings = Siblings(2, NOTHING)
    (group,) = siblings.add([(bind, first)])
    one, other = group.sockets
    client = socket.create_connection(first.getsockname())
    assert accepted(other) == 1
    assert accepted(one) == 0
    client.close()
    first.close()
    siblings.close()
