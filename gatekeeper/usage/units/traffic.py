"""Meters of what can be seen from outside: bytes and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from gatekeeper.usage.units.charges import Bounds
from gatekeeper.usage.units.interface import Measured, Reading, UnitMeter

#: From bytes in, bytes out and seconds to units, by the name that the configuration has for it.
FORMULAS: Final[dict[str, Callable[[int, int, float], int]]] = {
    "bytes": lambda bytes_in, bytes_out, duration: bytes_in + bytes_out,
    "bytes_in": lambda bytes_in, bytes_out, duration: bytes_in,
    "bytes_out": lambda bytes_in, bytes_out, duration: bytes_out,
    "seconds": lambda bytes_in, bytes_out, duration: math.ceil(duration),
}


class TrafficMeter(UnitMeter, Reading):
    """Charges by one of :data:`FORMULAS`. It looks at no response, and so is every reading."""

    __slots__ = ("_bounds", "_formula")

    def __init__(self, units: str, bounds: Bounds) -> None:
        self._formula = FORMULAS[units]
        self._bounds = bounds

    def begin(self, status: int, lines: Sequence[bytes]) -> Reading:
        """Nothing is kept of a response."""
        return self

    def feed(self, payload: bytes) -> None:
        """Nothing is looked at."""

    def result(self, bytes_in: int, bytes_out: int, duration: float) -> Measured:
        """Whatever the upstream answered."""
        return Measured(self._bounds.clamp(self._formula(bytes_in, bytes_out, duration)), "")

    def unread(
        self, bytes_in: int, bytes_out: int, duration: float, *, tunnel: bool = False
    ) -> Measured:
        """The same as for a response."""
        return self.result(bytes_in, bytes_out, duration)
