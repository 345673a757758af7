"""Tokens that operators have revoked, whatever checker would take them."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Final

from gatekeeper.auth.interfaces import Deny
from gatekeeper.auth.users import Directory

REVOKED: Final = Deny("revoked", "The token was revoked.", status=403)

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")


def token_digest(token: bytes) -> str:
    """What a token is revoked by: the SHA-256, in hex, of that of it which cannot be altered.

    Of a signed token (JWS in compact form, RFC 7515) that is what is signed, ``header.payload``,
    without padding: an ECDSA signature can be turned into another one that is as good, and clients
    may be free in how they write the parts. Of any other token it is the whole.
    """
    parts = token.split(b".")
    if len(parts) == 3:
        with suppress(ValueError):  # it may only look like one
            token = b".".join(_encode(_decode(part)) for part in parts[:2])
    return sha256(token).hexdigest()


def jti_digest(jti: str) -> str:
    """What all tokens with an id (the claim ``jti``, RFC 7519, 4.1.7) are revoked by."""
    return sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()


class Revoked:
    """Tells which tokens count no more. While nothing is revoked, that costs nothing.

    Until the store has been read for once, what an earlier run knew counts.

    :param directory: where the revocations are; None: there are none.
    :param wall: seconds since the epoch.
    """

    def __init__(
        self, directory: Directory | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._wall = wall

    def covers(self, presented: bytes) -> bool:
        """Whether a credential field holds a token that was revoked, by itself or by its ``jti``.

        ``presented`` is as in :attr:`Credentials.presented`.
        """
        if self._directory is None or not (revocations := self._directory.revocations):
            return False
        scheme, _, rest = presented.partition(b" ")
        token = rest.strip()
        if not token or scheme.lower() == b"basic":
            return False
        found = [revocations.get(token_digest(token))]
        if (jti := _jti(token)) is not None:
            found.append(revocations.get(jti_digest(jti)))
        now = self._wall()
        return any(each is not None and now < each.until for each in found)


def _jti(token: bytes) -> str | None:
    """The id that a signed token claims to have. If it lies, its signature is wrong."""
    parts = token.split(b".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(_decode(parts[1]))
    except (ValueError, RecursionError):
        return None
    jti = claims.get("jti") if isinstance(claims, dict) else None
    return jti if isinstance(jti, str) else None


def _decode(part: bytes) -> bytes:
    """What any of the checkers may read a part as.

    :raises ValueError: none can.
    """
    bare = part.replace(b" ", b"").translate(_TO_URL).rstrip(b"=")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
