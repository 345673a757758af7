"""Two daemons with one PostgreSQL: what is changed on one of them takes effect on the other.

The second one reaches the store through a relay that can be cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.auth.support import KEYS, basic, token
from tests.daemon import Daemon, wait_until
from tests.e2e.plain import STORED, curl
from tests.e2e.test_e2e_management import with_token
from tests.faults.relay import Relay
from tests.hostile.raw import BrokenTransferError, Client
from tests.origin import Conversation, Origin
from tests.servers import PostgresServer

pytestmark = pytest.mark.usefixtures("unmeasured")


#: Seconds within which a change takes effect everywhere.
PROMISED: Final = 1.0

USERS: Final = "/v1/services/echo/users"
BOB: Final = f"Authorization: {basic('bob', 'builder').decode()}"


def stream(conversation: Conversation) -> None:
    """Begin a body that does not end before the connection does."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    conversation.read(1)


class Nodes:
    """``here`` is where operators work, ``there`` the other one, behind ``relay``."""

    def __init__(self, directory: Path, origin: Origin, server: PostgresServer) -> None:
        self._directory = directory
        self.origin = origin
        self._url = server.create_database()
        self.relay = Relay(server.port)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both run, and listen."""
        parts = urlsplit(self._url)
        netloc = f"{parts.netloc.rpartition(':')[0]}:{self.relay.port}"
        relayed = parts._replace(netloc=netloc).geturl()
        with (
            self.relay,
            self._daemon("here", self._url) as self.here,
            self._daemon("there", relayed) as self.there,
        ):
            self.operator = with_token(self.here)
            self.both_listen()
            yield

    def _daemon(self, name: str, url: str) -> Daemon:
        directory = self._directory / name
        directory.mkdir()
        (directory / "keys.properties").write_text(KEYS)
        (directory / "keys.properties").chmod(0o600)
        text = STORED.replace("STORE", url)
        return Daemon(directory, text, ports={"origin": self.origin.port})

    def both_listen(self) -> None:
        nodes = (self.here, self.there)
        wait_until(lambda: all(metric(each, "listening") for each in nodes), "they listen")

    def change(self, method: str, path: str, document: object = None) -> Any:
        """Change something here."""
        status, answered = self.operator(method, path, document)
        assert status in (200, 201, 204), answered
        return answered

    def add_bob(self) -> None:
        self.change("POST", USERS, {"name": "bob", "password": "builder"})

    def status_there(self, path: str, *lines: str) -> int:
        headers = [option for line in lines for option in ("-H", line)]
        return curl(self.there.url("gateway", path), *headers).status

    @contextmanager
    def running_there(self, path: str, *lines: str) -> Iterator[Client]:
        """A body that does not end by itself."""
        with Client(self.there.address("gateway")) as client:
            client.send("\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *lines, "", "")).encode())
            assert client.head().status == 200
            assert client.read(10) == b"5\r\nhello\r\n"
            yield client


def metric(daemon: Daemon, name: str) -> float:
    """What a metric of the state says."""
    token = (daemon.state_dir / "management.token").read_text().strip()
    scraped = curl(daemon.url("management", "/metrics"), "-H", f"Authorization: Bearer {token}")
    found = re.search(rf"(?m)^gatekeeper_state_{name} (.+)$", scraped.body.decode())
    assert found is not None
    return float(found[1])


@pytest.fixture
def nodes(tmp_path: Path, origin: Origin, postgres: PostgresServer) -> Iterator[Nodes]:
    origin.on["/stream"] = stream
    nodes = Nodes(tmp_path, origin, postgres)
    with nodes.running():
        yield nodes


def is_cut(client: Client) -> None:
    """Wait until the body ends in the middle."""
    with pytest.raises(BrokenTransferError):
        client.read(1)


def in_time(change: Callable[[], object], effect: Callable[[], object]) -> None:
    """Change something, and wait for what it brings about."""
    change()
    changed = time.monotonic()
    effect()
    assert time.monotonic() - changed < PROMISED


def test_a_change_here_takes_effect_there(nodes: Nodes) -> None:
    def passes() -> None:
        wait_until(lambda: nodes.status_there("/echo/x", BOB) == 200, "bob may pass")

    in_time(nodes.add_bob, passes)
    with nodes.running_there("/echo/stream", BOB) as client:
        in_time(
            lambda: nodes.change("PATCH", f"{USERS}/bob", {"disabled": True}),
            lambda: is_cut(client),
        )
    assert nodes.status_there("/echo/x", BOB) == 401
    in_time(lambda: nodes.change("PATCH", f"{USERS}/bob", {"disabled": False}), passes)
    with nodes.running_there("/echo/stream", BOB) as client:
        in_time(lambda: nodes.change("DELETE", f"{USERS}/bob"), lambda: is_cut(client))

    made = nodes.change("POST", "/v1/keys", {"user": "carol"})
    key = f"X-Api-Key: {made['secret']}"
    wait_until(lambda: nodes.status_there("/keyed/x", key) == 200, "the key is good")
    with nodes.running_there("/keyed/stream", key) as client:
        in_time(
            lambda: nodes.change("PATCH", f"/v1/keys/{made['id']}", {"disabled": True}),
            lambda: is_cut(client),
        )
    assert nodes.status_there("/keyed/x", key) == 401

    signed = token({"id": "001", "exp": int(time.time()) + 600}).decode()
    bearer = f"Authorization: {signed}"
    with nodes.running_there("/keyed/stream", bearer) as client:
        in_time(
            lambda: nodes.change("POST", "/v1/revocations", {"token": signed.split(" ")[1]}),
            lambda: is_cut(client),
        )
    assert nodes.status_there("/keyed/x", bearer) == 403

    service = {"name": "shop", "from": "/shop", "to": nodes.origin.url, "checkers": []}
    in_time(
        lambda: nodes.change("POST", "/v1/services", service),
        lambda: wait_until(lambda: nodes.status_there("/shop/x") == 200, "it is served"),
    )
    assert metric(nodes.here, "version") == metric(nodes.there, "version") == 8
    for daemon in (nodes.here, nodes.there):
        assert "Changes that others make" not in daemon.log


def test_a_node_that_was_cut_off_catches_up(nodes: Nodes) -> None:
    nodes.add_bob()
    wait_until(lambda: nodes.status_there("/echo/x", BOB) == 200, "bob may pass")
    with nodes.running_there("/echo/stream", BOB) as client:
        nodes.relay.sever()
        wait_until(lambda: metric(nodes.there, "listening") == 0, "it is noticed")
        nodes.change("PATCH", f"{USERS}/bob", {"disabled": True})
        assert curl(nodes.here.url("gateway", "/echo/x"), "-H", BOB).status == 401
        assert nodes.status_there("/echo/x", BOB) == 200, "it goes on with what it knows"
        nodes.relay.mend()
        is_cut(client)
    assert nodes.status_there("/echo/x", BOB) == 401
    nodes.both_listen()
    in_time(
        lambda: nodes.change("PATCH", f"{USERS}/bob", {"disabled": False}),
        lambda: wait_until(lambda: nodes.status_there("/echo/x", BOB) == 200, "bob may pass"),
    )
    assert nodes.there.log.count("Changes that others make are not heard of") == 1
    assert nodes.there.log.count("Changes that others make are heard of at once again") == 1
    assert "Changes that others make" not in nodes.here.log


def test_they_listen_again_after_a_restart_of_the_server(
    nodes: Nodes, postgres: PostgresServer
) -> None:
    nodes.add_bob()
    wait_until(lambda: nodes.status_there("/echo/x", BOB) == 200, "bob may pass")
    with nodes.running_there("/echo/stream", BOB) as client:
        postgres.restart()
        nodes.both_listen()
        in_time(lambda: nodes.change("DELETE", f"{USERS}/bob"), lambda: is_cut(client))
