"""Several upstreams, some of which die, hang, or come back."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.origin import Conversation, Origin, silent

pytestmark = pytest.mark.usefixtures("unmeasured")

CONFIGURATION = """
state_dir = "state"
management = { bind = "@management@", auth = "none", metrics = "open" }

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[[services]]
name = "shop"
checkers = []
"""

Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*urls: str, more: str = "") -> Daemon:
            return stack.enter_context(
                Daemon(tmp_path, f"{CONFIGURATION}to = {list(urls)!r}\n{more}\n")
            )

        yield start


class Client:
    """A client that keeps its connection."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(*daemon.address("gateway"), timeout=PATIENCE)

    def ask(self, path: str = "/", body: bytes | None = None) -> http.client.HTTPResponse:
        self._connection.request("GET" if body is None else "POST", path, body)
        response = self._connection.getresponse()
        response.read()
        return response

    def status(self, path: str = "/", body: bytes | None = None) -> int:
        return self.ask(path, body).status


def states(daemon: Daemon) -> list[str]:
    status, shown = daemon.management("/v1/services/shop")
    assert status == 200
    return [each["state"] for each in shown["upstreams"]]


def free(origin: Origin) -> str:
    """The URL of an origin that has gone."""
    with origin:
        pass
    return origin.url


def test_one_dies_and_no_client_notices(start: Start) -> None:
    with Origin() as stays, ExitStack() as stack:
        dies = stack.enter_context(Origin())
        daemon = start(dies.url, stays.url)
        client = Client(daemon)
        assert {client.status("/before") for _ in range(20)} == {200}
        assert len(dies.paths) == len(stays.paths) == 10
        stack.close()
        assert {client.status("/after") for _ in range(40)} == {200}
        assert {client.status("/after", b"hello") for _ in range(10)} == {200}
        assert stays.paths.count("/after") == 50
        assert "/after" not in dies.paths
        assert states(daemon) == ["ejected", "up"]


def test_one_hangs(start: Start) -> None:
    released = threading.Event()
    with Origin() as hangs, Origin() as answers:
        hangs.on["/"] = silent(released)
        ejection = "{ failures = 2, duration = 1000.0, longest = 1000.0 }"
        more = f"timeouts = {{ response = 2.0 }}\nejection = {ejection}"
        daemon = start(hangs.url, answers.url, more=more)
        client = Client(daemon)
        seen = [client.status() for _ in range(20)]
        released.set()
    assert seen.count(504) == 2
    assert seen.count(200) == 18
    assert set(seen[4:]) == {200}
    assert len(hangs.requests) == 2


def test_all_are_down_and_one_comes_back(start: Start) -> None:
    first, second = Origin(), Origin()
    urls = free(first), free(second)
    daemon = start(*urls, more="ejection = { failures = 1, duration = 0.5, longest = 0.5 }")
    client = Client(daemon)
    for body in (None, b"hello"):
        answer = client.ask("/", body)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        entry = daemon.logged(answer.headers["x-request-id"])
        assert entry["reason"] == "no_upstream"
    assert states(daemon) == ["ejected", "ejected"]
    with Origin(port=second.port) as back:
        wait_until(lambda: client.status() == 200, "it is back")
        wait_until(lambda: client.status() == 200 and states(daemon)[1] == "up", "it is up")
        assert {client.status() for _ in range(10)} == {200}
        assert back.requests


def test_what_was_sent_is_not_sent_again(start: Start) -> None:
    def break_off(conversation: Conversation) -> None:
        assert b"".join(conversation.read_body()) == b"hello"
        conversation.reset()

    with Origin() as one, Origin() as two:
        one.on["/break"] = two.on["/break"] = break_off
        daemon = start(one.url, two.url)
        client = Client(daemon)
        assert client.status("/break", b"hello") == 502
        assert len(one.paths + two.paths) == 1


def test_names_in_tls_are_each_its_own(start: Start, authority: Authority) -> None:
    wrong = authority.issue("wrong.example").server_context()
    right = authority.issue("127.0.0.1").server_context()
    with Origin(wrong) as one, Origin(right) as two:
        daemon = start(one.url, two.url, more=f'ca_file = "{authority.file}"')
        client = Client(daemon)
        assert {client.status("/", body) for body in (None, b"x") * 5} == {200}
        assert one.requests == []
        assert states(daemon) == ["ejected", "up"]


def test_health_checks(start: Start) -> None:
    well = threading.Event()
    well.set()

    def health(conversation: Conversation) -> None:
        conversation.answer({}, "200 OK" if well.is_set() else "503 Service Unavailable")

    with Origin() as one, Origin() as two:
        one.on["/healthz"] = health
        checks = 'path = "/healthz", interval = 0.3, timeout = 5.0, healthy = 1, unhealthy = 1'
        daemon = start(one.url, two.url, more=f"health = {{ {checks} }}")
        client = Client(daemon)
        wait_until(lambda: "/healthz" in one.paths and "/healthz" in two.paths, "the checks")
        well.clear()
        wait_until(lambda: states(daemon) == ["down", "up"], "it is down")
        before = one.paths.count("/x")
        assert {client.status("/x") for _ in range(10)} == {200}
        assert one.paths.count("/x") == before
        line = f'gatekeeper_upstream_healthy{{service="shop",upstream="{one.url}"}} 0.0'
        assert line in metrics(daemon).splitlines()
        well.set()
        wait_until(lambda: states(daemon) == ["up", "up"], "it is up")
        assert {client.status("/x") for _ in range(10)} == {200}
        assert one.paths.count("/x") > before
    assert all("health check" in agent for agent in agents(one))


def metrics(daemon: Daemon) -> str:
    connection = http.client.HTTPConnection(*daemon.address("management"), timeout=PATIENCE)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def agents(origin: Origin) -> list[Any]:
    return [each.values("user-agent")[0] for each in origin.requests if each.path == "/healthz"]
