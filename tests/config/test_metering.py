from __future__ import annotations

from decimal import Decimal

import pytest

from gatekeeper.config.values import check_model_name, exact_amount
from tests.config.minimal import Configure, Problems


def test_left_out(configure: Configure) -> None:
    meter = configure().services[0].meter
    assert (meter.units, meter.fallback, meter.on_error) == ("requests", 1, "free")


@pytest.mark.parametrize(
    "meter",
    [
        '{ units = "requests" }',
        '{ units = "bytes", minimum = 1, maximum = 10 }',
        '{ units = "seconds" }',
        '{ units = "header", header = "NVMCreditsConsumed", fallback = 0, on_error = "charge" }',
        '{ units = "json", path = "usage.total_tokens" }',
        '{ units = "json", path = ["usage.total_tokens", "a[0]"], model = "model" }',
        '{ units = "json", prices = { "*" = { prompt = 1, completion = 2 } }, prompt = "p" }',
    ],
)
def test_meters(configure: Configure, meter: str) -> None:
    configure(f"meter = {meter}")


def test_paths_and_prices_as_they_are_written(configure: Configure) -> None:
    meter = (
        configure(
            'meter = { units = "json", model = ["a", "b"], prompt = "p", prices = { '
            '"gpt-4o" = { prompt = 0.1, completion = "0.30", per = 1000 }, '
            '"*" = { prompt = 1, completion = 1e-7 } } }'
        )
        .services[0]
        .meter
    )
    assert (meter.model, meter.prompt) == (("a", "b"), ("p",))
    assert meter.completion == ("usage.completion_tokens",)
    assert meter.prices is not None
    prices = [(p.prompt, p.completion, p.per) for p in meter.prices.values()]
    assert prices == [
        (Decimal("0.1"), Decimal("0.30"), 1000),
        (Decimal(1), Decimal("0.0000001"), 1),
    ]


@pytest.mark.parametrize(
    ("meter", "found"),
    [
        ('{ units = "request" }', [("units", "must be `requests`, `bytes`")]),
        ('{ units = "header" }', [("header", 'is required where units = "header"')]),
        (
            '{ units = "header", header = "a b" }',
            [("header", "must be the name of a header field")],
        ),
        ('{ units = "json" }', [("path", "is required where")]),
        ('{ units = "json", prices = {} }', [("path", "is required where")]),
        ('{ units = "json", path = "a..b" }', [("path", "must be a path such as")]),
        ('{ units = "json", path = [] }', [("path", "must be a path, or a list of 1 to 8")]),
        ('{ units = "json", path = ["a", "b["] }', [("path", "must be a path such as")]),
        ('{ units = "json", path = 1 }', [("path", "must be a list")]),
        ('{ units = "json", path = "a", prompt = "b" }', [("prompt", "has no meaning without")]),
        (
            '{ units = "json", path = "a", prices = { "*" = { prompt = 1, completion = 1 } } }',
            [("prices", "takes the place of `path`")],
        ),
        (
            '{ units = "json", prices = { "m" = { prompt = -1 } } }',
            [
                ("prices.m.prompt", "must be a number from 0"),
                ("prices.m.completion", "is required"),
            ],
        ),
        (
            '{ units = "json", prices = { "g*t" = { prompt = 1, completion = 1 } } }',
            [('prices."g*t"', "must be the name of a model")],
        ),
        (
            '{ header = "a", path = "b", fallback = 1, minimum = 0 }',
            [
                (key, 'has no meaning where units = "requests"')
                for key in ("header", "path", "fallback", "minimum")
            ],
        ),
        (
            '{ units = "bytes", model = "m", on_error = "free" }',
            [(key, 'has no meaning where units = "bytes"') for key in ("model", "on_error")],
        ),
        (
            '{ units = "header", header = "a", completion = "b" }',
            [("completion", 'has no meaning where units = "header"')],
        ),
        ('{ units = "bytes", minimum = 2, maximum = 1 }', [("minimum", "must not be more than")]),
        ('{ units = "bytes", minimum = -1 }', [("minimum", "must be at least 0")]),
        ('{ units = "bytes", maximum = 9223372036854775808 }', [("maximum", "must be less than")]),
        ('{ units = "header", header = "a", fallback = 1.5 }', [("fallback", "must be a whole")]),
        ('{ unit = "bytes" }', [("unit", "unknown key; did you mean `units`?")]),
        (
            '{ units = "json", fallback = -1, minimum = 2, maximum = 1 }',
            [
                ("fallback", "must be at least 0"),
                ("path", "is required"),
                ("minimum", "must not be more than"),
            ],
        ),
    ],
)
def test_what_is_wrong(problems: Problems, meter: str, found: list[tuple[str, str]]) -> None:
    reported = problems(f"meter = {meter}")
    assert [path for path, _ in reported] == [f"services[0].meter.{key}" for key, _ in found]
    for (_, message), (_, start) in zip(reported, found, strict=True):
        assert message.startswith(start)


def test_no_table(problems: Problems) -> None:
    assert problems('meter = "bytes"') == [("services[0].meter", "must be a table")]


@pytest.mark.parametrize(
    ("value", "amount"),
    [(0, "0"), (10**12, "1000000000000"), (2.5, "2.5"), (1e-7, "1e-7"), ("0.10", "0.10")],
)
def test_amounts(value: object, amount: str) -> None:
    assert exact_amount(value) == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        1e13,
        10**13,
        1e-20,
        float("nan"),
        float("inf"),
        "",
        "1,5",
        "1e3",
        " 1",
        "0x1",
        "\u0661",
        True,
    ],
)
def test_what_is_no_amount(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be a number"):
        exact_amount(value)


def test_names_of_models() -> None:
    for name in ("*", "gpt-4o", "claude*", "ö" * 64):
        assert check_model_name(name) == name
    for name in ("", "**", "a*b", "*a", "ö" * 65):
        with pytest.raises(ValueError, match=r"^must be the name"):
            check_model_name(name)
