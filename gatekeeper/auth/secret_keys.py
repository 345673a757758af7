"""Secrets as they stand in a configuration, and the keys of 32 bytes that they stand for."""

from __future__ import annotations

import base64
import binascii
import string
from typing import Final, Literal, TypeAlias

Encoding: TypeAlias = Literal["nevermined-digits", "base64", "hex", "utf8"]

KEY_SIZE: Final = 32
#: Of 32. Each is worth nothing, a digit 3.3 bits.
_MOST_NON_DIGITS: Final = 8


def secret_key(secret: str, encoding: Encoding) -> bytes:
    """The key, 32 bytes.

    ``nevermined-digits`` is what Nevermined's nodes do with their phrase of 32 characters: each
    makes a byte, a digit its value, anything else 0. That leaves at most 53 bits for each half of
    the key (RFC 7518, section 5.2.2.1, halves it), and none at all for a phrase of letters.

    :raises ValueError: it is no such key; the message does not show it.
    """
    if encoding == "nevermined-digits":
        return _from_digits(secret)
    try:
        if encoding == "base64":
            key = base64.b64decode(secret.encode("ascii"), validate=True)
        elif encoding == "hex":
            key = binascii.unhexlify(secret.encode("ascii"))
        else:
            key = secret.encode("utf-8")
    except (ValueError, UnicodeEncodeError):
        raise ValueError(f"is not {encoding}") from None
    if len(key) != KEY_SIZE:
        raise ValueError(f"must be {KEY_SIZE} bytes, and is {len(key)}")
    return key


def _from_digits(phrase: str) -> bytes:
    if len(phrase) != KEY_SIZE:
        raise ValueError(f"must be {KEY_SIZE} characters, and is {len(phrase)}")
    key = bytes(int(char) if char in string.digits else 0 for char in phrase)
    others = sum(char not in string.digits for char in phrase)
    if others > _MOST_NON_DIGITS:
        raise ValueError(
            f"has {others} characters that are not digits, which all count as 0: the key can be "
            f"guessed; at most {_MOST_NON_DIGITS} are allowed"
        )
    return key
