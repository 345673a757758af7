"""A service's meter, as its configuration asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.usage.units.charges import Bounds, Charges
from gatekeeper.usage.units.document import AmountMeter, Places, TokenMeter
from gatekeeper.usage.units.header import HeaderMeter
from gatekeeper.usage.units.interface import UnitMeter
from gatekeeper.usage.units.paths import parse_path
from gatekeeper.usage.units.pricing import PriceList
from gatekeeper.usage.units.traffic import FORMULAS, TrafficMeter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.config.model_selling import Meter


def make_unit_meter(settings: Meter | None) -> UnitMeter | None:
    """The meter for these settings, which were checked; ``None`` for one unit a request."""
    if settings is None or settings.units == "requests":
        return None
    bounds = Bounds(settings.minimum, settings.maximum)
    if settings.units in FORMULAS:
        return TrafficMeter(settings.units, bounds)
    charges = Charges(bounds, settings.fallback, charge_errors=settings.on_error == "charge")
    if settings.units == "header":
        assert settings.header is not None
        return HeaderMeter(settings.header, charges)
    if not settings.prices:
        return AmountMeter(_places(settings.model), _places(settings.path), charges)
    prices = PriceList(
        {name: (p.prompt, p.completion, p.per) for name, p in settings.prices.items()}
    )
    model = _places(settings.model or ("model",))
    prompt, completion = _places(settings.prompt), _places(settings.completion)
    return TokenMeter(model, prompt, completion, prices, charges)


def _places(paths: Sequence[str] | None) -> Places:
    return [parse_path(path) for path in paths or ()]
