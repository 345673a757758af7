"""The configuration is read again while the daemon serves: all of it takes effect, or nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import PLAIN
from tests.hostile.raw import Answer, Client
from tests.origin import Conversation, Origin

ALICE = "Authorization: Basic YWxpY2U6d29uZGVybGFuZA=="
BOB = "Authorization: Basic Ym9iOmJ1aWxkZXI="
_BOBS_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("builder")

BOB_IN_PLACE_OF_ALICE = PLAIN.partition("users = { alice")[0] + (
    f"users = {{ bob = '{_BOBS_HASH}' }}\n\n[[services]]" + PLAIN.partition("[[services]]")[2]
)
EXTRA = '[[listeners]]\nname = "extra"\nrole = "gateway"\nbind = "@extra@"\n'


def request(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *fields, "", "")).encode()


def ask(client: Client, path: str, *fields: str) -> Answer:
    client.send(request(path, *fields))
    return client.answer()


def post_reload(daemon: Daemon) -> tuple[int, Any]:
    """Ask for a reload over the API: the status, and the answer's document."""
    token = (daemon.state_dir / "management.token").read_text().strip()
    connection = http.client.HTTPConnection(*daemon.address("management"), timeout=PATIENCE)
    try:
        fields = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/reload", headers=fields)
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def reload(daemon: Daemon, configuration: str) -> list[str]:
    """Change the file and have it read; it is good. Gives what needs a restart."""
    daemon.configure(configuration)
    status, document = post_reload(daemon)
    assert status == 200, document
    needs_restart: list[str] = document["needs_restart"]
    return needs_restart


def accepts(daemon: Daemon, name: str) -> bool:
    try:
        socket.create_connection(daemon.address(name), 5).close()
    except ConnectionRefusedError:
        return False
    return True


class Download:
    """An exchange that runs for as long as the test likes."""

    def __init__(self, origin: Origin, path: str = "/slow") -> None:
        self.arrived, self._go_on = threading.Event(), threading.Event()
        origin.on[path] = self._answer

    def _answer(self, conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        self.arrived.set()
        assert self._go_on.wait(PATIENCE)
        conversation.send(b"-last")

    def begin(self, client: Client) -> None:
        client.send(request("/echo/slow", ALICE))
        assert self.arrived.wait(PATIENCE)

    def release(self) -> None:
        self._go_on.set()

    def finish(self, client: Client) -> Answer:
        self.release()
        answer = client.answer()
        assert answer.body == b"first-last"
        return answer


def test_nobody_is_dropped_when_services_users_and_listeners_change(
    tmp_path: Path, origin: Origin
) -> None:
    """Over SIGHUP. What runs goes on; the next request on each connection finds what is new."""
    download = Download(origin)
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with (
        daemon,
        Client(daemon.address("gateway")) as kept,
        Client(daemon.address("gateway")) as busy,
        Client(daemon.address("proxy")) as tunnel,
        Client(daemon.address("proxy")) as proxied,
    ):
        assert ask(kept, "/echo/x", ALICE).status == 200
        download.begin(busy)
        tunnel.send(
            f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n"
            f"Proxy-{ALICE}\r\n\r\n".encode()
        )
        assert tunnel.answer("CONNECT").status == 200
        assert ask(proxied, f"{origin.url}/x", f"Proxy-{ALICE}").status == 200

        changed = BOB_IN_PLACE_OF_ALICE.replace('from = "/echo"', 'from = "/sound"')
        changed = changed.replace('allow = ["127.0.0.1:*"]', 'allow = ["203.0.113.1:80"]')
        daemon.configure(changed + EXTRA)
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: "The configuration is reloaded" in daemon.log, "the reload")

        # The same connection: another service, another user.
        assert ask(kept, "/echo/x", ALICE).status == 404
        assert ask(kept, "/sound/x", ALICE).status == 401
        assert ask(kept, "/sound/x", BOB).status == 200
        with Client(daemon.address("extra")) as extra:
            assert ask(extra, "/sound/x", BOB).status == 200
        assert ask(proxied, f"{origin.url}/x", f"Proxy-{ALICE}").status == 407
        assert ask(proxied, f"{origin.url}/x", f"Proxy-{BOB}").status == 403
        # What runs has begun before.
        tunnel.send(request("/in-the-tunnel"))
        assert tunnel.answer().document["target"] == "/in-the-tunnel"
        assert not download.finish(busy).closes
        assert ask(busy, "/sound/x", BOB).status == 200
    usage = {(row["user"], row["path"]): row["requests"] for row in daemon.usage()}
    assert usage["alice", "/echo/slow"] == 1
    assert usage["bob", "/sound/x"] == 3


