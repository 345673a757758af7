"""Several processes serve requests, and are one daemon to everybody else."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

from tests.daemon import ROOT, wait_until
from tests.dashboard.house import exchange
from tests.e2e.plain import PLAIN
from tests.e2e.test_e2e_reload import ALICE, BOB, BOB_IN_PLACE_OF_ALICE, EXTRA, Download, ask
from tests.hostile.raw import Client
from tests.origin import Conversation, Origin
from tests.process.crew import (
    CREW,
    call,
    counted,
    crew,
    kill,
    metric,
    one_at_each,
    workers,
)


def stream(conversation: Conversation) -> None:
    """Begin a body that does not end before the connection does."""
    conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    conversation.read(1)


def test_both_serve_and_what_they_count_is_one(tmp_path: Path, origin: Origin) -> None:
    daemon = crew(tmp_path, origin)
    with daemon:
        first, second = one_at_each(daemon)
        with first, second:
            for client, requests in ((first, 3), (second, 4)):
                for _ in range(requests):
                    assert ask(client, "/echo/x", ALICE).status == 200
            assert metric(daemon, "gatekeeper_requests_total", service="echo") == 7
            assert metric(daemon, "gatekeeper_client_connections", listener="gateway") == 2
            assert metric(daemon, "gatekeeper_worker_up") == 2
            status, health = call(daemon, "GET", "/v1/health")
            assert (status, health["status"], health["connections"]) == (200, "ready", 2)
            status, numbers = call(daemon, "GET", "/dashboard/data")
            assert numbers["services"]["echo"] == {"ok": 7, "others": 0, "live": 0}
            # A question for usage waits for what was just used, by whomever.
            status, usage = call(daemon, "GET", "/v1/usage")
            assert [row["requests"] for row in usage["items"]] == [7]
    assert counted(daemon) == {"/echo/x": 7}
    assert len(daemon.access_log()) == 7
    assert not list((daemon.state_dir / "journal").glob("*.journal"))


def test_exchanges_of_all_workers_are_listed_and_cut(tmp_path: Path, origin: Origin) -> None:
    origin.on["/stream"] = stream
    daemon = crew(tmp_path, origin)
    with daemon:
        clients = one_at_each(daemon)
        for client in clients:
            client.send(b"GET /echo/stream HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % ALICE.encode())
            assert client.head().status == 200
        _, page = call(daemon, "GET", "/v1/exchanges")
        ids = [each["id"] for each in page["items"]]
        assert len(ids) == 2
        assert ids == sorted(ids)
        assert call(daemon, "GET", "/v1/exchanges?limit=1")[1]["next"] == ids[0]
        assert call(daemon, "GET", f"/v1/exchanges?after={ids[0]}")[1]["items"] == page["items"][1:]
        assert metric(daemon, "gatekeeper_live_exchanges", service="echo") == 2
        for number in ids:
            assert call(daemon, "GET", f"/v1/exchanges/{number}")[1]["user"] == "alice"
            assert call(daemon, "DELETE", f"/v1/exchanges/{number}")[0] == 204
        for client in clients:
            with client:
                client.rest()
        assert call(daemon, "DELETE", f"/v1/exchanges/{ids[0]}")[0] == 404
        for number in ids:
            assert daemon.logged(number)["reason"] == "operator"
    assert counted(daemon) == {"/echo/stream": 2}


def test_revocation_reaches_what_runs_in_another_worker(tmp_path: Path, origin: Origin) -> None:
    """A user of the API, and a token of a zone that the supervisor keeps."""
    origin.on["/stream"] = stream
    origin.on["/exchange"] = exchange
    tokens = """
[checkers.tokens]
type = "exchange"
url = "http://@origin@/exchange"
credential = ["authorization"]

