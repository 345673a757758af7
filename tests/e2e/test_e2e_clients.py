"""Clients as people have them: curl and Python's own, through both doors."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon
from tests.e2e.plain import PLAIN, USER, curl
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

MORE = """
[[services]]
name = "shop"
hosts = ["shop.test"]
from = "/shop"
to = "http://@origin@/base"
checkers = ["users"]
access = [ { path = "/shop/open/**" } ]
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def daemon(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("clients")
    with Daemon(directory, PLAIN + MORE, ports={"origin": origin.port}) as daemon:
        yield daemon


def proxy(daemon: Daemon, user: str = USER) -> str:
    return daemon.url("proxy").replace("//", f"//{user}@" if user else "//")


def gateway(daemon: Daemon) -> str:
    return daemon.url("gateway")


# --- curl ---------------------------------------------------------------------------------


def test_curl_through_the_gateway(daemon: Daemon, tmp_path: Path) -> None:
    url = f"{gateway(daemon)}/echo/x?a=b"
    shown = json.loads(curl(url, "-u", USER).body)
    assert (shown["method"], shown["target"]) == ("GET", "/x?a=b")
    assert json.loads(curl(url, "-u", USER, "-d", "hello").body)["body"] == "hello"
    chunked = ("-H", "Transfer-Encoding: chunked", "-d", "hello")
    assert json.loads(curl(url, "-u", USER, *chunked).body)["body"] == "hello"
    assert curl(url, "-u", USER, "-I").status == 200
    assert curl(url, "-u", USER, "-0").status == 200
    file = tmp_path / "large"
    file.write_bytes(b"x" * 3_000_000)  # more than curl sends without asking first
    url = f"{gateway(daemon)}/echo/count"
    assert json.loads(curl(url, "-u", USER, "-T", file).body) == {"size": 3_000_000}


def test_curl_through_the_proxy(daemon: Daemon, origin: Origin) -> None:
    url = f"{origin.url}/x?a=b"
    shown = json.loads(curl(url, "-x", proxy(daemon)).body)
    assert (shown["method"], shown["target"]) == ("GET", "/x?a=b")
    assert not {"proxy-authorization", "proxy-connection"} & set(dict(shown["fields"]))
    assert json.loads(curl(url, "-x", proxy(daemon), "-d", "hello").body)["body"] == "hello"
    assert curl(url, "-x", proxy(daemon, "")).status == 407
    assert curl(url, "-x", proxy(daemon, "alice:wrong")).status == 407
    assert curl(url, "-x", proxy(daemon), "-0").status == 200


def test_curl_picks_its_way_to_authenticate(daemon: Daemon, origin: Origin) -> None:
    """It asks without, reads the challenge, and asks again on the same connection."""
    found = curl(f"{origin.url}/x", "-x", proxy(daemon, ""), "--proxy-anyauth", "-U", USER)
    assert found.status == 200
    found = curl(f"{gateway(daemon)}/echo/x", "--anyauth", "-u", USER)
    assert found.status == 200


def test_curl_tunnels_http(daemon: Daemon, origin: Origin) -> None:
    shown = json.loads(curl(f"{origin.url}/x", "-p", "-x", proxy(daemon)).body)
    # In a tunnel nobody adds anything.
    assert {"via", "x-forwarded-for"}.isdisjoint(dict(shown["fields"]))


def test_curl_tunnels_https(daemon: Daemon, tls_origin: Origin, authority: Authority) -> None:
    url = f"{tls_origin.url}/x"
    trusted = ("--cacert", authority.file)
    shown = json.loads(curl(url, *trusted, "-x", proxy(daemon)).body)
    assert shown["target"] == "/x"
    refused = curl(url, *trusted, "-x", proxy(daemon, ""))
    assert refused.exit_status == 56
    assert "407" in refused.errors
    # The certificate is the upstream's own: nobody is in between.
    assert curl(url, "-x", proxy(daemon)).exit_status == 60


# --- what browsers and programs do --------------------------------------------------------


def test_urllib_with_a_proxy(daemon: Daemon, origin: Origin) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy(daemon)}))
    with opener.open(f"{origin.url}/x", timeout=PATIENCE) as answer:
        assert json.load(answer)["target"] == "/x"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy(daemon, "")}))
    with pytest.raises(HTTPError, match="407"):
        opener.open(f"{origin.url}/x", timeout=PATIENCE)


def test_urllib_tunnels_https(daemon: Daemon, tls_origin: Origin, authority: Authority) -> None:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": proxy(daemon)}),
        urllib.request.HTTPSHandler(context=authority.client_context()),
    )
    with opener.open(f"{tls_origin.url}/x", timeout=PATIENCE) as answer:
        assert json.load(answer)["target"] == "/x"


def test_kept_connection_to_the_proxy(daemon: Daemon, origin: Origin) -> None:
    """As browsers do: one connection to the proxy for many hosts, first without credentials."""
    authorization = {"Proxy-Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}
    connection = http.client.HTTPConnection(*daemon.address("proxy"), timeout=PATIENCE)
    with Origin() as other:
        connection.request("GET", f"{origin.url}/x", headers={"Proxy-Connection": "keep-alive"})
        refused = connection.getresponse()
        refused.read()
        assert refused.status == 407
        assert refused.headers.get_all("Proxy-Authenticate")
        first = connection.sock
        for url in (origin.url, other.url, origin.url):
            connection.request("GET", f"{url}/x", headers=authorization)
            answer = connection.getresponse()
            assert json.load(answer)["target"] == "/x"
        assert connection.sock is first
        assert other.paths == ["/x"]
    connection.close()


# --- both doors ---------------------------------------------------------------------------


def test_both_doors_to_one_service(daemon: Daemon, origin: Origin) -> None:
    """The same routing, the same rules, the same account, the same request for the upstream."""
    port = daemon.port("gateway")
    resolved = ("--resolve", f"shop.test:{port}:127.0.0.1")
    shown = []
    for url, *options in (
        (f"http://shop.test:{port}", *resolved, "-u", USER),
        ("http://shop.test", "-x", proxy(daemon)),
    ):
        answer = curl(f"{url}/shop/open/x", *options)
        assert answer.status == 200, answer
        shown.append(json.loads(answer.body))
        assert curl(f"{url}/shop/closed", *options).status == 403
        assert curl(f"{url}/nothing", *options).status == 404
    for one in shown:
        assert one["target"] == "/base/open/x"
        assert dict(one["fields"])["x-forwarded-user"] == "alice"
        assert dict(one["fields"])["host"] == f"127.0.0.1:{origin.port}"
    lines = [line for line in daemon.access_log() if line["path"] == "/shop/open/x"]
    assert [(line["service"], line["user"]) for line in lines] == [("shop", "alice")] * 2
    assert {line["listener"] for line in lines} == {"gateway", "proxy"}


def test_service_through_the_proxy_is_authorized_as_the_service(daemon: Daemon) -> None:
    refused = curl("http://shop.test/shop/open/x", "-x", proxy(daemon, ""))
    assert refused.status == 407
    refused = curl("http://shop.test/shop/open/x", "-x", proxy(daemon, "alice:wrong"))
    assert refused.status == 407
