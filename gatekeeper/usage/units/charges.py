"""What becomes of a number that was read, or was not."""

from __future__ import annotations

from typing import Final, NamedTuple

from gatekeeper.usage.units.interface import Measured
from gatekeeper.usage.units.values import TOO_MANY


class Bounds(NamedTuple):
    """The least and the most units of an exchange."""

    minimum: int
    maximum: int

    def clamp(self, units: int) -> int:
        """As many units, within the bounds, and within what the store can hold."""
        return max(self.minimum, min(units, self.maximum, TOO_MANY - 1))


class Charges:
    """For meters that read the upstream's answer.

    ``fallback`` units are charged where nothing readable was in it. What is not a 2xx answer is
    free, unless ``charge_errors``.
    """

    __slots__ = ("_bounds", "_charge_errors", "_fallback")

    def __init__(self, bounds: Bounds, fallback: int, *, charge_errors: bool) -> None:
        self._bounds = bounds
        self._fallback = fallback
        self._charge_errors = charge_errors

    def is_free(self, status: int) -> bool:
        """Whether an upstream's answer costs nothing, whatever is in it."""
        return not (200 <= status < 300 or self._charge_errors)

    def units(self, read: int | None) -> int:
        """What is charged where this was read."""
        return self._bounds.clamp(self._fallback if read is None else read)

    def unread(self, tunnel: bool) -> Measured:
        """What is charged without an answer of the upstream: nobody can look into a tunnel."""
        return Measured(self.units(None), "") if tunnel else FREE


FREE: Final = Measured(0, "")
