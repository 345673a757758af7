from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs

from gatekeeper.errors import ConfigurationError
from gatekeeper.management.api import ManagementAPI
from gatekeeper.management.health import Check, Readiness
from gatekeeper.management.service import management_service
from gatekeeper.management.site import BoundedRequest, BoundedSite, SiteService


class Client:
    """A connection to a management site, in memory."""

    def __init__(self, site: BoundedSite) -> None:
        self.transport = StringTransport()
        self.channel = site.buildProtocol(None)
        assert self.channel is not None
        self.channel.makeConnection(self.transport)

    def send(self, request: bytes) -> bytes:
        """What is answered by now."""
        self.transport.clear()
        self.channel.dataReceived(request)
        answered: bytes = self.transport.value()
        return answered

    def get(self, path: bytes, method: bytes = b"GET") -> Answer:
        return Answer(self.send(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"))


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = dict(line.lower().split(": ", 1) for line in lines[1:])

    @property
    def document(self) -> dict[str, Any]:
        assert int(self.fields["content-length"]) == len(self.body)
        document: dict[str, Any] = json.loads(self.body)
        return document


def make_site(readiness: Readiness, most: int = 2) -> BoundedSite:
    api, clock = ManagementAPI(readiness, Clock()), Clock()
    return BoundedSite(api.resource(), BoundedRequest, clock, most=most, head=4096)


@pytest.fixture
def readiness() -> Readiness:
    return Readiness({"store": lambda: None, "usage": lambda: None})


@pytest.fixture
def client(readiness: Readiness) -> Client:
    return Client(make_site(readiness))


def errors(events: list[LogEvent] | Any) -> list[LogEvent]:
    return [event for event in events if event["log_level"].name in ("error", "critical")]


class TestHealth:
    def test_healthz(self, client: Client) -> None:
        answer = client.get(b"/healthz")
        assert (answer.status, answer.document) == (200, {"status": "ok"})
        assert answer.fields["content-type"] == "application/json"
        assert answer.fields["cache-control"] == "no-store"

    def test_several_on_one_connection(self, client: Client) -> None:
        assert [client.get(b"/healthz").status for _ in range(3)] == [200] * 3

    def test_readyz(self, client: Client) -> None:
        answer = client.get(b"/readyz")
        assert answer.status == 200
        assert answer.document == {
            "status": "ready",
            "checks": {"store": {"ok": True}, "usage": {"ok": True}},
        }

    def test_not_ready(self) -> None:
        checks: Mapping[str, Check] = {"store": lambda: "is away", "usage": lambda: None}
        answer = Client(make_site(Readiness(checks))).get(b"/readyz")
        assert answer.status == 503
        assert answer.document == {
            "status": "unavailable",
            "checks": {"store": {"ok": False, "problem": "is away"}, "usage": {"ok": True}},
        }

    def test_draining(self, client: Client, readiness: Readiness) -> None:
        readiness.draining = True
        answer = client.get(b"/readyz")
        assert (answer.status, answer.document["status"]) == (503, "draining")
        assert client.get(b"/healthz").status == 200

    def test_a_client_that_does_not_wait(self) -> None:
        slow: Deferred[str | None] = Deferred()
        client = Client(make_site(Readiness({"store": lambda: slow})))
        with capturedLogs() as events:
            assert client.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n") == b""
            client.channel.connectionLost()
            slow.callback(None)
        assert errors(events) == []

    @pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/nothing"])
    def test_head_is_get_without_the_body(self, client: Client, path: bytes) -> None:
        get, head = client.get(path), client.get(path, b"HEAD")
        assert head.body == b""
        assert head.status == get.status
        assert head.fields["content-length"] == get.fields["content-length"]


class TestRefusals:
    @pytest.mark.parametrize("path", [b"/", b"/health", b"/healthz/", b"/healthz/x"])
    def test_nothing_there(self, client: Client, path: bytes) -> None:
        answer = client.get(path)
        assert answer.status == 404
        assert answer.fields["content-type"] == "application/problem+json"
        assert answer.document["status"] == 404

    @pytest.mark.parametrize("method", [b"POST", b"DELETE", b"BREW"])
    def test_another_method(self, client: Client, method: bytes) -> None:
        answer = client.get(b"/healthz", method)
        assert answer.status == 405
        assert "get, head" in answer.fields["allow"]
        assert answer.document["title"] == "Method Not Allowed"

    @pytest.mark.parametrize("path", [b"/healthz", b"/nothing", b"*"])
    def test_no_answer_says_what_runs_it(self, client: Client, path: bytes) -> None:
        for method in (b"GET", b"OPTIONS"):
            raw = client.send(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"server:" not in raw.lower()
            assert b"twisted" not in raw.lower()

    @pytest.mark.parametrize(
        "head",
        [
            b"GET /%ff HTTP/1.1\r\nHost: x\r\n",
            b"GET / HTTP/1.1 x\r\n",
            b"G\xffT / HTTP/1.1\r\n",
            b"GET /\xff HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 4000 + b"\r\n",
        ],
    )
    def test_malformed_requests_are_not_our_errors(self, client: Client, head: bytes) -> None:
        with capturedLogs() as events:
            assert client.send(head + b"\r\n").startswith(b"HTTP/1.1 400 ")
        assert client.transport.disconnecting
        assert errors(events) == []

    @pytest.mark.parametrize("host", [b"", b"a..b", b"\xff", b"x" * 300, b"a:b:c", b"[::1"])
    def test_any_host_will_do(self, client: Client, host: bytes) -> None:
        with capturedLogs() as events:
            raw = client.send(b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert Answer(raw).status == 200
        assert errors(events) == []

    def test_an_error_of_ours(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(self: object, clock: object) -> None:
            raise ValueError("secret")

        monkeypatch.setattr(Readiness, "report", broken)
        with capturedLogs() as events:
            answer = client.get(b"/readyz")
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert len(errors(events)) == 1


class TestBounds:
    POST = b"POST /healthz HTTP/1.1\r\nHost: x\r\n"

    def test_a_body_that_fits(self, client: Client) -> None:
        size = BoundedRequest.body_limit
        raw = client.send(self.POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        assert Answer(raw).status == 405

    def test_a_body_that_is_announced_too_large(self, client: Client) -> None:
        size = BoundedRequest.body_limit + 1
        raw = client.send(self.POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size)
        assert Answer(raw).status == 413
        assert raw.count(b"HTTP/1.1") == 1
        assert client.transport.disconnecting
        assert client.send(b"x" * size) == b""

    def test_a_chunked_body_that_grows_too_large(self, client: Client) -> None:
        assert client.send(self.POST + b"Transfer-Encoding: chunked\r\n\r\n") == b""
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        answers = [client.send(chunk) for _ in range(5)]
        assert answers[:4] == [b""] * 4
        assert Answer(answers[4]).status == 413
        assert client.transport.disconnecting
        assert client.send(b"0\r\n\r\n") == b""

    @pytest.mark.parametrize("size", [4096, 16_384, 100_000])
    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET /healthz?%b HTTP/1.1\r\nHost: x\r\n\r\n", 414),
            (b"GET /healthz?%b", 414),
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n", 431),
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: %b", 431),
        ],
    )
    def test_a_head_that_is_too_large(
        self, client: Client, head: bytes, status: int, size: int
    ) -> None:
        raw = client.send(head % (b"x" * size))
        if not raw:  # it is no line yet
            assert size == 4096
            raw = client.send(b"\r\n")
        assert Answer(raw).status == status
        assert raw.count(b"HTTP/1.1") == 1
        assert client.transport.disconnecting

    def test_connections_are_counted(self, readiness: Readiness) -> None:
        site = make_site(readiness, most=2)
        first, _second = Client(site), Client(site)
        assert site.buildProtocol(None) is None
        first.channel.connectionLost()
        assert Client(site).get(b"/healthz").status == 200
        assert site.connections == 2


class TestService:
    def test_a_taken_port_is_a_configuration_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            bind = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(ConfigurationError) as caught:
                management_service(bind, {})
        assert str(caught.value) == (
            f"management.bind: cannot listen on {bind}: Address already in use"
        )

    def test_an_address_that_is_not_ours(self) -> None:
        with pytest.raises(ConfigurationError, match="Cannot assign requested address"):
            management_service("192.0.2.1:0", {})

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_real_sockets(self) -> None:
        service = management_service("localhost:0", {"store": lambda: None})
        host, port = service.address
        assert host == "127.0.0.1"
        service.startService()
        try:
            ready = await treq.get(f"http://{host}:{port}/readyz", persistent=False)
            assert ready.code == 200
            assert await ready.json() == {"status": "ready", "checks": {"store": {"ok": True}}}
            service.drain()
            draining = await treq.get(f"http://{host}:{port}/readyz", persistent=False)
            assert draining.code == 503
            await draining.content()
        finally:
            await service.stopService()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), timeout=30)

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    @pytest.mark.parametrize("kind", ["tcp", "unix"])
    async def test_pause_and_go_on(self, tmp_path: Path, kind: str) -> None:
        """The socket goes on listening: what comes meanwhile waits for who accepts it."""
        file = tmp_path / "x.sock"
        service = management_service(f"unix:{file}" if kind == "unix" else "localhost:0", {})
        service.startService()
        kept = _connect(service)
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 OK" in await deferToThread(kept.recv, 4096)
        await service.pause()
        # Who is connected has one more request.
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Connection: close" in await deferToThread(kept.recv, 4096)
        assert await deferToThread(kept.recv, 4096) == b""
        waiting = _connect(service)
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        service.startService()
        assert b" 200 OK" in await deferToThread(waiting.recv, 4096)
        idle = _connect(service)
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 OK" in await deferToThread(idle.recv, 4096)
        assert (service.connections, service.busy) == (1, False)
        service.close_idle()
        assert await deferToThread(idle.recv, 4096) == b""
        await service.stopService()
        with pytest.raises(OSError, match=r"refused|No such file"):
            _connect(service)
        assert not file.exists()

    @pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
    async def test_a_file_that_somebody_else_listens_at(self, tmp_path: Path) -> None:
        file = tmp_path / "x.sock"
        service = management_service(f"unix:{file}", {})
        with service.socket.dup() as other:
            service.startService()
            service.keeps_file = True
            await service.stopService()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(file))
                other.setblocking(True)
                other.accept()[0].close()

    def test_importing_it_leaves_the_choice_of_a_reactor(self) -> None:
        script = (
            "import sys, gatekeeper.management.service, gatekeeper.demo, gatekeeper.net.tls;"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def _connect(service: SiteService) -> socket.socket:
    """A client of a service."""
    if service.file is None:
        return socket.create_connection(service.address, 30)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(service.file)
    return client
