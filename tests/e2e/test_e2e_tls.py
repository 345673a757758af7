"""TLS at both ends: what is served to clients, and what is believed of upstreams."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.daemon import PATIENCE, Daemon, wait_until
from tests.e2e.plain import PLAIN, USER, curl
from tests.hostile.raw import Client
from tests.origin import Origin

# --- upstreams ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that is not the upstream's."""
    return Authority(tmp_path_factory.mktemp("stranger"), "Another CA")


def service(name: str, to: str, *more: str) -> str:
    lines = [f'name = "{name}"', f'from = "/{name}"', f'to = "{to}"', 'checkers = ["users"]', *more]
    return "\n[[services]]\n" + "\n".join(lines) + "\n"


def test_https_upstreams_are_verified(
    tmp_path: Path, tls_origin: Origin, authority: Authority, stranger: Authority
) -> None:
    """With the right authority and name, or not at all."""
    believed = f'ca_file = "{authority.file}"'
    with Origin(authority.issue("other.test").server_context()) as other_name:
        configuration = PLAIN + "".join(
            (
                service("good", tls_origin.url, believed),
                service("named", f"https://localhost:{tls_origin.port}", believed),
                service("stranger", tls_origin.url, f'ca_file = "{stranger.file}"'),
                service("system", tls_origin.url),
                service("name", other_name.url, believed),
                service("plain", f"http://127.0.0.1:{tls_origin.port}"),
            )
        )
        with (
            Origin() as origin,
            Daemon(tmp_path, configuration, ports={"origin": origin.port}) as daemon,
        ):
            url = daemon.url("gateway")
            for name in ("good", "named"):
                answer = curl(f"{url}/{name}/x", "-u", USER)
                assert answer.status == 200, answer
                assert json.loads(answer.body)["target"] == "/x"
            for name in ("stranger", "system", "name"):
                answer = curl(f"{url}/{name}/x", "-u", USER)
                assert answer.status == 502
                assert json.loads(answer.body)["reason"] == "upstream_tls"
            assert curl(f"{url}/plain/x", "-u", USER).status == 502
        assert tls_origin.paths == ["/x", "/x"]
        assert other_name.paths == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_https_upstream_with_old_tls(tmp_path: Path, authority: Authority) -> None:
    context = authority.issue("127.0.0.1").server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Origin(context) as origin:
        configuration = PLAIN + service("old", origin.url, f'ca_file = "{authority.file}"')
        with Daemon(tmp_path, configuration, ports={"origin": 9}) as daemon:
            url = daemon.url("gateway", "/old/x")
            assert curl(url, "-u", USER).status == 502
        assert origin.paths == []


# --- listeners ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Both doors with TLS, and three certificates on the gateway."""
    directory = tmp_path_factory.mktemp("listeners")
    for stem, names in (
        ("first", ["first.test", "127.0.0.1"]),
        ("second", ["second.test"]),
        ("wild", ["*.wild.test"]),
    ):
        issued = authority.issue(*names, stem=stem)
        for file in (issued.certificate, issued.key):
            (directory / file.name).write_bytes(file.read_bytes())
    pairs = {
        name: f'certificate = "{name}.pem", key = "{name}.key"'
        for name in ("first", "second", "wild")
    }
    more = f"sni = [ {{ {pairs['second']} }}, {{ {pairs['wild']} }} ]"
    configuration = PLAIN.replace(
        'bind = "@gateway@"', f'bind = "@gateway@"\ntls = {{ {pairs["first"]}, {more} }}'
    ).replace('bind = "@proxy@"', f'bind = "@proxy@"\ntls = {{ {pairs["first"]} }}')
    with (
        Origin() as origin,
        Daemon(directory, configuration, ports={"origin": origin.port}) as daemon,
    ):
        yield daemon


def names_served(daemon: Daemon, authority: Authority, asked: str | None) -> set[str]:
    """The names in the certificate that is served to who asks for a name."""
    context = authority.client_context()
    context.check_hostname = False
    with (
        socket.create_connection(daemon.address("gateway"), PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=asked) as secure,
    ):
        certificate = secure.getpeercert()
    assert certificate is not None
    names = certificate["subjectAltName"]
    assert isinstance(names, tuple)
    return {str(pair[1]) for pair in names if pair[0] == "DNS"}


