"""From a host and a path to a service, and on to the upstream's path."""

from __future__ import annotations

import pytest

from gatekeeper.errors import Refusal
from gatekeeper.routing import Route, RoutingTable
from tests.world import GATEWAY, SERVICE, World


def route(name: str, prefix: str = "/", path: str = "") -> Route:
    return Route(
        name,
        prefix=prefix.encode(),
        path=path.encode(),
        host_field=b"origin.example",
        chain=None,
        access=None,
        max_body=None,
    )


def table(*entries: tuple[str | None, str]) -> RoutingTable:
    """Routes named ``host prefix``, as in ``*.example.com /acme``."""
    return RoutingTable(
        (host, route(f"{host or 'any'} {prefix}", prefix)) for host, prefix in entries
    )


def found(routes: RoutingTable, host: str | None, path: str) -> str | int:
    """The name of the route, or the status of the refusal."""
    try:
        return routes.find(host, path.encode()).name
    except Refusal as refusal:
        return refusal.status


class TestPrefixes:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/acme", "any /acme"),
            ("/acme/", "any /acme"),
            ("/acme/x", "any /acme"),
            ("/acme/v1", "any /acme/v1"),
            ("/acme/v1/", "any /acme/v1"),
            ("/acme/v1/a/b/c/d", "any /acme/v1"),
            ("/acme/v10", "any /acme"),
            ("/deep/er/est", "any /deep/er/est"),
            ("/deep/er", 404),
            ("/deep", 404),
            ("/acmeevil", 404),
            ("/ACME", 404),
            ("/acm", 404),
            ("/x/acme", 404),
            ("/", 404),
        ],
    )
    def test_the_longest_of_whole_segments_wins(self, path: str, name: str | int) -> None:
        routes = table((None, "/acme"), (None, "/acme/v1"), (None, "/deep/er/est"))
        assert found(routes, "a.example", path) == name

    def test_the_root_has_all_the_rest(self) -> None:
        routes = table((None, "/acme"), (None, "/"))
        assert found(routes, "a.example", "/acmeevil") == "any /"
        assert found(routes, "a.example", "/") == "any /"
        assert found(routes, "a.example", "/acme/x") == "any /acme"


class TestHosts:
    ROUTES = table(
        (None, "/any"),
        (None, "/both"),
        ("www.example.com", "/www"),
        ("www.example.com", "/both"),
        ("*.example.com", "/wild"),
        ("*.example.com", "/both"),
        ("*.eu.example.com", "/eu"),
        ("*.eu.example.com", "/both"),
    )

    @pytest.mark.parametrize(
        ("host", "path", "name"),
        [
            ("www.example.com", "/www", "www.example.com /www"),
            ("www.example.com", "/both", "www.example.com /both"),
            ("www.example.com", "/wild", "*.example.com /wild"),
            ("www.example.com", "/any", "any /any"),
            ("www.example.com", "/eu", 404),
            ("a.example.com", "/both", "*.example.com /both"),
            ("a.b.example.com", "/wild", "*.example.com /wild"),
            ("a.b.example.com", "/any", "any /any"),
            ("a.example.com", "/www", 404),
            ("a.eu.example.com", "/both", "*.eu.example.com /both"),
            ("a.eu.example.com", "/wild", "*.example.com /wild"),
            ("eu.example.com", "/eu", 404),
            ("eu.example.com", "/wild", "*.example.com /wild"),
            ("example.com", "/wild", 404),
            ("evilexample.com", "/wild", 404),
            ("example.com", "/any", "any /any"),
            (None, "/any", "any /any"),
            (None, "/www", 404),
        ],
    )
    def test_what_is_more_specific_wins(self, host: str | None, path: str, name: str | int) -> None:
        assert found(self.ROUTES, host, path) == name

    @pytest.mark.parametrize(
        ("host", "named"),
        [
            ("www.example.com", True),
            ("x.example.com", True),
            ("example.com", False),
            ("elsewhere.example", False),
        ],
    )
    def test_hosts_that_a_service_names(self, host: str, named: bool) -> None:
        assert self.ROUTES.names(host) is named

    def test_a_host_that_nobody_serves_is_misdirected(self) -> None:
        routes = table(("a.example", "/"), ("*.b.example", "/x"))
        assert found(routes, "c.example", "/") == 421
        assert found(routes, None, "/") == 421
        assert found(routes, "a.example", "/") == "a.example /"
        assert found(routes, "x.b.example", "/") == 404

    def test_nothing_is_served_at_all(self) -> None:
        assert found(table(), "a.example", "/") == 421


class TestJoining:
    @pytest.mark.parametrize(
        ("prefix", "to", "path", "upstream"),
        [
            # what Golem's http-proxy does
            ("/", "/", "/eth/v1/node/syncing", "/eth/v1/node/syncing"),
            ("/", "/to", "/", "/to"),
            ("/", "/to/", "/", "/to/"),
            ("/sub", "/", "/sub", "/"),
            ("/sub/2", "/to", "/sub/2", "/to"),
            ("/sub/2", "/to", "/sub/2/test", "/to/test"),
            ("/sub/2", "/to", "/sub/2/", "/to/"),
            # and what follows from it
            ("/", "", "/", "/"),
            ("/", "", "/a/", "/a/"),
            ("/", "/to", "/a", "/to/a"),
            ("/", "/to/", "/a", "/to/a"),
            ("/sub", "", "/sub", "/"),
            ("/sub", "", "/sub/", "/"),
            ("/sub", "", "/sub/a", "/a"),
            ("/sub", "/to/", "/sub", "/to/"),
            ("/sub", "/to/", "/sub/a", "/to/a"),
        ],
    )
    def test_to_and_the_rest_of_the_path(
        self, prefix: str, to: str, path: str, upstream: str
    ) -> None:
        assert route("x", prefix, to).upstream_path(path.encode()) == upstream.encode()

    def test_the_query_travels_along(self) -> None:
        world = World(
            listeners=[GATEWAY],
            services=[SERVICE | {"from": "/sub/2", "to": "http://origin.example/to"}],
        )
        client = world.connect()
        client.sends(b"GET /sub/2/test?a=/sub/2&b HTTP/1.1\r\nhost: x\r\n\r\n")
        assert world.upstream().message().line == b"GET /to/test?a=/sub/2&b HTTP/1.1"
        client.hangs_up()
        world.close()


def test_a_route_says_what_it_is() -> None:
    assert repr(route("shop", "/acme")) == "<Route shop '/acme'>"
