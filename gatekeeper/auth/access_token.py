"""The ``access-token`` checker: Nevermined's encrypted bearer tokens.

``Authorization: Bearer TOKEN`` with a compact JWE (``dir``, ``A128CBC-HS256``) whose claims say who
the consumer is, which URLs the token opens, and with which credential the upstream is asked there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from hashlib import blake2b
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from zope.interface import implementer

from gatekeeper.auth.access_token_settings import AccessTokenSettings, read_settings
from gatekeeper.auth.cache import VerdictCache
from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.claims import EARLY, EXPIRED, invalid_token
from gatekeeper.auth.http_client import HttpClient, HttpError
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Abstain,
    Credentials,
    Deny,
    Grant,
    IChecker,
    Opens,
    Subscription,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.jwe import TokenCipher, TokenError, is_compact
from gatekeeper.auth.metadata import MAX_DOCUMENT, Ddo, MetadataClient, decode_did
from gatekeeper.auth.token_claims import (
    AccessToken,
    Lifetime,
    identity_headers,
    load_claims,
    read_claims,
)
from gatekeeper.auth.url_patterns import (
    Backend,
    OpenedUrls,
    PublicUrls,
    compile_usable,
)
from gatekeeper.errors import ConfigurationError, Problem

_UNKNOWN: Final = Unavailable("metadata_unavailable", "The service is not known at the moment.")
_KNOWN_DENIALS: Final = {"expired_token": EXPIRED, "early_token": EARLY}

# Where verdicts depend on more than the token, what the token says is remembered here.
_KNOWN_TOKENS: Final = 10_000
_KNOWN_FOR: Final = 300.0
_DENIED_FOR: Final = 5.0


@implementer(IChecker)
class AccessTokenChecker:
    """Takes bearer tokens of five parts.

    :param cipher: with the key that tokens are encrypted with.
    :param lifetime: what is asked of their times.
    :param backend: an upstream with a credential of its own.
    :param metadata: where services say what is open to everybody; None: nothing is.
    :param seconds: the wall clock, seconds since the epoch.
    """

    challenges = (BEARER,)

    log = Logger()

    def __init__(
        self,
        name: str,
        cipher: TokenCipher,
        lifetime: Lifetime = Lifetime(),  # noqa: B008 - it is frozen
        backend: Backend | None = None,
        metadata: MetadataClient | None = None,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        # What is open depends on host and path, too. Without that, the token alone decides.
        self.varies: frozenset[bytes] | None = frozenset() if metadata is None else None
        self._name = name
        self._cipher = cipher
        self._lifetime = lifetime
        self._backend = backend
        self._metadata = metadata
        self._seconds = seconds
        self._known = VerdictCache(_KNOWN_TOKENS, _KNOWN_FOR, _DENIED_FOR, wall=seconds)
        self._digest_key = self._known.secret_for(name)

    @classmethod
    def configured(cls, name: str, settings: AccessTokenSettings) -> AccessTokenChecker:
        """The checker of a ``[checkers.NAME]`` table.

        :raises ConfigurationError: with *all* that is wrong with the table.
        """
        problems: list[Problem] = []
        try:
            parts = read_settings(settings)
        except ConfigurationError as error:
            problems += error.problems
        try:
            metadata = _marketplace(name, settings)
        except ConfigurationError as error:
            problems += error.problems
        if problems:
            raise ConfigurationError(problems)
        if settings.secret_encoding == "nevermined-digits":  # noqa: S105 - not the secret
            cls.log.warn(
                'checkers.{name}: `secret_encoding = "nevermined-digits"` leaves at most 53 bits '
                "for each half of the key; whoever finds it can mint tokens",
                name=name,
            )
        return cls(name, *parts, metadata)

    def __repr__(self) -> str:
        return f"<access-token checker {self._name!r}>"

    def check(self, credentials: Credentials) -> Verdict | Deferred[Verdict]:
        """See :class:`IChecker`."""
        if credentials.presented and credentials.scheme != b"bearer":
            return ABSTAIN
        token = credentials.token
        ours = is_compact(token)
        if self._metadata is None:
            return self._judge(token) if ours else ABSTAIN
        verdict = self._judge_known(token) if ours else ABSTAIN
        if isinstance(verdict, Grant) and opens(verdict.opens, credentials):
            return verdict
        did = decode_did(credentials.host.partition(".")[0])
        if did is None:
            return verdict
        return self._judge_open(self._metadata, did, credentials, verdict)

    def close(self) -> None:
        """See :class:`IChecker`."""
        if self._metadata is not None:
            self._metadata.close()

    def mint(self, claims: dict[str, Any]) -> str:
        """A token with these claims.

        :raises TokenError: it would be refused here.
        """
        self.check_times(read_claims(claims))
        token = self._cipher.encrypt(json.dumps(claims, separators=(",", ":")).encode())
        self.read(token.encode("ascii"))
        return token

    def read(self, token: bytes) -> AccessToken:
        """What a token says, whether it is good now or not: see :meth:`check_times`.

        :raises TokenError: it is no token of ours.
        """
        return read_claims(load_claims(self._cipher.decrypt(token)))

    def check_times(self, token: AccessToken) -> None:
        """Check that a token is good now.

        :raises TokenError: it is not.
        """
        self._lifetime.check(token, self._seconds())

    def opened_by(self, token: AccessToken) -> OpenedUrls:
        """The URLs that a token opens."""
        urls = compile_usable(token.urls)
        return OpenedUrls(urls, token.credential.authorization, self._backend)

    def _judge(self, token: bytes) -> Grant | Deny:
        """What the token alone says."""
        try:
            claims = self.read(token)
            self.check_times(claims)
        except TokenError as error:
            return _KNOWN_DENIALS.get(error.reason) or invalid_token(error.reason)
        return Grant(
            user=claims.user,
            headers=claims.headers,
            expires=None if claims.expires is None else float(claims.expires),
            opens=self.opened_by(claims),
            subscription=Subscription(claims.did, claims.subscription, claims.owner),
        )

    def _judge_known(self, token: bytes) -> Grant | Deny:
        """As :meth:`_judge`, remembered: the chain's cache cannot."""
        key = blake2b(token, key=self._digest_key, digest_size=16).digest()
        known = self._known.get(key)
        if known is None:
            known = self._judge(token)
            self._known.put(key, known, self._known.generation)
        return known

    @inlineCallbacks
    def _judge_open(
        self,
        metadata: MetadataClient,
        did: str,
        credentials: Credentials,
        verdict: Grant | Deny | Abstain,
    ) -> Generator[Deferred[Ddo | None], Any, Verdict]:
        """What is open to everybody at the service ``did``; ``verdict`` where this URL is not."""
        try:
            found: Ddo | None = yield metadata.find(did, credentials.client)
        except HttpError:
            return _UNKNOWN
        if found is None:
            return verdict
        public = PublicUrls(found.open_urls)
        if not opens(public, credentials):
            return verdict
        return Grant(headers=identity_headers("", found.did, found.owner), opens=public)


def opens(limit: Opens | None, credentials: Credentials) -> bool:
    """Whether a grant with this limit is good for the URL that these credentials came with."""
    path = credentials.url.partition(b"?")[0]
    return limit is None or limit.find(credentials.host, credentials.port, path) is not None


def _marketplace(name: str, settings: AccessTokenSettings) -> MetadataClient | None:
    if settings.marketplace_url is None:
        return None
    client = HttpClient(
        f"checker {name!r}",
        timeout=settings.timeout,
        max_body=MAX_DOCUMENT,
        ca_file=settings.ca_file,
    )
    return MetadataClient(settings.marketplace_url, client, settings.metadata_ttl)