def test_requests_over_tls(daemon: Daemon, authority: Authority) -> None:
    port = daemon.port("gateway")
    options = ("--cacert", authority.file, "--resolve", f"first.test:{port}:127.0.0.1")
    answer = curl(f"https://first.test:{port}/echo/x", *options, "-u", USER)
    assert answer.status == 200, answer
    assert dict(json.loads(answer.body)["fields"])["x-forwarded-proto"] == "https"


def test_proxy_over_tls(daemon: Daemon, authority: Authority) -> None:
    """The way to the proxy is secret, too; a tunnel in it works."""
    proxy = f"https://{USER}@127.0.0.1:{daemon.port('proxy')}"
    url = f"http://127.0.0.1:{daemon.port('origin')}/x"
    options = ("--proxy-cacert", authority.file, "-x", proxy)
    assert curl(url, *options).status == 200
    assert curl(url, *options, "-p").status == 200


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("first.test", "first.test"),
        ("second.test", "second.test"),
        ("SECOND.test", "second.test"),
        ("a.wild.test", "*.wild.test"),
        ("a.b.wild.test", "first.test"),
        ("wild.test", "first.test"),
        ("unknown.test", "first.test"),
        (None, "first.test"),
    ],
)
def test_server_name_picks_the_certificate(
    daemon: Daemon, authority: Authority, asked: str | None, served: str
) -> None:
    assert names_served(daemon, authority, asked) == {served}


def test_certificate_that_is_replaced_is_served_at_once(
    daemon: Daemon, authority: Authority
) -> None:
    """Connections that are open stay open; half of a replacement changes nothing."""
    context = authority.client_context()
    with Client(daemon.address("gateway"), context, "second.test") as client:
        renewed = authority.issue("second.test", "renewed.test", stem="renewed")
        (daemon.directory / "second.pem").write_bytes(renewed.certificate.read_bytes())
        assert names_served(daemon, authority, "second.test") == {"second.test"}
        (daemon.directory / "second.key").write_bytes(renewed.key.read_bytes())
        wait_until(
            lambda: "renewed.test" in names_served(daemon, authority, "renewed.test"),
            "the new certificate is served",
        )
        assert "renewed.test" in names_served(daemon, authority, "second.test")
        assert names_served(daemon, authority, "first.test") == {"first.test"}
        client.send(b"GET /echo/x HTTP/1.1\r\nHost: second.test\r\n\r\n")
        assert client.answer().status == 401


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_tls_is_refused(daemon: Daemon, version: str) -> None:
    assert "Cipher is" not in _handshake(daemon, version, "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_new_tls_is_accepted(daemon: Daemon, version: str) -> None:
    assert "Cipher is TLS_" in _handshake(daemon, version).replace("is ECDHE", "is TLS_")


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "NULL"])
def test_weak_ciphers_are_refused(daemon: Daemon, cipher: str) -> None:
    offered = ("-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert "Cipher is ECDHE" not in _handshake(daemon, *offered)


def _handshake(daemon: Daemon, *options: str) -> str:
    """What OpenSSL's own client, which may be told to be careless, says of a handshake."""
    address = f"127.0.0.1:{daemon.port('gateway')}"
    run = subprocess.run(
        ["openssl", "s_client", "-connect", address, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    said = run.stdout.decode(errors="replace") + run.stderr.decode(errors="replace")
    return said.replace("Cipher is (NONE)", "")


def test_http_1_1_is_agreed_upon(daemon: Daemon, authority: Authority) -> None:
    context = authority.client_context()
    context.set_alpn_protocols(["http/1.1", "http/1.0"])
    with Client(daemon.address("gateway"), context, "first.test") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() == "http/1.1"


def test_plain_http_to_a_tls_listener(daemon: Daemon) -> None:
    with Client(daemon.address("gateway")) as client:
        client.send(b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 2" not in client.rest()
    assert daemon.is_running


def test_handshake_that_is_given_up(daemon: Daemon) -> None:
    """Nothing is left in the log; see what the fixture checks in the end."""
    for data in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 20):
        with Client(daemon.address("gateway")) as client:
            client.send(data)
    with socket.create_connection(daemon.address("gateway"), PATIENCE) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    context = ssl.create_default_context()
    with (
        socket.create_connection(daemon.address("gateway"), PATIENCE) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(connection, server_hostname="first.test")
