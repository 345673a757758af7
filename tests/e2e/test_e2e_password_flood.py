"""A flood of wrong passwords is work for others than the loop."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.daemon import Daemon
from tests.e2e.plain import PLAIN, USER, curl
from tests.hostile.raw import Client
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

CLIENTS = 16

#: As expensive as `gatekeeper hash-password` makes them.
HASH = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash("wonderland")


def test_wrong_passwords_do_not_stop_other_requests(tmp_path: Path, origin: Origin) -> None:
    """As many as may ever wait are waiting, all the while."""
    users = PLAIN[PLAIN.index("users = {") : PLAIN.index("[[services]]")]
    configuration = PLAIN.replace(users, f"users = {{ alice = '{HASH}' }}\n\n")
    with Daemon(tmp_path, configuration, ports={"origin": origin.port}) as daemon:
        url = daemon.url("gateway", "/echo/x")
        assert curl(url, "-u", USER).status == 200
        ended = threading.Event()
        statuses: list[int] = []

        def flood(number: int) -> None:
            with Client(daemon.address("gateway"), source=f"127.0.{number}.1") as client:
                for count in range(10_000):
                    if ended.is_set():
                        return
                    client.send(
                        b"GET /echo/x HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\n\r\n"
                        % base64.b64encode(b"alice:%d %d" % (number, count))
                    )
                    statuses.append(client.answer().status)

        threads = [threading.Thread(target=flood, args=(number + 1,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert curl(url, "-u", USER).status == 200
                assert daemon.management("/healthz")[0] == 200
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert 401 in statuses
        assert set(statuses) <= {401, 503}
    assert {row["user"] for row in daemon.usage()} == {"alice"}
    assert sum(row["requests"] for row in daemon.usage()) == 21
