"""What operators have made, as this process knows it: a copy in memory of what the store holds.

Everything that answers requests asks the copy. What changes it goes into the store first, and is
then told to all who listen. What another process has changed is read as soon as the store tells of
it. Where the store cannot, or is out of reach, it is looked for every second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gatekeeper.errors import (
    AlreadyThereError,
    ConfigurationError,
    NotThereError,
    StoreError,
)
from gatekeeper.store.state import (
    Add,
    AuditEntry,
    Change,
    IState,
    IStateWatch,
    Remove,
    Revocation,
    Snapshot,
    Stored,
    StoredKey,
    StoredService,
    StoredUser,
    kind_of,
    name_of,
)

log = Logger()

#: Seconds between two looks whether another process has changed something that nobody tells of.
INTERVAL: Final = 1.0

K = TypeVar("K")
T = TypeVar("T")

_Tables = dict[type[Any], dict[Any, Any]]


def key_of(thing: Stored) -> Any:
    """What a thing is found by: a user by service and name, everything else by its name."""
    return thing[:2] if isinstance(thing, StoredUser) else thing[0]


class View:
    """All that there is, at one version. It is never changed.

    Users are found by service and name, keys by their id, revocations by the digest.
    """

    def __init__(self, version: int, tables: _Tables) -> None:
        self.version = version
        self._tables = tables
        self.services: Mapping[str, StoredService] = MappingProxyType(tables[StoredService])
        self.users: Mapping[tuple[str, str], StoredUser] = MappingProxyType(tables[StoredUser])
        self.keys: Mapping[str, StoredKey] = MappingProxyType(tables[StoredKey])
        self.revocations: Mapping[str, Revocation] = MappingProxyType(tables[Revocation])

    @classmethod
    def of(cls, snapshot: Snapshot) -> View:
        """What a snapshot holds."""
        version, *parts = snapshot
        tables: Sequence[Sequence[Any]] = parts
        kinds = (StoredService, StoredUser, StoredKey, Revocation)
        return cls(
            version,
            {
                kind: {key_of(thing): thing for thing in things}
                for kind, things in zip(kinds, tables, strict=True)
            },
        )

    def changed(self, changes: Sequence[Change]) -> View:
        """What there is after ``changes``, which make it the next version; see :class:`IState`.

        :raises AlreadyThereError: :class:`Add` finds something of that name.
        :raises NotThereError: :class:`Replace` or :class:`Remove` find nothing.
        """
        tables = {kind: dict(table) for kind, table in self._tables.items()}
        for each in changes:
            thing, key = each.thing, key_of(each.thing)
            table = tables[type(thing)]
            if isinstance(each, Add):
                if key in table:
                    raise AlreadyThereError(kind_of(thing), name_of(thing))
            elif key not in table:
                raise NotThereError(kind_of(thing), name_of(thing))
            if isinstance(each, Remove):
                del table[key]
                _remove_what_belongs(thing, tables)
            else:
                table[key] = thing
        return View(self.version + 1, tables)

    def at(self, version: int) -> View:
        """The same under another version."""
        return View(version, self._tables)


def _remove_what_belongs(thing: Stored, tables: _Tables) -> None:
    """A service's users and keys, a user's keys for the same service."""
    if isinstance(thing, StoredService):
        belonging = [
            *(user for user in tables[StoredUser].values() if user.service == thing.name),
            *(key for key in tables[StoredKey].values() if key.service == thing.name),
        ]
    elif isinstance(thing, StoredUser):
        belonging = [
            key
            for key in tables[StoredKey].values()
            if (key.service, key.user) == (thing.service, thing.name)
        ]
    else:
        return
    for each in belonging:
        del tables[type(each)][key_of(each)]


class Difference(NamedTuple):
    """What has changed from one view to the next: names of what is new, another, or gone.

    ``time`` is when it was changed, in seconds since the epoch; ``None``: another process did.
    """

    before: View
    after: View
    services: frozenset[str]
    users: frozenset[tuple[str, str]]
    keys: frozenset[str]
    revocations: frozenset[str]
    time: float | None = None

    @classmethod
    def between(cls, before: View, after: View, time: float | None = None) -> Difference:
        """Compare two views."""
        return cls(
            before,
            after,
            _differing(before.services, after.services),
            _differing(before.users, after.users),
            _differing(before.keys, after.keys),
            _differing(before.revocations, after.revocations),
            time,
        )

    @property
    def removed_users(self) -> frozenset[tuple[str, str]]:
        """Users that are gone; there may be new ones of these names already."""
        before, after = self.before.users, self.after.users
        return frozenset(
            name
            for name in self.users & before.keys()
            if name not in after or after[name].created != before[name].created
        )


def _differing(before: Mapping[K, T], after: Mapping[K, T]) -> frozenset[K]:
    gone = before.keys() - after.keys()
    return frozenset(gone.union(key for key, thing in after.items() if before.get(key) != thing))


class Prepared(Protocol):
    """Something that was made ready for services that are to come."""

    def cancel(self) -> None:
        """They do not come."""


class Guard(Protocol):
    """Who has a say in which services there are."""

    def prepare(self, services: Mapping[str, StoredService]) -> Prepared:
        """Make ready for these services in place of those that there are.

        :raises ConfigurationError: one that is new or changed cannot be served.
        """


_EMPTY: Final = View.of(Snapshot(0))


class State:
    """The copy. It is empty but for what is assumed, and ``loaded`` is false, until the store has
    been read for once.

    ``guard`` is asked before services change. ``interval`` is in seconds.
    """

    def __init__(
        self,
        store: IState,
        clock: IReactorTime,
        guard: Guard | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._store = store
        self._interval = interval
        self.guard = guard
        self.view = _EMPTY
        self.loaded = False
        self._lock = DeferredLock()
        self._watch: IStateWatch | None = None
        self._newest = 0.0  # the newest version that we were told of; infinite: any
        self._catching_up = False
        self._stopped = False
        self._listeners: list[Callable[[Difference], object]] = []
        self._polling = LoopingCall(self._poll)
        self._polling.clock = clock
        self._first: Deferred[None] = Deferred()
        self._away = False

    def __repr__(self) -> str:
        view = self.view
        counts = f"{len(view.services)} services, {len(view.users)} users, {len(view.keys)} keys"
        return f"<State: version {view.version if self.loaded else 'unknown'}, {counts}>"

    # --- what there is --------------------------------------------------------------------

    @property
    def services(self) -> Mapping[str, StoredService]:
        """The services by name."""
        return self.view.services

    @property
    def users(self) -> Mapping[tuple[str, str], StoredUser]:
        """The users by service and name."""
        return self.view.users

    @property
    def keys(self) -> Mapping[str, StoredKey]:
        """The keys by id."""
        return self.view.keys

    @property
    def revocations(self) -> Mapping[str, Revocation]:
        """The revocations by digest; some may be over."""
        return self.view.revocations

    def assume(self, revocations: Sequence[Revocation]) -> None:
        """Take these for revoked until the store has been read: an earlier run knew them."""
        self.view = View.of(Snapshot(0, revocations=tuple(revocations)))

    def on_change(self, callback: Callable[[Difference], object]) -> None:
        """Call ``callback`` after each change, whoever made it."""
        self._listeners.append(callback)

    # --- life -----------------------------------------------------------------------------

    @property
    def listening(self) -> bool | None:
        """Whether the store tells of changes as they are made; ``None``: it is one that cannot."""
        return None if self._watch is None else self._watch.listening

    def start(self) -> Deferred[None]:
        """Begin to read the store, over and over; fires after the first attempt."""
        if self._stopped:
            return succeed(None)
        self._watch = self._store.watch_state(self._told)
        self._polling.start(self._interval)
        return self._first

    def stop(self) -> Deferred[None]:
        """Read no more; fires when nothing is under way."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()
        if self._polling.running:
            self._polling.stop()
        return self._lock.run(lambda: None)

    def load(self) -> Deferred[None]:
        """Read what has changed, now.

        :raises StoreError: the store cannot be reached.
        """
        return self._alone(self._refresh)

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        """Make changes, all or none: in the store, then here; changes are made in order.

        Without changes there is only the entry in the log. Returns the new version.

        :raises AlreadyThereError: see :meth:`IState.change`, and for the next one.
        :raises NotThereError: see there.
        :raises ConfigurationError: a service cannot be served; nothing has changed.
        :raises StoreError: the store cannot be reached; it may know of the change all the same.
        """
        return self._alone(lambda: self._change(changes, entry))

    def undisturbed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Do something during which nothing changes here."""
        return self._alone(work)

    def settled(self) -> Deferred[None]:
        """Wait until nothing is being read or changed."""
        return self._lock.run(lambda: None)

    # --- how ------------------------------------------------------------------------------

    def _alone(self, work: Callable[[], Any]) -> Deferred[Any]:
        return self._lock.run(lambda: Deferred.fromCoroutine(work()))

    async def _poll(self) -> None:
        """Look, unless we know of everything. Never fails."""
        if not self.listening or self._away or not self.loaded:
            await self._alone(self._look)
        if not self._first.called:
            self._first.callback(None)

    def _told(self, version: int | None) -> None:
        """The store has this version, or nobody knows which; what is told at once is read once."""
        self._newest = max(self._newest, math.inf if version is None else version)
        if self._newest > self.view.version and not self._catching_up:
            self._catching_up = True
            self._alone(self._catch_up)

    async def _catch_up(self) -> None:
        self._catching_up = False  # what is told from now on, this may have missed
        newest, self._newest = self._newest, 0
        if newest > self.view.version:  # else it was a change of our own
            await self._look()

    async def _look(self) -> None:
        """Read what has changed. Never fails: it is tried again."""
        try:
            await self._refresh()
        except (StoreError, ConfigurationError) as error:
            if not self._away and self._polling.running:
                log.error("What operators have made cannot be read: {error}", error=error)
            self._away = True
        except Exception:
            log.failure("What operators have made could not be taken over")
            self._away = True
        else:
            self._away = False

    async def _refresh(self) -> None:
        if self.loaded and await self._store.state_version() == self.view.version:
            return
        self._take(View.of(await self._store.snapshot()))

    async def _change(self, changes: Sequence[Change], entry: AuditEntry) -> int:
        await self._refresh()  # Another process may have been quicker.
        after = self.view.changed(changes)
        prepared = None
        if self.guard is not None and after.services != self.view.services:
            prepared = self.guard.prepare(after.services)
        try:
            version = await self._store.change(changes, entry)
        except BaseException:
            if prepared is not None:
                prepared.cancel()
            raise
        if version == after.version:
            self._take(after, entry.time)
            return version
        # Somebody else's change is in between: ours takes effect, the other is read.
        self._take(after.at(self.view.version), entry.time)
        try:
            await self._refresh()
        except StoreError as error:
            log.error("What operators have made cannot be read: {error}", error=error)
        return version

    def _take(self, view: View, time: float | None = None) -> None:
        difference = Difference.between(self.view, view, time)
        self.view, self.loaded = view, True
        for listener in self._listeners:
            try:
                listener(difference)
            except Exception:
                log.failure("A change did not take effect everywhere")
