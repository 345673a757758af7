"""What the texts of JSON values mean to a meter. A value that is not right is ``None``."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Final

#: Units, and what they are made from, are below this: they go into 64 bits in the store.
TOO_MANY: Final = 2**63

_LONGEST_NUMBER: Final = 64
_LONGEST_NAME: Final = 128  # bytes
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?([eE][+-]?+[0-9]{1,3})?")  # 8259, 6
_DIGITS: Final = re.compile(rb"[0-9]{1,32}")


def whole_number(text: bytes | None) -> int | None:
    """The number that a JSON text says: whole, not negative, below 2**63.

    ``12.0`` and ``1.2e1`` are 12, as they are to every reader of JSON. Words, strings and numbers
    that are too long are none.
    """
    if text is None or len(text) > _LONGEST_NUMBER:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    if match[1] is None and match[2] is None:
        number = int(text)
    else:
        exact = Decimal(text.decode("ascii"))
        if not 0 <= exact < TOO_MANY or exact != exact.to_integral_value():
            return None
        number = int(exact)
    return number if 0 <= number < TOO_MANY else None


def decimal_number(text: bytes) -> int | None:
    """The number that plain digits say, in a header field; below 2**63."""
    if not _DIGITS.fullmatch(text):
        return None
    number = int(text)
    return number if number < TOO_MANY else None


def name(text: bytes | None) -> str | None:
    """The string that a JSON text says: 1 to 128 bytes of UTF-8, nothing that is not printable.

    It becomes a key in the store and a column in reports; a NUL would do harm there.
    """
    if text is None or not text.startswith(b'"'):
        return None
    try:
        string: str = json.loads(text.decode())
    except ValueError:
        return None
    good = string.isprintable() and 1 <= len(string.encode()) <= _LONGEST_NAME
    return string if good else None
