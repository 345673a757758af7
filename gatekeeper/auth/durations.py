"""Durations as Go writes them: ``30s``, ``1m30s``, ``500ms``, ``1.5h``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_UNITS: Final = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "\u00b5s": Decimal("1e-6"),  # the micro sign
    "\u03bcs": Decimal("1e-6"),  # the Greek letter
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_TERM: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([a-z\u00b5\u03bc]{1,2})")
_LONGEST: Final = 100


def parse_duration(text: str) -> float:
    """Seconds, as Go's ``time.ParseDuration`` has them, signs left out.

    :raises ValueError: with words for the operator.
    """
    if text == "0":
        return 0.0
    total = Decimal(0)
    position = 0
    while position < len(text) <= _LONGEST:
        term = _TERM.match(text, position)
        if term is None or term[2] not in _UNITS:
            break
        total += Decimal(term[1]) * _UNITS[term[2]]
        position = term.end()
    if not text or position < len(text):
        raise ValueError("must be a duration such as `30s`, `1m30s` or `500ms`")
    return float(total)
