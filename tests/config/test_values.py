from __future__ import annotations

from collections.abc import Callable

import pytest

from gatekeeper.config import values
from gatekeeper.config.values import Address, Upstream

RIGHT: list[tuple[Callable[[str], object], str, object]] = [
    (values.check_name, "a", "a"),
    (values.check_name, "Acme_1.x-y", "Acme_1.x-y"),
    (values.check_name, "a" * 64, "a" * 64),
    (values.parse_bind, "127.0.0.1:80", Address("127.0.0.1", 80)),
    (values.parse_bind, "[::]:443", Address("::", 443)),
    (values.parse_bind, "[0:0:0:0:0:0:0:1]:443", Address("::1", 443)),
    (values.parse_bind, "localhost:0", Address("localhost", 0)),
    (values.check_bind, "0.0.0.0:65535", "0.0.0.0:65535"),
    (values.check_management_bind, "none", "none"),
    (values.check_management_bind, "[::1]:1", "[::1]:1"),
    (values.check_management_bind, "unix:/run/x.sock", "unix:/run/x.sock"),
    (values.parse_mode, "0600", 0o600),
    (values.parse_mode, "660", 0o660),
    (values.parse_host, "Service.ACME.com", "service.acme.com"),
    (values.parse_host, "xn--bcher-kva.example", "xn--bcher-kva.example"),
    (values.parse_host, "my_app", "my_app"),
    (values.parse_host, "1.example", "1.example"),
    (values.parse_host, "192.0.2.1", "192.0.2.1"),
    (values.parse_host, "[2001:DB8::0:1]", "2001:db8::1"),
    (values.parse_host, "2001:db8::1", "2001:db8::1"),
    (values.parse_host, ".".join(["a" * 63] * 3), ".".join(["a" * 63] * 3)),
    (values.parse_host_pattern, "*.Example.com", "*.example.com"),
    (values.parse_host_pattern, "example.com", "example.com"),
    (values.check_network, "10.0.0.0/8", "10.0.0.0/8"),
    (values.check_network, "192.0.2.1", "192.0.2.1/32"),
    (values.check_network, "::1", "::1/128"),
    (values.check_network, "FD00::/8", "fd00::/8"),
    (values.check_network, "::ffff:10.1.0.0/112", "10.1.0.0/16"),
    (values.check_network, "::ffff:0:0/96", "0.0.0.0/0"),
    (values.check_network, "::/0", "::/0"),
    (values.check_method, "GET", "GET"),
    (values.check_method, "M-SEARCH", "M-SEARCH"),
    (values.check_prefix, "/", "/"),
    (values.check_prefix, "/acme/v1.2/~x:y@z", "/acme/v1.2/~x:y@z"),
    (values.check_prefix, "/...", "/..."),
    (values.check_path_pattern, "/", "/"),
    (values.check_path_pattern, "/**", "/**"),
    (values.check_path_pattern, "/v0/*/spend/**", "/v0/*/spend/**"),
    (values.check_path_pattern, "/a/*", "/a/*"),
    (values.check_path_pattern, "/a%20b/", "/a%20b/"),
    (values.parse_upstream, "http://a", Upstream("http", "a", 80, "")),
    (values.parse_upstream, "https://A.b/", Upstream("https", "a.b", 443, "/")),
    (values.parse_upstream, "http://[::1]:81/to/", Upstream("http", "::1", 81, "/to/")),
    (values.check_upstream, "https://a:1/b;c/%20", "https://a:1/b;c/%20"),
    (values.check_store_url, "sqlite:///usage.sqlite", "sqlite:///usage.sqlite"),
    (values.check_store_url, "sqlite:////var/usage", "sqlite:////var/usage"),
    (values.check_store_url, "postgresql://u:p@h/db", "postgresql://u:p@h/db"),
]

