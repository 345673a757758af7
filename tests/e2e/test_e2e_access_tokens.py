"""Nevermined's access tokens through both doors, with the calls that its clients make."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gatekeeper.auth.jwe import TokenCipher
from gatekeeper.auth.secret_keys import secret_key
from tests.auth.test_metadata import DID, encode
from tests.authority import Authority
from tests.daemon import Daemon
from tests.e2e.market import selling
from tests.e2e.plain import Curled, curl
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

PHRASE = "31415926535897932384626433832795"
DID_HOST = f"{encode(int(DID.removeprefix('did:nv:'), 16))}.gate.example"
CONFIGURATION = """
state_dir = "state"
management = {{ bind = "none" }}

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[[listeners]]
name = "proxy"
role = "forward"
bind = "@proxy@"
checkers = ["nevermined"]
credentials_from = ["proxy-authorization", "authorization"]
allow = ["127.0.0.1:*"]

[checkers.nevermined]
type = "access-token"
secret = "{phrase}"
marketplace_url = "http://@market@"

[[services]]
name = "nevermined"
to = "grant"
ca_file = "{ca_file}"
allow = ["127.0.0.1:*"]
checkers = ["nevermined"]

[[services]]
name = "strangers"
from = "/strangers"
to = "grant"
allow = ["127.0.0.1:*"]
checkers = ["nevermined"]

[[services]]
name = "far"
from = "/far"
to = "grant"
checkers = ["nevermined"]
"""


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[Origin, Origin]]:
    """An upstream, and a market that knows it."""
    with Origin() as origin, selling(origin) as market:
        yield origin, market


@pytest.fixture
def origin(origins: tuple[Origin, Origin]) -> Origin:
    """The upstream, which nobody has asked yet."""
    origins[0].requests.clear()
    return origins[0]


@pytest.fixture(scope="module")
def daemon(
    authority: Authority,
    origins: tuple[Origin, Origin],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Daemon]:
    _, market = origins
    configuration = CONFIGURATION.format(phrase=PHRASE, ca_file=authority.file)
    directory = tmp_path_factory.mktemp("gatekeeper")
    with Daemon(directory, configuration, ports={"market": market.port}) as daemon:
        yield daemon


def bearer(*urls: str, **changed: Any) -> str:
    claims = {
        "userId": "0xabc",
        "did": DID,
        "owner": "0xdef",
        "endpoints": urls,
        "headers": {"authentication": {"type": "bearer", "token": "upstream-token"}},
        "iat": int(time.time()),
        "exp": int(time.time()) + 600,
    }
    cipher = TokenCipher(secret_key(PHRASE, "nevermined-digits"))
    return "Bearer " + cipher.encrypt(json.dumps(claims | changed).encode())


def fields_of(curled: Curled) -> dict[str, str]:
    """What the upstream was sent."""
    assert curled.status == 200, curled
    return {name.lower(): value for name, value in json.loads(curled.body)["fields"]}


def through_gateway(daemon: Daemon, origin: Origin, path: str, *options: str) -> Curled:
    return curl(daemon.url("gateway", path), "-H", f"Host: 127.0.0.1:{origin.port}", *options)


def through_proxy(daemon: Daemon, url: str, *options: str) -> Curled:
    return curl(url, "--proxy", daemon.url("proxy"), *options)


def check_identity(fields: dict[str, str]) -> None:
    assert fields["authorization"] == "Bearer upstream-token"
    assert fields["nvm-user-id"] == "0xabc"
    assert fields["nvm-scope"] == DID
    assert fields["nvm-owner"] == "0xdef"
    assert "proxy-authorization" not in fields


def test_the_forward_proxy(daemon: Daemon, origin: Origin) -> None:
    token = bearer(f"{origin.url}/v1/(.*)")
    forged = ("-H", "NVM-User-Id: root", "-H", "NVM_Owner: root")
    for header in ("-H", f"Authorization: {token}"), ("-H", f"Proxy-Authorization: {token}"):
        fields = fields_of(through_proxy(daemon, f"{origin.url}/v1/x?y=z", *header, *forged))
        check_identity(fields)
        assert "nvm_owner" not in fields
    assert origin.requests[-1].target == "/v1/x?y=z"
    refused = through_proxy(daemon, f"{origin.url}/v2/x", "-H", f"Authorization: {token}")
    assert refused.status == 403
    assert through_proxy(daemon, f"{origin.url}/v1/x").status == 407
    assert len(origin.requests) == 2


def test_a_token_opens_no_tunnel(daemon: Daemon, origin: Origin) -> None:
    token = bearer(f"{origin.url}/(.*)")
    options = ("--proxytunnel", "--proxy-header", f"Proxy-Authorization: {token}")
    assert "403" in through_proxy(daemon, f"{origin.url}/v1/x", *options).errors
    assert not origin.requests


def test_the_gateway(daemon: Daemon, tls_origin: Origin) -> None:
    """The upstream is the pattern's: https, though the client has come without TLS."""
    token = bearer(f"https://127.0.0.1:{tls_origin.port}/v1/:name")
    header = ("-H", f"Authorization: {token}")
    fields = fields_of(through_gateway(daemon, tls_origin, "/v1/completions", *header))
    check_identity(fields)
    assert fields["host"] == f"127.0.0.1:{tls_origin.port}"
    assert through_gateway(daemon, tls_origin, "/v1/a/b", *header).status == 403
    assert through_gateway(daemon, tls_origin, "/v1/completions").status == 401
    expired = ("-H", f"Authorization: {bearer(f'https://127.0.0.1:{tls_origin.port}/', exp=1)}")
    assert through_gateway(daemon, tls_origin, "/", *expired).status == 401
    assert len(tls_origin.requests) == 1


def test_an_upstream_that_cannot_be_verified(daemon: Daemon, tls_origin: Origin) -> None:
    token = bearer(f"https://127.0.0.1:{tls_origin.port}/(.*)")
    answer = through_gateway(daemon, tls_origin, "/strangers/x", "-H", f"Authorization: {token}")
    assert answer.status == 502
    assert not tls_origin.requests


def test_a_token_leads_to_no_inner_address_that_is_not_named(
    daemon: Daemon, origin: Origin
) -> None:
    token = bearer(f"{origin.url}/(.*)")
    answer = through_gateway(daemon, origin, "/far/x", "-H", f"Authorization: {token}")
    assert answer.status == 403
    assert not origin.requests


def test_what_is_open_to_everybody(daemon: Daemon, origins: tuple[Origin, Origin]) -> None:
    _, market = origins
    opened, closed = daemon.url("gateway", "/open/x"), daemon.url("gateway", "/closed")
    for header in ((), ("-H", "Authorization: Bearer old"), ("-H", "NVM-User-Id: root")):
        fields = fields_of(curl(opened, "-H", f"Host: {DID_HOST}", *header))
        assert fields["nvm-scope"] == DID
        assert not {"authorization", "nvm-user-id"} & fields.keys()
    assert curl(closed, "-H", f"Host: {DID_HOST}").status == 401
    assert curl(opened, "-H", "Host: www.gate.example").status == 401
    assert len(market.requests) == 1
