from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.credits.fees import BUMP, FeeBounds, Fees, TooMuchGasError, bump, choose, gas_limit

GWEI = 10**9

_wei = st.integers(0, 500 * GWEI)
_multipliers = st.fractions(Fraction(1, 2), Fraction(4), max_denominator=100)
_bounds = st.builds(
    lambda max_fee, priority, lower, multiplier: FeeBounds(
        max_fee, priority, min(priority, lower), multiplier
    ),
    _wei,
    _wei,
    _wei,
    _multipliers,
)


@pytest.mark.parametrize(
    ("base_fee", "suggested", "bounds", "fees"),
    [
        (10, 2, FeeBounds(1000, 100), Fees(22, 2)),
        (10, 2, FeeBounds(1000, 100, multiplier=Fraction(3, 2)), Fees(33, 3)),
        (10, 2, FeeBounds(1000, 100, min_priority=5), Fees(25, 5)),
        (10, 200, FeeBounds(1000, 100), Fees(120, 100)),
        (10, 2, FeeBounds(15, 100), Fees(15, 2)),
        (10, 9, FeeBounds(15, 100), Fees(15, 5)),
        (15, 9, FeeBounds(15, 100), Fees(15, 0)),
        (16, 9, FeeBounds(15, 100), None),
        (14, 9, FeeBounds(15, 100, min_priority=2), None),
        (0, 0, FeeBounds(15, 100), Fees(0, 0)),
    ],
)
def test_fees(base_fee: int, suggested: int, bounds: FeeBounds, fees: Fees | None) -> None:
    assert choose(base_fee, suggested, bounds) == fees


@given(_wei, _wei, _bounds)
def test_fees_are_within_their_bounds(base_fee: int, suggested: int, bounds: FeeBounds) -> None:
    fees = choose(base_fee, suggested, bounds)
    if fees is None:
        assert base_fee + bounds.min_priority > bounds.max_fee
    else:
        assert 0 <= fees.priority <= fees.max_fee <= bounds.max_fee
        assert bounds.min_priority <= fees.priority <= bounds.max_priority
        if bounds.multiplier >= Fraction(1, 2):
            assert fees.max_fee >= base_fee  # else it would not get into the next block


@pytest.mark.parametrize(
    ("last", "wanted", "bounds", "fees"),
    [
        (Fees(80, 8), None, FeeBounds(1000, 100), Fees(90, 9)),
        (Fees(80, 8), Fees(200, 5), FeeBounds(1000, 100), Fees(200, 9)),
        (Fees(80, 8), Fees(20, 50), FeeBounds(1000, 100), Fees(90, 50)),
        (Fees(1, 0), None, FeeBounds(1000, 100), Fees(2, 1)),
        (Fees(80, 8), None, FeeBounds(90, 9), Fees(90, 9)),
        (Fees(80, 8), None, FeeBounds(89, 9), None),
        (Fees(80, 8), None, FeeBounds(90, 8), None),
    ],
)
def test_a_replacement_is_dearer(
    last: Fees, wanted: Fees | None, bounds: FeeBounds, fees: Fees | None
) -> None:
    assert bump(last, wanted, bounds) == fees


@given(st.builds(Fees, _wei, _wei), st.none() | st.builds(Fees, _wei, _wei), _bounds)
def test_a_replacement_is_one_for_every_node(
    last: Fees, wanted: Fees | None, bounds: FeeBounds
) -> None:
    dearer = bump(last, wanted, bounds)
    if dearer is not None:
        for new, old in zip(dearer, last, strict=True):
            assert new >= old * BUMP
            assert new > old
        assert dearer.max_fee <= bounds.max_fee
        assert dearer.priority <= bounds.max_priority


def test_replacements_come_to_an_end() -> None:
    fees, count = Fees(GWEI, 1), 0
    while (dearer := bump(fees, None, FeeBounds(500 * GWEI, 500 * GWEI))) is not None:
        fees, count = dearer, count + 1
    assert count < 100


@pytest.mark.parametrize(
    ("estimate", "multiplier", "bound", "limit"),
    [
        (100, Fraction(1), 1000, 100),
        (100, Fraction(5, 4), 1000, 125),
        (101, Fraction(5, 4), 1000, 127),
        (100, Fraction(5, 4), 110, 110),
        (100, Fraction(1, 2), 1000, 100),
        (100, Fraction(5, 4), 100, 100),
    ],
)
def test_the_limit_of_gas(estimate: int, multiplier: Fraction, bound: int, limit: int) -> None:
    assert gas_limit(estimate, multiplier, bound) == limit


def test_a_call_that_needs_too_much_gas_is_not_made() -> None:
    with pytest.raises(TooMuchGasError, match="101 units of gas are needed, 100 are allowed"):
        gas_limit(101, Fraction(1), 100)
