from __future__ import annotations

import pytest

from gatekeeper.auth.automaton import PatternError
from gatekeeper.auth.interfaces import Opened
from gatekeeper.auth.url_patterns import (
    Backend,
    OpenedUrls,
    OriginUrl,
    PublicUrls,
    compile_url,
    compile_usable,
)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://api.example.com/v1/:x", ("https", "api.example.com", 443)),
        ("http://api.example.com", ("http", "api.example.com", 80)),
        ("HTTPS://API.Example.COM:8443/", ("https", "api.example.com", 8443)),
        ("https://api.example.com.", ("https", "api.example.com", 443)),
        ("http://127.0.0.1:3000/(.*)", ("http", "127.0.0.1", 3000)),
        ("http://[0:0::1]:3000/", ("http", "::1", 3000)),
        ("https://h?x=:", ("https", "h", 443)),
        ("https://h#x", ("https", "h", 443)),
    ],
)
def test_where_a_pattern_is_for(text: str, origin: tuple[str, str, int]) -> None:
    assert compile_url(text).origin == OriginUrl(*origin)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/v1/x",
        "api.example.com/v1",
        "ftp://h/",
        "https:/h/",
        "https:///x",
        "https://user@h/",
        "https://user:pw@h/",
        "https://h:x/",
        "https://h:0/",
        "https://h:70000/",
        "https://*/x",
        "https://:host/x",
        "https://h(.*)/x",
        "https://127.1/",
        "https://b\u00fccher.example/",
        "https://h\\x/y",
        "https://h/\n",
        " https://h/",
        "https://h/(",
        "https://h/" + "x" * 3000,
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(PatternError):
        compile_url(text)
    assert compile_usable([text, "https://h/"]) == (compile_url("https://h/"),)


def opens(pattern: str, host: str, port: int | None, path: str) -> bool:
    return OpenedUrls(compile_usable([pattern])).find(host, port, path.encode()) is not None


@pytest.mark.parametrize(
    ("pattern", "host", "port", "path", "expected"),
    [
        ("https://h/a", "h", None, "/a", True),
        ("https://h/a", "h", 443, "/a", True),
        # The scheme need not be equal: TLS ends here.
        ("https://h/a", "h", 80, "/a", False),
        ("http://h/a", "h", None, "/a", True),
        ("http://h/a", "h", 80, "/a", True),
        ("http://h/a", "h", 443, "/a", False),
        ("http://h:443/a", "h", 443, "/a", True),
        ("http://h:8080/a", "h", 8080, "/a", True),
        ("http://h:8080/a", "h", None, "/a", False),
        ("http://h:8080/a", "h", 80, "/a", False),
        # The original matches the path of any host.
        ("https://h/a", "other", None, "/a", False),
        ("https://h/a", "h.other", None, "/a", False),
        ("https://h/a", "x.h", None, "/a", False),
        ("https://h/a", "", None, "/a", False),
        ("https://h/a", "h", None, "/b", False),
        ("https://h/a?b=c", "h", None, "/a", True),
        ("https://h/:a?", "h", None, "/", True),
        ("https://h", "h", None, "/", True),
        ("https://h", "h", None, "/a", False),
        # A CONNECT has no path, and OPTIONS * none that begins with a slash.
        ("https://h/:a*", "h", None, "", False),
        ("https://h/(.*)", "h", None, "*", False),
    ],
)
def test_what_is_opened(
    pattern: str, host: str, port: int | None, path: str, expected: bool
) -> None:
    assert opens(pattern, host, port, path) is expected


def test_where_it_goes() -> None:
    backend = Backend(OriginUrl("https", "backend", 443), b"Bearer backend-token")
    urls = OpenedUrls(
        compile_usable(["http://a:81/x", "https://b/:y", "https://backend/z", "http://backend/z"]),
        b"Bearer upstream-token",
        backend,
    )
    assert urls.find("a", 81, b"/x") == Opened("http", "a", 81, b"Bearer upstream-token")
    assert urls.find("b", None, b"/x") == Opened("https", "b", 443, b"Bearer upstream-token")
    assert urls.find("backend", None, b"/z") == Opened(
        "https", "backend", 443, b"Bearer backend-token"
    )
    # Another scheme is another origin.
    assert urls.find("backend", 80, b"/z") == Opened(
        "http", "backend", 80, b"Bearer upstream-token"
    )
    assert urls.find("c", None, b"/x") is None
    assert "token" not in repr(urls)


def test_what_is_open_to_everybody() -> None:
    """The host named the service by its DID: it is not the patterns' host."""
    urls = PublicUrls(compile_usable(["https://b:8443/open/:y"]))
    assert urls.find("did.gate", 80, b"/open/x") == Opened("https", "b", 8443, None)
    assert urls.find("did.gate", None, b"/closed") is None


def test_equal_lists_are_equal() -> None:
    def urls() -> OpenedUrls:
        return OpenedUrls(compile_usable(["https://h/a"]), b"Bearer x")

    assert urls() == urls()
    assert urls() != OpenedUrls(compile_usable(["https://h/b"]), b"Bearer x")
    assert urls() != OpenedUrls(compile_usable(["https://h/a"]), b"Bearer y")


def test_a_query_is_not_shown() -> None:
    assert "s3cret" not in repr(compile_url("https://h/a?key=s3cret"))
