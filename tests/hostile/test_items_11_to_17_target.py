"""Target and Host: what is asked for can be read in one way only."""

from __future__ import annotations

import pytest

from gatekeeper.config.model import Limits
from tests.hostile.house import ALICE, House, Way

AUTHORIZATION = f"Authorization: {ALICE}"


def strict(house: House) -> Way:
    """A gateway that serves one host only."""
    return Way(house.daemon.address("strict"), "", "named.test", "Authorization")


def guarded(house: House) -> Way:
    """A service with access rules, and another path at the upstream."""
    return Way(house.daemon.address("gateway"), "/guarded", "gateway.test", "Authorization")


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


def test_14_http_2_preface(house: House, way: Way) -> None:
    house.refuse(way, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505))


def test_14_tls_to_a_plain_listener(house: House, way: Way) -> None:
    house.refuse(way, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 512)


# --- 15 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/open/../closed/x",
        "/open/..",
        "/open/.",
        "/./open/x",
        "/open/./x",
        "//open/x",
        "/open//x",
        "/open/%2e%2e/closed/x",
        "/open/%2E%2E/closed/x",
        "/open/.%2e/closed/x",
        "/open/%2e/x",
        "/open/..%2fclosed/x",
        "/open%2fx",
        "/open/..%5cclosed/x",
        "/open/..\\closed/x",
        "/open\\x",
        "/open/..;/closed/x",
        "/open/..;a=b/closed/x",
        "/open/.;/x",
        "/open/;/x",
        "/open/%2e%2e;/closed/x",
        "/open/x%00",
        "/open/x%00.html",
        "/open/x%0d%0aX-Evil:%201",
        "/open/%252e%252e/closed/x",
        "/open/%252fx",
        "/open/%25252e/x",
        "/open/%c0%ae%c0%ae/closed/x",
        "/open/%c0%af",
        "/open/%e0%80%af",
        "/open/%f0%80%80%af",
        "/open/%ff",
        "/open/%ed%a0%80",
        "/open/%",
        "/open/%2",
        "/open/%zz",
        "/open/%u002e",
        "/open/<x>",
        "/open/{x}",
        "/open/x|y",
        '/open/"x"',
        "/open/`x`",
    ],
)
def test_15_ambiguous_path(house: House, path: str) -> None:
    house.refuse(guarded(house), guarded(house).request(path))


@pytest.mark.parametrize(
    "path",
    ["/../hostile", "//hostile", "/%2e%2e/hostile", "/a%2fhostile", "/a%5chostile", "/a/..;"],
)
def test_15_ambiguous_path_through_both_doors(house: House, way: Way, path: str) -> None:
    house.refuse(way, way.request(path))


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/%6fpen/x", "/open/x"),
        ("/open/%7e", "/open/~"),
        ("/open/%41%2d%5f", "/open/A-_"),
        ("/open/%c3%bc", "/open/%C3%BC"),
        ("/open/a%3b", "/open/a%3B"),
        ("/open/a%20b", "/open/a%20b"),
        ("/open/x;a=b", "/open/x;a=b"),
        ("/open/...", "/open/..."),
        ("/open/..a", "/open/..a"),
    ],
)
def test_15_one_canonical_path(house: House, path: str, canonical: str) -> None:
    """Authorized, forwarded and logged is one and the same."""
    answer = house.ask(guarded(house), guarded(house).request(path))
    assert answer.status == 200
    assert answer.document["target"] == "/base" + canonical
    assert house.logged(answer)["path"] == "/guarded" + canonical


def test_15_encoded_way_to_what_is_closed(house: House) -> None:
    assert house.ask(guarded(house), guarded(house).request("/closed/x")).status == 403
    assert house.ask(guarded(house), guarded(house).request("/%63losed/x")).status == 403
    assert house.ask(guarded(house), guarded(house).request("/open/x")).status == 200
    assert house.seen()[0].path == "/base/open/x"


# --- 16 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/echohostile", "/echo.hostile", "/ech", "/Echo/hostile", "/ECHO", "/echo;hostile", "/"],
)
def test_16_prefix_look_alikes(house: House, path: str) -> None:
    data = lines(f"GET {path} HTTP/1.1", "Host: gateway.test", AUTHORIZATION)
    assert house.ask(house.gateway, data).status == 404
    assert house.seen() == []


@pytest.mark.parametrize(
    "path", ["/openhostile", "/Open/hostile", "/hostile", "/open/hostile%3f/../x"]
)
def test_16_access_rule_look_alikes(house: House, path: str) -> None:
    answer = house.ask(guarded(house), guarded(house).request(path))
    assert answer.status in (400, 403), answer
    assert house.seen() == []


@pytest.mark.parametrize("method", ["get", "Get", "post"])
def test_16_lower_case_methods(house: House, method: str) -> None:
    house.refuse(
        guarded(house), guarded(house).request("/open/hostile", method=method), (400, 405, 501)
    )


def test_16_method_that_no_rule_names(house: House) -> None:
    answer = house.ask(guarded(house), guarded(house).request("/open/hostile", method="DELETE"))
    assert answer.status == 403
    assert house.seen() == []


# --- 17 -----------------------------------------------------------------------------------

LIMITS = Limits()


def test_17_oversized_target(house: House, way: Way) -> None:
    house.refuse(way, way.request("/hostile/" + "x" * LIMITS.target), (414,))


def test_17_oversized_target_that_does_not_end(house: House, way: Way) -> None:
    house.refuse(way, b"GET /" + b"x" * 200_000, (414,))


def test_17_oversized_method(house: House, way: Way) -> None:
    house.refuse(way, b"X" * 200_000, (400, 414, 501))


def test_17_oversized_head(house: House, way: Way) -> None:
    house.refuse(way, way.request("/hostile", "X-Big: " + "x" * LIMITS.head), (431,))


def test_17_oversized_head_that_does_not_end(house: House, way: Way) -> None:
    house.refuse(way, way.request("/hostile")[:-2] + b"X-Big: " + b"x" * 1_000_000, (431,))


def test_17_too_many_fields(house: House, way: Way) -> None:
    many = [f"X-{number}: 1" for number in range(LIMITS.fields)]
    house.refuse(way, way.request("/hostile", *many), (431,))


def test_17_oversized_body(house: House) -> None:
    data = guarded(house).request("/open/hostile", "Content-Length: 1001", method="POST")
    with house.gateway.connect() as client:
        client.send(data)
        assert client.answer().status == 413
        client.try_to_send(b"x" * 1001)
    assert house.seen() == []


def test_17_body_that_grows_too_large(house: House) -> None:
    """In chunks nobody knows before: the upstream must not take what it got for the whole."""
    data = guarded(house).request("/open/x", "Transfer-Encoding: chunked", method="POST")
    with house.gateway.connect() as client:
        client.send(data + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        client.send(b"1\r\nx\r\n0\r\n\r\n")
        answer = client.answer()
    assert answer.status == 413
    assert house.logged(answer)["upstream_status"] == 0


def test_17_body_of_just_the_size(house: House) -> None:
    data = guarded(house).request(
        "/open/x", "Content-Length: 1000", method="POST", body=b"x" * 1000
    )
    assert house.ask(house.gateway, data).status == 200
