"""What must be right between the upstreams of a service, and the keys that are for several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatekeeper.config.drafts import Draft, sound
from gatekeeper.config.model_services import Service
from gatekeeper.config.values import Upstream, parse_upstream
from gatekeeper.errors import Problem


def balancing_problems(services: Iterable[Draft[Service]]) -> Iterator[Problem]:
    """What is wrong with lists in `to`, and with `ejection` and `health`, beside single values."""
    services = list(services)
    for path, service in sound(services, "to"):
        if isinstance(service.to, tuple):
            yield from _different(f"{path}.to", list(map(parse_upstream, service.to)))
            continue
        for key in ("ejection", "health"):
            if key in service.model_fields_set and getattr(service, key) is not None:
                yield Problem(f"{path}.{key}", "needs a list of URLs in `to`")
    for path, service in sound(services, "ejection"):
        if service.ejection.longest < service.ejection.duration:
            yield Problem(f"{path}.ejection.longest", "must not be less than `duration`")


def _different(path: str, upstreams: list[Upstream]) -> Iterator[Problem]:
    """They are the same to a client, whichever a request comes to."""
    first = upstreams[0]
    known: dict[tuple[str, int], int] = {}
    for i, each in enumerate(upstreams):
        if each.scheme != first.scheme:
            yield Problem(
                f"{path}[{i}]", f"must have the same scheme as `to[0]`, which is `{first.scheme}`"
            )
        if (each.path or "/") != (first.path or "/"):
            yield Problem(
                f"{path}[{i}]",
                f"must have the same path as `to[0]`, which is `{first.path or '/'}`",
            )
        earlier = known.setdefault((each.host, each.port), i)
        if earlier != i:
            yield Problem(f"{path}[{i}]", f"is the same upstream as `to[{earlier}]`")
