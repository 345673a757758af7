"""The ``api-key`` checker: short-lived bearer tokens that a client signs with its key.

``Authorization: Bearer hhh.ppp.sss`` is a JWS in compact form (RFC 7515) with HS256, and its
payload ``{"id": "001", "exp": 1700000000}``: the key's id, and when the token ends.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field
from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.encodings import Legacy, Standard
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IAnswersMissing,
    IChecker,
    IReloadable,
)
from gatekeeper.auth.jose import load_object, time_claim
from gatekeeper.auth.keyfile import ApiKey, KeyFile
from gatekeeper.config.fields import Flag, Section
from gatekeeper.errors import ConfigurationError, Problem

_MAX_SIZE: Final = 8192

#: Header parameters that would say where the key is, or that the token is to be read in another
#: way. The key is known from the payload, and the way is fixed: whoever sends these expects
#: something that does not happen (RFC 7515, 4.1; RFC 8725, 3.10).
_REFUSED: Final = frozenset(
    {"b64", "crit", "enc", "jku", "jwk", "kid", "x5c", "x5t", "x5t#S256", "x5u", "zip"}
)


def _invalid(reason: str, detail: str = "The access token is not valid.") -> Deny:
    return Deny(reason, detail, error="invalid_token")


_MALFORMED: Final = _invalid("malformed_token")
_FORGED: Final = _invalid("bad_signature")
#: Which ids there are is for the log alone.
_UNKNOWN: Final = replace(_FORGED, reason="unknown_key", told=_FORGED.reason)
_EXPIRED: Final = _invalid("expired_token", "The access token has expired.")
_EARLY: Final = _invalid("early_token", "The access token is not valid yet.")
_FORBIDDEN_EXPIRED: Final = Deny(_EXPIRED.reason, _EXPIRED.detail, status=403)
_FORBIDDEN_MISSING: Final = Deny("no_credentials", "Credentials are required.", status=403)

_STANDARD: Final = Standard()


class ApiKeySettings(Section):
    """Bearer tokens that clients sign with a key of their own, from a file of keys and groups."""

    file: Path = Field(
        description='The keys, a line each: `keyID=HEX` or `kapi_id="ID";kapi_key="HEX";'
        'kapi_groups="a,b";`. Read again when it changes.'
    )
    legacy: Flag = Field(
        default=False,
        description="Accept tokens in the old encoding too: padded base64, signatures in hex.",
    )
    compat_status: Literal["cyphernode"] | None = Field(
        default=None,
        description="`cyphernode`: no token at all and an expired token are answered with 403, as "
        "in cyphernode, and not with 401.",
    )


@implementer(IChecker, IReloadable, IAnswersMissing)
class ApiKeyChecker:
    """Takes tokens of three parts whose header says HS256; other bearer tokens are not its kind.

    The signature is checked here and not by a JOSE library: which key it is stands in the payload,
    which libraries give out only after the check, and they read base64url and JSON leniently.

    :param keys: where the keys are found.
    :param seconds: the wall clock, seconds since the epoch.
    :param encoding: how tokens are written.
    :param forbids: no token and an expired one are a 403.
    """

    challenges = (BEARER,)
    varies = frozenset[bytes]()

    def __init__(
        self,
        name: str,
        keys: KeyFile,
        seconds: Callable[[], float] = time.time,
        encoding: Standard = _STANDARD,
        *,
        forbids: bool = False,
    ) -> None:
        self._name = name
        self._file = keys
        self._seconds = seconds
        self._encoding = encoding
        self._expired = _FORBIDDEN_EXPIRED if forbids else _EXPIRED
        self.missing = _FORBIDDEN_MISSING if forbids else None
        # Signs for unknown ids, so that they take the same way as known ones.
        self._nobody = ApiKey("", secrets.token_hex(32).encode("ascii"))

    @classmethod
    def configured(cls, name: str, settings: ApiKeySettings) -> ApiKeyChecker:
        """The checker of a ``[checkers.NAME]`` table.

        :raises ConfigurationError: the file cannot be used; *all* its wrong lines are named.
        """
        try:
            keys = KeyFile(settings.file)
        except ConfigurationError as error:
            raise ConfigurationError(
                [Problem("file", problem.message) for problem in error.problems]
            ) from None
        encoding = Legacy() if settings.legacy else _STANDARD
        return cls(name, keys, encoding=encoding, forbids=settings.compat_status == "cyphernode")

    def __repr__(self) -> str:
        return f"<api-key checker {self._name!r}>"

    def check(self, credentials: Credentials) -> Grant | Deny | Abstain:
        """See :class:`IChecker`."""
        if credentials.scheme != b"bearer":
            return ABSTAIN
        token = credentials.token
        if not token:
            return self.missing or ABSTAIN
        if len(token) > _MAX_SIZE or token.count(b".") != 2:
            return ABSTAIN
        header, payload, signature = token.split(b".")
        parameters = self._read_header(header)
        if parameters is None:
            return ABSTAIN
        if not _REFUSED.isdisjoint(parameters):
            return _MALFORMED
        try:
            claims = load_object(self._encoding.decode(payload))
            claimed = self._encoding.decode_signature(signature)
        except ValueError:
            return _MALFORMED
        key_id = claims.get("id")
        if not isinstance(key_id, str):
            return _MALFORMED
        key = self._file.keys.get(key_id, self._nobody)
        genuine = False
        for text in self._encoding.signed(header, payload):
            genuine |= hmac.compare_digest(hmac.digest(key.secret, text, "sha256"), claimed)
        if not genuine:
            return _UNKNOWN if key is self._nobody else _FORGED
        return self._in_time(key, claims)

    def reload(self) -> bool:
        """See :class:`IReloadable`."""
        return self._file.reload()

    def close(self) -> None:
        """See :class:`IChecker`."""

    def _in_time(self, key: ApiKey, claims: dict[str, Any]) -> Grant | Deny:
        try:
            expires, begins = time_claim(claims, "exp"), time_claim(claims, "nbf")
        except ValueError:
            return _MALFORMED
        now = self._seconds()
        if expires is None:
            return _MALFORMED
        if expires <= now:
            return self._expired
        if begins is not None and begins > now:
            return _EARLY
        return Grant(user=key.id, key_id=key.id, groups=key.groups, expires=float(expires))

    def _read_header(self, part: bytes) -> dict[str, Any] | None:
        """The header's parameters, None where it does not say HS256: some other kind of token."""
        try:
            parameters = load_object(self._encoding.decode(part))
        except ValueError:
            return None
        return parameters if parameters.get("alg") == "HS256" else None