WRONG: list[tuple[Callable[[str], object], str, str]] = [
    (values.check_name, "", "letters"),
    (values.check_name, "-a", "begin"),
    (values.check_name, "a b", "letters"),
    (values.check_name, "ä", "letters"),
    (values.check_name, "a\n", "letters"),
    (values.check_name, "a" * 65, "64"),
    (values.parse_bind, "", "port is missing"),
    (values.parse_bind, "127.0.0.1", "port is missing"),
    (values.parse_bind, ":80", "IP address"),
    (values.parse_bind, "::1:80", "brackets"),
    (values.parse_bind, "[::1]80", "brackets"),
    (values.parse_bind, "[::1", "brackets"),
    (values.parse_bind, "[127.0.0.1]:80", "IP address"),
    (values.parse_bind, "example.com:80", "localhost"),
    (values.parse_bind, "127.1:80", "IP address"),
    (values.parse_bind, "127.0.0.1:", "from 0 to 65535"),
    (values.parse_bind, "127.0.0.1:65536", "from 0 to 65535"),
    (values.parse_bind, "127.0.0.1:-1", "from 0 to 65535"),
    (values.parse_bind, "127.0.0.1:+1", "from 0 to 65535"),
    (values.parse_bind, "127.0.0.1:8\u0660", "from 0 to 65535"),
    (values.check_management_bind, "None", "port is missing"),
    (values.check_management_bind, "unix:run/x.sock", "absolute path"),
    (values.check_management_bind, "unix:/" + "x" * 100, "absolute path"),
    (values.parse_mode, "0666", "owner"),
    (values.parse_mode, "0400", "owner"),
    (values.parse_mode, "0770", "owner"),
    (values.parse_mode, "rw", "octal"),
    (values.parse_host, "", "host name"),
    (values.parse_host, "a:80", "without a port"),
    (values.parse_host, "[::1]:80", "without a port"),
    (values.parse_host, "fe80::1%eth0", "host name"),
    (values.parse_host, "a..b", "host name"),
    (values.parse_host, "a.", "host name"),
    (values.parse_host, "-a", "host name"),
    (values.parse_host, "a" * 64, "host name"),
    (values.parse_host, ".".join(["a" * 63] * 4), "host name"),
    (values.parse_host, "a b", "host name"),
    (values.parse_host, "a/b", "host name"),
    (values.parse_host, "bücher.example", "xn--"),
    (values.parse_host, "0x7f000001", "usual form"),
    (values.parse_host, "2130706433", "usual form"),
    (values.parse_host, "127.1", "usual form"),
    (values.parse_host, "127.0.0.01", "usual form"),
    (values.parse_host, "a.0x1", "usual form"),
    (values.parse_host, "*", "host name"),
    (values.parse_host_pattern, "*", "host name"),
    (values.parse_host_pattern, "a.*.b", "host name"),
    (values.parse_host_pattern, "*a.b", "host name"),
    (values.parse_host_pattern, "*.*.b", "host name"),
    (values.parse_host_pattern, "*.127.0.0.1", "not an address"),
    (values.parse_host_pattern, "*.::1", "not an address"),
    (values.check_network, "", "network"),
    (values.check_network, "example.com", "network"),
    (values.check_network, "10.0.0.0/33", "network"),
    (values.check_network, "10.0.0.1/8", "did you mean `10.0.0.0/8`"),
    (values.check_method, "", "upper case"),
    (values.check_method, "get", "upper case"),
    (values.check_method, "GET POST", "upper case"),
    (values.check_prefix, "", "starts with `/`"),
    (values.check_prefix, "acme", "starts with `/`"),
    (values.check_prefix, "//", "`//`"),
    (values.check_prefix, "/a//b", "`//`"),
    (values.check_prefix, "/a/", "end with `/`"),
    (values.check_prefix, "/a/..", "`..`"),
    (values.check_prefix, "/./a", "`.`"),
    (values.check_prefix, "/a?b", "query"),
    (values.check_prefix, "/a#b", "plain path"),
    (values.check_prefix, "/a%20b", "`%`"),
    (values.check_prefix, "/a;b", "plain path"),
    (values.check_prefix, "/a\\b", "plain path"),
    (values.check_prefix, "/a b", "blanks"),
    (values.check_prefix, "/ä", "ASCII"),
    (values.check_prefix, "/a\n", "plain path"),
    (values.check_prefix, "/a/*", "prefix"),
    (values.check_path_pattern, "**", "start with `/`"),
    (values.check_path_pattern, "/**/a", "at the end"),
    (values.check_path_pattern, "/a*", "whole segments"),
    (values.check_path_pattern, "/a*/b", "whole segments"),
    (values.check_path_pattern, "/***", "whole segments"),
    (values.check_path_pattern, "/a?b", "query"),
    (values.check_path_pattern, "/a//b", "empty segment"),
    (values.check_path_pattern, "/a/../b", "dot segment"),
    (values.check_path_pattern, "/a%2fb", "encoded slash"),
    (values.check_path_pattern, "/a%2db", "`%`"),
    (values.check_path_pattern, "/a%c3%a4", "upper case"),
    (values.check_path_pattern, "/a%2", "path pattern"),
    (values.parse_upstream, "127.0.0.1:80", "http://"),
    (values.parse_upstream, "ftp://a", "http://"),
    (values.parse_upstream, "HTTP://a", "http://"),
    (values.parse_upstream, " http://a", "http://"),
    (values.parse_upstream, "http://", "with a host"),
    (values.parse_upstream, "http:///a", "with a host"),
    (values.parse_upstream, "http://:80", "with a host"),
    (values.parse_upstream, "http://a b", "host name"),
    (values.parse_upstream, "http://u:p@a", "user name"),
    (values.parse_upstream, "http://a?b", "query"),
    (values.parse_upstream, "http://a/b?c", "query"),
    (values.parse_upstream, "http://a/b#c", "fragment"),
    (values.parse_upstream, "http://a:0", "from 1 to 65535"),
    (values.parse_upstream, "http://a:", "from 1 to 65535"),
    (values.parse_upstream, "http://[::1", "brackets"),
    (values.parse_upstream, "http://[]", "host name"),
    (values.parse_upstream, "http://a\\b", "host name"),
    (values.parse_upstream, "http://a/b c", "plain path"),
    (values.parse_upstream, "http://a/b\\c", "plain path"),
    (values.parse_upstream, "http://a/b/../c", "`..`"),
    (values.parse_upstream, "http://a//b", "`//`"),
    (values.check_store_url, "", "sqlite:///FILE"),
    (values.check_store_url, "sqlite://", "sqlite:///FILE"),
    (values.check_store_url, "sqlite:///", "sqlite:///FILE"),
    (values.check_store_url, "sqlite://a/b", "sqlite:///FILE"),
    (values.check_store_url, "postgresql://", "postgresql://"),
    (values.check_store_url, "mysql://a", "postgresql://"),
]


@pytest.mark.parametrize(("function", "text", "value"), RIGHT)
def test_right(function: Callable[[str], object], text: str, value: object) -> None:
    assert function(text) == value


@pytest.mark.parametrize(("function", "text", "message"), WRONG)
def test_wrong(function: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at below
        function(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
    ],
)
def test_loopback(text: str, loopback: bool) -> None:
    assert values.parse_bind(text).loopback is loopback


@pytest.mark.parametrize("value", [1, 2, values.MOST_WORKERS, "auto"])
def test_workers(value: object) -> None:
    assert values.check_workers(value) == value


@pytest.mark.parametrize("value", [0, -1, values.MOST_WORKERS + 1, 2.0, True, "2", "many", None])
def test_no_number_of_workers(value: object) -> None:
    with pytest.raises(ValueError, match="must be a number from 1 to 64, or `auto`"):
        values.check_workers(value)
