from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.usage.units.pricing import PriceList


def prices(**by_name: int) -> PriceList:
    """A list in which each model is known by what a prompt token costs."""
    table = {name.replace("_", "-"): price for name, price in by_name.items()}
    return PriceList({name: (Decimal(price), Decimal(0), 1) for name, price in table.items()})


LIST = PriceList(
    {
        name: (Decimal(price), Decimal(0), 1)
        for price, name in enumerate(
            ["*", "gpt-4*", "gpt-4o", "gpt-4o-mini", "gpt-4o-2024-05-13", "claude*", "claude-3-5"]
        )
    }
)


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4o", 2),
        ("gpt-4o-2024-08-06", 2),
        ("gpt-4o-20240806", 2),
        ("gpt-4o@20240806", 2),
        ("gpt-4o-0806", 2),
        ("gpt-4o-2024-05-13", 4),
        ("gpt-4o-mini", 3),
        ("gpt-4o-mini-2024-07-18", 3),
        ("gpt-4o-maxi", 1),
        ("gpt-4o-8192", 1),  # no month has this number
        ("gpt-4o-2024-08-06-x", 1),
        ("gpt-4", 1),
        ("GPT-4o", 0),
        ("claude-3-5-20241022", 6),
        ("claude-3-5-sonnet-20241022", 5),
        ("claude", 5),
        ("-2024-08-06", 0),
        ("", 0),
    ],
)
def test_which_price(model: str, price: int) -> None:
    assert LIST.units(model, 1, 0) == price


def test_no_price() -> None:
    assert prices(gpt_4o=1).units("gpt-4", 1, 1) is None
    assert prices(gpt_4o=1).units("", 1, 1) is None


def test_the_sum_is_rounded_up_once() -> None:
    table = PriceList({"m": (Decimal("2.5"), Decimal("10.0"), 1000)})
    assert table.units("m", 0, 0) == 0
    assert table.units("m", 1, 0) == 1
    assert table.units("m", 200, 50) == 1
    assert table.units("m", 200, 51) == 2
    assert table.units("m", 400, 0) == 1
    assert table.units("m", 2**63, 2**63) == ceil(Fraction("0.0125") * 2**63)


def test_nothing_drifts() -> None:
    # 0.1 + 0.2 is more than 0.3 in binary, and would be 4 tenths here.
    table = PriceList({"m": (Decimal("0.1"), Decimal("0.2"), 1)})
    assert table.units("m", 10, 10) == 3
    assert PriceList({"m": (Decimal("0.1"), Decimal(0), 1)}).units("m", 30, 0) == 3


amounts = st.decimals(0, 10**12, places=15, allow_nan=False)
tokens = st.integers(0, 2**63)


@given(amounts, amounts, st.integers(1, 2**63), tokens, tokens)
def test_any_price(
    prompt: Decimal, completion: Decimal, per: int, prompted: int, completed: int
) -> None:
    exact = (Fraction(prompt) * prompted + Fraction(completion) * completed) / per
    assert PriceList({"*": (prompt, completion, per)}).units("m", prompted, completed) == ceil(
        exact
    )
