"""Several upstreams for one service, and what belongs to them."""

from __future__ import annotations

import pytest

from gatekeeper.config import values
from tests.config.minimal import Configure, Problems

TO = 'to = "http://127.0.0.1:10000"'


def to(*urls: str) -> dict[str, str]:
    """The edit that makes these the upstreams."""
    return {TO: f"to = [{', '.join(map(repr, urls))}]"}


TWO = to("http://10.0.0.1:80/a", "http://10.0.0.2/a")


def test_one_url_and_several(configure: Configure) -> None:
    service = configure().services[0]
    assert service.to == "http://127.0.0.1:10000"
    assert service.urls == ("http://127.0.0.1:10000",)
    service = configure(edit=TWO).services[0]
    assert service.to == service.urls == ("http://10.0.0.1:80/a", "http://10.0.0.2/a")
    assert configure(edit={TO: 'to = "grant"'}).services[0].urls == ()


def test_defaults(configure: Configure) -> None:
    service = configure("health = { path = '/healthz' }", edit=TWO).services[0]
    ejection, health = service.ejection, service.health
    assert (ejection.failures, ejection.duration, ejection.longest) == (3, 10.0, 300.0)
    assert health is not None
    assert (health.interval, health.timeout, health.status) == (5.0, 2.0, (200,))
    assert (health.healthy, health.unhealthy) == (2, 3)
    assert configure(edit=TWO).services[0].health is None


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        ([], [("to", "must be a list of 1 to 64")]),
        ([f"http://h{i}" for i in range(65)], [("to", "must be a list of 1 to 64")]),
        (["http://a", "ftp://b"], [("to[1]", "must be a URL that starts with `http://`")]),
        (["grant"], [("to[0]", "must be a URL that starts with `http://`")]),
        (
            ["http://a", "http://b", "https://c", "https://d"],
            [(f"to[{i}]", "must have the same scheme as `to[0]`, which is `http`") for i in (2, 3)],
        ),
        (
            ["http://a/v1", "http://b/v1/"],
            [("to[1]", "must have the same path as `to[0]`, which is `/v1`")],
        ),
        (
            ["http://a", "http://b/", "http://c/x"],
            [("to[2]", "must have the same path as `to[0]`")],
        ),
        (["http://a", "http://A:80/"], [("to[1]", "is the same upstream as `to[0]`")]),
        (
            ["https://a/x", "http://a:443/y"],
            [
                ("to[1]", "must have the same scheme"),
                ("to[1]", "must have the same path"),
                ("to[1]", "is the same upstream"),
            ],
        ),
    ],
)
def test_what_is_wrong_with_lists(
    problems: Problems, urls: list[str], found: list[tuple[str, str]]
) -> None:
    reported = problems(edit=to(*urls))
    assert [path for path, _ in reported] == [f"services[0].{key}" for key, _ in found]
    for (_, message), (_, start) in zip(reported, found, strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [("1", "to", "must be a string"), ("[1]", "to[0]", "must be a string")],
)
def test_no_urls(problems: Problems, value: str, path: str, message: str) -> None:
    assert problems(edit={TO: f"to = {value}"}) == [(f"services[0].{path}", message)]


@pytest.mark.parametrize("one", [TO, 'to = "grant"'])
def test_what_is_for_several(problems: Problems, one: str) -> None:
    added = "ejection = { failures = 1 }\nhealth = { path = '/' }"
    assert problems(added, edit={TO: one}) == [
        (f"services[0].{key}", "needs a list of URLs in `to`") for key in ("ejection", "health")
    ]


@pytest.mark.parametrize(
    ("added", "path", "message"),
    [
        ("ejection = { longest = 9.0 }", "ejection.longest", "must not be less than `duration`"),
        ("ejection = { failures = 0 }", "ejection.failures", "must be more than 0"),
        ("health = {}", "health.path", "is required"),
        ("health = { path = 'healthz' }", "health.path", "must be a path that starts with `/`"),
        ("health = { path = '/', status = [] }", "health.status", "must be a list of 1 to 64"),
        ("health = { path = '/', status = [101] }", "health.status[0]", "must be at least 200"),
        ("health = { path = '/', interval = 0 }", "health.interval", "must be more than 0"),
    ],
)
def test_what_is_wrong_with_the_rest(
    problems: Problems, added: str, path: str, message: str
) -> None:
    ((where, what),) = problems(added, edit=TWO)
    assert where == f"services[0].{path}"
    assert what.startswith(message)


@pytest.mark.parametrize("path", ["/", "/healthz", "/ready?verbose&a=%20", "/a?b?c"])
def test_paths_of_checks(path: str) -> None:
    assert values.check_health_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "x", "?a", "/a b", "/a\r\nx: y", "/ä", "/a?b c", "/a#b", "/%"]
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValueError, match="must be a path"):
        values.check_health_path(path)
