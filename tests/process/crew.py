"""A daemon with two workers, and how the tests look at them."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import PLAIN
from tests.hostile.raw import Client
from tests.origin import Origin

#: As :data:`PLAIN`, with two workers, and a management for everybody.
CREW: Final = "workers = 2\n" + PLAIN.replace(
    'bind = "@management@"', 'bind = "@management@", auth = "none"'
)


def crew(directory: Path, origin: Origin, configuration: str = CREW) -> Daemon:
    """A daemon with two workers in front of ``origin``."""
    return Daemon(directory, configuration, ports={"origin": origin.port})


def counted(daemon: Daemon) -> dict[str, int]:
    """Requests by their paths, as the store has them."""
    return {row["path"]: row["requests"] for row in daemon.usage()}


def workers(daemon: Daemon) -> dict[int, int]:
    """The process ids of the workers that are there, by their numbers."""
    found: dict[int, int] = {}
    for number, pid in re.findall(r"worker (\d+) \((\d+)\) serves requests", daemon.log):
        if is_there(int(pid)):
            found[int(number)] = int(pid)
    return found


def is_there(pid: int) -> bool:
    """Whether a process is there, and not only waited for."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")")[-1][1] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(daemon: Daemon, number: int) -> None:
    """SIGKILL for a worker; another one is there in its place then."""
    pid = workers(daemon)[number]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_there(pid), "the worker's end")
    wait_until(lambda: number in workers(daemon), "another worker")


def worker_of(daemon: Daemon, client: Client) -> int:
    """The number of the worker that has a client's connection.

    Found by the sockets that the processes have open, see proc(5).
    """
    host, port = client.socket.getsockname()
    local = f"{int.from_bytes(bytes(map(int, host.split('.'))), 'little'):08X}:{port:04X}"
    for number, pid in workers(daemon).items():
        sockets = set()
        for each in (Path("/proc") / str(pid) / "fd").iterdir():
            try:
                sockets.add(os.readlink(each))
            except FileNotFoundError:
                continue
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, _, remote, _, *rest = line.split()
            if remote == local and f"socket:[{rest[5]}]" in sockets:
                return number
    raise AssertionError("no worker has it")


def one_at_each(daemon: Daemon, listener: str = "gateway") -> tuple[Client, Client]:
    """Two connections: one at the first worker, one at the second."""
    found: dict[int, Client] = {}
    spare: list[Client] = []
    for _ in range(64):
        client = Client(daemon.address(listener))
        wait_until(lambda client=client: _accepted(daemon, client), "the connection is accepted")  # type: ignore[misc]
        number = worker_of(daemon, client)
        if number in found:
            spare.append(client)
        else:
            found[number] = client
        if len(found) == 2:
            for each in spare:
                each.socket.close()
            return found[1], found[2]
    raise AssertionError("the kernel prefers one of them")


def _accepted(daemon: Daemon, client: Client) -> bool:
    try:
        worker_of(daemon, client)
    except AssertionError:
        return False
    return True


def call(daemon: Daemon, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    """Make a call of the management API: the status, and the answer's document."""
    import http.client
    import json

    connection = http.client.HTTPConnection(*daemon.address("management"), timeout=PATIENCE)
    try:
        body = None if document is None else json.dumps(document)
        fields = {} if document is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def metric(daemon: Daemon, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(daemon.url("management", "/metrics"), timeout=PATIENCE) as answer:
        lines: Sequence[str] = answer.read().decode().splitlines()
    total = 0.0
    for line in lines:
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
            total += float(value)
    return total
