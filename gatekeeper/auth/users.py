"""Where the ``basic`` checker finds its users."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

from twisted.internet.defer import Deferred

from gatekeeper.auth.passwords import SAMPLE_HASH, imitate


class UserSource(Protocol):
    """Some users and their password hashes."""

    def find(self, service: str, user: str) -> str | Deferred[str | None] | None:
        """The argon2id hash of a user's password, None where the service has no such user.

        ``user`` is in normal form C. The Deferred fails where it cannot be told now.
        """


class ConfiguredUsers:
    """The users of a ``[checkers.NAME]`` table; every service that names the checker has them.

    :param hashes: by name, the names in normal form C.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = dict(hashes)

    def find(self, service: str, user: str) -> str | None:
        """See :class:`UserSource`."""
        return self._hashes.get(user)


class Decoys:
    """Hashes to check for users that do not exist, so that it takes as long as for those that do.

    :param hashes: those of real users. A name is given the cost of one of them, always of the same
        one, so that unknown names cost what known ones do also where the costs differ.
    """

    def __init__(self, hashes: Sequence[str]) -> None:
        self._hashes = tuple(hashes) or (SAMPLE_HASH,)
        self._key = secrets.token_bytes(32)

    def hash_for(self, user: str) -> str:
        """A hash that no password fits."""
        digest = blake2b(user.encode("utf-8"), key=self._key, digest_size=8).digest()
        return imitate(self._hashes[int.from_bytes(digest, "big") % len(self._hashes)])
