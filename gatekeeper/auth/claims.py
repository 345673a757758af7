"""What a token, or a server asked about one, claims: names and groups, fit to be passed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from gatekeeper.auth.interfaces import Deny

_LONGEST_NAME: Final = 256


def invalid_token(reason: str, detail: str = "The access token is not valid.") -> Deny:
    """A 401 for a bearer token (RFC 6750, section 3.1)."""
    return Deny(reason, detail, error="invalid_token")


EXPIRED: Final = invalid_token("expired_token", "The access token has expired.")
EARLY: Final = invalid_token("early_token", "The access token is not valid yet.")
MALFORMED: Final = invalid_token("malformed_token")
UNIDENTIFIED: Final = invalid_token("unidentified_token", "The access token names no user.")


def is_name(value: object) -> TypeGuard[str]:
    """Whether a value may name a user: it goes into reports, and upstream as a header field."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_NAME
        and value.isprintable()
        and value == value.strip()
    )


def name_claim(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that is a name; None where it is missing.

    :raises ValueError: it is something else.
    """
    value = claims.get(name)
    if name not in claims:
        return None
    if not is_name(value):
        raise ValueError(f"`{name}` is no name")
    return value


def group_claim(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """The groups in a claim: words with blanks between them (RFC 6749, 3.3), or a list of strings.

    A ``name`` that is no claim is a way into the claims: ``realm_access.roles``.

    :raises ValueError: it is something else.
    """
    value = claims.get(name)
    if name not in claims:
        value = claims
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return frozenset()
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"`{name}` holds no groups")
    return frozenset(word for word in words if word)


def names_audience(claims: Mapping[str, Any], wanted: frozenset[str]) -> bool:
    """Whether ``aud``, a string or a list of strings (RFC 7519, 4.1.3), has one of ``wanted``."""
    value = claims.get("aud")
    if isinstance(value, str):
        return value in wanted
    return isinstance(value, list) and any(
        isinstance(audience, str) and audience in wanted for audience in value
    )
