"""From a canonical URL to a route.

Services are found by host and by the longest path prefix of whole segments: ``/acme`` matches
``/acme``, ``/acme/`` and ``/acme/x``, never ``/acmeevil``. Hosts are exact names or ``*.suffix``;
a service without hosts answers to any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from twisted.internet.defer import Deferred

from gatekeeper.auth.access import Access
from gatekeeper.auth.chain import Chain
from gatekeeper.errors import Refusal
from gatekeeper.stats import RequestStats

if TYPE_CHECKING:
    from gatekeeper.credits.admission import Admission
    from gatekeeper.exchange import Exchange
    from gatekeeper.net.pool import Origin
    from gatekeeper.net.upstream import Lessor
    from gatekeeper.usage.units.interface import UnitMeter


#: Finds where an exchange's request goes.
Dial: TypeAlias = "Callable[[Exchange], Deferred[Origin | None]]"


_CORS: Final = (
    b"access-control-allow-origin: *",
    b"access-control-expose-headers: Authorization,NVMCreditsConsumed",
)


def _nowhere(exchange: Exchange) -> Deferred[Origin | None]:
    raise AssertionError("a route has an origin, or a way to find one")


class Route:
    """A service, ready to be asked for.

    ``prefix`` is the service's ``from``, ``path`` the path of its ``to``; ``max_body`` in bytes.
    ``chain`` is ``None`` for a public service. A route without ``origin`` has ``dial``, which finds
    where each request goes; it fires with ``None`` when that is a tunnel, and has been opened.
    ``outlives_grant``: a token's expiry says until when it may be presented, and does not end what
    runs (a token of seconds, for calls of minutes). ``cors``: any web page may read the responses.
    ``hidden`` is what may follow ``from`` in a path, and is not the upstream's to see: ``/v0/``.
    ``unit_meter`` tells what is charged by, ``None``: requests. ``admits_unmetered``: requests are
    served also while their usage cannot be written down. ``admission`` limits what callers may use,
    ``None``: nothing does. ``stats`` counts its requests.
    """

    def __init__(
        self,
        name: str,
        *,
        prefix: bytes,
        path: bytes,
        host_field: bytes,
        origin: Lessor | None = None,
        chain: Chain | None,
        access: Access | None,
        max_body: int | None,
        open_methods: frozenset[bytes] = frozenset(),
        dial: Dial | None = None,
        is_service: bool = True,
        outlives_grant: bool = False,
        cors: bool = False,
        hidden: bytes = b"",
        unit_meter: UnitMeter | None = None,
        admits_unmetered: bool = False,
        admission: Admission | None = None,
    ) -> None:
        self.name = name
        self.stats = RequestStats()
        self.prefix = b"" if prefix == b"/" else prefix.rstrip(b"/")
        self.origin = origin
        self.dial = dial or _nowhere
        self.is_service = is_service
        self.outlives_grant = outlives_grant
        self.response_lines = _CORS if cors else ()
        self.host_field = host_field
        self.chain = chain
        self.access = access
        self.max_body = max_body
        self.open_methods = open_methods
        self.unit_meter = unit_meter
        self.admits_unmetered = admits_unmetered
        self.admission = admission
        self._path = path or b"/"
        self._base = self._path.rstrip(b"/")
        self._skip = len(self.prefix)
        self._hidden = hidden

    def __repr__(self) -> str:
        return f"<Route {self.name} {self.prefix.decode()!r}>"

    def upstream_path(self, path: bytes) -> bytes:
        """The path to ask the upstream for: ``to``, and what follows ``from`` in the request's."""
        rest = path[self._skip :]
        if self._hidden and rest.startswith(self._hidden):
            rest = rest[len(self._hidden) - 1 :]
        if not rest or (rest == b"/" and not self._skip):
            return self._path
        return self._base + rest


class _Prefixes:
    """The routes of one host by path prefix."""

    __slots__ = ("_by_prefix", "_depth")

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_prefix = {route.prefix: route for route in routes}
        self._depth = max((prefix.count(b"/") for prefix in self._by_prefix), default=0)

    def find(self, path: bytes) -> Route | None:
        by_prefix = self._by_prefix
        if self._depth:
            segments = path.split(b"/", self._depth + 1)
            for depth in range(min(self._depth, len(segments) - 1), 0, -1):
                route = by_prefix.get(b"/".join(segments[: depth + 1]))
                if route is not None:
                    return route
        return by_prefix.get(b"")


NOT_FOUND: Final = "no service is found at this path"
MISDIRECTED: Final = "this host is not served here"


class RoutingTable:
    """What one listener serves: pairs of a host pattern (``None`` for any) and a route."""

    def __init__(self, entries: Iterable[tuple[str | None, Route]]) -> None:
        patterns: dict[str | None, list[Route]] = {}
        for pattern, route in entries:
            patterns.setdefault(pattern, []).append(route)
        anywhere = patterns.get(None, [])
        self._any = _Prefixes(anywhere) if anywhere else None
        self._exact: dict[str, _Prefixes] = {}
        self._suffixes: dict[str, _Prefixes] = {}
        for pattern in patterns:
            if pattern is None:
                continue
            # What is more specific comes later, and wins where prefixes are equal.
            routes = list(anywhere)
            if pattern.startswith("*."):
                suffix = pattern[1:]
                for wider in _wider(suffix):
                    routes += patterns.get("*" + wider, [])
                self._suffixes[suffix] = _Prefixes(routes + patterns[pattern])
            else:
                for wider in _wider("." + pattern):
                    routes += patterns.get("*" + wider, [])
                self._exact[pattern] = _Prefixes(routes + patterns[pattern])

    def find(self, host: str | None, path: bytes) -> Route:
        """The route of a request.

        :raises Refusal: 421 for a host that is not served, 404 for a path without a service.
        """
        prefixes = self.serving(host)
        if prefixes is None:
            raise Refusal("misdirected", MISDIRECTED, status=421)
        route = prefixes.find(path)
        if route is None:
            raise Refusal("no_service", NOT_FOUND, status=404)
        return route

    def serving(self, host: str | None) -> _Prefixes | None:
        """What is served under this host; ``None``: nothing."""
        if host is None:
            return self._any
        exact = self._exact.get(host)
        if exact is not None:
            return exact
        if self._suffixes:
            for suffix in reversed(_wider("." + host)):
                prefixes = self._suffixes.get(suffix)
                if prefixes is not None:
                    return prefixes
        return self._any

    def names(self, host: str) -> bool:
        """Whether a service names this host (and not just any)."""
        found = self.serving(host)
        return found is not None and found is not self._any


def _wider(suffix: str) -> list[str]:
    """The proper suffixes of ``.a.b.c``, the shortest first: ``.c``, ``.b.c``."""
    labels = suffix.split(".")[1:]
    return ["." + ".".join(labels[start:]) for start in range(len(labels) - 1, 0, -1)]
