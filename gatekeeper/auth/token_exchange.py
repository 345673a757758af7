"""The ``exchange`` checker: another server gives a token for what a request presents.

The credential is the value of some header fields, ``a:b:c``. The server is asked about it once,
with ``X-Userinfo: a:b:c``; a 200's body is the token, which goes upstream in a header field with
every request until it expires. An entry of the token cache that is ``"0"`` shuts a caller out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.claims import is_name
from gatekeeper.auth.flight import SingleFlight
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
from gatekeeper.auth.jose import decode_part, load_object
from gatekeeper.auth.token_cache import (
    LONGEST,
    REVOKED,
    IClaims,
    IRevoking,
    ITokenCache,
    IUsesTokenCache,
    MemoryTokenCache,
    TokenCacheError,
)
from gatekeeper.config.fields import Name, Seconds, Section, Words
from gatekeeper.http.fields import AUTHORIZATION, KEEP, RESERVED, classify

_AUTHORIZATION: Final = "authorization"
_USERINFO: Final = b"X-Userinfo"
_FIELD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,64}")  # RFC 9110, 5.6.2, without "_"
_TOKEN: Final = re.compile(rb"[!-~]{1,%d}" % LONGEST)
_FINGERPRINT: Final = 32  # hex digits
_ADDED: Final = 1.0  # seconds that it may take until a token is in the cache
_GRANTS: Final = 4096

_MALFORMED: Final = Deny("malformed_credentials", "The credentials are malformed.")
_REFUSED: Final = Deny("refused", "You may not use this service.", 403)
_SHUT_OUT: Final = Deny("revoked", "You may not use this service.", 403)
_AWAY: Final = Unavailable("auth_server_away", "The credentials cannot be checked at the moment.")
_CUT_OFF: Final = Unavailable("token_cache_away", "It cannot be told now who may use this service.")


def _check_credential_field(text: str) -> str:
    name = text.lower()
    kind = classify(name.encode("ascii", "replace"))[1]
    if not _FIELD.fullmatch(text) or kind not in (KEEP, RESERVED, AUTHORIZATION):
        raise ValueError("must be a header field that can hold a credential, without `_`")
    return name


def _check_header(text: str) -> str:
    kind = classify(text.lower().encode("ascii", "replace"))[1]
    if not _FIELD.fullmatch(text) or kind not in (KEEP, RESERVED):
        raise ValueError("must be a header field that may be set, without `_`")
    return text


def _check_credential(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names a header field twice")
    return names


class TokenExchangeSettings(Section):
    """A token for a credential, fetched from another server and sent upstream."""

    url: HttpUrl = Field(
        description="Asked with GET and `X-Userinfo: a:b:c`. A 200's body is the token; 401 and "
        "403 refuse the caller."
    )
    credential: Annotated[
        tuple[Annotated[str, AfterValidator(_check_credential_field), Words("header field")], ...],
        AfterValidator(_check_credential),
    ] = Field(
        default=(_AUTHORIZATION,),
        min_length=1,
        max_length=8,
        description="The header fields that are the credential, `a:b:c`. Any other list than "
        '`["authorization"]` is believed of a listener\'s `trusted_peers` only.',
    )
    header: Annotated[str, AfterValidator(_check_header), Words("header field")] = Field(
        default="X-Authkey", description="The upstream gets the token in it."
    )
    ttl: Seconds = Field(
        default=300.0,
        description="A token is used for so long, or until its own `exp` where it is a JWT.",
    )
    zone: Name = Field(
        default="tokens", description="What the key-value calls know the tokens by; unique."
    )
    timeout: Seconds = Field(default=5.0, description="The server must have answered by then.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that an https server is verified with; the "
        "system's if left out.",
    )

    @property
    def needs_trusted_peers(self) -> bool:
        """Whether anybody could send what is believed here."""
        return self.credential != (_AUTHORIZATION,)


@implementer(IChecker, IRevoking, IUsesTokenCache)
class TokenExchangeChecker:
    """Takes every credential of its fields: what the server refuses is refused.

    Verdicts are not kept by the chain: the token cache knows them, and forgets them at once.

    :param http: how the server is asked.
    :param cache: used until :meth:`use` gives another one.
    :param seconds: the wall clock, seconds since the epoch.
    """

    varies = None

    def __init__(
        self,
        name: str,
        settings: TokenExchangeSettings,
        http: Asks,
        cache: ITokenCache | None = None,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self.zone = settings.zone
        self.ttl = settings.ttl
        self.challenges = (BEARER,) if _AUTHORIZATION in settings.credential else ()
        self._name = name
        self._settings = settings
        self._names = [field.encode("ascii") for field in settings.credential]
        self._trusting = settings.needs_trusted_peers
        # A field that is a secret is not shown: its fingerprint is the key.
        self._secret = _AUTHORIZATION in settings.credential
        self._header = settings.header.encode("ascii")
        self._http = http
        self.use(cache or MemoryTokenCache(settings.ttl))
        self._seconds = seconds
        self._flights: SingleFlight[str, Verdict] = SingleFlight()
        # A token is read once, not with every request that it goes upstream with.
        self._grant = lru_cache(_GRANTS)(self._make_grant)

    @classmethod
    def configured(cls, name: str, settings: TokenExchangeSettings) -> TokenExchangeChecker:
        """The checker of a ``[checkers.NAME]`` table.

        :raises ConfigurationError: ``ca_file`` cannot be used.
        """
        http = HttpClient(
            f"exchange checker {name!r}",
            timeout=settings.timeout,
            max_body=LONGEST,
            ca_file=settings.ca_file,
        )
        return cls(name, settings, http)

    def __repr__(self) -> str:
        return f"<exchange checker {self._name!r}>"

    def use(self, cache: ITokenCache) -> None:
        """See :class:`IUsesTokenCache`."""
        self._cache = cache
        self._claims: IClaims | None = IClaims(cache, None)

    def on_revoked(self, revoked: Callable[[str], None]) -> None:
        """See :class:`IRevoking`."""
        self._cache.subscribe(lambda key: revoked(self._key_id(key)))

    def check(self, credentials: Credentials) -> Deny | Abstain | Deferred[Verdict]:
        """See :class:`IChecker`."""
        if self._trusting and not credentials.peer_trusted:
            return ABSTAIN
        parts = [self._part(credentials, name) for name in self._names]
        if not parts[0]:
            return ABSTAIN
        credential = b":".join(parts)
        try:
            text = credential.decode("utf-8")
        except UnicodeDecodeError:
            return _MALFORMED
        # The first part says who it is, so nobody may choose where it ends.
        if (
            len(credential) > LONGEST
            or not text.isprintable()
            or (len(parts) > 1 and b":" in parts[0])
        ):
            return _MALFORMED
        key = fingerprint(credential) if self._secret else text
        return self._flights.join(key) or self._flights.lead(
            key, Deferred.fromCoroutine(self._verify(key, credential, credentials.client))
        )

    def close(self) -> None:
        """See :class:`IChecker`."""
        self._http.close()

    @staticmethod
    def _part(credentials: Credentials, name: bytes) -> bytes:
        if name == b"authorization":
            return credentials.presented
        # Several lines of one field are one list (RFC 9110, 5.3).
        return b", ".join(value for field, value in credentials.fields if field == name)

    def _key_id(self, key: str) -> str:
        return key if self._secret else fingerprint(key.encode("utf-8"))

    async def _verify(self, key: str, credential: bytes, client: str) -> Verdict:
        try:
            value = await self._look_up(key)
            if value is None:
                value = await self._obtain(key, credential, client)
        except HttpError:
            return _AWAY
        except TokenCacheError:
            return _CUT_OFF
        if value is None:
            return _REFUSED
        return _SHUT_OUT if value == REVOKED else self._grant(key, credential, value)

    def _look_up(self, key: str) -> Deferred[str | None]:
        if self._claims is None:
            return self._cache.get(key)
        return self._claims.claim(key, self._settings.timeout + _ADDED)

    async def _obtain(self, key: str, credential: bytes, client: str) -> str | None:
        """Ask the server, and add what it says; None where it refuses the credential."""
        claims = self._claims
        try:
            value = await self._fetch(credential, client)
            if value is None:
                return None
            # An operator, or another node, may have said something meanwhile: that counts.
            lifetime = token_lifetime(value, self.ttl, self._seconds())
            return await self._cache.add(key, value, lifetime) or value
        finally:
            if claims is not None:
                claims.release(key)

    def _fetch(self, credential: bytes, client: str) -> Deferred[str | None]:
        """The token; None where the server refuses the credential."""
        return self._http.ask(
            "GET",
            self._settings.url,
            self._read,
            fields={_USERINFO: credential},
            client=client,
        )

    def _read(self, answer: Answer) -> str | None:
        if answer.status in (401, 403):
            return None
        if answer.status != 200:
            raise HttpError(f"the server answered with {answer.status}")
        if not _TOKEN.fullmatch(answer.body):
            raise HttpError("the answer is no token")
        token = answer.body.decode("ascii")
        if token_lifetime(token, self.ttl, self._seconds()) <= 0:
            raise HttpError("the token has expired already")
        return token

    def _make_grant(self, key: str, credential: bytes, token: str) -> Grant:
        claims = _claims(token)
        user = claims.get("sub")
        if not is_name(user):
            user = "" if self._secret else credential.decode("utf-8").partition(":")[0]
        key_id = self._key_id(key)
        return Grant(
            user=user if is_name(user) else key_id,
            key_id=key_id,
            headers=((self._header, token.encode("ascii")),),
            expires=_expiry(claims),
        )


def fingerprint(credential: bytes) -> str:
    """What stands for a credential that must not be shown: 32 hex digits of its SHA-256."""
    return sha256(credential).hexdigest()[:_FINGERPRINT]


def is_token(value: str) -> bool:
    """Whether a value may go into a token cache: visible ASCII, not too long."""
    return value.isascii() and _TOKEN.fullmatch(value.encode("ascii")) is not None


def token_lifetime(token: str, ttl: float, now: float) -> float:
    """Seconds that a token may be used for: ``ttl``, or until its own ``exp`` if that is sooner."""
    expires = _expiry(_claims(token))
    return ttl if expires is None else min(ttl, expires - now)


def _claims(token: str) -> dict[str, Any]:
    """A JWT's claims, empty for other tokens. The server vouches for them: nothing is verified."""
    parts = token.encode("ascii").split(b".")
    if len(parts) != 3:
        return {}
    try:
        load_object(decode_part(parts[0]))
        return load_object(decode_part(parts[1]))
    except ValueError:
        return {}


def _expiry(claims: dict[str, Any]) -> float | None:
    value = claims.get("exp")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        expires = float(value)
    except OverflowError:
        return None
    return expires if isfinite(expires) else None
