"""What cannot be started says why, once, and exits with a status that is not 0."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.e2e.plain import PLAIN

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path, PLAIN, ports={"origin": 9})


@pytest.fixture(params=[False, True], ids=["foreground", "daemonized"])
def either(request: pytest.FixtureRequest, daemon: Daemon) -> Daemon:
    """Both ways to start it: the message must come before it goes into the background."""
    daemon.daemonized = request.param
    return daemon


def refused(daemon: Daemon, *options: str) -> str:
    """The one message. Nothing runs afterwards, and no pid file says so."""
    status, message = daemon.refuse_to_start(*options)
    assert status not in (0, None)
    said = message + daemon.stdout + daemon.log
    assert "Traceback" not in said, said
    assert not daemon.pid_file.exists()
    for name in ("gateway", "proxy", "management"):
        assert not listens(daemon, name)
    return message


def listens(daemon: Daemon, name: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(daemon.address(name)) == 0


def test_port_that_is_taken(either: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(either.address("management"))
        message = refused(either)
    assert "management.bind: " in message
    assert "Address already in use" in message
    assert str(either.port("management")) in message
    assert len(message.splitlines()) == 1


def test_all_ports_that_are_taken_are_named(daemon: Daemon) -> None:
    with socket.socket() as one, socket.socket() as two:
        one.bind(daemon.address("gateway"))
        two.bind(daemon.address("proxy"))
        lines = refused(daemon).splitlines()
    assert len(lines) == 2
    for number, name in enumerate(("gateway", "proxy")):
        assert f"listeners[{number}].bind: " in lines[number]
        assert "Address already in use" in lines[number]
        assert str(daemon.port(name)) in lines[number]


def test_configuration_that_is_missing(either: Daemon) -> None:
    either.config_file.unlink()
    message = refused(either)
    assert str(either.config_file) in message
    assert "No such file" in message
    assert len(message.splitlines()) == 1


def test_configuration_that_is_no_toml(daemon: Daemon) -> None:
    daemon.config_file.write_text('state_dir = "state\n')
    message = refused(daemon)
    assert str(daemon.config_file) in message
    assert len(message.splitlines()) == 1


def test_configuration_with_problems_names_them_all(either: Daemon) -> None:
    either.configure(
        PLAIN.replace('to = "http://@origin@"', 'to = "gopher://@origin@"').replace(
            'bind = "@proxy@"', 'bind = "nowhere"\nport = 7'
        )
    )
    message = refused(either)
    for path in ("services[0].to", "listeners[1].bind", "listeners[1].port"):
        assert f"{path}: " in message
    assert len(message.splitlines()) == 3


def test_checker_that_is_not_there(daemon: Daemon) -> None:
    daemon.configure(PLAIN.replace('checkers = ["users"]\n"""', "").replace('"users"', '"nobody"'))
    assert "nobody" in refused(daemon)


TLS = PLAIN.replace(
    'bind = "@gateway@"', 'bind = "@gateway@"\ntls = { certificate = "a.pem", key = "a.key" }'
)


def test_key_file_that_is_missing(daemon: Daemon) -> None:
    daemon.configure(TLS)
    message = refused(daemon)
    assert "listeners[0].tls" in message
    assert "a.pem" in message


def test_key_file_that_is_none(daemon: Daemon) -> None:
    daemon.configure(TLS)
    (daemon.directory / "a.pem").write_text("nothing")
    (daemon.directory / "a.key").write_text("nothing")
    message = refused(daemon)
    assert "listeners[0].tls" in message
    assert "nothing" not in message


KEYS = PLAIN + '\n[checkers.keys]\ntype = "api-key"\nfile = "keys.properties"\n'


def test_keys_that_are_missing(daemon: Daemon) -> None:
    daemon.configure(KEYS)
    message = refused(daemon)
    assert "checkers.keys.file" in message
    assert "keys.properties" in message


def test_keys_that_cannot_be_read_at_all(either: Daemon) -> None:
    """A directory in the place of the file: not even root reads that."""
    either.configure(KEYS)
    (either.directory / "keys.properties").mkdir()
    message = refused(either)
    assert "checkers.keys.file" in message
    assert "Is a directory" in message


def test_keys_with_wrong_lines(daemon: Daemon) -> None:
    daemon.configure(KEYS)
    secret = "0123456789abcdef" * 2
    (daemon.directory / "keys.properties").write_text(f"key001={secret}\nkey002=x{secret}\n\nno")
    message = refused(daemon)
    assert "keys.properties:2" in message
    assert "keys.properties:4" in message
    assert secret not in message


def test_state_dir_that_cannot_be(daemon: Daemon) -> None:
    (daemon.directory / "state").write_text("a file")
    assert "state_dir" in refused(daemon)


def test_state_dir_of_another(either: Daemon) -> None:
    """Also in the background, where the lock has passed from the process that took it."""
    other = Daemon(either.directory / "other", PLAIN, daemonized=True, ports={"origin": 9})
    other.configure(PLAIN.replace('"state"', f'"{either.state_dir}"'))
    with other:
        message = refused(either)
        assert f"state_dir: another gatekeeper uses it ({either.state_dir}/journal)" in message
        assert len(message.splitlines()) == 1


def test_ca_file_that_is_none(daemon: Daemon) -> None:
    daemon.configure(PLAIN.replace('"http://@origin@"', '"https://@origin@"\nca_file = "ca.pem"'))
    (daemon.directory / "ca.pem").write_text("nothing")
    assert "services[0].ca_file" in refused(daemon)


def test_another_reactor(daemon: Daemon) -> None:
    message = refused(daemon, "--reactor=epoll")
    assert "--reactor" in message
    assert len(message.splitlines()) == 1
