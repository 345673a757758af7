"""Memory of idle keep-alive connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.comparing import Measure, Sample, compare
from benchmarks.results import NotMeasuredError, Results
from benchmarks.servers import Server

_SETTLING: Final = 1.0  # seconds
_FIRST: Final = 10  # connections that make the server take the memory that it needs anyway


def idle(bench: Bench, results: Results) -> None:
    """Clients that have had one answer each, and stay connected."""
    with servers.origin(bench) as origin:
        compare(
            results,
            "idle",
            "KiB/connection",
            [
                ("nginx", _idle(bench, servers.nginx(bench, origin))),
                ("haproxy", _idle(bench, servers.haproxy(bench, origin))),
                ("gatekeeper", _idle(bench, servers.gatekeeper(bench, origin))),
            ],
            rounds=0,  # memory that was taken once is there the second time
        )


@contextmanager
def _idle(bench: Bench, serving: AbstractContextManager[Server]) -> Iterator[Measure]:
    with serving as server:

        def measure() -> Sample:
            request = (
                f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                f"Authorization: Bearer {bench.key.token()}\r\n\r\n"
            ).encode("ascii")
            with _connected(server.port, request, _FIRST):
                pass
            time.sleep(_SETTLING)
            before = server.program.memory()
            with _connected(server.port, request, bench.idle_connections):
                time.sleep(_SETTLING)
                after = server.program.memory()
            return Sample((after - before) / bench.idle_connections / 1024)

        yield measure


@contextmanager
def _connected(port: int, request: bytes, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                client.sendall(request)
                answer = b""
                while not answer.endswith(b"origin.\n"):
                    piece = client.recv(4096)
                    if not piece or not (answer + piece).startswith(b"HTTP/1.1 200"):
                        raise NotMeasuredError("a connection is not answered with a 200")
                    answer += piece
        except OSError as error:
            raise NotMeasuredError(f"a connection fails: {error}") from error
        yield
