"""The page's own arithmetic, in the browser's own JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.dashboard.house import House
from tests.dashboard.screen import Screen

BOUNDS = [1, 2, 4]


@pytest.fixture(scope="module")
def page(chromium: Browser, house: House) -> Iterator[Page]:
    with Screen(chromium, house) as screen:
        yield screen.open()


def run(page: Page, module: str, expression: str, argument: Any = None) -> Any:
    """Evaluate an expression with what a module exports as ``m``, and with ``x``."""
    script = f"async (x) => {{ const m = await import('/dashboard/static/{module}'); "
    return page.evaluate(script + f"return {expression}; }}", argument)


@pytest.mark.parametrize(
    ("counts", "part", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0], 0.5, 0.5),
        ([0, 10, 0, 0], 0.5, 1.5),
        ([5, 5, 0, 0], 0.5, 1),
        ([0, 0, 10, 0], 0.95, 3.9),
        ([1, 0, 0, 99], 0.5, 4),
        ([-3, 1, 0, 0], 0.5, None),
    ],
)
def test_quantiles(page: Page, counts: list[int], part: float, value: float | None) -> None:
    found = run(page, "rates.js", "m.quantile(...x)", [BOUNDS, counts, part])
    assert found == (None if value is None else pytest.approx(value))


def look(time: float, ok: int, counts: list[int], **services: int) -> dict[str, Any]:
    names = services or {"a": ok}
    return {
        "time": time,
        "services": {name: {"ok": n, "others": 0, "live": 0} for name, n in names.items()},
        "latency": {"bounds": BOUNDS, "counts": counts},
        "decisions": [
            {"verdict": "granted", "number": ok},
            {"verdict": "granted", "number": ok},
            {"verdict": "failed", "number": 1},
        ],
    }


def looked(page: Page, looks: list[dict[str, Any]], expression: str) -> Any:
    made = "(() => { const l = new m.Looks(); for (const each of x) l.add(each); return l; })()"
    return run(page, "rates.js", f"{made}.{expression}", looks)


LOOKS = [look(100, 10, [10, 0, 0, 0]), look(102, 30, [30, 0, 0, 0]), look(106, 30, [30, 0, 0, 0])]


def test_rates(page: Page) -> None:
    assert looked(page, LOOKS, "times") == [102, 106]
    (line,) = looked(page, LOOKS, "requests()")
    assert (line["name"], line["values"]) == ("a", [10, 0])
    decisions = {line["name"]: line["values"] for line in looked(page, LOOKS, "decisions()")}
    assert decisions == {"granted": [20, 0], "denied": [0, 0], "in trouble": [0, 0]}


def test_latency(page: Page) -> None:
    lines = looked(page, LOOKS, "latency([1, 2, 4])")
    assert [line["name"] for line in lines] == ["p50", "p95", "p99"]
    assert lines[0]["values"] == [0.5, 0.5]


def test_a_daemon_that_began_anew(page: Page) -> None:
    looks = [*LOOKS, look(108, 1, [1, 0, 0, 0])]
    assert looked(page, looks, "times") == []
    looks.append(look(110, 3, [3, 0, 0, 0]))
    assert looked(page, looks, "requests()")[0]["values"] == [1]


def test_many_services_are_some_lines(page: Page) -> None:
    busy = {f"s{number}": number for number in range(8)}
    idle = dict.fromkeys(busy, 0)
    looks = [look(0, 0, [0] * 4, **idle), look(1, 0, [0] * 4, **busy)]
    lines = looked(page, looks, "requests()")
    assert [line["name"] for line in lines] == ["s7", "s6", "s5", "s4", "s3", "3 others"]
    assert lines[-1]["values"] == [0 + 1 + 2]


def test_what_is_kept_is_bounded(page: Page) -> None:
    expression = """(() => {
      const looks = new m.Looks();
      for (let i = 0; i < 2000; i += 1) looks.add({ ...x, time: i });
      return looks.times.length;
    })()"""
    assert run(page, "rates.js", expression, LOOKS[0]) == 449


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("m.count(1234567.4)", "1,234,567"),
        ("m.compact(0.123456)", "0.123"),
        ("m.compact(1234567)", "1.23M"),
        ("m.bytes(0)", "0 B"),
        ("m.bytes(999)", "999 B"),
        ("m.bytes(1536)", "1.5 KiB"),
        ("m.bytes(1073741824)", "1 GiB"),
        ("m.duration(0)", "0 s"),
        ("m.duration(0.00085)", "850 µs"),
        ("m.duration(0.012)", "12 ms"),
        ("m.duration(3.4)", "3.4 s"),
        ("m.duration(320)", "5 min 20 s"),
        ("m.duration(7500)", "2 h 5 min"),
        ("m.duration(864000)", "10 days"),
    ],
)
def test_numbers_in_words(page: Page, expression: str, text: str) -> None:
    assert run(page, "format.js", expression) == text


def test_paths(page: Page) -> None:
    assert run(page, "api.js", "m.path`v1/services/${x}/users/b`", "a/b ?%") == (
        "v1/services/a%2Fb%20%3F%25/users/b"
    )
