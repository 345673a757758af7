"""What an operator does at the command line, on a real daemon, from the first service on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from tests.daemon import PATIENCE, ROOT, Daemon, wait_until
from tests.e2e.plain import curl
from tests.origin import Conversation, Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

PHRASE = "31415926535897932384626433832795"
CONFIGURATION = f"""
state_dir = "state"
usage = {{ flush_interval = 60.0 }}

[management]
bind = "@management@"

[[listeners]]
name = "public"
role = "gateway"
bind = "@gateway@"

[checkers.users]
type = "basic"

[checkers.keys]
type = "key"

[checkers.tokens]
type = "access-token"
secret = "{PHRASE}"
"""


class CommandLine:
    """``gatekeeper``, told by the environment where the configuration is."""

    def __init__(self, config: Path) -> None:
        self._environ = {"GATEKEEPER_CONFIG": str(config), "PATH": "/usr/bin:/bin"}

    def run(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """What a command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "gatekeeper", *arguments],
            cwd=ROOT,
            env=self._environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr if status else done.stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """The document that a command prints."""
        return json.loads(self.run(*arguments, stdin=stdin))


def stream(conversation: Conversation) -> None:
    """Begin a body that does not end before the connection does."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    conversation.read(1)


@pytest.mark.parametrize("bind", ["@management@", "unix"])
def test_a_day_of_an_operator(tmp_path: Path, origin: Origin, bind: str) -> None:
    origin.on["/stream"] = stream
    if bind == "unix":
        bind = f"unix:{tmp_path}/management.sock"
    daemon = Daemon(tmp_path, CONFIGURATION.replace("@management@", bind))
    gatekeeper = CommandLine(daemon.config_file)
    gatekeeper.run("status", status=4)  # it does not run yet
    upstream = f"http://127.0.0.1:{origin.port}"
    url = daemon.url("gateway", "/acme/x")

    def status(*options: str) -> int:
        return curl(url, *options).status

    with daemon:
        assert gatekeeper.json("status")["status"] == "ready"
        refused = gatekeeper.run(
            *("service", "add", "acme", "--to", upstream, "--checker", "user"), status=1
        )
        assert refused.startswith("gatekeeper: checkers[0]: ")
        gatekeeper.run(
            *("service", "add", "acme", "--to", upstream, "--from", "/acme"),
            *("--checker", "users", "--checker", "keys", "--checker", "tokens"),
        )
        assert status() == 401

        # A user.
        password = "wonderland\n"
        gatekeeper.run("user", "add", "acme", "alice", "--password-stdin", stdin=password)
        alice = ("-u", "alice:wonderland")
        assert [status(*alice) for _ in range(3)] == [200] * 3
        (used,) = gatekeeper.json("user", "stats", "acme", "alice")
        assert (used["path"], used["requests"]) == ("/acme/x", 3)
        (row,) = gatekeeper.json("usage", "--user", "alice")
        assert row["requests"] == 3

        # A key.
        secret = gatekeeper.run("key", "create", "bob", "--label", "CI", "--expires", "30d")
        as_bob = ("-H", f"Authorization: Bearer {secret.strip()}")
        assert status(*as_bob) == 200
        (key,) = gatekeeper.json("key", "list", "--user", "bob")
        assert (key["label"], key["disabled"]) == ("CI", False)
        gatekeeper.run("key", "disable", key["id"])
        assert status(*as_bob) == 401
        gatekeeper.run("key", "enable", key["id"])
        assert status(*as_bob) == 200

        # What runs.
        command = ["curl", "-q", "-sS", "--noproxy", "*", *alice]
        command.append(daemon.url("gateway", "/acme/stream"))
        with subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL) as running:
            wait_until(lambda: gatekeeper.json("exchanges"), "the exchange runs")
            (exchange,) = gatekeeper.json("exchanges", "--user", "alice")
            cut = gatekeeper.json("exchanges", "cut", "--user", "alice", "--yes")
            assert cut == {"cut": [exchange["id"]]}
            assert running.wait(PATIENCE) in (18, 56)  # the body ends early
        assert gatekeeper.json("exchanges") == []

        # A token.
        token = gatekeeper.run("token", "mint", "--user", "0xabc", "--url", f"{url}(.*)").strip()
        as_holder = ("-H", f"Authorization: Bearer {token}")
        assert status(*as_holder) == 200
        gatekeeper.run("token", "revoke", stdin=token)
        assert status(*as_holder) == 403

        gatekeeper.run("user", "disable", "acme", "alice")
        assert status(*alice) == 401
        gatekeeper.run("reload")

    assert "the daemon cannot be reached at" in gatekeeper.run("status", status=4)
    with daemon:
        assert [each["name"] for each in gatekeeper.json("service", "list")] == ["acme"]
        (user,) = gatekeeper.json("user", "list", "acme")
        assert (user["name"], user["disabled"]) == ("alice", True)
        assert status(*alice) == 401
        assert status(*as_bob) == 200
        assert status(*as_holder) == 403
        gatekeeper.run("user", "enable", "acme", "alice")
        assert status(*alice) == 200
        gatekeeper.run("user", "passwd", "acme", "alice", "--password-stdin", stdin="looking-glass")
        assert status(*alice) == 401
        gatekeeper.run("key", "revoke", key["id"], "--yes")
        assert status(*as_bob) == 401
        gatekeeper.run("user", "remove", "acme", "alice", "--yes")
        gatekeeper.run("service", "remove", "acme", "--yes")
        assert gatekeeper.json("service", "list") == []
        changes = gatekeeper.json("audit")
        assert gatekeeper.run("audit", "--format", "table").count("user.") == 5

    actor = "token" if bind == "@management@" else "socket"
    assert {change["actor"] for change in changes} == {actor}
    assert [change["action"] for change in reversed(changes)] == [
        "service.add",
        "user.add",
        "key.create",
        "key.change",
        "key.change",
        "exchange.cut",
        "token.revoke",
        "user.change",
        "daemon.reload",
        "user.change",
        "user.change",
        "key.revoke",
        "user.remove",
        "service.remove",
    ]
    said = json.dumps(changes) + daemon.log + daemon.stderr
    for each in ("wonderland", "looking-glass", secret.strip(), token):
        assert each not in said


def test_golems_definitions(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, CONFIGURATION)
    gatekeeper = CommandLine(daemon.config_file)
    definition = tmp_path / "definition.yaml"
    definition.write_text(
        f"from: /x\nto: http://127.0.0.1:{origin.port}\nserverName: provider.example\n"
        f"bindHttp: 127.0.0.1:{daemon.port('new')}\n"
    )
    with daemon:
        made = gatekeeper.json("service", "add", "acme", "--golem", "--file", str(definition))
        assert made["name"] == "acme"
        gatekeeper.run("user", "add", "acme", "alice", "--password-stdin", stdin="wonderland")
        assert curl(daemon.url("new", "/x"), "-u", "alice:wonderland").status == 200
        assert gatekeeper.json("service", "show", "acme")["dialect"] == "golem"
