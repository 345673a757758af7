"""What a worker's core leaves to the supervisor; see :class:`gatekeeper.supervised.Supervisor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.process.link import Link, LinkError
from gatekeeper.process.zones import WorkerZones
from gatekeeper.store.state import AuditEntry, Change, IState, IStateWatch, Snapshot
from gatekeeper.usage.segment_file import Segment


@implementer(IState)
class ToldState:
    """A store that is read when the supervisor says that its version is another one."""

    def __init__(self, store: IState) -> None:
        self._store = store
        self.version = 0

    def state_version(self) -> Deferred[int]:
        """See :class:`IState`."""
        return succeed(self.version)

    def snapshot(self) -> Deferred[Snapshot]:
        """See :class:`IState`."""
        return self._store.snapshot().addCallback(self._read)

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        """See :class:`IState`."""
        return self._store.change(changes, entry)

    def watch_state(self, changed: Callable[[int | None], object]) -> IStateWatch | None:
        """See :class:`IState`."""
        return None

    def audit(
        self, limit: int, before: int | None = None
    ) -> Deferred[list[tuple[int, AuditEntry]]]:
        """See :class:`IState`."""
        return self._store.audit(limit, before)

    def _read(self, snapshot: Snapshot) -> Snapshot:
        # It may be newer than what the supervisor knows: then it is not read again for that.
        self.version = max(self.version, snapshot.version)
        return snapshot


class ToSupervisor:
    """See the module. ``told`` is there when :meth:`state` was called.

    :param shares_zones: whether the supervisor keeps the token caches.
    """

    def __init__(self, link: Link, worker: int, *, shares_zones: bool) -> None:
        self._link = link
        self._shares_zones = shares_zones
        self.worker = worker
        self.receiver = self
        self.zones = WorkerZones()
        self.told: ToldState | None = None

    def make_zone(self, zone: str, ttl: float) -> ITokenCache | None:
        """See :class:`.Supervisor`."""
        return self.zones.make(zone, ttl, self._link) if self._shares_zones else None

    def state(self, store: IState) -> IState:
        """See :class:`.Supervisor`."""
        self.told = ToldState(store)
        return self.told

    def take(self, segment: Segment) -> None:
        """See :class:`.Receiver`."""
        self._link.tell("segment", segment.path.name, segment.since, segment.records, segment.size)

    def flush(self) -> Deferred[None]:
        """See :class:`.Receiver`."""
        return self._link.ask("flush").addErrback(_unanswered)


def _unanswered(failure: Failure) -> None:
    failure.trap(LinkError)  # what is left is in the journal
