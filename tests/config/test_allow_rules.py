from __future__ import annotations

from ipaddress import ip_network

import pytest

from gatekeeper.config.destinations import AllowRule, check_allow_rule, parse_allow_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("*:*", AllowRule("any", "", None)),
        ("*:443", AllowRule("any", "", 443)),
        ("*.Internal.example:80", AllowRule("suffix", ".internal.example", 80)),
        ("API.example.com:443", AllowRule("name", "api.example.com", 443)),
        ("localhost:*", AllowRule("name", "localhost", None)),
        ("127.0.0.1:8080", AllowRule("network", ip_network("127.0.0.1/32"), 8080)),
        ("10.0.0.0/8:*", AllowRule("network", ip_network("10.0.0.0/8"), None)),
        ("[::1]:443", AllowRule("network", ip_network("::1/128"), 443)),
        ("[fd00::/8]:443", AllowRule("network", ip_network("fd00::/8"), 443)),
        ("[::ffff:10.0.0.1]:1", AllowRule("network", ip_network("10.0.0.1/32"), 1)),
    ],
)
def test_right(text: str, rule: AllowRule) -> None:
    assert parse_allow_rule(text) == rule
    assert check_allow_rule(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "example.com",
        ":443",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:http",
        "example.com:443:443",
        "https://example.com:443",
        "*example.com:443",
        "a.*.com:443",
        "*.10.0.0.1:443",
        "10.0.0.1/8:80",
        "10.0.0.0/:80",
        "127.1:80",
        "0x7f000001:80",
        "::1:443",
        "[::1]",
        "[example.com]:80",
        "a b:80",
    ],
)
def test_wrong(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|port|beyond|goes before"):
        check_allow_rule(text)
