"""How and when to burn, as the operator wants it; and where a burner may be stopped in its work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from gatekeeper.credits.ledger import Policy


@dataclass(frozen=True, slots=True)
class Terms:
    """How to burn, on the chain of this number (EIP-155).

    The gas that a node estimates is raised by ``gas_multiplier``, up to ``max_gas``.
    """

    chain_id: int
    policy: Policy
    gas_multiplier: Fraction = Fraction(5, 4)
    max_gas: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to burn.

    It is time when a payer's charges have waited for ``interval`` seconds, or come to ``amount``
    credits (``None``: never). Up to ``batch`` payers are burned with one transaction. ``poll`` are
    the seconds between two passes.
    """

    interval: float = 3600.0
    amount: int | None = None
    batch: int = 20
    poll: float = 5.0


class Seam(Enum):
    """Between two things that a burner does; a test may end the process there."""

    SIGNING = "a transaction is about to be signed"
    SIGNED = "it is signed, and nowhere but in memory"
    STORED = "it is stored, and was not sent"
    SENT = "a node has taken it, which is not written down"
    MARKED = "that it was sent is written down"
    ENDING = "what comes of the settlement is known, and not written down"
    ENDED = "what came of it is written down"


def ignore(_: Seam) -> None:
    """Nobody looks."""
