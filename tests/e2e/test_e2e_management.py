"""What operators and Golem's programs do over the management API, with curl, on a real daemon."""

from __future__ import annotations

import json
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import curl
from tests.origin import Conversation, Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

OPEN = """
state_dir = "state"
server_names = ["provider.example"]
usage = { flush_interval = 60.0 }

[management]
bind = "@management@"
auth = "none"

[[listeners]]
name = "public"
role = "gateway"
bind = "@gateway@"
"""

CLOSED = (
    OPEN.replace('auth = "none"', 'auth = "token"')
    + """
[checkers.users]
type = "basic"
"""
)


class Operator:
    """Calls the management API of a daemon. ``options`` are curl's."""

    def __init__(self, daemon: Daemon, *options: str, root: str = "") -> None:
        self._root = root or daemon.url("management")
        self._options = options

    def __call__(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """The status, and what is answered."""
        options = ["-X", method, *self._options]
        if document is not None:
            options += ["-H", "Content-Type: application/json", "-d", json.dumps(document)]
        answered = curl(self._root + path, *options)
        return answered.status, json.loads(answered.body) if answered.body else None

    def get(self, path: str) -> Any:
        """The document at a path."""
        status, document = self("GET", path)
        assert status == 200, document
        return document


def with_token(daemon: Daemon) -> Operator:
    token = (daemon.state_dir / "management.token").read_text().strip()
    return Operator(daemon, "-H", f"Authorization: Bearer {token}")


@contextmanager
def running_request(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A request of alice's that goes on."""
    command = ["curl", "-q", "-sS", "--noproxy", "*", "-u", "alice:wonderland", url]
    with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL) as running:
        try:
            yield running
        finally:
            running.kill()


def status(url: str, user: str) -> int:
    return curl(url, "-u", user).status


def test_a_service_and_its_users_as_golem_makes_them(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, OPEN)
    service = {
        "name": "acme",
        "bindHttp": f"127.0.0.1:{daemon.port('new')}",
        "from": "/acme",
        "to": f"http://127.0.0.1:{origin.port}",
    }
    url = daemon.url("new", "/acme/x")
    with daemon:
        golem = Operator(daemon)
        assert golem("POST", "/services", service)[0] == 200
        assert golem("POST", "/services", service)[0] == 409
        alice = {"username": "alice", "password": "wonderland"}
        answered, user = golem("POST", "/services/acme/users", alice)
        assert (answered, user["username"]) == (200, "alice")
        assert [status(url, "alice:wonderland") for _ in range(3)] == [200] * 3
        assert status(url, "alice:wrong") == 401
        assert golem.get("/services/acme/users/alice/stats") == {"requests": 3}
        assert golem.get("/services/acme/users/alice/endpoints/stats") == {"/acme/x": 3}
        totals = {"users": 1, "services": 1, "requests": {"requests": 3}}
        assert golem.get("/stats") == totals

    with daemon:
        assert golem.get("/services/acme")["createdAt"]
        assert golem.get("/services/acme/users") == [user]
        assert golem.get("/services/acme/users/alice/stats") == {"requests": 3}
        assert status(url, "alice:wonderland") == 200
        assert golem.get("/services/acme/users/alice/stats") == {"requests": 4}
        assert golem("DELETE", "/services/acme/users/alice") == (200, None)
        assert status(url, "alice:wonderland") == 401
        assert golem("POST", "/services/acme/users", alice)[0] == 200
        assert golem.get("/services/acme/users/alice/stats") == {"requests": 0}
        assert status(url, "alice:wonderland") == 200
        assert golem("DELETE", "/services/acme") == (200, None)
        wait_until(lambda: curl(url).exit_status == 7, "the address is closed")
        assert golem("GET", "/services/acme")[0] == 404
        assert golem("POST", "/control/shutdown") == (200, None)
        daemon.wait()
    assert "wonderland" not in daemon.log + daemon.stderr


def test_a_new_user_begins_at_0_whatever_still_ran(tmp_path: Path, origin: Origin) -> None:
    release = threading.Event()

    def stream(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        release.wait(PATIENCE)
        conversation.send(b"over")

    origin.on["/stream"] = stream
    daemon = Daemon(tmp_path, OPEN)
    service = {
        "name": "acme",
        "bindHttp": f"127.0.0.1:{daemon.port('new')}",
        "from": "/acme",
        "to": f"http://127.0.0.1:{origin.port}",
    }
    alice = {"username": "alice", "password": "wonderland"}
    url = daemon.url("new", "/acme")
    with daemon:
        golem = Operator(daemon)

        def add(kind: str, document: object) -> None:
            assert golem("POST", kind, document)[0] == 200

        def used() -> dict[str, int]:
            found: dict[str, int] = {}
            for row in golem.get("/v1/usage?service=acme&by=user")["items"]:
                name = str(row["user"]).partition("~")[0]
                assert (name, len(row["user"])) in (("alice", 5), ("alice", 26))
                kind = "old" if "~" in row["user"] else "new"
                found[kind] = found.get(kind, 0) + row["requests"]
            return found

        add("/services", service)
        add("/services/acme/users", alice)
        assert status(f"{url}/x", "alice:wonderland") == 200
        with running_request(f"{url}/stream") as running:
            wait_until(lambda: golem.get("/v1/exchanges?user=alice")["items"], "it runs")
            assert golem("DELETE", "/services/acme/users/alice") == (200, None)
            add("/services/acme/users", alice)
            assert golem.get("/services/acme/users/alice/stats") == {"requests": 0}
            running.wait(PATIENCE)
        assert golem.get("/services/acme/users/alice/stats") == {"requests": 0}
        assert used() == {"old": 2}

        with running_request(f"{url}/stream") as running:
            wait_until(lambda: golem.get("/v1/exchanges?user=alice")["items"], "it runs")
            assert golem("DELETE", "/services/acme") == (200, None)
            wait_until(lambda: curl(f"{url}/x").exit_status == 7, "the address is closed")
            add("/services", service)
            add("/services/acme/users", alice)
            release.set()
            assert running.wait(PATIENCE) == 0, "what ran may end"
        assert status(f"{url}/x", "alice:wonderland") == 200
        assert golem.get("/services/acme/users/alice/stats") == {"requests": 1}
        assert used() == {"old": 3, "new": 1}


def test_what_operators_do_under_v1(tmp_path: Path, origin: Origin) -> None:
    def stream(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        conversation.read(1)

    origin.on["/stream"] = stream
    daemon = Daemon(tmp_path, CLOSED)
    with daemon:
        assert Operator(daemon)("GET", "/v1/services")[0] == 401
        operator = with_token(daemon)
        service = {"name": "acme", "to": f"http://127.0.0.1:{origin.port}", "checkers": ["users"]}
        answered, problem = operator("POST", "/v1/services", {**service, "checkers": ["user"]})
        assert answered == 422
        assert [error["field"] for error in problem["errors"]] == ["checkers[0]"]
        assert operator("POST", "/v1/services", service)[0] == 201
        alice = {"name": "alice", "password": "wonderland"}
        assert operator("POST", "/v1/services/acme/users", alice)[0] == 201
        url = daemon.url("gateway", "/x")
        assert status(url, "alice:wonderland") == 200
        (usage,) = operator.get("/v1/usage?user=alice")["items"]
        assert (usage["service"], usage["path"], usage["requests"]) == ("acme", "/x", 1)

        with running_request(daemon.url("gateway", "/stream")) as running:
            wait_until(lambda: operator.get("/v1/exchanges?user=alice")["items"], "it runs")
            (exchange,) = operator.get("/v1/exchanges")["items"]
            assert (exchange["service"], exchange["user"]) == ("acme", "alice")
            assert operator("DELETE", f"/v1/exchanges/{exchange['id']}")[0] == 204
            assert running.wait(30) in (18, 56)  # the body ends early
        assert daemon.logged(exchange["id"])["reason"] == "operator"

        change = {"password": "looking-glass"}
        assert operator("PATCH", "/v1/services/acme/users/alice", change)[0] == 200
        assert status(url, "alice:wonderland") == 401
        assert status(url, "alice:looking-glass") == 200
        assert operator("PATCH", "/v1/services/acme/users/alice", {"disabled": True})[0] == 200
        assert status(url, "alice:looking-glass") == 401
        health = operator.get("/v1/health")
        assert (health["status"], health["services"], health["users"]) == ("ready", 1, 1)
        assert operator("POST", "/v1/reload")[0] == 200
        assert operator("DELETE", "/v1/services/acme")[0] == 204
        assert status(url, "alice:looking-glass") == 421  # there is no service at all
        actions = [change["action"] for change in operator.get("/v1/audit")["items"]]
    assert actions == [
        "service.remove",
        "daemon.reload",
        "user.change",
        "user.change",
        "exchange.cut",
        "user.add",
        "service.add",
    ]


def test_a_unix_socket_needs_no_token(tmp_path: Path) -> None:
    file = tmp_path / "management.sock"
    daemon = Daemon(tmp_path, CLOSED.replace("@management@", f"unix:{file}"))
    with daemon:
        operator = Operator(daemon, "--unix-socket", str(file), root="http://localhost")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert operator("POST", "/v1/reload")[0] == 200
        (entry,) = operator.get("/v1/audit")["items"]
        assert entry["actor"] == "socket"
        assert entry["source"].startswith("uid ")
        daemon.kill()
        daemon.start()  # what the killed one has left is replaced
        assert operator.get("/healthz") == {"status": "ok"}
    assert not file.exists()
