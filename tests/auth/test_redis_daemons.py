"""Two daemons that share tokens over a Redis."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gatekeeper.auth.token_exchange import fingerprint
from tests.auth.redis_server import RedisServer, running_redis
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import doors
from tests.hostile.issuers import AuthServer
from tests.hostile.raw import Client
from tests.operators import keyvals, shut_out
from tests.origin import Conversation, Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

CALLER = "Bearer exchange-me"
KEY = fingerprint(CALLER.encode())

_CONFIGURATION = f"""
state_dir = "state"
management = {{ bind = "@management@", metrics = "open" }}
cache = {{ url = "redis://@redis@/0", on_outage = "ON_OUTAGE" }}
timeouts = {{ drain = 2.0 }}

{doors("tokens", "@origin@")}
[checkers.tokens]
type = "exchange"
url = "http://@auth@/auth"

[[services]]
name = "api"
from = "/api"
to = "http://@origin@"
checkers = ["tokens"]
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running_redis()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        origin.on["/stream"] = stream
        origin.on["/socket"] = mirror
        yield origin


@pytest.fixture
def auth() -> Iterator[AuthServer]:
    with AuthServer() as auth:
        yield auth


def stream(conversation: Conversation) -> None:
    """Begin a body that does not end before the connection does."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    conversation.read(1)


def mirror(conversation: Conversation) -> None:
    """Switch protocols, and send back what comes."""
    conversation.send(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    while piece := conversation.read(1):
        conversation.send(piece)


class House:
    """Daemons with the same Redis, auth tier and origin."""

    def __init__(
        self, directory: Path, redis: RedisServer, auth: AuthServer, origin: Origin
    ) -> None:
        self._directory = directory
        self._ports = {"redis": redis.port, "auth": auth.port, "origin": origin.port}
        self.auth = auth

    def daemon(self, name: str, on_outage: str = "refuse") -> Daemon:
        configuration = _CONFIGURATION.replace("ON_OUTAGE", on_outage)
        return Daemon(self._directory / name, configuration, ports=self._ports)

    @property
    def asked(self) -> int:
        """How often the auth tier was asked for a token."""
        return self.auth.paths.count("/auth")


@pytest.fixture
def house(tmp_path: Path, redis: RedisServer, auth: AuthServer, origin: Origin) -> House:
    return House(tmp_path, redis, auth, origin)


def ask(daemon: Daemon, credential: str = CALLER) -> tuple[int, str]:
    """The status of a request, and of one that does not pass the reason."""
    connection = http.client.HTTPConnection(*daemon.address("gateway"), timeout=PATIENCE)
    try:
        connection.request("GET", "/api/x", headers={"Authorization": credential})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            return 200, ""
        return answer.status, daemon.logged(str(answer.headers["X-Request-Id"]))["reason"]
    finally:
        connection.close()


def metric(daemon: Daemon, name: str) -> float:
    connection = http.client.HTTPConnection(*daemon.address("management"), timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        (line,) = (each for each in lines if each.startswith(f'{name}{{zone="tokens"}}'))
        return float(line.rpartition(" ")[2])
    finally:
        connection.close()


def is_cut_off(daemon: Daemon) -> bool:
    return metric(daemon, "gatekeeper_token_cache_caught_up") == 0


def is_ready(daemon: Daemon) -> bool:
    return daemon.management("/readyz")[0] == 200


def open_stream(daemon: Daemon, path: str, *fields: str) -> Client:
    client = Client(daemon.address("gateway"))
    lines = [f"GET /api{path} HTTP/1.1", "Host: x", f"Authorization: {CALLER}", *fields, "", ""]
    client.send("\r\n".join(lines).encode())
    client.head()
    return client


def open_tunnel(daemon: Daemon) -> Client:
    """A WebSocket inside a tunnel, which the proxy knows nothing of."""
    client, host = Client(daemon.address("proxy")), f"127.0.0.1:{daemon.port('origin')}"
    lines = [f"CONNECT {host} HTTP/1.1", f"Host: {host}", f"Proxy-Authorization: {CALLER}", "", ""]
    client.send("\r\n".join(lines).encode())
    assert client.head().status == 200
    client.send(f"GET /socket HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert client.head().status == 101
    return client


def test_one_call_for_all_and_a_revocation_for_all(house: House) -> None:
    with house.daemon("first") as first, house.daemon("second") as second:
        assert ask(first) == ask(second) == (200, "")
        assert house.asked == 1
        streaming = open_stream(second, "/stream")
        assert streaming.read(10) == b"5\r\nhello\r\n"
        socket = open_stream(second, "/socket", "Connection: Upgrade", "Upgrade: websocket")
        tunnel = open_tunnel(second)
        for client in (socket, tunnel):
            client.send(b"x")
            assert client.read(1) == b"x"
        shut_out(first, KEY)
        assert ask(first) == (403, "revoked")
        for client in (streaming, socket, tunnel):
            assert client.rest() == b""  # waits for the end
        assert ask(second) == (403, "revoked")
        cut = [line for line in second.access_log() if line["reason"] == "grant_revoked"]
        assert len(cut) == 3
        assert keyvals(second, "GET") == (200, {KEY: "0"})
        with house.daemon("third") as third:
            assert ask(third) == (403, "revoked")
        assert keyvals(second, "PATCH", entry={KEY: None}) == (204, None)
        assert ask(second) == (200, "")
        wait_until(lambda: ask(first) == (200, ""), "the other one knows")
        assert house.asked == 2


def test_redis_goes_away_and_comes_back(house: House, redis: RedisServer) -> None:
    house.auth.tokens |= {"Bearer other": "token-of-another", "Bearer new": "token-of-one-more"}
    with house.daemon("strict") as strict, house.daemon("serving", "serve") as serving:
        for daemon in (strict, serving):
            assert ask(daemon) == ask(daemon, "Bearer other") == (200, "")
            assert is_ready(daemon)
            assert not is_cut_off(daemon)
        shut_out(strict, fingerprint(b"Bearer other"))
        wait_until(lambda: ask(serving, "Bearer other") == (403, "revoked"), "it is known")
        asked = house.asked

        redis.stop()
        for daemon in (strict, serving):
            wait_until(partial(is_cut_off, daemon), "it is noticed")
            assert metric(daemon, "gatekeeper_token_cache_outages_total") == 1
            status, document = daemon.management("/readyz")
            assert status == 503
            assert not document["checks"]["zone tokens"]["ok"]
            assert ask(daemon, "Bearer other") == (403, "revoked")
            status, document = keyvals(daemon, "PATCH", entry={KEY: "0"})
            assert (status, document["reason"]) == (503, "token_cache_away")
        assert ask(strict) == (503, "token_cache_away")
        assert ask(serving) == ask(serving, "Bearer new") == (200, "")
        assert house.asked == asked + 1

        redis.start()
        for daemon in (strict, serving):
            wait_until(partial(is_ready, daemon), "it is back")
            assert ask(daemon) == ask(daemon, "Bearer new") == (200, "")
            assert ask(daemon, "Bearer other") == (403, "revoked"), "though Redis has forgotten it"
            assert daemon.log.count("cannot be followed: ") == 1
