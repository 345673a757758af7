"""Host names to IP addresses, by the system's resolver, off the reactor's thread and bounded.

The threads are our own: the loop's ``getaddrinfo`` runs in libuv's pool of four threads, which
gives only half of them to look-ups: two names with dead name servers would stop all others.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from twisted.internet.defer import Deferred, fail, succeed

from gatekeeper.config.values import is_address
from gatekeeper.errors import Refusal, UpstreamError
from gatekeeper.net.destinations import DestinationPolicy

# Nobody tries more addresses than this one after the other.
MOST_ADDRESSES = 32

Waiters = dict[Deferred[list[str]], asyncio.TimerHandle]


class _Answer(NamedTuple):
    """What a look-up brought, until when (loop time) it is believed; no addresses: a failure."""

    addresses: list[str]
    expires: float


class Resolver:
    """Resolves names; keeps the answers for a moment; asks for a name once at a time.

    ``timeout`` (seconds) is how long a caller waits; it may be changed. A look-up cannot be
    interrupted: it goes on in its thread, and later callers wait for the same one. At most
    ``threads`` run and ``most`` wait or run.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout: float = 5.0,
        ttl: float = 5.0,
        negative_ttl: float = 1.0,
        cached: int = 4096,
        threads: int = 16,
        most: int = 1024,
        executor: Executor | None = None,
        look_up: Callable[[str], list[str]] | None = None,
    ) -> None:
        self._loop = loop
        self.timeout = timeout
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._cached = cached
        self._most = most
        self._executor = executor or ThreadPoolExecutor(threads, thread_name_prefix="resolver")
        self._look_up = look_up or system_look_up
        self._answers: dict[str, _Answer] = {}
        self._running: dict[str, Waiters] = {}

    def resolve_checked(
        self, policy: DestinationPolicy, host: str, port: int
    ) -> Deferred[list[str]]:
        """The addresses to connect to for a client's ``host`` and ``port``, best first.

        *Every* address has passed ``policy``, and connecting to what is returned (not to the name)
        makes sure that it is these. Fails with what :meth:`DestinationPolicy.check_name`,
        :meth:`DestinationPolicy.check_address` and :meth:`resolve` say.
        """
        try:
            name = policy.check_name(host, port)
        except Refusal as refusal:
            return fail(refusal)
        return self.resolve(name).addCallback(
            lambda addresses: [policy.check_address(name, port, ip) for ip in addresses]
        )

    def resolve(self, host: str) -> Deferred[list[str]]:
        """The IP addresses of ``host``, at least one, in the system's order of preference.

        ``host`` is a name in canonical form or an IP address, which is returned as it is.
        Fails with :class:`UpstreamError`, 502 where there are none and 504 where none came in
        time, or with :class:`Refusal` 503 where too many look-ups are under way. Cancelling only
        ends the waiting.
        """
        if is_address(host):
            return succeed([host])
        answer = self._answers.get(host)
        if answer is not None and self._loop.time() < answer.expires:
            return succeed(list(answer.addresses)) if answer.addresses else fail(_unresolved())
        waiters = self._running.get(host)
        if waiters is None:
            if len(self._running) >= self._most:
                return fail(
                    Refusal("resolver_busy", "Too many names are being resolved.", status=503)
                )
            waiters = self._running[host] = {}
            self._executor.submit(self._look_up, host).add_done_callback(
                lambda future: self._in_thread_done(host, future)
            )
        return self._wait(waiters)

    def close(self) -> None:
        """Begin no more look-ups. Those that run are left to end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _wait(self, waiters: Waiters) -> Deferred[list[str]]:
        waiter: Deferred[list[str]] = Deferred(lambda waiter: waiters.pop(waiter).cancel())

        def expire() -> None:
            del waiters[waiter]
            waiter.errback(
                UpstreamError("resolver_timeout", "The name was not resolved in time.", status=504)
            )

        waiters[waiter] = self._loop.call_later(self.timeout, expire)
        return waiter

    def _in_thread_done(self, host: str, future: Future[list[str]]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._done, host, future)

    def _done(self, host: str, future: Future[list[str]]) -> None:
        waiters = self._running.pop(host)
        try:
            addresses = future.result()[:MOST_ADDRESSES]
        except (OSError, CancelledError):
            addresses = []
        self._remember(host, addresses)
        while waiters:
            waiter, timer = waiters.popitem()  # a callback may cancel another waiter
            timer.cancel()
            if addresses:
                waiter.callback(list(addresses))
            else:
                waiter.errback(_unresolved())

    def _remember(self, host: str, addresses: list[str]) -> None:
        self._answers.pop(host, None)
        if len(self._answers) >= self._cached:
            del self._answers[next(iter(self._answers))]
        ttl = self._ttl if addresses else self._negative_ttl
        self._answers[host] = _Answer(addresses, self._loop.time() + ttl)


def system_look_up(host: str) -> list[str]:
    """Ask the system (``/etc/hosts``, DNS); blocks. A link-local address comes with its scope.

    :raises OSError: there is no such name, or it cannot be found out.
    """
    addresses: dict[str, None] = {}
    # As bytes, so that Python does not try to read it as an international name.
    for *_, address in socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM):
        ip = str(address[0])
        scope = address[3] if len(address) == 4 else 0
        addresses[f"{ip}%{scope}" if scope and "%" not in ip else ip] = None
    return list(addresses)


def _unresolved() -> UpstreamError:
    return UpstreamError("name_not_resolved", "The destination's name cannot be resolved.")
