"""Where the ``basic`` checker finds its users."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from zope.interface import Interface

from gatekeeper.auth.interfaces import IChecker
from gatekeeper.auth.passwords import SAMPLE_HASH, imitate
from gatekeeper.errors import StoreError
from gatekeeper.store.state import Revocation, StoredKey, StoredUser


class KnownUser(NamedTuple):
    """A user: the argon2id hash of the password, and what a grant says.

    ``expires`` is in seconds since the epoch.
    """

    password: str
    groups: frozenset[str] = frozenset()
    expires: float | None = None


class UserSource(Protocol):
    """Some users."""

    def find(self, service: str, user: str) -> KnownUser | Deferred[KnownUser | None] | None:
        """A user who may log in; None where the service has no such user.

        ``user`` is in normal form C. The Deferred fails where it cannot be told now.

        :raises StoreError: it cannot be told now.
        """


class ConfiguredUsers:
    """The users of a ``[checkers.NAME]`` table; every service that names the checker has them.

    :param hashes: by name, the names in normal form C.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._users = {name: KnownUser(hashed) for name, hashed in hashes.items()}

    def find(self, service: str, user: str) -> KnownUser | None:
        """See :class:`UserSource`."""
        return self._users.get(user)


class Directory(Protocol):
    """What operators have made, as far as checkers need it.

    The mappings do not change: after a change there are others.
    """

    @property
    def loaded(self) -> bool:
        """Whether the rest is known."""

    @property
    def users(self) -> Mapping[tuple[str, str], StoredUser]:
        """The users by service and name."""

    @property
    def keys(self) -> Mapping[str, StoredKey]:
        """The keys by id."""

    @property
    def revocations(self) -> Mapping[str, Revocation]:
        """The revocations by digest."""


class IUsesDirectory(Interface):
    """What a checker provides beside :class:`IChecker` that lets in whom operators have made."""

    def use_directory(directory: Directory) -> None:
        """Look there, too, from now on. To be called before the first request."""


def share_directory(checkers: Mapping[str, IChecker], directory: Directory) -> None:
    """Tell every checker that wants to know."""
    for checker in checkers.values():
        user = IUsesDirectory(checker, None)
        if user is not None:
            user.use_directory(directory)


class StoredUsers:
    """The users that operators have made; each belongs to one service.

    Who is disabled, or has expired, is not there.

    :param wall: seconds since the epoch.
    """

    def __init__(self, directory: Directory, wall: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._wall = wall
        self._sampled: Mapping[tuple[str, str], StoredUser] | None = None
        self._samples: dict[str, dict[str, str]] = {}

    def find(self, service: str, user: str) -> KnownUser | None:
        """See :class:`UserSource`."""
        if not self._directory.loaded:
            raise StoreError("the users are not known yet")
        found = self._directory.users.get((service, user))
        if found is None or not is_current(found, self._wall()):
            return None
        return KnownUser(found.password, frozenset(found.groups), found.expires)

    def samples(self, service: str) -> Sequence[str]:
        """Hashes of some of the service's users: of each cost that there is, one."""
        users = self._directory.users
        if users is not self._sampled:
            self._sampled, self._samples = users, {}
            for user in users.values():
                cost = user.password.rsplit("$", 2)[0]
                self._samples.setdefault(user.service, {}).setdefault(cost, user.password)
        return list(self._samples.get(service, {}).values())


def is_current(thing: StoredUser | StoredKey, now: float) -> bool:
    """Whether it is neither disabled nor expired at ``now`` (since the epoch)."""
    return not thing.disabled and (thing.expires is None or now < thing.expires)


class Decoys:
    """Hashes to check for users that do not exist, so that it takes as long as for those that do.

    :param hashes: those of real users. A name is given the cost of one of them, always of the same
        one, so that unknown names cost what known ones do also where the costs differ.
    """

    def __init__(self, hashes: Sequence[str]) -> None:
        self._hashes = tuple(hashes)
        self._key = secrets.token_bytes(32)

    def hash_for(self, user: str, more: Sequence[str] = ()) -> str:
        """A hash that no password fits; ``more`` are hashes of further real users."""
        hashes = (*self._hashes, *more) or (SAMPLE_HASH,)
        digest = blake2b(user.encode("utf-8"), key=self._key, digest_size=8).digest()
        return imitate(hashes[int.from_bytes(digest, "big") % len(hashes)])
