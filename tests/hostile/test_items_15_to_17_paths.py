"""Paths, methods and sizes: what is allowed is what the upstream is asked for."""

from __future__ import annotations

import pytest

from gatekeeper.config.model import Limits
from tests.hostile.house import ALICE, House, Way

AUTHORIZATION = f"Authorization: {ALICE}"


def guarded(house: House) -> Way:
    """A service with access rules, and another path at the upstream."""
    return Way(house.daemon.address("gateway"), "/guarded", "gateway.test", "Authorization")


def lines(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


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
