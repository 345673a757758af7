"""From a model's name and counts of tokens to units, by a price list."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

# A release's date at the end of a name: `-2024-08-06`, `-20241022`, `@20240620`, `-0613`.
_MONTH_DAY: Final = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_DATED: Final = re.compile(
    rf"(.+)[-@](?:20[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}|20[0-9]{{2}}{_MONTH_DAY}|{_MONTH_DAY})"
)


class _Price(NamedTuple):
    """Units are ``(prompt * a + completion * b) / divisor``, all of them whole numbers."""

    prompt: int
    completion: int
    divisor: int


class PriceList:
    """Prices by model. The keys are names; one that ends in ``*`` stands for all that begin so."""

    def __init__(self, prices: Mapping[str, tuple[Decimal, Decimal, int]]) -> None:
        """``prices``: units for ``per`` prompt tokens, for ``per`` completion tokens, ``per``."""
        self._exact: dict[str, _Price] = {}
        self._prefixes: list[tuple[str, _Price]] = []
        for name in sorted(prices, key=len, reverse=True):
            price = _price(*prices[name])
            if name.endswith("*"):
                self._prefixes.append((name[:-1], price))
            else:
                self._exact[name] = price

    def units(self, model: str, prompt: int, completion: int) -> int | None:
        """What these tokens cost, rounded up once; ``None`` where the model has no price.

        The name itself is looked up, then the name without a release's date at its end, then the
        longest key with a ``*`` that fits. A model without a name has a price if ``*`` has.
        """
        price = self._find(model)
        if price is None:
            return None
        return -(-(prompt * price.prompt + completion * price.completion) // price.divisor)

    def _find(self, model: str) -> _Price | None:
        price = self._exact.get(model)
        if price is None and (dated := _DATED.fullmatch(model)):
            price = self._exact.get(dated[1])
        if price is None:
            price = next((p for prefix, p in self._prefixes if model.startswith(prefix)), None)
        return price


def _price(prompt: Decimal, completion: Decimal, per: int) -> _Price:
    each_prompt, each_completion = Fraction(prompt) / per, Fraction(completion) / per
    divisor = each_prompt.denominator * each_completion.denominator
    return _Price(int(each_prompt * divisor), int(each_completion * divisor), divisor)
