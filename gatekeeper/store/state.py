"""What operators have made: services, users, keys, revocations; and who changed what.

Every change and its entry in the audit log go in together, and the version goes up by one: so
another process sees from one number whether it has to read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


class StoredService(NamedTuple):
    """A service made over the API: ``definition`` is JSON, in the form that ``dialect`` names.

    ``dialect`` is ``v1`` (a service as in the configuration file) or ``golem`` (a definition).
    ``created`` is in seconds since the epoch, here and below.
    """

    name: str
    dialect: str
    definition: str
    created: float


class StoredUser(NamedTuple):
    """A user of one service; ``password`` is an argon2id hash. ``expires`` as ``created``."""

    service: str
    name: str
    password: str
    created: float
    disabled: bool = False
    expires: float | None = None
    groups: tuple[str, ...] = ()


class StoredKey(NamedTuple):
    """An API key of a user: ``digest`` is SHA-256 of its secret, in hex digits.

    ``service`` is the only one that it is good for; ``""``: all that have a ``key`` checker.
    """

    id: str
    service: str
    user: str
    digest: str
    created: float
    label: str = ""
    disabled: bool = False
    expires: float | None = None
    groups: tuple[str, ...] = ()


class Revocation(NamedTuple):
    """A token that counts no more: the SHA-256 of it or its ``jti``, in hex digits.

    It is forgotten after ``until``, when the token itself has expired.
    """

    digest: str
    until: float
    created: float


Stored: TypeAlias = StoredService | StoredUser | StoredKey | Revocation


def kind_of(thing: Stored) -> str:
    """What a thing is, in a word: ``service``, ``user``, ``key``, ``revocation``."""
    return _KINDS[type(thing)]


def name_of(thing: Stored) -> str:
    """What a thing is found by; a user within its service."""
    return thing[1] if isinstance(thing, StoredUser) else thing[0]


def removed_name(user: str, time: float) -> str:
    """What the usage of a user is found under who was removed at ``time`` (since the epoch)."""
    return f"{user}~{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"


_KINDS: Final[dict[type[Any], str]] = {
    StoredService: "service",
    StoredUser: "user",
    StoredKey: "key",
    Revocation: "revocation",
}


class Add(NamedTuple):
    """Something new; :class:`AlreadyThereError` where there is one of that name."""

    thing: Stored


class Replace(NamedTuple):
    """Something changed; :class:`NotThereError` where there is none of that name."""

    thing: Stored


class Remove(NamedTuple):
    """Something gone, found by its name.

    A service's users and keys go with it, and the keys of a user for the same service. A key for
    all services stands by itself.
    """

    thing: Stored


Change: TypeAlias = Add | Replace | Remove


class AuditEntry(NamedTuple):
    """One change: who (``token``, ``socket``, ``nobody``: open), what, to what, from where.

    ``time`` is in seconds since the epoch, ``detail`` JSON without secrets.
    """

    time: float
    actor: str
    source: str
    action: str
    subject: str
    detail: str = "{}"


class Snapshot(NamedTuple):
    """All that is there, at one ``version``."""

    version: int
    services: tuple[StoredService, ...] = ()
    users: tuple[StoredUser, ...] = ()
    keys: tuple[StoredKey, ...] = ()
    revocations: tuple[Revocation, ...] = ()


class IStateWatch(Interface):
    """Tells of changes as they are made, by whomever; where it cannot, it tries again and again."""

    listening: bool = Attribute("Whether every change is told that is made now.")

    def stop() -> None:
        """Tell nothing more, and let go at once."""


class IState(Interface):
    """Part of every store. Failures to reach it are StoreErrors."""

    def state_version() -> Deferred[int]:
        """Return the version, which every change makes higher."""

    def snapshot() -> Deferred[Snapshot]:
        """Read everything, as of one moment; revocations that are over are left out."""

    def change(changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        """Do all of the changes or none, note it down, and return the new version.

        Usage of a user who is removed stays, under the name and the time of the removal
        (``alice~2024-05-01T10:00:00Z``), and so do its quotas. A new user of that name begins at 0:
        what is there under the name when a user is added is kept in the same way. Prepaid credits
        stay with the name.

        :raises AlreadyThereError: :class:`Add` finds something of that name.
        :raises NotThereError: :class:`Replace` or :class:`Remove` find nothing.
        """

    def watch_state(changed: Callable[[int | None], object]) -> IStateWatch | None:
        """Tell of changes, once the reactor runs; ``None``: this store cannot, look now and then.

        ``changed`` is called with the new version after a change, and with ``None`` where there may
        be any: when it has begun to listen, or has been deaf, and now and then to be sure.
        """

    def audit(limit: int, before: int | None = None) -> Deferred[list[tuple[int, AuditEntry]]]:
        """Read the log with the entries' numbers, the newest first; only ``before`` a number."""
