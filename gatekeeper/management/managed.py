"""What the management API works on: the parts of the daemon, as far as it needs them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gatekeeper.auth.hashing import HashingQueue
from gatekeeper.auth.passwords import hash_password
from gatekeeper.auth.token_cache import ITokenCache
from gatekeeper.config.model import Settings
from gatekeeper.credits.accounts import Answer, Reads, UnreadableError
from gatekeeper.errors import GatekeeperError, Refusal
from gatekeeper.golem.definitions import Definition
from gatekeeper.management.live import Exchanges
from gatekeeper.store.interface import RecordQuery, UsageQuery, UsageRow
from gatekeeper.store.ledger import (
    ChargeQuery,
    ChargeRow,
    Granted,
    Kept,
    LedgerEvent,
    Owed,
    SettlementQuery,
    StoredSettlement,
)
from gatekeeper.store.state import (
    AuditEntry,
    Change,
    Revocation,
    StoredKey,
    StoredService,
    StoredUser,
)
from gatekeeper.usage.records import Account, UsageRecord

if TYPE_CHECKING:
    from gatekeeper.management.operations import Call
    from gatekeeper.management.status import Status
    from gatekeeper.net.balancing_attempt import UpstreamState

log = Logger()

#: Seconds that a question for usage waits for what was just used to get into the store.
_FLUSHED_WITHIN: Final = 3.0


class State(Protocol):
    """What operators have made. ``loaded``: it is known."""

    loaded: bool

    @property
    def services(self) -> Mapping[str, StoredService]:
        """By name."""

    @property
    def users(self) -> Mapping[tuple[str, str], StoredUser]:
        """By service and name."""

    @property
    def keys(self) -> Mapping[str, StoredKey]:
        """By id."""

    @property
    def revocations(self) -> Mapping[str, Revocation]:
        """By digest."""

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Awaitable[object]:
        """Make changes; they are seen above then. See :meth:`.IState.change`."""


class Ledger(Protocol):
    """What the API asks of a store about credits. See :class:`.ILedger`."""

    def read_accounts(self, accounts: Sequence[Account]) -> Awaitable[list[Kept]]:
        """See :meth:`.ILedger.read_accounts`."""

    def grant(
        self, account: Account, credits: int, entry: AuditEntry, grant_id: str | None = None
    ) -> Awaitable[Granted]:
        """See :meth:`.ILedger.grant`."""

    def list_accounts(
        self,
        source: str,
        name: str | None = None,
        holder: str | None = None,
        limit: int = 1000,
        after: tuple[str, str] | None = None,
    ) -> Awaitable[list[tuple[Account, Kept]]]:
        """See :meth:`.ILedger.list_accounts`."""

    def charges(self, query: ChargeQuery) -> Awaitable[list[ChargeRow]]:
        """See :meth:`.ILedger.charges`."""

    def owed(self) -> Awaitable[list[Owed]]:
        """See :meth:`.ILedger.owed`."""

    def settlements(self, query: SettlementQuery) -> Awaitable[list[StoredSettlement]]:
        """See :meth:`.ILedger.settlements`."""

    def ledger_events(
        self, limit: int, before: int | None = None, subject: tuple[str, str] | None = None
    ) -> Awaitable[list[tuple[int, LedgerEvent]]]:
        """See :meth:`.ILedger.ledger_events`."""

    def retry_charges(
        self, ids: Sequence[int] | None, entry: AuditEntry, now: float
    ) -> Awaitable[int]:
        """See :meth:`.ILedger.retry_charges`."""


class Store(Ledger, Protocol):
    """What the API asks of a store."""

    def stream_usage(
        self, query: UsageQuery, take: Callable[[Sequence[UsageRow]], object]
    ) -> Awaitable[None]:
        """See :meth:`.IUsage.stream_usage`."""

    def stream_records(
        self, query: RecordQuery, take: Callable[[Sequence[UsageRecord]], object]
    ) -> Awaitable[None]:
        """See :meth:`.IUsage.stream_records`."""

    def audit(
        self, limit: int, before: int | None = None
    ) -> Awaitable[list[tuple[int, AuditEntry]]]:
        """See :meth:`.IState.audit`."""


class Flush(Protocol):
    """Moves what was used by now into the store."""

    def __call__(self, *, urgent: bool = False) -> Deferred[bool]:
        """Fire with whether it is there; never fail. See :meth:`.Flusher.flush_now`."""


async def _no_balances(accounts: Sequence[Account]) -> list[Answer]:
    raise UnreadableError("nothing is sold")


async def _settled() -> None:
    pass


async def _no_upstreams() -> Mapping[str, Sequence[UpstreamState]]:
    return {}


@dataclass(slots=True)
class Managed:
    """Everything that operations need.

    ``definitions`` are those of ``services_dir``, by name. ``reload`` reads the configuration
    again: see :meth:`.Reloading.reload`; ``stop`` begins to stop the daemon. ``clock`` is for
    delays. ``upstreams`` tells how those are of each service that has several. ``balances`` reads
    accounts; ``expire`` has the data plane read one again before it is drawn on.
    ``zones`` are the token caches, by name. ``settled`` waits, not for long, until what was changed
    has taken effect in all processes.
    """

    settings: Settings
    stored: State
    store: Store
    exchanges: Exchanges
    status: Status
    hashing: HashingQueue[str]
    flush: Flush
    reload: Callable[[], Awaitable[Sequence[str]]]
    stop: Callable[[], object]
    clock: IReactorTime
    wall_clock: Callable[[], float] = time.time
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    upstreams: Callable[[], Awaitable[Mapping[str, Sequence[UpstreamState]]]] = _no_upstreams
    balances: Reads = _no_balances
    expire: Callable[[Account], object] = lambda account: None
    zones: Mapping[str, ITokenCache] = field(default_factory=dict)
    settled: Callable[[], Awaitable[object]] = _settled

    @property
    def state(self) -> State:
        """What operators have made.

        :raises Refusal: 503, the store could not be read yet.
        """
        if not self.stored.loaded:
            raise Refusal("store_away", "The store could not be read yet; see the log.", status=503)
        return self.stored

    async def flushed(self, *, urgent: bool = False) -> bool:
        """Wait until what was used so far is in the store, but not long; whether it is there."""
        waiter: Deferred[bool] = Deferred()  # given up in place of the flushing itself

        def done(there: bool) -> None:
            if not waiter.called:
                waiter.callback(there)

        self.flush(urgent=urgent).addCallback(done)
        waiter.addTimeout(_FLUSHED_WITHIN, self.clock).addErrback(lambda _: False)
        return await waiter

    async def hash(self, call: Call, user: str, password: str) -> str:
        """The hash of a password, made in another thread.

        :raises OverloadError: too many are being made.
        :raises Refusal: 422, it cannot be one.
        """
        try:
            hashed: str = await self.hashing.submit(
                call.caller.source, user, lambda: hash_password(password)
            )
        except ValueError as error:
            raise Refusal("unusable", str(error), status=422) from None
        return hashed

    async def change(
        self, call: Call, action: str, subject: str, changes: Sequence[Change], **detail: object
    ) -> None:
        """Make changes, and note down who made them. ``detail`` holds no secret.

        :raises AlreadyThereError, NotThereError, ConfigurationError, StoreError: nothing has
            changed.
        """
        await self.state.change(changes, self.entry(call, action, subject, detail))
        await self.settled()

    async def note(self, call: Call, action: str, subject: str, **detail: object) -> None:
        """Note down what was done to the running daemon; if the store is away, in the log only."""
        entry = self.entry(call, action, subject, detail)
        log.info(
            "{actor} at {source}: {action} {subject} {detail}",
            actor=entry.actor,
            source=entry.source,
            action=action,
            subject=subject,
            detail=entry.detail,
        )
        try:
            await self.stored.change((), entry)
        except GatekeeperError as error:
            log.error("The audit log misses the line above: {error}", error=error)

    def entry(
        self, call: Call, action: str, subject: str, detail: Mapping[str, object]
    ) -> AuditEntry:
        """What the audit log is to have of a change, which ``detail`` holds no secret of."""
        actor, source = call.caller
        text = json.dumps(detail, default=str)
        return AuditEntry(self.wall_clock(), actor, source, action, subject, text)
