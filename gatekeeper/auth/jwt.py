"""The ``jwt`` checker: bearer tokens that an identity provider signed (RFC 7519, RFC 9068)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from joserfc.jws import JWSRegistry
from pydantic import Field, field_validator
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.claims import (
    EARLY,
    EXPIRED,
    MALFORMED,
    UNIDENTIFIED,
    group_claim,
    invalid_token,
    name_claim,
    names_audience,
)
from gatekeeper.auth.http_client import HttpClient, HttpError, HttpUrl
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IChecker,
    IReloadable,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.jose import decode_part, load_object, time_claim
from gatekeeper.auth.jwks import MAX_SIZE, FileKeys, Keys, PublicKey, UrlKeys
from gatekeeper.config.fields import Seconds, Section

_MAX_TOKEN: Final = 16384

#: Header parameters that would say where the key is, or that the token is to be read in another
#: way. The key is one of the configured set, and nothing is fetched for a token's sake.
_REFUSED: Final = frozenset({"b64", "crit", "enc", "jku", "jwk", "x5c", "x5u", "zip"})

#: What an access token may call itself (RFC 9068, 2.1). Other kinds of JWT, which the same key may
#: have signed, say so (RFC 8725, 3.11): proofs of possession, logout tokens, security events.
_TYPES: Final = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})

_UNKNOWN: Final = invalid_token("unknown_key")
_FORGED: Final = invalid_token("bad_signature")
_OTHER_KIND: Final = invalid_token("not_an_access_token")
_OTHER_ISSUER: Final = invalid_token("wrong_issuer")
_OTHER_AUDIENCE: Final = invalid_token("wrong_audience")
_AWAY: Final = Unavailable("keys_away", "The access token cannot be checked at the moment.")

#: joserfc's implementations, used without its look-up: that warns of a name at every token.
_VERIFIERS: Final = {
    name: JWSRegistry.algorithms["Ed25519" if name == "EdDSA" else name]
    for name in (
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
    )
}

Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]


class JwtSettings(Section):
    """Bearer tokens that an identity provider signed; its public keys are all that is needed."""

    jwks: HttpUrl | Path = Field(
        union_mode="left_to_right",
        description="The provider's public keys, a JSON Web Key Set: a URL (its `jwks_uri`), or "
        "a file, read again when it changes.",
    )
    issuer: str = Field(min_length=1, description="What must be the token's `iss`.")
    audience: str | tuple[str, ...] = Field(
        description="One of them must be in the token's `aud`. `[]` for providers whose access "
        "tokens have none: then those made for any other service are good here."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "PS256", "ES256", "EdDSA"),
        min_length=1,
        description="How tokens may be signed.",
    )
    leeway: Annotated[float, Field(strict=True, ge=0, le=60)] = Field(
        default=0.0, description="Seconds that the provider's clock may be off; at most 60."
    )
    user_claim: str = Field(default="sub", min_length=1, description="What names the user.")
    groups_claim: str = Field(
        default="scope",
        min_length=1,
        description="What names the user's groups, such as `realm_access.roles`.",
    )
    refresh: Seconds = Field(default=300.0, description="A URL is looked at again this often.")
    stale: Seconds = Field(
        default=86400.0, description="While a URL does not answer, its keys are good for so long."
    )
    timeout: Seconds = Field(default=5.0, description="A URL must have answered by then.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that an https URL is verified with; the "
        "system's if left out.",
    )

    @field_validator("jwks")
    @classmethod
    def _check_jwks(cls, value: str | Path) -> str | Path:
        if isinstance(value, Path) and ":/" in str(value):
            raise ValueError("must be an `http://` or `https://` URL, or a file")
        return value


@implementer(IChecker, IReloadable)
class JwtChecker:
    """Takes tokens of three parts that name one of its algorithms; others are not its kind.

    The key is chosen by the token's ``kid`` among those of the set that are for its algorithm, so
    that a public key is never used as another algorithm's secret (RFC 8725, 2.1).

    :param keys: where the keys are found.
    :param seconds: the wall clock, seconds since the epoch.
    """

    challenges = (BEARER,)
    varies = frozenset[bytes]()

    def __init__(
        self,
        name: str,
        settings: JwtSettings,
        keys: Keys,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._settings = settings
        self._algorithms = frozenset(settings.algorithms)
        audience = settings.audience
        self._audience = frozenset([audience] if isinstance(audience, str) else audience)
        self._keys = keys
        self._seconds = seconds

    @classmethod
    def configured(cls, name: str, settings: JwtSettings) -> JwtChecker:
        """The checker of a ``[checkers.NAME]`` table.

        :raises ConfigurationError: the file of keys, or ``ca_file``, cannot be used.
        """
        if isinstance(settings.jwks, Path):
            return cls(name, settings, FileKeys(settings.jwks))
        http = HttpClient(
            f"jwt checker {name!r}",
            timeout=settings.timeout,
            max_body=MAX_SIZE,
            ca_file=settings.ca_file,
        )
        keys = UrlKeys(settings.jwks, http, settings.refresh, settings.stale)
        return cls(name, settings, keys)

    def __repr__(self) -> str:
        return f"<jwt checker {self._name!r}>"

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        """See :class:`IChecker`."""
        if credentials.scheme != b"bearer":
            return ABSTAIN
        token = credentials.token
        if len(token) > _MAX_TOKEN or token.count(b".") != 2:
            return ABSTAIN
        signed, _, signature = token.rpartition(b".")
        header = self._read_header(signed.partition(b".")[0])
        if isinstance(header, Abstain | Deny):
            return header
        kid, algorithm = header
        try:
            claims = load_object(decode_part(signed.partition(b".")[2]))
            claimed = decode_part(signature)
        except ValueError:
            return MALFORMED

        def decide(keys: tuple[PublicKey, ...]) -> Grant | Deny:
            if not keys:
                return _UNKNOWN
            verifier = _VERIFIERS[algorithm]
            if not any(verifier.verify(signed, claimed, key) for key in keys):
                return _FORGED
            return self._decide(claims)

        try:
            keys = self._keys.find(kid, algorithm)
        except HttpError:
            return _AWAY
        if isinstance(keys, Deferred):
            return keys.addCallbacks(decide, _unavailable)
        return decide(keys)

    def reload(self) -> bool:
        """See :class:`IReloadable`."""
        return self._keys.reload()

    def close(self) -> None:
        """See :class:`IChecker`."""
        self._keys.close()

    def _read_header(self, part: bytes) -> tuple[str | None, str] | Abstain | Deny:
        """The key's id and the algorithm."""
        try:
            header = load_object(decode_part(part))
        except ValueError:
            return ABSTAIN
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            return ABSTAIN
        if not _REFUSED.isdisjoint(header) or not isinstance(kid, str | None):
            return MALFORMED
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            return _OTHER_KIND
        return kid, algorithm

    def _decide(self, claims: dict[str, Any]) -> Grant | Deny:
        """What claims are worth whose signature is good."""
        settings = self._settings
        try:
            expires, begins, issued = (time_claim(claims, name) for name in ("exp", "nbf", "iat"))
            user = name_claim(claims, settings.user_claim)
            key_id = name_claim(claims, "client_id") or name_claim(claims, "azp")
            groups = group_claim(claims, settings.groups_claim)
        except ValueError:
            return MALFORMED
        now, leeway = self._seconds(), settings.leeway
        if expires is None:
            return MALFORMED
        if expires + leeway <= now:
            return EXPIRED
        if any(start is not None and start - leeway > now for start in (begins, issued)):
            return EARLY
        if claims.get("iss") != settings.issuer:
            return _OTHER_ISSUER
        if self._audience and not names_audience(claims, self._audience):
            return _OTHER_AUDIENCE
        if user is None:
            return UNIDENTIFIED
        return Grant(user=user, key_id=key_id or "", groups=groups, expires=expires + leeway)


def _unavailable(failure: Failure) -> Unavailable:
    failure.trap(HttpError)
    return _AWAY
