"""Sockets that listened before the process began, and who gets which."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekeeper.errors import ConfigurationError
from gatekeeper.net.binding import listening_socket, listening_unix_socket
from gatekeeper.net.inherited import Inherited

Bind = Callable[..., tuple[str, socket.socket]]


@pytest.fixture
def bind() -> Iterator[Bind]:
    opened: list[socket.socket] = []

    def make(host: str = "127.0.0.1", *, listen: bool = True) -> tuple[str, socket.socket]:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.bind((host, 0))
        if listen:
            made.listen()
        opened.append(made)
        return f"[{host}]" if ":" in host else host, made

    yield make
    for each in opened:
        each.close()


def port(made: socket.socket) -> int:
    number: int = made.getsockname()[1]
    return number


def test_by_address_however_it_is_spelled(bind: Bind) -> None:
    (_, one), (host, six) = bind(), bind("::1")
    inherited = Inherited([(f"127.0.0.1:{port(one)}", one), (f"{host}:{port(six)}", six)])
    assert inherited.take(f"0.0.0.0:{port(one)}") is None
    assert inherited.take(f"localhost:{port(one)}") is one
    assert inherited.take(f"127.0.0.1:{port(one)}") is None  # it is somebody's now
    assert inherited.take(f"[0:0:0:0:0:0:0:1]:{port(six)}") is six
    assert list(inherited) == []


def test_a_listener_takes_what_it_inherits(bind: Bind) -> None:
    """Also one that was only bound; that nobody else can have the address is the point."""
    for listen in (True, False):
        host, one = bind(listen=listen)
        address = f"{host}:{port(one)}"
        if listen:
            with pytest.raises(ConfigurationError):
                listening_socket(address, "bind")
        taken = listening_socket(address, "bind", 16, Inherited([(address, one)]))
        assert taken is one
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not taken.getblocking()
        socket.create_connection((host, port(one)), 5).close()


def test_a_unix_socket_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "x.sock"
    with listening_unix_socket(str(file), "0660", "bind") as first:
        inherited = Inherited([(f"unix:{file}", first)])
        assert listening_unix_socket(str(file), "0600", "bind", inherited=inherited) is first
        assert file.stat().st_mode & 0o777 == 0o660


def test_what_nobody_takes_is_closed(bind: Bind) -> None:
    host, one = bind()
    address = f"{host}:{port(one)}"
    inherited = Inherited([(address, one)])
    assert list(inherited) == [address]
    inherited.close()
    assert one.fileno() == -1
    assert inherited.take(address) is None
