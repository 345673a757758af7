"""Target and Host: what is asked for can be read in one way only."""

from __future__ import annotations

import pytest

from tests.hostile.house import ALICE, House, Way

AUTHORIZATION = f"Authorization: {ALICE}"


def strict(house: House) -> Way:
    """A gateway that serves one host only."""
    return Way(house.daemon.address("strict"), "", "named.test", "Authorization")


def lines(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


# --- 11 -----------------------------------------------------------------------------------


def test_11_missing_host(house: House, way: Way) -> None:
    house.refuse(way, lines(f"GET {way.prefix}/hostile HTTP/1.1", f"{way.credentials}: {ALICE}"))


@pytest.mark.parametrize("second", ["gateway.test", "evil.test", ""])
def test_11_repeated_host(house: House, way: Way, second: str) -> None:
    house.refuse(way, way.request("/hostile", f"Host: {second}"))


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a b",
        "user@gateway.test",
        "gateway.test:",
        "gateway.test:0",
        "gateway.test:65536",
        "gateway.test:80:80",
        "gateway.test:-1",
        "gateway.test:8o",
        "gateway.test:000080",
        "gateway.test/path",
        "gateway.test?query",
        "gateway.test#fragment",
        "gateway.test,evil.test",
        "http://gateway.test",
        "gateway..test",
        ".gateway.test",
        "gat%65way.test",
        "gateway\\test",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25lo]",
        "[v1.x]",
        "[127.0.0.1]",
        "g\xe4teway.test",
        "x" * 300,
    ],
)
def test_11_malformed_host(house: House, way: Way, host: str) -> None:
    head = way.request("/hostile").replace(b"Host: " + way.host.encode(), b"Host: %s")
    house.refuse(way, head % host.encode("latin-1"))


# --- 12 -----------------------------------------------------------------------------------


def test_12_absolute_form_with_another_authority(house: House) -> None:
    data = lines("GET http://evil.test/hostile HTTP/1.1", "Host: named.test", AUTHORIZATION)
    assert house.ask(strict(house), data).status == 421
    assert house.seen() == []


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher", "httpx"])
def test_12_absolute_form_with_another_scheme(house: House, scheme: str) -> None:
    data = lines(f"GET {scheme}://named.test/hostile HTTP/1.1", "Host: named.test", AUTHORIZATION)
    assert house.ask(strict(house), data).status in (400, 421)
    assert house.seen() == []


def test_12_absolute_form_goes_before_host(house: House) -> None:
    data = lines("GET http://named.test/good HTTP/1.1", "Host: evil.test", AUTHORIZATION)
    answer = house.ask(strict(house), data)
    assert answer.status == 200
    assert dict(answer.document["fields"])["x-forwarded-host"] == "named.test"
    assert "evil.test" not in answer.body.decode()


def test_12_another_host(house: House) -> None:
    data = lines("GET /hostile HTTP/1.1", "Host: evil.test", AUTHORIZATION)
    assert house.ask(strict(house), data).status == 421
    assert house.seen() == []


def test_12_absolute_form_with_user_information(house: House, way: Way) -> None:
    target = f"http://named.test@{way.host}/hostile"
    house.refuse(way, lines(f"GET {target} HTTP/1.1", "Host: named.test", AUTHORIZATION))


# --- 13 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["named.test", "named.test:443", "127.0.0.1:80", "/echo", "*"])
def test_13_connect_to_a_gateway(house: House, target: str) -> None:
    data = lines(f"CONNECT {target} HTTP/1.1", "Host: named.test", AUTHORIZATION)
    answer = house.ask(house.gateway, data, "CONNECT")
    assert answer.status in (400, 405)
    assert house.seen() == []


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "127.0.0.1:http",
        "user@127.0.0.1:80",
        "http://127.0.0.1:80/",
        "127.0.0.1:80/path",
        ":80",
        "/",
        "*",
        "[::1]80",
    ],
)
def test_13_connect_without_host_or_port(house: House, target: str) -> None:
    house.refuse(
        house.proxy,
        lines(f"CONNECT {target} HTTP/1.1", "Host: 127.0.0.1", f"Proxy-Authorization: {ALICE}"),
    )


@pytest.mark.parametrize("field", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_13_connect_with_a_body(house: House, field: str) -> None:
    authority = house.proxy.host
    head = lines(
        f"CONNECT {authority} HTTP/1.1",
        f"Host: {authority}",
        f"Proxy-Authorization: {ALICE}",
        field,
    )
    assert house.ask(house.proxy, head, "CONNECT").status == 400
    assert house.seen() == []


# --- 14 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/hostile#fragment",
        "/hostile?a#b",
        "/host\x01ile",
        "/host\x7file",
        "/host\tile",
        "/host\xfcle",
        "/host\0ile",
        "/hostile?a\x01",
        "/hostile?\xfc",
        "/host ile",
    ],
)
def test_14_characters_that_no_target_has(house: House, way: Way, path: str) -> None:
    house.refuse(way, way.request(path))


@pytest.mark.parametrize(
    "line",
    [
        "GET  /echo/hostile HTTP/1.1",
        "GET /echo/hostile  HTTP/1.1",
        "GET /echo/hostile HTTP/1.1 ",
        " GET /echo/hostile HTTP/1.1",
        "GET\t/echo/hostile HTTP/1.1",
        "GET /echo/hostile\tHTTP/1.1",
        "GET /echo/hostile",
        "GET /echo/hostile http/1.1",
        "GET /echo/hostile HTTP/1.10",
        "GET /echo/hostile HTTP/01.1",
        "GET /echo/hostile HTTP/1,1",
        "GET /echo/hostile HTTP/1",
        "GET /echo/hostile HTTP",
        "GET /echo/hostile XTTP/1.1",
        "GET HTTP/1.1",
        "/echo/hostile HTTP/1.1",
        "G(T /echo/hostile HTTP/1.1",
        "G\xc4T /echo/hostile HTTP/1.1",
        "GET echo/hostile HTTP/1.1",
        "GET ?hostile HTTP/1.1",
        "GET * HTTP/1.1",
    ],
)
def test_14_malformed_request_line(house: House, line: str) -> None:
    house.refuse(house.gateway, lines(line, "Host: gateway.test", AUTHORIZATION))


def test_14_http_0_9(house: House) -> None:
    house.refuse(house.gateway, b"GET /echo/hostile\r\n")


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/3.0", "HTTP/1.2", "HTTP/9.9"])
def test_14_another_version(house: House, way: Way, version: str) -> None:
    house.refuse(way, way.request("/hostile", version=version), (400, 505))


def test_14_http_2_as_the_version(house: House, way: Way) -> None:
    house.refuse(way, way.request("/hostile", version="HTTP/2.0"), (505,))


def test_14_http_2_preface_to_a_proxy(house: House) -> None:
    house.refuse(house.proxy, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505))


def test_14_http_2_preface_and_then_http_1(house: House) -> None:
    """The gateway speaks both, but not on one connection."""
    way = house.gateway
    with way.connect() as client:
        client.try_to_send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + way.request("/smuggled"))
        client.try_to_send(way.request("/smuggled"))
        frames = client.rest()
    assert frames[3] == 4  # SETTINGS
    assert frames[-17:-8] == b"\0\0\x08\x07\0\0\0\0\0"  # GOAWAY
    assert house.seen() == []


def test_14_tls_to_a_plain_listener(house: House, way: Way) -> None:
    house.refuse(way, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 512)
