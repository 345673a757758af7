"""The ``key`` checker: API keys that operators make, ``gk_ID_SECRET``.

A key is presented as ``Authorization: Bearer gk_…`` or as ``X-Api-Key: gk_…``. The store has the
SHA-256 of the secret only: a secret has 256 random bits, so that a slow hash would protect nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

from zope.interface import implementer

from gatekeeper.auth.challenges import BEARER
from gatekeeper.auth.interfaces import (
    ABSTAIN,
    Credentials,
    Deny,
    Grant,
    IChecker,
    Unavailable,
    Verdict,
)
from gatekeeper.auth.users import Directory, IUsesDirectory, is_current
from gatekeeper.config.fields import Section
from gatekeeper.store.state import StoredKey

_FIELD: Final = b"x-api-key"

#: The prefix lets programs that look for leaked secrets know it. No id has a "_", a secret may.
_KEY: Final = re.compile(rb"gk_(?P<id>[0-9a-z]{1,64})_(?P<secret>[0-9A-Za-z_-]{22,256})")

_WRONG: Final = Deny("wrong_key", "The API key is not valid.", error="invalid_token")
#: Which ids there are, and what became of a key, is for the log alone.
_UNKNOWN: Final = replace(_WRONG, reason="unknown_key", told=_WRONG.reason)
_DISABLED: Final = replace(_WRONG, reason="disabled_key", told=_WRONG.reason)
_EXPIRED: Final = replace(_WRONG, reason="expired_key", told=_WRONG.reason)
_DISABLED_USER: Final = replace(_WRONG, reason="disabled_user", told=_WRONG.reason)
_ELSEWHERE: Final = replace(_WRONG, reason="key_of_another_service", told=_WRONG.reason)
_REPEATED: Final = Deny("malformed_credentials", "There is more than one X-Api-Key.")
_AWAY: Final = Unavailable("users_unknown", "API keys cannot be looked up at the moment.")


class NewKey(NamedTuple):
    """A key that was just made: its id, what its owner presents, and what the store gets of it."""

    id: str
    presented: str
    digest: str


def new_key() -> NewKey:
    """Make a key."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return NewKey(key_id, f"gk_{key_id}_{secret}", _digest(secret.encode("ascii")))


class KeySettings(Section):
    """API keys that operators make over the management API."""


@implementer(IChecker, IUsesDirectory)
class KeyChecker:
    """Takes what looks like a key; other bearer tokens, and other ``X-Api-Key``, are not its kind.

    A key in ``X-Api-Key`` is for us: it does not go upstream.

    :param wall: seconds since the epoch.
    """

    challenges = (BEARER,)
    varies = frozenset({_FIELD})

    def __init__(self, name: str, wall: Callable[[], float] = time.time) -> None:
        self._name = name
        self._wall = wall
        self._directory: Directory | None = None

    @classmethod
    def configured(cls, name: str, settings: KeySettings) -> KeyChecker:
        """The checker of a ``[checkers.NAME]`` table."""
        return cls(name)

    def __repr__(self) -> str:
        return f"<key checker {self._name!r}>"

    def use_directory(self, directory: Directory) -> None:
        """See :class:`IUsesDirectory`."""
        self._directory = directory

    def check(self, credentials: Credentials) -> Verdict:
        """See :class:`IChecker`."""
        token = credentials.token if credentials.scheme == b"bearer" else b""
        match = _KEY.fullmatch(token)
        values = [value for name, value in credentials.fields if name == _FIELD]
        found = [match for match in map(_KEY.fullmatch, values) if match is not None]
        if match is None:
            if not found:
                return ABSTAIN
            if len(values) > 1:
                return _REPEATED
            match = found[0]
        verdict = self._decide(credentials.service, match)
        if found and isinstance(verdict, Grant):
            return replace(verdict, removes=(_FIELD,))
        return verdict

    def close(self) -> None:
        """See :class:`IChecker`."""

    def _decide(self, service: str, match: re.Match[bytes]) -> Verdict:
        directory = self._directory
        if directory is None or not directory.loaded:
            return _AWAY
        key = directory.keys.get(match["id"].decode("ascii"))
        digest = _digest(match["secret"])
        if not compare_digest(digest, _NOBODYS if key is None else key.digest) or key is None:
            return _UNKNOWN if key is None else _WRONG
        return self._owned(directory, key, service)

    def _owned(self, directory: Directory, key: StoredKey, service: str) -> Verdict:
        """The secret was right."""
        now = self._wall()
        if key.service not in ("", service):
            return _ELSEWHERE
        if not is_current(key, now):
            return _DISABLED if key.disabled else _EXPIRED
        # The user may be one of the configuration, or somebody without a password.
        user = directory.users.get((service, key.user))
        if user is not None and not is_current(user, now):
            return _DISABLED_USER
        ends = [each.expires for each in (key, user) if each and each.expires is not None]
        return Grant(
            user=key.user,
            key_id=key.id,
            groups=frozenset(key.groups),
            expires=min(ends, default=None),
        )


def _digest(secret: bytes) -> str:
    return sha256(secret).hexdigest()


#: Of no secret: compared with where there is no such key.
_NOBODYS: Final = "0" * 64