def test_what_is_wrong_changes_nothing(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with daemon, Client(daemon.address("gateway")) as client:
        assert ask(client, "/echo/x", ALICE).status == 200
        wrong = PLAIN.replace('from = "/echo"', 'from = "echo"').replace(
            "checkers.users", "checkers.user"
        )
        daemon.configure(wrong + EXTRA)
        status, document = post_reload(daemon)
        assert status == 422
        fields = {error["field"] for error in document["errors"]}
        assert {"services[0].from", "services[0].checkers[0]"} <= fields
        for error in document["errors"]:
            assert f"{error['field']}: {error['detail']}" in daemon.log
        assert "nothing has changed" in daemon.log
        assert ask(client, "/echo/x", ALICE).status == 200
        assert not accepts(daemon, "extra")
        daemon.config_file.write_text("no TOML")
        assert post_reload(daemon)[0] == 422
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: daemon.log.count("is not valid TOML") == 2, "it is told")
        assert ask(client, "/echo/x", ALICE).status == 200
        # What works again when it is right again.
        assert reload(daemon, BOB_IN_PLACE_OF_ALICE) == []
        assert ask(client, "/echo/x", ALICE).status == 401


def test_a_taken_port_and_files_that_are_not_there(tmp_path: Path, origin: Origin) -> None:
    """What shows only when it is made is told at once, too, and nothing is left open."""
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with daemon, Client(daemon.address("gateway")) as client:
        listeners = "".join(EXTRA.replace("extra", name) for name in ("one", "two", "three"))
        daemon.configure(BOB_IN_PLACE_OF_ALICE + listeners)
        with socket.create_server(daemon.address("two")):
            status, document = post_reload(daemon)
        assert (status, [error["field"] for error in document["errors"]]) == (
            422,
            ["listeners[3].bind"],
        )
        assert not accepts(daemon, "one")
        assert not accepts(daemon, "three")
        assert ask(client, "/echo/x", ALICE).status == 200
        # Nobody has it any more.
        assert post_reload(daemon)[0] == 200
        assert all(accepts(daemon, name) for name in ("one", "two", "three"))
        assert ask(client, "/echo/x", ALICE).status == 401


def test_a_listener_that_is_gone(tmp_path: Path, origin: Origin) -> None:
    """Nobody comes in any more; who is in has one more request, and what runs is finished."""
    download = Download(origin)
    daemon = Daemon(tmp_path, PLAIN + EXTRA, ports={"origin": origin.port})
    with (
        daemon,
        Client(daemon.address("extra")) as idle,
        Client(daemon.address("extra")) as silent,
        Client(daemon.address("extra")) as busy,
    ):
        assert ask(idle, "/echo/x", ALICE).status == 200
        download.begin(busy)
        assert reload(daemon, PLAIN) == []
        assert not accepts(daemon, "extra")
        idle.send(request("/echo/x", ALICE))
        answer = idle.final_answer()
        assert (answer.status, answer.closes) == (200, True)
        assert silent.rest() == b""
        download.finish(busy)
        assert busy.rest() == b""
        # And it may come back.
        assert reload(daemon, PLAIN + EXTRA) == []
        with Client(daemon.address("extra")) as again:
            assert ask(again, "/echo/x", ALICE).status == 200


