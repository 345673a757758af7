"""What is in a Nevermined access token, and until when it is good."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Final

from gatekeeper.auth.jose import load_object, time_claim
from gatekeeper.auth.jwe import TokenError
from gatekeeper.auth.url_patterns import MAX_PATTERNS

DID: Final = re.compile(r"did:nv:[0-9A-Fa-f]{64}")
_SUBSCRIPTION: Final = re.compile(r"(?:did:nv:|0x)?([0-9A-Fa-f]{64})")
_ADDRESS: Final = re.compile(r"[!-~]{1,128}")  # it goes into header fields
_TOKEN: Final = re.compile(r"[!-~]{1,8192}")
_ERC_TYPES: Final = (721, 1155)


@dataclass(frozen=True, slots=True)
class UpstreamCredential:
    """How the upstream wants to be asked: ``kind`` is ``none``, ``basic``, ``bearer`` or ``oauth``.

    ``token`` is what follows the scheme in ``Authorization``, empty for none.
    """

    kind: str = "none"
    token: str = field(default="", repr=False)

    @property
    def authorization(self) -> bytes | None:
        """The value of ``Authorization``, None for none."""
        if self.kind == "none":
            return None
        scheme = "Basic" if self.kind == "basic" else "Bearer"
        return f"{scheme} {self.token}".encode("ascii")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The claims. Times are in seconds since the epoch.

    ``user`` is the consumer's address, ``did`` the service's DID, ``owner`` its owner's address;
    ``subscription`` the token id of the subscription, 64 hex digits; ``urls`` the URL patterns
    that the token opens. Texts are empty where a claim is missing.
    """

    user: str
    urls: tuple[str, ...]
    did: str = ""
    owner: str = ""
    subscription: str = ""
    erc_type: int | None = None
    credential: UpstreamCredential = UpstreamCredential()
    issued: int | None = None
    begins: int | None = None
    expires: int | None = None

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the upstream is told."""
        return identity_headers(self.user, self.did, self.owner)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """What is asked of a token's times.

    ``required``: it must end. ``longest``: seconds between its beginning (or now) and its end, at
    the most; it must end then, too.
    """

    required: bool = True
    longest: float | None = None

    def check(self, token: AccessToken, now: float) -> None:
        """Check that the token is good at ``now``, seconds since the epoch.

        :raises TokenError: ``malformed_token`` without a required end, ``long_token``,
            ``early_token``, ``expired_token``.
        """
        if token.expires is None:
            if self.required or self.longest is not None:
                raise TokenError("malformed_token", "It never ends: `exp` is missing.")
        elif token.expires <= now:
            raise TokenError("expired_token", "The access token has expired.")
        elif self.longest is not None:
            issued = now if token.issued is None else min(token.issued, now)
            if token.expires - issued > self.longest:
                raise TokenError("long_token", "It is good for longer than is allowed here.")
        if token.begins is not None and token.begins > now:
            raise TokenError("early_token", "The access token is not valid yet.")


def identity_headers(user: str, did: str, owner: str) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that tell an upstream who asks (empty: nobody), for which service, and whose."""
    fields = (("nvm-user-id", user), ("nvm-scope", did), ("nvm-owner", owner))
    return tuple((name.encode("ascii"), value.encode("ascii")) for name, value in fields if value)


def load_claims(plaintext: bytes) -> dict[str, Any]:
    """The claims as JSON.

    :raises TokenError: ``malformed_token``.
    """
    try:
        return load_object(plaintext)
    except ValueError as error:
        raise TokenError("malformed_token", f"Its claims are malformed: {error}.") from None


def read_claims(claims: dict[str, Any]) -> AccessToken:
    """Check the claims' forms (not their times: see :meth:`Lifetime.check`).

    :raises TokenError: ``malformed_token``.
    """
    try:
        return AccessToken(
            user=_text(claims, "userId", _ADDRESS, required=True),
            urls=_urls(claims),
            did=_text(claims, "did", DID),
            owner=_text(claims, "owner", _ADDRESS),
            subscription=_subscription(claims),
            erc_type=_erc_type(claims),
            credential=_credential(claims),
            issued=time_claim(claims, "iat"),
            begins=time_claim(claims, "nbf"),
            expires=time_claim(claims, "exp"),
        )
    except ValueError as error:
        raise TokenError("malformed_token", f"Its claims are malformed: {error}.") from None


def _text(
    claims: dict[str, Any], name: str, form: re.Pattern[str], *, required: bool = False
) -> str:
    value = claims.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"`{name}` is missing" if value is None else f"`{name}` is malformed")
    return value


def _urls(claims: dict[str, Any]) -> tuple[str, ...]:
    urls = claims.get("endpoints")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ValueError("`endpoints` is no list of URLs")
    if len(urls) > MAX_PATTERNS:
        raise ValueError("`endpoints` is too long")
    return tuple(urls)


def _subscription(claims: dict[str, Any]) -> str:
    value = _text(claims, "subscriptionDid", _SUBSCRIPTION)
    return value[-64:].lower()


def _erc_type(claims: dict[str, Any]) -> int | None:
    value = claims.get("ercType")
    if value is None or (type(value) is int and value in _ERC_TYPES):
        return value
    raise ValueError("`ercType` is neither 721 nor 1155")


def _credential(claims: dict[str, Any]) -> UpstreamCredential:
    headers = claims.get("headers")
    if headers is None:
        return UpstreamCredential()
    given = headers.get("authentication") if isinstance(headers, dict) else headers
    if given is None:
        return UpstreamCredential()
    if not isinstance(given, dict):
        raise ValueError("`headers.authentication` is no object")
    match given.get("type", "none"):
        case "none":
            return UpstreamCredential()
        case "bearer" | "oauth" as kind:
            token = given.get("token")
            if not isinstance(token, str) or not _TOKEN.fullmatch(token):
                raise ValueError("`headers.authentication.token` is missing or malformed")
            return UpstreamCredential(kind, token)
        case "basic":
            user, password = given.get("username", given.get("user")), given.get("password")
            if not isinstance(user, str) or not isinstance(password, str):
                raise ValueError("`headers.authentication` has not user name and password")
            return basic_credential(user, password)
    raise ValueError("`headers.authentication.type` is not known")


def basic_credential(user: str, password: str) -> UpstreamCredential:
    """User name and password for the upstream (RFC 7617).

    :raises ValueError: they have a lone surrogate, and cannot be sent.
    """
    return UpstreamCredential(
        "basic", base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    )
