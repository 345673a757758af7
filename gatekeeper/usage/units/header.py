"""A meter that the upstream tells the units in a field of its response's head."""

from __future__ import annotations

from collections.abc import Sequence

from gatekeeper.usage.units.charges import FREE, Charges
from gatekeeper.usage.units.interface import Measured, Reading, UnitMeter
from gatekeeper.usage.units.values import decimal_number


class Settled(Reading):
    """Nothing in the body can change it any more."""

    __slots__ = ("_measured",)

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def feed(self, payload: bytes) -> None:
        """Nothing is looked at."""

    def result(self, bytes_in: int, bytes_out: int, duration: float) -> Measured:
        """What was known from the head."""
        return self._measured


FREE_READING = Settled(FREE)


class HeaderMeter(UnitMeter):
    """The field ``header`` is the units, as a decimal number."""

    __slots__ = ("_charges", "_name")

    def __init__(self, header: str, charges: Charges) -> None:
        self._name = header.lower().encode("ascii")
        self._charges = charges

    def begin(self, status: int, lines: Sequence[bytes]) -> Reading:
        """Read the field. Where it comes more than once, no one of them is right."""
        if self._charges.is_free(status):
            return FREE_READING
        values = []
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() == self._name:
                values.append(value)
        read = decimal_number(values[0].strip(b" \t")) if len(values) == 1 else None
        return Settled(Measured(self._charges.units(read), ""))

    def unread(
        self, bytes_in: int, bytes_out: int, duration: float, *, tunnel: bool = False
    ) -> Measured:
        """There is no field to read."""
        return self._charges.unread(tunnel)
