"""Meters that find in the response's JSON what is charged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from gatekeeper.usage.units.body import BodyReader, Wanted, described
from gatekeeper.usage.units.charges import Charges
from gatekeeper.usage.units.header import FREE_READING
from gatekeeper.usage.units.interface import Measured, Reading, UnitMeter
from gatekeeper.usage.units.paths import JsonPath
from gatekeeper.usage.units.pricing import PriceList
from gatekeeper.usage.units.values import name, whole_number

#: Paths to one thing, that stands in different places in different answers; the first found counts.
Places = Sequence[JsonPath]


class DocumentMeter(UnitMeter):
    """Looks for a model's name and for whole numbers, each in one of its places."""

    __slots__ = ("_charges", "_model", "_numbers", "_wanted")

    def __init__(self, model: Places, numbers: Sequence[Places], charges: Charges) -> None:
        self._charges = charges
        self._wanted = Wanted(model, [path for places in numbers for path in places])
        self._model = [self._wanted.slots[path] for path in model]
        self._numbers = [[self._wanted.slots[path] for path in places] for places in numbers]

    def begin(self, status: int, lines: Sequence[bytes]) -> Reading:
        """Get ready for the response's body."""
        if self._charges.is_free(status):
            return FREE_READING
        return _DocumentReading(self, BodyReader(self._wanted, *described(lines)))

    def unread(
        self, bytes_in: int, bytes_out: int, duration: float, *, tunnel: bool = False
    ) -> Measured:
        """There is no document to read."""
        return self._charges.unread(tunnel)

    def measure(self, values: Sequence[bytes | None]) -> Measured:
        """``values``: the JSON texts that were found, each in the slot of its path."""
        model = next(filter(None, (name(values[slot]) for slot in self._model)), "")
        numbers = []
        for slots in self._numbers:
            read = (whole_number(values[slot]) for slot in slots)
            numbers.append(next((number for number in read if number is not None), None))
        return Measured(self._charges.units(self.units(model, numbers)), model)

    @abstractmethod
    def units(self, model: str, numbers: Sequence[int | None]) -> int | None:
        """The units that were read, if they were."""


class AmountMeter(DocumentMeter):
    """One number is the units."""

    __slots__ = ()

    def __init__(self, model: Places, amount: Places, charges: Charges) -> None:
        super().__init__(model, [amount], charges)

    def units(self, model: str, numbers: Sequence[int | None]) -> int | None:
        """The number."""
        return numbers[0]


class TokenMeter(DocumentMeter):
    """Prompt and completion tokens have a price, which depends on the model."""

    __slots__ = ("_prices",)

    def __init__(
        self, model: Places, prompt: Places, completion: Places, prices: PriceList, charges: Charges
    ) -> None:
        super().__init__(model, [prompt, completion], charges)
        self._prices = prices

    def units(self, model: str, numbers: Sequence[int | None]) -> int | None:
        """What the tokens cost; one of both counts may be missing, as with embeddings."""
        prompt, completion = numbers
        if prompt is None and completion is None:
            return None
        return self._prices.units(model, prompt or 0, completion or 0)


class _DocumentReading(Reading):
    __slots__ = ("_body", "_meter")

    def __init__(self, meter: DocumentMeter, body: BodyReader) -> None:
        self._meter = meter
        self._body = body

    def feed(self, payload: bytes) -> None:
        self._body.feed(payload)

    def result(self, bytes_in: int, bytes_out: int, duration: float) -> Measured:
        return self._meter.measure(self._body.values())
