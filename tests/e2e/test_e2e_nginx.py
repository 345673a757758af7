"""An nginx that keeps its place: it asks the introspection listener, as docs/nginx shows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.auth.test_metadata import DID
from tests.daemon import Daemon, free_port
from tests.documents import DOCS
from tests.e2e.market import METADATA, selling
from tests.e2e.plain import USER, Curled, curl
from tests.e2e.test_e2e_access_tokens import DID_HOST, PHRASE, bearer, check_identity, fields_of
from tests.nginx import Nginx, find_nginx
from tests.origin import Origin

pytestmark = pytest.mark.usefixtures("unmeasured")

CONFIGURATION = f"""
state_dir = "state"
management = {{ bind = "none" }}

[[listeners]]
name = "introspection"
role = "introspection"
bind = "@introspection@"
checkers = ["nevermined"]
callers = ["secret://s3cret-of-callers?user_id=nginx"]

[[listeners]]
name = "proxy"
role = "forward"
bind = "@proxy@"
checkers = []
allow = ["127.0.0.1:*"]

[checkers.nevermined]
type = "access-token"
secret = "{PHRASE}"
marketplace_url = "http://@market@"
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
    origins: tuple[Origin, Origin], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    _, market = origins
    directory = tmp_path_factory.mktemp("gatekeeper")
    with Daemon(directory, CONFIGURATION, ports={"market": market.port}) as daemon:
        yield daemon


#: The question as the original's nginx puts it, with all that its client has sent; what the
#: documents have in its place.
THE_ORIGINALS = """
        proxy_set_header Content-Type "application/x-www-form-urlencoded";
        proxy_set_header Accept "application/json";
        proxy_set_header NVM-Requested-Url"""
THE_DOCUMENTS = re.compile(
    r"\n *proxy_pass_request_body.*proxy_set_header *NVM-Requested-Url", re.S
)


@pytest.fixture(scope="module", params=["documented", "original"])
def nginx(
    request: pytest.FixtureRequest, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nginx]:
    """With the configuration of the documents, at other ports."""
    program = find_nginx()
    if program is None:
        if "CI" in os.environ:
            pytest.fail("nginx, or its module njs, is missing")
        pytest.skip("nginx, or its module njs, is missing")
    directory = tmp_path_factory.mktemp("nginx")
    (directory / "introspect.js").write_text((DOCS / "nginx" / "introspect.js").read_text())
    http = (DOCS / "nginx" / "gatekeeper.conf").read_text()
    if request.param == "original":
        http, count = THE_DOCUMENTS.subn(THE_ORIGINALS, http)
        assert count == 1
    port = free_port()
    for shown, here in ((3128, port), (4000, daemon.port("introspection"))):
        assert http.count(f"127.0.0.1:{shown}") == 1
        http = http.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{here}")
    with Nginx(program, directory, http, port) as nginx:
        yield nginx


def through(nginx: Nginx, url: str, token: str = "", *options: str) -> Curled:
    """What the users of the original call: nginx as their proxy."""
    header = ("-H", f"Authorization: {token}") if token else ()
    return curl(url, "--proxy", f"http://127.0.0.1:{nginx.port}", *header, *options)


def test_a_token_that_opens_the_url(nginx: Nginx, origin: Origin) -> None:
    token = bearer(f"{origin.url}/v1/(.*)")
    forged = [
        "NVM-User-Id: root", "NVM_User_Id: root", "NVM-Scope: root", "NVM-Owner: root",
        "NVM-Requested-Url: http://other.example/", "Token-User-Id: root",
    ]  # fmt: skip
    options = [part for line in forged for part in ("-H", line)]
    fields = fields_of(through(nginx, f"{origin.url}/v1/x/?y=%20z", token, *options))
    check_identity(fields)
    assert fields["host"] == f"127.0.0.1:{origin.port}"
    assert "nvm_user_id" not in fields
    assert origin.requests[-1].target == "/v1/x/?y=%20z"


def test_as_a_gateway(nginx: Nginx, origin: Origin) -> None:
    """The Host says which upstream is meant."""
    token = bearer(f"{origin.url}/v1/:name")
    url = f"http://127.0.0.1:{nginx.port}/v1/completions"
    host = ("-H", f"Host: 127.0.0.1:{origin.port}", "-H", f"Authorization: {token}")
    check_identity(fields_of(curl(url, *host)))


