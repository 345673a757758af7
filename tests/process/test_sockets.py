"""Sockets go from process to process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.process.sockets import VARIABLE, hand, handed

ROOT = Path(__file__).parents[2]

#: Says what it was handed, and answers one connection on each socket; its channel says "done".
_CHILD = """
import os, sys
from gatekeeper.process.sockets import VARIABLE, handed
got = handed()
assert VARIABLE not in os.environ
print([bind for bind, _ in got.sockets], got.lock >= 0, flush=True)
assert not any(os.get_inheritable(each.fileno()) for _, each in got.sockets)
for _, listening in got.sockets:
    listening.setblocking(True)
    connection, _ = listening.accept()
    connection.sendall(b"hello")
    connection.close()
got.channel.sendall(b"done")
"""


def listening(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


def hears(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, 30) as client:
        return client.recv(100)


def test_a_child_accepts_where_we_listen(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    ours, its = socket.socketpair()
    with listening() as one, listening() as two, ours, its:
        for_child = hand([("127.0.0.1:80", one), ("[::1]:443", two)], lock, -1, its)
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            cwd=ROOT,
            env={**os.environ, **for_child.environ},
            pass_fds=for_child.descriptors,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"['127.0.0.1:80', '[::1]:443'] True\n"
            assert hears(one.getsockname()) == hears(two.getsockname()) == b"hello"
            ours.settimeout(30)
            assert ours.recv(100) == b"done"
    os.close(lock)


def test_nothing_was_handed() -> None:
    assert handed({}) == ([], -1, -1, None)


def test_nothing_but_a_lock_and_memory(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    buckets = os.memfd_create("buckets")
    handing = hand([], lock, buckets)
    environ = dict(handing.environ)
    assert handing.descriptors == [lock, buckets]
    assert handed(environ) == ([], lock, buckets, None)
    assert environ == {}
    assert not os.get_inheritable(buckets)
    os.close(lock)
    os.close(buckets)


def test_what_an_older_version_has_handed() -> None:
    """It knows nothing of memory."""
    document = json.loads(hand([]).environ[VARIABLE])
    del document["buckets"]
    assert handed({VARIABLE: json.dumps(document)}) == ([], -1, -1, None)


class TestOfTheServiceManager:
    """They begin at descriptor 3, so a process of its own has to look."""

    def handed(self, *sockets: socket.socket, pid: str = "os.getpid()", **environ: str) -> str:
        numbers = [each.fileno() for each in sockets]
        program = (
            "import os, sys\n"
            f"numbers = {numbers}\n"
            "above = [os.dup2(each, to) for to, each in enumerate(numbers, max(numbers) + 1)]\n"
            "for to, each in enumerate(above, 3): os.dup2(each, to)\n"
            f"os.environ['LISTEN_PID'] = str({pid})\n"
            "from gatekeeper.process.sockets import handed\n"
            "print([bind for bind, _ in handed().sockets])\n"
            "print([name for name in os.environ if name.startswith('LISTEN')])"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "a:b", **environ},
            pass_fds=numbers,
            capture_output=True,
            check=True,
            timeout=60,
        )
        found, names = run.stdout.decode().splitlines()
        assert names == "[]"
        return found

    def test_found_by_where_they_listen(self, tmp_path: Path) -> None:
        with (
            listening() as one,
            listening("::1") as six,
            socket.socket(socket.AF_UNIX) as file,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        ):
            file.bind(str(tmp_path / "x.sock"))
            file.listen()
            port, sixth = one.getsockname()[1], six.getsockname()[1]
            assert self.handed(one, datagrams, six, file) == str(
                [f"127.0.0.1:{port}", f"[::1]:{sixth}", f"unix:{tmp_path}/x.sock"]
            )

    @pytest.mark.parametrize("pid", ["1", "''", "'x'"])
    def test_not_for_us(self, pid: str) -> None:
        with listening() as one:
            assert self.handed(one, pid=pid) == "[]"

    def test_no_number(self) -> None:
        with listening() as one:
            assert self.handed(one, LISTEN_FDS="many") == "[]"
