"""Rows of one big body: CPU of the proxy's processes for each GiB, and how its memory grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from benchmarks import servers
from benchmarks.bench import GIB, MIB, Bench
from benchmarks.comparing import Measure, Sample, compare
from benchmarks.load import transfer
from benchmarks.processes import Stopwatch
from benchmarks.results import Results
from benchmarks.servers import Server

UNIT: Final = "s/GiB"


class Curl(NamedTuple):
    """How curl moves a file: the URL, and further arguments."""

    url: str
    arguments: Sequence[str | Path] = ()


#: How to move a file of the given name through this server.
Way: TypeAlias = Callable[[Server, str], Curl]


def down(bench: Bench, results: Results) -> None:
    """A GET's body through the gateway."""
    _down(bench, results, "down", lambda server: f"http://127.0.0.1:{server.port}")


def down_tls(bench: Bench, results: Results) -> None:
    """The same over TLS on the client's side."""
    trusted: list[str | Path] = ["--cacert", bench.directory / "self-signed.pem"]
    _down(
        bench, results, "down-tls", lambda server: f"https://127.0.0.1:{server.tls_port}", trusted
    )


def up(bench: Bench, results: Results) -> None:
    """A PUT's body through the gateway."""
    credentials = ["--header", f"Authorization: Bearer {bench.key.token()}"]

    def way(server: Server, name: str) -> Curl:
        file = bench.directory / "bodies" / name
        url = f"http://127.0.0.1:{server.port}/"
        return Curl(url, [*credentials, "--upload-file", file, "--header", "Expect:"])

    with servers.sink(bench) as sink:
        compare(
            results,
            "up",
            UNIT,
            [
                ("nginx", _body(bench, servers.nginx(bench, sink), way)),
                ("gatekeeper", _body(bench, servers.gatekeeper(bench, sink), way)),
            ],
        )


def tunnel(bench: Bench, results: Results) -> None:
    """A body through a CONNECT tunnel."""
    credentials = f"Proxy-Authorization: Bearer {bench.key.token()}"
    _forward(bench, results, "tunnel", ["--proxytunnel", "--proxy-header", credentials])


def forward_down(bench: Bench, results: Results) -> None:
    """A body through the forward proxy, by a request in absolute form."""
    credentials = f"Proxy-Authorization: Bearer {bench.key.token()}"
    _forward(bench, results, "forward-down", ["--header", credentials])


def _down(
    bench: Bench,
    results: Results,
    row: str,
    base: Callable[[Server], str],
    arguments: Sequence[str | Path] = (),
) -> None:
    credentials = ["--header", f"Authorization: Bearer {bench.key.token()}"]

    def way(server: Server, name: str) -> Curl:
        return Curl(f"{base(server)}/bodies/{name}", [*credentials, *arguments])

    with servers.origin(bench) as origin:
        compare(
            results,
            row,
            UNIT,
            [
                ("nginx", _body(bench, servers.nginx(bench, origin), way)),
                ("gatekeeper", _body(bench, servers.gatekeeper(bench, origin), way)),
            ],
        )


def _forward(bench: Bench, results: Results, row: str, arguments: Sequence[str]) -> None:
    with servers.origin(bench) as origin:

        def way(server: Server, name: str) -> Curl:
            url = f"http://127.0.0.1:{origin.port}/bodies/{name}"
            return Curl(url, ["--proxy", f"http://127.0.0.1:{server.forward_port}", *arguments])

        compare(
            results,
            row,
            UNIT,
            [
                ("squid", _body(bench, servers.squid(bench, origin), way)),
                ("gatekeeper", _body(bench, servers.gatekeeper(bench, origin), way)),
            ],
        )


@contextmanager
def _body(bench: Bench, serving: AbstractContextManager[Server], way: Way) -> Iterator[Measure]:
    bodies = bench.directory / "bodies"
    warm_up = bench.body // 16
    _make_file(bodies / "warm-up", warm_up)
    _make_file(bodies / "body", bench.body)
    with serving as server:

        def measure() -> Sample:
            transfer(warm_up, *way(server, "warm-up"))
            peak = server.program.peak()
            stopwatch = Stopwatch(server.program, bench.cores.proxy)
            transfer(bench.body, *way(server, "body"))
            cost = stopwatch.read()
            growth = (server.program.peak() - peak) / MIB
            return Sample(cost.cpu / (bench.body / GIB), growth=growth, others=cost.others)

        yield measure


def _make_file(path: Path, size: int) -> None:
    """A file of zeros that takes no room on the disk, read once so that it is in memory."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o755, exist_ok=True)
    with path.open("w+b") as file:
        file.truncate(size)
        while file.read(MIB):
            pass