def test_a_body(nginx: Nginx, origin: Origin) -> None:
    """It goes upstream, and has no say in whether it may."""
    token = bearer(f"{origin.url}/v1/(.*)")
    answer = through(nginx, f"{origin.url}/v1/x", token, "-d", "token=x&token=y")
    assert json.loads(answer.body)["method"] == "POST"
    check_identity(fields_of(answer))
    assert fields_of(answer)["content-length"] == "15"


@pytest.mark.parametrize(
    ("authentication", "expected"),
    [
        ({"type": "none"}, None),
        ({"type": "oauth", "token": "t"}, "Bearer t"),
        ({"type": "basic", "username": "u", "password": "p"}, "Basic dTpw"),
        ({"type": "bearer", "token": "t" * 8192}, f"Bearer {'t' * 8192}"),
    ],
    ids=["none", "oauth", "basic", "long"],
)
def test_the_upstreams_credential(
    nginx: Nginx, origin: Origin, authentication: dict[str, str], expected: str | None
) -> None:
    token = bearer(f"{origin.url}/(.*)", headers={"authentication": authentication})
    large = ("-H", "X-Large: " + "x" * 16_000)
    fields = fields_of(through(nginx, f"{origin.url}/x", token, *large))
    assert fields.get("authorization") == expected


def test_tokens_that_do_not_open_it(nginx: Nginx, origin: Origin) -> None:
    other = bearer("http://other.example/(.*)")
    elsewhere = bearer(f"{origin.url}/v2/(.*)")
    for token in ("", "Bearer x", "Basic dTpw", other, elsewhere, bearer(f"{origin.url}/", exp=1)):
        answer = through(nginx, f"{origin.url}/v1/x", token, "-i")
        assert answer.status == 401
        assert b'WWW-Authenticate: Bearer realm="gatekeeper"' in answer.body
    opened = bearer(f"{origin.url}/v1/(.*)")
    for path in ("/v1/../v2/x", "/v1/%2e%2e/v2", "/v1//x"):
        assert through(nginx, origin.url + path, opened, "--path-as-is").status == 401
    assert not origin.requests


def test_open_urls(nginx: Nginx, origin: Origin) -> None:
    url = f"http://127.0.0.1:{nginx.port}"
    fields = fields_of(curl(f"{url}/open/x", "-H", f"Host: {DID_HOST}", "-H", "NVM-User-Id: root"))
    assert fields["nvm-scope"] == DID
    assert not {"authorization", "nvm-user-id"} & fields.keys()
    assert curl(f"{url}/closed", "-H", f"Host: {DID_HOST}").status == 401


def test_outages_are_no_refusals(
    nginx: Nginx, daemon: Daemon, origins: tuple[Origin, Origin], origin: Origin
) -> None:
    _, market = origins
    daemon.stop()
    daemon.start()  # it has forgotten what the market said
    described = market.on.pop(METADATA)
    market.on[METADATA] = lambda it: it.answer({}, "500 Oh")
    try:
        url = f"http://127.0.0.1:{nginx.port}/open/x"
        assert curl(url, "-H", f"Host: {DID_HOST}").status == 503
        daemon.stop()
        assert through(nginx, f"{origin.url}/v1/x", bearer(f"{origin.url}/(.*)")).status == 503
        assert not origin.requests
        daemon.start()
    finally:
        market.on[METADATA] = described


def test_rfc_7662(daemon: Daemon) -> None:
    url = daemon.url("introspection", "/introspect")
    token = bearer("https://api.example.com/(.*)").removeprefix("Bearer ")
    caller = ("-H", "Authorization: Bearer s3cret-of-callers")
    usable = json.loads(curl(url, *caller, "-d", f"token={token}").body)
    assert usable["active"] is True
    assert usable["sub"] == "0xabc"
    unusable = curl(url, *caller, "-d", "token=x")
    assert (unusable.status, json.loads(unusable.body)) == (200, {"active": False})
    assert curl(url, "-d", f"token={token}").status == 401
    assert curl(url, "-u", USER, "-d", f"token={token}").status == 401


def test_the_forward_proxy_does_not_lead_there(daemon: Daemon, origin: Origin) -> None:
    """It would be asked from this machine then."""
    token = bearer(f"{origin.url}/(.*)")
    options = (
        "--proxy", daemon.url("proxy"), "-X", "POST",
        "-H", f"Authorization: {token}", "-H", f"NVM-Requested-Url: {origin.url}/x",
    )  # fmt: skip
    refused = curl(daemon.url("introspection", "/introspect"), *options)
    assert (refused.status, json.loads(refused.body)["reason"]) == (403, "destination_private")
    assert curl(f"{origin.url}/x", *options).status == 200
