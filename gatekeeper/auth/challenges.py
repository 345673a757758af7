"""The values of ``WWW-Authenticate`` and ``Proxy-Authenticate`` (RFC 9110, 11.6.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: What every checker of bearer tokens asks for (RFC 6750, section 3).
BEARER: Final = b'Bearer realm="gatekeeper"'


def one_per_scheme(challenges: Iterable[bytes]) -> tuple[bytes, ...]:
    """The first challenge of each scheme, in order."""
    chosen: dict[bytes, bytes] = {}
    for challenge in challenges:
        chosen.setdefault(challenge.partition(b" ")[0].lower(), challenge)
    return tuple(chosen.values())
