"""What the tests of this folder share: credentials, tokens, threads that run when they are told."""

from __future__ import annotations

import base64
import hmac
import json
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from argon2 import PasswordHasher
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from gatekeeper.auth.interfaces import Credentials, Fields

T = TypeVar("T")

#: Argon2id at its cheapest.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ALICE = CHEAP.hash("wonderland")

KEY = "2df1eeea370eacdc5cf7e96c2d82140d1568079a5d4d87006ec8718a98883b36"
OTHER_KEY = "b9b8d5" * 10 + "e0af"
KEYS = f'key001={KEY}\nkapi_id="003";kapi_key="{OTHER_KEY}";kapi_groups="stats,spender";rest $(x)\n'

NOW = 1_700_000_000.0


def credentials(
    presented: bytes = b"",
    fields: Fields = (),
    *,
    service: str = "acme",
    client: str = "192.0.2.1",
    peer_trusted: bool = False,
    trace_id: str = "",
) -> Credentials:
    return Credentials(
        presented=presented,
        fields=fields,
        method=b"GET",
        url=b"/",
        service=service,
        peer=client,
        client=client,
        peer_trusted=peer_trusted,
        trace_id=trace_id,
    )


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def token(payload: Any, *, key: str = KEY, header: Any = None, algorithm: str = "sha256") -> bytes:
    """A bearer token; ``payload`` and ``header`` are taken as they are if they are bytes."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode()
        for part in ({"alg": "HS256", "typ": "JWT"} if header is None else header, payload)
    ]
    signed = b".".join(map(base64url, parts))
    return b"Bearer " + signed + b"." + base64url(hmac.digest(key.encode(), signed, algorithm))


def good_token(seconds: int = 60, key_id: str = "001", key: str = KEY) -> bytes:
    return token({"id": key_id, "exp": int(NOW) + seconds}, key=key)


@implementer(ILogObserver)
class Logged(list[LogEvent]):
    """The events of one test."""

    def __call__(self, event: LogEvent) -> None:
        self.append(event)

    @property
    def text(self) -> str:
        """Every event with all that it carries."""
        return "\n".join(f"{formatEvent(event)} {event!r}" for event in self)


class ManualThreads:
    """Runs work when :meth:`finish` says so."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.running: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self.done: list[Callable[[], Any]] = []
        self.closed = False

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        assert len(self.running) < self.size
        deferred: Deferred[T] = Deferred()
        self.running.append((work, deferred))
        return deferred

    def finish(self) -> None:
        work, deferred = self.running.popleft()
        self.done.append(work)
        try:
            result = work()
        except Exception:
            deferred.errback(Failure())
        else:
            deferred.callback(result)

    def finish_all(self) -> None:
        while self.running:
            self.finish()

    def close(self) -> None:
        self.closed = True


def outcome(answer: object) -> list[Any]:
    """What has come out so far: a list of one, or an empty list."""
    if not isinstance(answer, Deferred):
        return [answer]
    results: list[Any] = []
    answer.addBoth(results.append)
    return results
