"""The management API in memory: a state that needs no store, a usage that is made up, no thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from gatekeeper.auth.hashing import HashingQueue
from gatekeeper.auth.token_cache import MemoryTokenCache
from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError, Problem, StoreError
from gatekeeper.management.api import ManagementAPI
from gatekeeper.management.gate import Gate
from gatekeeper.management.health import Readiness
from gatekeeper.management.keyvals import Keyvals
from gatekeeper.management.live import LocalExchanges, Traffic
from gatekeeper.management.managed import Managed
from gatekeeper.management.site import BoundedRequest, BoundedSite
from gatekeeper.management.status import Counts, ListenerState, Status
from gatekeeper.management.token import OperatorToken
from gatekeeper.state import Guard, State, View
from gatekeeper.store.interface import RecordQuery, UsageQuery, UsageRow
from gatekeeper.store.state import AuditEntry, Change, IState, Snapshot
from gatekeeper.usage.records import UsageRecord
from tests.management.memory_ledger import MemoryLedger
from tests.management.test_management import Answer, Client

T = TypeVar("T")

TOKEN = "s3cret-token-of-operators"
NOW = 1_700_000_000.0

CONFIGURATION = {
    "state_dir": "/var/lib/gatekeeper",
    "store": {"url": "postgresql://gatekeeper:hunter2@db/gatekeeper"},
    "listeners": [
        {"name": "public", "role": "gateway", "bind": "127.0.0.1:4000"},
    ],
    "services": [
        {
            "name": "fixed",
            "from": "/fixed",
            "to": "http://127.0.0.1:9",
            "checkers": ["secret://hunter2?user_id=ops"],
        }
    ],
}


class Threads:
    """Works at once, in the one thread that there is."""

    size = 1

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        return maybeDeferred(work)

    def close(self) -> None:
        """Nothing to end."""


@implementer(IState)
class MemoryStore(MemoryLedger):
    """What the API asks of a store. ``away``: it does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.view = View.of(Snapshot(1))
        self.usage: list[UsageRow] = []
        self.records: list[UsageRecord] = []
        self.queries: list[UsageQuery | RecordQuery] = []
        self.away = False

    def state_version(self) -> Deferred[int]:
        return self._answer(lambda: self.view.version)

    def snapshot(self) -> Deferred[Snapshot]:
        view = self.view
        return self._answer(
            lambda: Snapshot(
                view.version,
                tuple(view.services.values()),
                tuple(view.users.values()),
                tuple(view.keys.values()),
                tuple(view.revocations.values()),
            )
        )

    def change(self, changes: Sequence[Change], entry: AuditEntry) -> Deferred[int]:
        def change() -> int:
            self.view = self.view.changed(changes)
            self.entries.append(entry)
            return self.view.version

        return self._answer(change)

    def watch_state(self, changed: Callable[[int | None], object]) -> None:
        """It cannot."""

    def audit(
        self, limit: int, before: int | None = None
    ) -> Deferred[list[tuple[int, AuditEntry]]]:
        numbered = list(enumerate(self.entries, 1))[::-1]
        found = [each for each in numbered if before is None or each[0] < before]
        return self._answer(lambda: found[:limit])

    def stream_usage(
        self, query: UsageQuery, take: Callable[[Sequence[UsageRow]], object]
    ) -> Deferred[None]:
        self.queries.append(query)
        found = [
            row
            for row in self.usage
            if query.service in (None, row.service) and query.user in (None, row.user)
        ]
        return self._answer(lambda: self._give(found[: query.limit], take))

    def stream_records(
        self, query: RecordQuery, take: Callable[[Sequence[UsageRecord]], object]
    ) -> Deferred[None]:
        self.queries.append(query)
        return self._answer(lambda: self._give(self.records[: query.limit], take))

    def _give(self, rows: Sequence[Any], take: Callable[[Sequence[Any]], object]) -> None:
        for row in rows:
            take([row])

    def _answer(self, work: Callable[[], T]) -> Deferred[T]:
        if self.away:
            return fail(StoreError("postgresql://gatekeeper:hunter2@db is away"))
        return succeed(None).addCallback(lambda _: work())


