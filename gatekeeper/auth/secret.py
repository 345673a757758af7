"""``secret://VALUE?user_id=U&api_key_id=K&meta=M``: one shared secret, and who has it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.interfaces import ABSTAIN, Abstain, Credentials, Grant, IChecker
from gatekeeper.auth.urls import parse_checker_url

_HEADERS: Final = {
    "user_id": b"x-sf-user-id",
    "api_key_id": b"x-sf-api-key-id",
    "meta": b"x-sf-meta",
}


@implementer(IChecker)
class SecretChecker:
    """Grants to whoever presents the secret, as a bearer token or as the whole field.

    A value that is not the secret may be what a later checker of the chain is waiting for, so it
    is left alone; if nobody takes it, the chain's end denies it.

    Only a digest of the secret is kept: digests compare in one time, whatever the lengths, and
    there is nothing here to show by accident.
    """

    challenges = (BEARER,)
    varies = frozenset[bytes]()

    def __init__(self, secret: bytes, parameters: Mapping[str, str]) -> None:
        self._key = secrets.token_bytes(32)
        self._digest = self._digest_of(secret)
        self._grant = Grant(
            user=parameters.get("user_id", ""),
            key_id=parameters.get("api_key_id", ""),
            headers=tuple(
                (header, parameters[name].encode("utf-8"))
                for name, header in _HEADERS.items()
                if name in parameters
            ),
            real_ip=True,
        )

    @classmethod
    def from_url(cls, url: str) -> SecretChecker:
        """The checker of a ``secret://`` URL.

        :raises ConfigurationError: the URL is malformed.
        """
        value, parameters = parse_checker_url(url, tuple(_HEADERS), "the secret")
        return cls(value.encode("utf-8"), parameters)

    def __repr__(self) -> str:
        return f"<secret://*** user {self._grant.user!r}>"

    def check(self, credentials: Credentials) -> Grant | Abstain:
        """See :class:`IChecker`."""
        fits = compare_digest(self._digest_of(credentials.presented.strip()), self._digest)
        if credentials.scheme == b"bearer":
            fits |= compare_digest(self._digest_of(credentials.token), self._digest)
        return self._grant if fits else ABSTAIN

    def close(self) -> None:
        """See :class:`IChecker`."""

    def _digest_of(self, value: bytes) -> bytes:
        return blake2b(value, key=self._key, digest_size=32).digest()
