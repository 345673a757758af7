"""Everything that listens during a run: the origins, the peers, and gatekeeper itself.

Each function is a context: the server listens in it, and has ended after it. Configurations are
the files in ``peers/``, with ``@NAME@`` standing for what is known only now.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.credentials import Key
from benchmarks.processes import Program, free_ports
from benchmarks.programs import find, find_njs
from benchmarks.results import NotMeasuredError
from gatekeeper.net.selfsigned import ensure_self_signed

PEERS: Final = Path(__file__).parent / "peers"
ROOT: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Server:
    """Something that listens on 127.0.0.1. Ports that it does not have are 0."""

    program: Program
    port: int
    tls_port: int = 0
    forward_port: int = 0


@contextmanager
def origin(bench: Bench) -> Iterator[Server]:
    """The upstream: nginx with a small answer at ``/``, and the run's files at ``/bodies/``."""
    with _nginx(bench, "origin", "origin.conf", bench.cores.load) as server:
        yield server


@contextmanager
def sink(bench: Bench) -> Iterator[Server]:
    """The upstream that takes bodies."""
    [port] = free_ports(1)
    command: list[str | Path] = [sys.executable, Path(__file__).parent / "sink.py", str(port)]
    directory = _directory(bench, "sink")
    started = Program("sink", command, directory, bench.cores.load)
    with _running(started, port):
        yield Server(started, port)


@contextmanager
def nginx(bench: Bench, upstream: Server) -> Iterator[Server]:
    """Plain nginx, with and without TLS."""
    with _nginx(bench, "nginx", "nginx.conf", bench.cores.proxy, UPSTREAM=upstream.port) as server:
        yield server


@contextmanager
def nginx_njs(bench: Bench, upstream: Server) -> Iterator[Server]:
    """The same nginx, verifying tokens with njs."""
    values: dict[str, object] = {
        "UPSTREAM": upstream.port,
        "MODULE": find_njs(),
        "PEERS": PEERS,
        "KEY": bench.key.secret,
    }
    with _nginx(bench, "nginx-njs", "nginx-njs.conf", bench.cores.proxy, **values) as server:
        yield server


@contextmanager
def haproxy(bench: Bench, upstream: Server, template: str = "haproxy.cfg") -> Iterator[Server]:
    """HAProxy, plain or with another of its configurations."""
    program = find("haproxy")
    [port] = free_ports(1)
    directory = _directory(bench, "haproxy")
    file = _render(template, directory, PORT=port, UPSTREAM=upstream.port, KEY=bench.key.secret)
    started = Program("haproxy", [program, "-db", "-f", file], directory, bench.cores.proxy)
    with _running(started, port):
        yield Server(started, port)


@contextmanager
def haproxy_jwt(bench: Bench, upstream: Server) -> Iterator[Server]:
    """HAProxy, verifying tokens."""
    with haproxy(bench, upstream, "haproxy-jwt.cfg") as server:
        yield server


@contextmanager
def squid(bench: Bench, upstream: Server) -> Iterator[Server]:
    """Squid as a forward proxy."""
    program = find("squid")
    [port] = free_ports(1)
    directory = _directory(bench, "squid")
    file = _render("squid.conf", directory, PORT=port, UPSTREAM=upstream.port)
    started = Program("squid", [program, "-N", "-d", "1", "-f", file], directory, bench.cores.proxy)
    with _running(started, port):
        yield Server(started, port, forward_port=port)


@contextmanager
def gatekeeper(
    bench: Bench,
    upstream: Server,
    *,
    usage: bool = True,
    access_log: bool = False,
    keys: Sequence[Key] = (),
    prefixes: Sequence[str] = ("/",),
    earlier_checkers: int = 0,
    users: Mapping[str, str] | None = None,
    workers: int = 1,
) -> Iterator[Server]:
    """Gatekeeper under the real twistd, with one service for each prefix.

    Its chain is ``earlier_checkers`` that abstain, then the keys: the run's own, and ``keys``.
    With ``users``, which are names with their passwords' hashes, it is these alone.
    """
    directory = _directory(bench, "gatekeeper")
    port, tls_port, forward_port = free_ports(3)
    (directory / "keys.properties").write_text(
        "".join(key.line() for key in [bench.key, *keys]), encoding="ascii"
    )
    chain = ["keys"]
    if users:
        chain = ["users"]
    elif earlier_checkers:
        chain = ["users", *(f"secret://never-sent-{n}" for n in range(1, earlier_checkers)), "keys"]
    _render(
        "gatekeeper.toml",
        directory,
        PORT=port,
        TLS_PORT=tls_port,
        FORWARD_PORT=forward_port,
        UPSTREAM=upstream.port,
        CERTIFICATE=ensure_self_signed(bench.directory),
        WORKERS=workers,
        USAGE=str(usage).lower(),
        ACCESS_LOG="access.log" if access_log else "none",
        CHECKERS=_users(users or {}) if "users" in chain else "",
        SERVICES="\n".join(
            _service(number, prefix, upstream.port, chain) for number, prefix in enumerate(prefixes)
        ),
    )
    command = [_twistd(), "--nodaemon", "--pidfile=", "gatekeeper", "--config=gatekeeper.toml"]
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    started = Program(
        "gatekeeper", command, directory, bench.cores.proxy, {"PYTHONPATH": python_path}
    )
    with _running(started, port, tls_port, forward_port):
        yield Server(started, port, tls_port, forward_port)


def _users(users: Mapping[str, str]) -> str:
    pairs = ", ".join(f'"{name}" = "{hashed}"' for name, hashed in users.items())
    return f'\n[checkers.users]\ntype = "basic"\nusers = {{ {pairs} }}'


def _service(number: int, prefix: str, upstream: int, chain: Sequence[str]) -> str:
    checkers = ", ".join(f'"{checker}"' for checker in chain)
    return (
        f'\n[[services]]\nname = "service-{number}"\nfrom = "{prefix}"\n'
        f'to = "http://127.0.0.1:{upstream}"\ncheckers = [{checkers}]'
    )


def _twistd() -> str:
    beside = Path(sys.executable).parent / "twistd"
    found = str(beside) if beside.exists() else shutil.which("twistd")
    if found is None:
        raise NotMeasuredError("twistd is not installed: pip install -e .")
    return found


@contextmanager
def _nginx(
    bench: Bench, name: str, template: str, core: int | None, **values: object
) -> Iterator[Server]:
    program = find("nginx")
    port, tls_port = free_ports(2)
    directory = _directory(bench, name)
    file = _render(
        template,
        directory,
        PORT=port,
        TLS_PORT=tls_port,
        DIRECTORY=bench.directory,
        CERTIFICATE=ensure_self_signed(bench.directory),
        USER="user root;" if os.getuid() == 0 else "",  # our files are our own
        **values,
    )
    command: list[str | Path] = [program, "-p", directory, "-c", file, "-e", "stderr"]
    started = Program(name, command, directory, core)
    with _running(started, port):
        yield Server(started, port, tls_port)


@contextmanager
def _running(program: Program, *ports: int) -> Iterator[None]:
    try:
        program.wait_for(*ports)
        yield
    finally:
        program.stop()


def _directory(bench: Bench, name: str) -> Path:
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=bench.directory))
    directory.chmod(0o755)
    return directory


def _render(template: str, directory: Path, **values: object) -> Path:
    text = (PEERS / template).read_text(encoding="utf-8")
    file = directory / template
    file.write_text(
        re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), text), encoding="utf-8"
    )
    return file
