"""Rows of many small requests: CPU of the proxy's processes for each that the load finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.comparing import Measure, Sample, compare, compare_together
from benchmarks.credentials import Key, make_key
from benchmarks.load import Load, Request
from benchmarks.processes import Stopwatch
from benchmarks.results import Results
from benchmarks.servers import Server

UNIT = "µs/request"

#: Requests whose fields differ; a prime, so that no connection sends the same one twice in a row.
_NEW_HEADS: Final = 1009


def get(bench: Bench, results: Results) -> None:
    """A small keep-alive GET with a token through everything that there is."""
    with servers.origin(bench) as origin:
        logging = servers.gatekeeper(bench, origin, access_log=True)
        other = servers.gatekeeper(bench, origin)
        compare(
            results,
            "get",
            UNIT,
            [
                ("nginx", _small(bench, servers.nginx(bench, origin), checks=False)),
                ("haproxy", _small(bench, servers.haproxy(bench, origin), checks=False)),
                ("haproxy jwt_verify", _small(bench, servers.haproxy_jwt(bench, origin))),
                ("nginx + njs", _small(bench, servers.nginx_njs(bench, origin))),
                ("gatekeeper", _small(bench, servers.gatekeeper(bench, origin))),
                ("gatekeeper, new heads", _small(bench, other, new_heads=True)),
                ("gatekeeper, log", _small(bench, logging)),
            ],
        )


def tls(bench: Bench, results: Results) -> None:
    """The same over TLS on the client's side."""
    with servers.origin(bench) as origin:
        compare(
            results,
            "tls",
            UNIT,
            [
                ("nginx", _small(bench, servers.nginx(bench, origin), checks=False, tls=True)),
                ("gatekeeper", _small(bench, servers.gatekeeper(bench, origin), tls=True)),
            ],
        )


def metering(bench: Bench, results: Results) -> None:
    """What counting usage adds. Both daemons work at the same time, for it is little."""
    with servers.origin(bench) as origin:
        compare_together(
            results,
            "metering",
            UNIT,
            [
                ("off", _small(bench, servers.gatekeeper(bench, origin, usage=False))),
                ("on", _small(bench, servers.gatekeeper(bench, origin, usage=True))),
            ],
            rounds=6,
        )


def scale(bench: Bench, results: Results) -> None:
    """Many keys, services and checkers beside one of each.

    The load goes round through ``active_keys`` of the keys, evenly chosen, each on one service.
    """
    keys = [make_key(f"many{number}") for number in range(bench.keys)]
    prefixes = [f"/service-{number}" for number in range(bench.services)]
    active = keys[:: max(1, len(keys) // bench.active_keys)]
    paths = [prefixes[number % len(prefixes)] + "/" for number in range(len(active))]
    with servers.origin(bench) as origin:
        many = servers.gatekeeper(bench, origin, keys=keys, prefixes=prefixes, earlier_checkers=4)
        compare(
            results,
            "scale",
            UNIT,
            [
                ("one", _small(bench, servers.gatekeeper(bench, origin))),
                ("many", _small(bench, many, keys=active, paths=paths)),
            ],
        )


def forward(bench: Bench, results: Results) -> None:
    """The same GET in absolute form through the forward proxy."""
    with servers.origin(bench) as origin:
        compare(
            results,
            "forward",
            UNIT,
            [
                ("squid", _absolute(bench, servers.squid(bench, origin), origin, checks=False)),
                ("gatekeeper", _absolute(bench, servers.gatekeeper(bench, origin), origin)),
            ],
        )


@contextmanager
def _small(
    bench: Bench,
    serving: AbstractContextManager[Server],
    *,
    checks: bool = True,
    tls: bool = False,
    keys: Sequence[Key] = (),
    paths: Sequence[str] = ("/",),
    new_heads: bool = False,
) -> Iterator[Measure]:
    """With ``new_heads``, requests and answers never have the fields of those before them."""
    with serving as server:
        port = server.tls_port if tls else server.port
        host = f"127.0.0.1:{port}"
        requests = [
            Request(path, host, "Authorization", f"Bearer {key.token()}")
            for key, path in zip(keys or [bench.key], paths, strict=True)
        ]
        if new_heads:
            one = requests[0]._replace(target="/new/")
            requests = [one._replace(number=str(number)) for number in range(_NEW_HEADS)]
        load = Load(bench, port, requests, "https" if tls else "http")
        load.check(checks=checks)
        yield lambda: _cost(bench, server, load)


@contextmanager
def _absolute(
    bench: Bench, serving: AbstractContextManager[Server], origin: Server, *, checks: bool = True
) -> Iterator[Measure]:
    with serving as server:
        host = f"127.0.0.1:{origin.port}"
        credentials = f"Bearer {bench.key.token()}"
        request = Request(f"http://{host}/", host, "Proxy-Authorization", credentials)
        load = Load(bench, server.forward_port, [request], "http")
        load.check(checks=checks)
        yield lambda: _cost(bench, server, load)


def _cost(bench: Bench, server: Server, load: Load) -> Sample:
    load.run(bench.warm_up)
    stopwatch = Stopwatch(server.program, bench.cores.proxy)
    sent = load.run(bench.seconds)
    cost = stopwatch.read()
    return Sample(cost.cpu / sent.requests * 1e6, sent.per_second, others=cost.others)
