"""The ``basic`` checker: user names and passwords (RFC 7617)."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from gatekeeper.auth.flight import SingleFlight
from gatekeeper.auth.hashing import HashingQueue, OverloadError, ReactorThreads
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
from gatekeeper.auth.passwords import (
    check_hash,
    has_control_character,
    normalize,
    verify_password,
)
from gatekeeper.auth.users import (
    ConfiguredUsers,
    Decoys,
    Directory,
    IUsesDirectory,
    KnownUser,
    StoredUsers,
    UserSource,
)
from gatekeeper.config.fields import Section
from gatekeeper.errors import StoreError

#: A password is checked again where its user has changed meanwhile, so many times.
_ATTEMPTS: Final = 3

#: Nobody's name and password are longer; what is, is not even decoded.
_MAX_SIZE: Final = 8192

_MALFORMED: Final = Deny("malformed_credentials", "The Basic credentials are malformed.")
_WRONG: Final = Deny("wrong_password", "User name or password are wrong.")
_AWAY: Final = Unavailable("users_unknown", "Users cannot be looked up at the moment.")
_BUSY: Final = Unavailable("busy", "Too many passwords are being checked. Try again.")


def _check_user(text: str) -> str:
    if not text or ":" in text or has_control_character(text):
        raise ValueError("a user name is not empty and has no colon or control character")
    if normalize(text) != text:
        raise ValueError("a user name must be in Unicode normal form C")
    return text


class BasicSettings(Section):
    """User name and password, as `curl -u` and browsers send them."""

    users: dict[
        Annotated[str, AfterValidator(_check_user)], Annotated[str, AfterValidator(check_hash)]
    ] = Field(
        default_factory=dict,
        repr=False,
        description="Users and their argon2id hashes, as `gatekeeper hash-password` prints them.",
    )
    realm: str = Field(
        default="Service access",
        pattern=r"^[ !#-\[\]-~]{1,100}$",  # what a quoted string holds without escapes
        description="What the client shows when it asks for the password.",
    )


@implementer(IChecker, IUsesDirectory)
class BasicChecker:
    """Asks the sources in order; the first that knows the user has the password's hash.

    The last source are those of the service's users that operators have made. An unknown user and a
    wrong password are one answer, in the same time. The passwords of one client wait in line behind
    each other, not before those of other clients.

    :param decoys: stand in for unknown users.
    :param queue: where the passwords are checked.
    """

    varies = frozenset[bytes]()

    def __init__(
        self,
        name: str,
        sources: Sequence[UserSource],
        decoys: Decoys,
        queue: HashingQueue[bool],
        realm: str = "Service access",
    ) -> None:
        self.challenges = (b'Basic realm="%s", charset="UTF-8"' % realm.encode("ascii"),)
        self._name = name
        self._sources = tuple(sources)
        self._stored: StoredUsers | None = None
        self._decoys = decoys
        self._queue = queue
        self._flights: SingleFlight[tuple[str, str, str], Verdict] = SingleFlight()

    @classmethod
    def configured(cls, name: str, settings: BasicSettings) -> BasicChecker:
        """The checker of a ``[checkers.NAME]`` table."""
        hashes = settings.users
        return cls(
            name,
            [ConfiguredUsers(hashes)],
            Decoys(tuple(hashes.values())),
            HashingQueue(ReactorThreads()),
            settings.realm,
        )

    def __repr__(self) -> str:
        return f"<basic checker {self._name!r}>"

    def check(self, credentials: Credentials) -> Deny | Abstain | Deferred[Verdict]:
        """See :class:`IChecker`."""
        if credentials.scheme != b"basic":
            return ABSTAIN
        pair = read_basic(credentials)
        if pair is None:
            return _MALFORMED
        key = (credentials.service, *pair)
        return self._flights.join(key) or self._flights.lead(
            key, Deferred.fromCoroutine(self._verify(*key, credentials.client))
        )

    def use_directory(self, directory: Directory) -> None:
        """See :class:`IUsesDirectory`."""
        self._stored = StoredUsers(directory)
        self._sources = (*self._sources, self._stored)

    def close(self) -> None:
        """See :class:`IChecker`."""
        self._queue.close()

    async def _verify(self, service: str, user: str, password: str, client: str) -> Verdict:
        samples = () if self._stored is None else self._stored.samples(service)
        decoy = self._decoys.hash_for(user, samples)  # also where it is not needed: it takes time
        try:
            found = await self._find(service, user)
            for _ in range(_ATTEMPTS):
                before, hashed = found, decoy if found is None else found.password
                fits = await self._queue.submit(
                    client, user, partial(verify_password, password, hashed)
                )
                # What counts is who may log in now: an operator may have said so meanwhile.
                found = await self._find(service, user)
                if found == before:
                    break
            else:
                return _BUSY
        except OverloadError:
            return _BUSY
        except StoreError:
            return _AWAY
        if found is None or not fits:
            return _WRONG
        return Grant(user=user, groups=found.groups, expires=found.expires)

    async def _find(self, service: str, user: str) -> KnownUser | None:
        for source in self._sources:
            found = source.find(service, user)
            known = await found if isinstance(found, Deferred) else found
            if known is not None:
                return known
        return None


def read_basic(credentials: Credentials) -> tuple[str, str] | None:
    """The user's name in normal form C, and the password; None against RFC 7617, section 2."""
    token = credentials.token
    if len(token) > _MAX_SIZE:
        return None
    try:
        raw = binascii.a2b_base64(token, strict_mode=True)
        text = raw.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    # Strict mode lets the unused bits at the end be anything: one user, many spellings.
    canonical = binascii.b2a_base64(raw, newline=False) == token
    if not (canonical and user and colon) or has_control_character(text):
        return None
    return normalize(user), password