def test_what_needs_a_restart_is_told_and_the_rest_takes_effect(
    tmp_path: Path, origin: Origin
) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with daemon, Client(daemon.address("gateway")) as client:
        changed = BOB_IN_PLACE_OF_ALICE.replace('"state"', '"elsewhere"')
        changed = changed.replace("flush_interval = 0.2", "flush_interval = 0.3, records = true")
        keys = reload(daemon, changed)
        # Where the store's file and the access log are depends on where the state is.
        assert sorted(keys) == [
            "log.access",
            "state_dir",
            "store.url",
            "usage.flush_interval",
            "usage.records",
        ]
        assert f"Needs a restart: {', '.join(keys)}" in daemon.log
        assert ask(client, "/echo/x", BOB).status == 200
        assert not (tmp_path / "elsewhere").exists()
        daemon.configure(BOB_IN_PLACE_OF_ALICE)
        assert post_reload(daemon) == (200, {"status": "reloaded", "needs_restart": []})


def test_an_address_changes_hands(tmp_path: Path, origin: Origin, authority: Authority) -> None:
    """Another name, another role, TLS: the socket stays, so that nobody is turned away."""
    certificate = authority.issue("127.0.0.1")
    tls = f'{{ certificate = "{certificate.certificate}", key = "{certificate.key}" }}'
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with daemon, Client(daemon.address("gateway")) as kept:
        assert ask(kept, "/echo/x", ALICE).status == 200
        # Another name: it is another listener, and who was at the first one has a last request.
        assert reload(daemon, PLAIN.replace('name = "gateway"', 'name = "public"')) == []
        kept.send(request("/echo/x", ALICE))
        assert kept.final_answer().status == 200
        with Client(daemon.address("gateway")) as client:
            assert ask(client, "/echo/x", ALICE).status == 200
        # The two change places.
        swapped = PLAIN.replace("@gateway@", "@x@").replace("@proxy@", "@gateway@")
        assert reload(daemon, swapped.replace("@x@", "@proxy@")) == []
        with Client(daemon.address("proxy")) as client:
            assert ask(client, "/echo/x", ALICE).status == 200
        with Client(daemon.address("gateway")) as client:
            assert ask(client, f"{origin.url}/x", f"Proxy-{ALICE}").status == 200
        # From HTTP to HTTPS, and to other certificates.
        encrypted = PLAIN.replace('bind = "@gateway@"', f'bind = "@gateway@"\ntls = {tls}')
        assert reload(daemon, encrypted) == []
        with Client(daemon.address("gateway"), authority.client_context()) as first:
            assert ask(first, "/echo/x", ALICE).status == 200
            self_signed = encrypted.replace(tls, "{ self_signed = true }")
            assert reload(daemon, self_signed) == []
            with pytest.raises(ssl.SSLCertVerificationError):
                Client(daemon.address("gateway"), authority.client_context())
            assert ask(first, "/echo/x", ALICE).status == 200  # it is the same listener


def test_limits_and_timeouts(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    with daemon, Client(daemon.address("gateway")) as client:
        assert ask(client, "/echo/" + "x" * 500, ALICE).status == 200
        limits = "[limits]\ntarget = 400\nconnections_per_peer = 1\n[timeouts]\nidle = 0.2\n"
        assert reload(daemon, PLAIN + limits) == []
        assert ask(client, "/echo/x", ALICE).status == 200
        assert Client(daemon.address("gateway")).rest() == b""  # one too many
        client.send(request("/echo/" + "x" * 500, ALICE))
        assert client.answer().status == 414
        assert client.rest() == b""


def test_a_reload_waits_until_the_daemon_is_ready(tmp_path: Path, origin: Origin) -> None:
    daemon = Daemon(tmp_path, PLAIN, ports={"origin": origin.port})
    daemon.start()
    try:
        for _ in range(20):
            os.kill(daemon.pid, signal.SIGHUP)
        with Client(daemon.address("gateway")) as client:
            assert ask(client, "/echo/x", ALICE).status == 200
    finally:
        daemon.stop()
