"""The pieces of signed JSON tokens, read more strictly than libraries do (RFC 7515, RFC 8725).

Each function raises ``ValueError`` where the token is malformed, without quoting it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final, NoReturn

#: The latest time that a token may name: seconds that a float still tells apart.
_LATEST: Final = 2**53


def decode_part(part: bytes) -> bytes:
    """Unpadded base64url (RFC 7515, section 2) in its one canonical spelling."""
    raw = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    # The decoder skips what it does not know, and drops bits at the end.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise ValueError("not canonical base64url")
    return raw


def load_object(text: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8, no key twice at any depth, no NaN or Infinity (RFC 8259)."""
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def time_claim(claims: dict[str, Any], name: str) -> int | None:
    """A claim that is a time in whole seconds since the epoch; None where it is missing."""
    value = claims.get(name)
    if name not in claims:
        return None
    # bool is a kind of int in Python, not in JSON.
    if type(value) is not int or not 0 <= value <= _LATEST:
        raise ValueError(f"`{name}` is no time in whole seconds")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
