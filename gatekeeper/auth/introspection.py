"""The ``introspection`` checker: bearer tokens that an OAuth 2 server is asked about (RFC 7662)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote_plus

from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc7009 import (  # type: ignore[import-untyped]
    prepare_revoke_token_request,
)
from pydantic import Field, SecretStr
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.claims import (
    EARLY,
    EXPIRED,
    UNIDENTIFIED,
    group_claim,
    invalid_token,
    name_claim,
    names_audience,
)
from gatekeeper.auth.http_client import Answer, Asks, HttpClient, HttpError, HttpUrl
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IChecker,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.jose import load_object, time_claim
from gatekeeper.config.fields import Seconds, Section

_MAX_TOKEN: Final = 16384
_MAX_ANSWER: Final = 65536

_MALFORMED: Final = invalid_token("malformed_token")
_INACTIVE: Final = invalid_token("inactive_token")
_OTHER_KIND: Final = invalid_token("not_an_access_token")
_OTHER_AUDIENCE: Final = invalid_token("wrong_audience")
_AWAY: Final = Unavailable(
    "introspection_away", "The access token cannot be checked at the moment."
)

#: Servers answer for refresh tokens as well (RFC 7662, section 2.1), and say so in one of these.
_KINDS: Final = ("token_type", "token_use", "typ")
_REFRESH: Final = frozenset({"refresh", "refresh_token"})


class IntrospectionSettings(Section):
    """Bearer tokens that an OAuth 2 server is asked about (RFC 7662)."""

    url: HttpUrl = Field(description="Where the server answers: its `introspection_endpoint`.")
    client_id: str = Field(min_length=1, description="Who we are there.")
    client_secret: SecretStr = Field(min_length=1, description="Our secret there.")
    client_auth: Literal["client_secret_basic", "client_secret_post"] = Field(
        default="client_secret_basic",
        description="How we say who we are: in `Authorization`, or in the form.",
    )
    audience: tuple[str, ...] = Field(
        default=(), description="One of them must be in the token's `aud`; not looked at if empty."
    )
    user_claim: str = Field(
        default="sub",
        min_length=1,
        description="What names the user; `username`, then `client_id` where it is missing.",
    )
    groups_claim: str = Field(
        default="scope", min_length=1, description="What names the user's groups."
    )
    timeout: Seconds = Field(default=5.0, description="The server must have answered by then.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that an https server is verified with; the "
        "system's if left out.",
    )


@implementer(IChecker)
class IntrospectionChecker:
    """Takes every bearer token: what the server does not know is refused.

    :param http: how the server is asked.
    :param seconds: the wall clock, seconds since the epoch.
    """

    challenges = (BEARER,)
    varies = frozenset[bytes]()

    def __init__(
        self,
        name: str,
        settings: IntrospectionSettings,
        http: Asks,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._settings = settings
        self._audience = frozenset(settings.audience)
        self._http = http
        self._seconds = seconds
        secret = settings.client_secret.get_secret_value()
        if settings.client_auth == "client_secret_basic":
            # Both are form-encoded first (RFC 6749, 2.3.1), which authlib leaves to us.
            self._auth = ClientAuth(quote_plus(settings.client_id), quote_plus(secret))
        else:
            self._auth = ClientAuth(settings.client_id, secret, settings.client_auth)

    @classmethod
    def configured(cls, name: str, settings: IntrospectionSettings) -> IntrospectionChecker:
        """The checker of a ``[checkers.NAME]`` table.

        :raises ConfigurationError: ``ca_file`` cannot be used.
        """
        http = HttpClient(
            f"introspection checker {name!r}",
            timeout=settings.timeout,
            max_body=_MAX_ANSWER,
            ca_file=settings.ca_file,
        )
        return cls(name, settings, http)

    def __repr__(self) -> str:
        return f"<introspection checker {self._name!r}>"

    def check(self, credentials: Credentials) -> Deny | Abstain | Deferred[Verdict]:
        """See :class:`IChecker`."""
        if credentials.scheme != b"bearer":
            return ABSTAIN
        raw = credentials.token
        if not 0 < len(raw) <= _MAX_TOKEN or not raw.isascii():
            return _MALFORMED
        token = raw.decode("ascii")
        if not token.isprintable() or " " in token:
            return _MALFORMED
        return self._ask(token, credentials.client).addErrback(_unavailable)

    def close(self) -> None:
        """See :class:`IChecker`."""
        self._http.close()

    def _ask(self, token: str, client: str) -> Deferred[Verdict]:
        fields = {"Accept": "application/json"}
        body, fields = prepare_revoke_token_request(token, "access_token", None, fields)
        url, fields, body = self._auth.prepare("POST", self._settings.url, fields, body)
        return self._http.ask(
            "POST",
            url,
            self._read,
            fields={name.encode("ascii"): value.encode("ascii") for name, value in fields.items()},
            body=body.encode("ascii"),
            client=client,
        )

    def _read(self, answer: Answer) -> Verdict:
        """What the server's answer is worth.

        :raises HttpError: nothing: it is not what RFC 7662, section 2.2 says.
        """
        if answer.status in (400, 401, 403):
            raise HttpError(
                f"the server answered with {answer.status}: are `client_id` and `client_secret` "
                "right, and may this client ask?"
            )
        if answer.status != 200:
            raise HttpError(f"the server answered with {answer.status}")
        try:
            claims = load_object(answer.body)
            if not isinstance(claims["active"], bool):
                raise ValueError
            return self._decide(claims) if claims["active"] else _INACTIVE
        except (KeyError, ValueError):
            raise HttpError("the answer is none that RFC 7662 knows") from None

    def _decide(self, claims: dict[str, Any]) -> Verdict:
        expires, begins = time_claim(claims, "exp"), time_claim(claims, "nbf")
        now = self._seconds()
        if expires is not None and expires <= now:
            return EXPIRED
        if begins is not None and begins > now:
            return EARLY
        if any(str(claims.get(kind)).lower() in _REFRESH for kind in _KINDS):
            return _OTHER_KIND
        if self._audience and not names_audience(claims, self._audience):
            return _OTHER_AUDIENCE
        client = name_claim(claims, "client_id")
        user = name_claim(claims, self._settings.user_claim) or name_claim(claims, "username")
        if not (user or client):
            return UNIDENTIFIED
        return Grant(
            user=user or client or "",
            key_id=client or "",
            groups=group_claim(claims, self._settings.groups_claim),
            expires=None if expires is None else float(expires),
        )


def _unavailable(failure: Failure) -> Unavailable:
    failure.trap(HttpError)
    return _AWAY