[[services]]
name = "tokened"
from = "/tokened"
to = "http://@origin@"
checkers = ["tokens"]
"""
    daemon = crew(tmp_path, origin, CREW + tokens)
    with daemon:
        bob = {"name": "bob", "password": "builder"}
        assert call(daemon, "POST", "/v1/services/echo/users", bob)[0] == 201
        for path, field in (
            ("/echo/stream", BOB),
            ("/tokened/stream", "Authorization: Bearer mine"),
        ):
            clients = one_at_each(daemon)
            for client in clients:
                client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n".encode())
                assert client.head().status == 200, path
            began = time.monotonic()
            if path == "/echo/stream":
                assert call(daemon, "DELETE", "/v1/services/echo/users/bob")[0] == 204
            else:
                _, entries = call(daemon, "GET", "/api/8/http/keyvals/tokens/")
                (key,) = entries  # both workers have the same one
                assert call(daemon, "PATCH", "/api/8/http/keyvals/tokens/", {key: "0"})[0] == 204
            for client in clients:
                with client:
                    client.rest()
            assert time.monotonic() - began < 2.0
            for client in one_at_each(daemon):
                with client:
                    assert ask(client, path, field).status in (401, 403), path


def test_a_reload_takes_effect_everywhere_or_nowhere(tmp_path: Path, origin: Origin) -> None:
    download = Download(origin)
    daemon = crew(tmp_path, origin)
    with daemon, Client(daemon.address("gateway")) as busy:
        download.begin(busy)
        kept = one_at_each(daemon)
        for client in kept:
            assert ask(client, "/echo/x", ALICE).status == 200

        # A port that is taken: nothing changes.
        with socket.create_server(("127.0.0.1", daemon.port("extra"))):
            daemon.configure(CREW.replace('from = "/echo"', 'from = "/sound"') + EXTRA)
            status, problems = call(daemon, "POST", "/v1/reload")
            assert status == 422, problems
        for client in kept:
            assert ask(client, "/echo/x", ALICE).status == 200

        changed = "workers = 2\n" + BOB_IN_PLACE_OF_ALICE.replace(
            'bind = "@management@"', 'bind = "@management@", auth = "none"'
        ).replace('from = "/echo"', 'from = "/sound"')
        daemon.configure(changed + EXTRA)
        status, document = call(daemon, "POST", "/v1/reload")
        assert (status, document) == (200, {"status": "reloaded", "needs_restart": []})
        for client in (*kept, *one_at_each(daemon, "extra")):
            with client:
                assert ask(client, "/echo/x", ALICE).status == 404
                assert ask(client, "/sound/x", ALICE).status == 401
                assert ask(client, "/sound/x", BOB).status == 200
        download.finish(busy)

        # One that comes later has begun with the same, whatever the file says by then.
        daemon.configure("this is no configuration")
        kill(daemon, 1)
        for client in one_at_each(daemon):
            with client:
                assert ask(client, "/sound/x", BOB).status == 200
        daemon.configure(changed + EXTRA)
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: daemon.log.count("configuration is reloaded") == 2, "SIGHUP")


def test_services_with_addresses_of_their_own(tmp_path: Path, origin: Origin) -> None:
    """Made over the API: every worker listens there as long as the service is there."""
    daemon = crew(tmp_path, origin)
    with daemon:
        definition = {
            "name": "own",
            "serverName": ["127.0.0.1"],
            "createdAt": None,
            "bindHttp": f"127.0.0.1:{daemon.port('own')}",
            "from": "/own",
            "to": origin.url,
        }
        status, made = call(daemon, "POST", "/services", definition)
        assert status < 300, made
        status, made = call(
            daemon, "POST", "/services/own/users", {"username": "bob", "password": "builder"}
        )
        assert status < 300, made
        for client in one_at_each(daemon, "own"):
            with client:
                assert ask(client, "/own/x", BOB).status == 200
        kill(daemon, 2)
        for client in one_at_each(daemon, "own"):
            with client:
                assert ask(client, "/own/x", BOB).status == 200
        assert call(daemon, "DELETE", "/services/own")[0] < 300

        def is_closed() -> bool:
            try:
                socket.create_connection(daemon.address("own"), 5).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(is_closed, "nobody listens there")


def test_a_port_that_is_taken_fails_the_start(tmp_path: Path, origin: Origin) -> None:
    daemon = crew(tmp_path, origin)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(daemon.address("gateway"))
        taken.listen()
        status, said = daemon.refuse_to_start()
    assert status != 0
    assert "listeners[0].bind: cannot listen" in said


def test_a_worker_that_cannot_begin_fails_the_start(tmp_path: Path, origin: Origin) -> None:
    daemon = crew(tmp_path, origin)
    package = tmp_path / "site"
    package.mkdir()
    is_worker = "any('process.worker' in each for each in sys.orig_argv)"
    (package / "sitecustomize.py").write_text(f"import os, sys\nif {is_worker}: os._exit(3)\n")
    daemon.environment["PYTHONPATH"] = os.pathsep.join((str(package), str(ROOT)))
    status, _ = daemon.refuse_to_start()
    assert status == 1
    assert re.search(r"Cannot start: worker \d \(\d+\) has ended, with status 3", daemon.log)


def test_one_worker_is_one_process(tmp_path: Path, origin: Origin) -> None:
    with crew(tmp_path, origin, PLAIN) as daemon, Client(daemon.address("gateway")) as client:
        assert ask(client, "/echo/x", ALICE).status == 200
        assert workers(daemon) == {}
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text()
        assert children.split() == []