def row(service: str, user: str, path: str, requests: int) -> UsageRow:
    return UsageRow(service, user, path, "", None, requests, 1, 2, requests, 0.5, 0, requests)


class House:
    """``actor``: how callers show who they are; the right token is sent unless told otherwise."""

    def __init__(
        self,
        *,
        actor: str = "token",
        configuration: dict[str, Any] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.state = State(self.store, self.clock, guard)
        self.state.load()
        self.settings = Settings.model_validate(configuration or CONFIGURATION)
        self.readiness = Readiness({"store": lambda: None})
        self.live: set[Any] = set()
        self.tokens = MemoryTokenCache(300, monotonic=self.clock.seconds)
        self.flush: Callable[[bool], Deferred[bool]] = lambda urgent: succeed(True)
        self.reloads = 0
        self.wrong: list[Problem] = []
        self.stops = 0
        status = Status(
            self.readiness,
            Counts(self._traffic, lambda: 1, lambda: len(self.state.users)),
            lambda: [ListenerState(name="public", role="gateway", address="127.0.0.1:4000")],
            wall_clock=lambda: NOW + self.clock.seconds(),
            started=NOW,
        )
        self.managed = Managed(
            self.settings,
            self.state,
            self.store,
            LocalExchanges(
                SimpleNamespace(live=self.live, wall_clock=lambda: NOW, monotonic=lambda: 100.0)
            ),
            status,
            HashingQueue(Threads()),
            lambda *, urgent=False: self.flush(urgent),
            self._reload,
            self._stop,
            self.clock,
            lambda: NOW + self.clock.seconds(),
            zones={"tokens": self.tokens},
        )
        token = OperatorToken(TOKEN) if actor == "token" else None
        gate = Gate(token, is_socket=actor == "socket")
        keyvals = Keyvals(self.managed.zones, token, lambda: NOW + self.clock.seconds())
        api = ManagementAPI(self.readiness, self.clock, keyvals, None, self.managed, gate)
        self.site = BoundedSite(api.resource(), BoundedRequest, Clock(), most=100_000, head=65536)

    def call(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        body: bytes | None = None,
        fields: Sequence[str] = (),
        token: str | None = TOKEN,
        content_type: str | None = "application/json",
        host: str = "127.0.0.1:6668",
    ) -> Answer:
        """What is answered. ``document`` is sent as JSON, ``body`` as it is."""
        return Answer(
            self.send(
                method,
                path,
                document,
                body=body,
                fields=fields,
                token=token,
                content_type=content_type,
                host=host,
            )
        )

    def send(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        body: bytes | None = None,
        fields: Sequence[str] = (),
        token: str | None = TOKEN,
        content_type: str | None = "application/json",
        host: str = "127.0.0.1:6668",
    ) -> bytes:
        """What is answered by now, as it is."""
        if body is None:
            body = b"" if document is None else json.dumps(document).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
            if content_type is not None:
                lines.append(f"Content-Type: {content_type}")
        return Client(self.site).send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def get(self, path: str, **query: object) -> Any:
        """The document at ``path``."""
        target = path + ("?" + urlencode(query, doseq=True) if query else "")
        answer = self.call("GET", target)
        assert answer.status == 200, answer.body
        return answer.document

    async def _traffic(self) -> Traffic:
        return Traffic(3, len(self.live))

    async def _reload(self) -> Sequence[str]:
        self.reloads += 1
        if self.wrong:
            raise ConfigurationError(self.wrong)
        return ["store.url"]

    def _stop(self) -> None:
        self.stops += 1


def certificate(directory: Path) -> Path:
    """A file that may pass for a certificate where nobody looks into it."""
    file = directory / "server.cert"
    file.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    return file
