"""What is offered for a transaction's gas (EIP-1559): plain functions with bounds; all in wei."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final, NamedTuple

from gatekeeper.errors import GatekeeperError

#: By how much both fees of a replacement must be higher; nodes ask for 10 %, and some for more.
BUMP: Final = Fraction(9, 8)


class TooMuchGasError(GatekeeperError):
    """A call needs more gas than the configuration allows."""


class Fees(NamedTuple):
    """The most that is paid for a unit of gas, and what of it at the most goes to the miner."""

    max_fee: int
    priority: int


@dataclass(frozen=True, slots=True)
class FeeBounds:
    """What the operator allows. ``multiplier`` raises what the node suggests."""

    max_fee: int
    max_priority: int
    min_priority: int = 0
    multiplier: Fraction = Fraction(1)


def choose(base_fee: int, suggested: int, bounds: FeeBounds) -> Fees | None:
    """Fees for a new transaction; ``None`` while gas costs more than is allowed: wait.

    ``base_fee`` is that of the next block, ``suggested`` the priority fee that the node suggests.
    Twice the base fee is enough for six full blocks on end.
    """
    if base_fee + bounds.min_priority > bounds.max_fee:
        return None
    priority = max(ceil(suggested * bounds.multiplier), bounds.min_priority)
    priority = min(priority, bounds.max_priority, bounds.max_fee - base_fee)
    wanted = ceil(2 * base_fee * bounds.multiplier) + priority
    return Fees(min(wanted, bounds.max_fee), priority)


def bump(last: Fees, wanted: Fees | None, bounds: FeeBounds) -> Fees | None:
    """Fees for a replacement of a transaction that had ``last``; ``None``: it would be too much.

    ``wanted`` is what :func:`choose` says now.
    """
    raised = Fees(*(max(ceil(each * BUMP), each + 1) for each in last))
    if wanted is not None:
        raised = Fees(*map(max, raised, wanted))
    if raised.max_fee > bounds.max_fee or raised.priority > bounds.max_priority:
        return None
    return raised


def gas_limit(estimate: int, multiplier: Fraction, bound: int) -> int:
    """The gas that a transaction may use: the node's estimate and some more, up to ``bound``.

    :raises TooMuchGasError: the estimate alone is over the bound.
    """
    if estimate > bound:
        raise TooMuchGasError(f"{estimate} units of gas are needed, {bound} are allowed")
    return min(ceil(estimate * max(multiplier, Fraction(1))), bound)
