"""HTTP as a client, for checkers that ask a server: bounded in time, size and number.

Nothing here imports the reactor before the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool, RequestTransmissionFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers

from gatekeeper.auth.hashing import OverloadError
from gatekeeper.auth.http_agent import (
    Body,
    HttpError,
    describe,
    https_policy,
    make_pool,
    make_treq,
)
from gatekeeper.auth.slots import Slots
from gatekeeper.config.fields import HttpUrl

__all__ = ["Answer", "Asks", "HttpClient", "HttpError", "HttpUrl"]

T = TypeVar("T")

_COMPLAINTS: Final = 10.0  # seconds between two lines in the log


class Answer(NamedTuple):
    """A response, whole."""

    status: int
    body: bytes


class Asks(Protocol):
    """What checkers need of :class:`HttpClient`."""

    def ask(
        self,
        method: str,
        url: str,
        read: Callable[[Answer], T],
        *,
        fields: Mapping[bytes, bytes] = ...,
        body: bytes | None = ...,
        client: str = ...,
    ) -> Deferred[T]:
        """See :meth:`HttpClient.ask`."""

    def close(self) -> None:
        """See :meth:`HttpClient.close`."""


class HttpClient:
    """Asks one server; its connections are kept and used again.

    Redirects are not followed and cookies not kept: what is sent is for this server only, and
    nothing that one request brought may show in another. Bodies are not decompressed.

    :param name: what the log calls the server's user: ``checker 'tokens'``.
    :param timeout: seconds from asking to the last byte, waiting for a turn included.
    :param max_body: bytes of a response's body.
    :param ca_file: the authorities that an https server is verified with (None: the system's).
    :param at_once: requests at the same time; ``waiting`` more wait in a fair order.
    :param secret_path: the URL's path is a secret: the log shows which server it is, no more.
    :param silent: nothing is logged: who asks does that.
    :param reactor: for tests.
    :raises ConfigurationError: ``ca_file`` cannot be used; the path is ``ca_file``.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        *,
        timeout: float = 5.0,
        max_body: int = 65536,
        ca_file: Path | None = None,
        at_once: int = 16,
        waiting: int = 256,
        secret_path: bool = False,
        silent: bool = False,
        reactor: Any = None,
    ) -> None:
        self._name = name
        self._secret_path = secret_path
        self._timeout = timeout
        self._max_body = max_body
        self._policy = https_policy(ca_file)
        self._at_once = at_once
        self._slots = Slots(at_once, waiting)
        self._reactor = reactor
        self._pool: HTTPConnectionPool | None = None
        self._treq: HTTPClient | None = None
        self._quiet_until = inf if silent else -inf

    def __repr__(self) -> str:
        return f"<HttpClient of {self._name}>"

    def ask(
        self,
        method: str,
        url: str,
        read: Callable[[Answer], T],
        *,
        fields: Mapping[bytes, bytes] = {},
        body: bytes | None = None,
        client: str = "",
    ) -> Deferred[T]:
        """Send a request and give what ``read`` makes of the answer.

        ``read`` raises :class:`HttpError` for an answer that cannot be used. ``client`` is the
        address of whoever the request is for. The request must do no harm when it is repeated:
        it is sent again once where a kept connection had gone stale.

        The Deferred fails with :class:`HttpError`, and that is logged, once in a while (unless we
        are ``silent``).
        """
        self._reactor = self._reactor or _the_reactor()

        def call() -> Deferred[Answer]:
            return Deferred.fromCoroutine(self._ask(method, url, fields, body))

        asked: Deferred[Any] = self._slots.submit(client, call)
        asked.addTimeout(self._timeout, self._reactor, self._too_late)
        asked.addErrback(_explain)
        asked.addCallback(read)
        return asked.addErrback(self._complain, url)

    def close(self) -> None:
        """Keep no connection, and turn away who waits for one."""
        self._slots.close()
        if self._pool is not None:
            self._pool.closeCachedConnections()

    async def _ask(
        self, method: str, url: str, fields: Mapping[bytes, bytes], body: bytes | None
    ) -> Answer:
        try:
            return await self._send(method, url, fields, body)
        except (ResponseNeverReceived, RequestTransmissionFailed) as error:
            # The server hung up on a connection that was kept, just before we used it.
            if not isinstance(error.reasons[-1].value, ConnectionClosed):
                raise
            return await self._send(method, url, fields, body)

    async def _send(
        self, method: str, url: str, fields: Mapping[bytes, bytes], body: bytes | None
    ) -> Answer:
        response = await self._http().request(
            method,
            url,
            headers=Headers({name: [value] for name, value in fields.items()}),
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        collected = Body(self._max_body)
        response.deliverBody(collected)
        return Answer(response.code, await collected.done)

    def _http(self) -> HTTPClient:
        if self._treq is None:
            self._pool = make_pool(self._reactor, self._at_once)
            self._treq = make_treq(self._reactor, self._policy, self._pool, self._timeout)
        return self._treq

    def _too_late(self, _: object, timeout: float) -> Failure:
        return Failure(HttpError(f"no answer within {timeout:g} s"))

    def _complain(self, failure: Failure, url: str) -> Failure:
        now = self._reactor.seconds()
        if failure.check(HttpError) and now >= self._quiet_until:
            self._quiet_until = now + _COMPLAINTS
            self._log.error(
                "{name}: {url}: {problem}",
                name=self._name,
                url="/".join(url.split("/", 3)[:3]) if self._secret_path else url.partition("?")[0],
                problem=str(failure.value),
            )
        return failure


def _explain(failure: Failure) -> Failure:
    """Whatever went wrong on the way, as an :class:`HttpError`."""
    if failure.check(HttpError):
        return failure
    if failure.check(OverloadError):
        return Failure(HttpError("too many requests wait for an answer"))
    return Failure(HttpError(describe(failure)))


def _the_reactor() -> Any:
    # Not at the top: importing it installs a reactor, which is the daemon's to choose.
    from twisted.internet import reactor

    return reactor
