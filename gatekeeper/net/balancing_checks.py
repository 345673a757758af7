"""Active health checks: a request to an upstream now and then, on a connection of its own.

They are timed by the sweep, as all time-outs are: where that does not run, nothing is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger

from gatekeeper import __version__
from gatekeeper.errors import UpstreamError
from gatekeeper.http.fields import Fields
from gatekeeper.http.heads import ResponseHead
from gatekeeper.net.pool import Origin
from gatekeeper.net.sweep import NEVER, Sweep
from gatekeeper.net.upstream import Upstream, UpstreamConnection

log = Logger()

_HEAD: Final = (
    b"GET %b HTTP/1.1\r\nhost: %b\r\nuser-agent: gatekeeper/%b (health check)\r\n"
    b"accept: */*\r\n\r\n"
)
#: Upstreams and daemons that were started together are not to be asked together for ever.
_JITTER: Final = 0.1

#: Called with whether the upstream is up, and a reason in words.
OnChange = Callable[[bool, str], None]


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """What is asked, and what is made of the answers.

    ``path`` is asked for every ``interval`` seconds; one of ``statuses`` must come within
    ``timeout`` seconds. So many good answers in a row as ``healthy`` make an upstream up, so many
    others as ``unhealthy`` make it down.
    """

    path: bytes
    interval: float
    timeout: float
    healthy: int
    unhealthy: int
    statuses: frozenset[int]


class HealthCheck:
    """Asks one upstream, which is up until it is found down.

    :param host: the upstream's Host field.
    :param make_origin: makes a way to the upstream that is used for one question.
    :param number: gives random numbers from 0 to 1.
    """

    def __init__(
        self,
        policy: CheckPolicy,
        host: bytes,
        make_origin: Callable[[], Origin],
        sweep: Sweep,
        number: Callable[[], float] = random.random,
    ) -> None:
        self.deadline = NEVER
        self._policy = policy
        self._head = _HEAD % (policy.path, host, __version__.encode("ascii"))
        self._make_origin = make_origin
        self._sweep = sweep
        self._number = number
        self._question: _Question | None = None
        self._begun = 0.0
        self._up = True
        self._in_a_row = 0  # answers that speak against that
        self._on_change: OnChange = lambda up, why: None

    def start(self, on_change: OnChange) -> None:
        """Ask from now on, and tell when the opinion changes."""
        self._on_change = on_change
        self.deadline = self._sweep.now + self._number() * self._policy.interval
        self._sweep.timed.add(self)

    def close(self) -> None:
        """Ask nothing any more."""
        self._sweep.timed.discard(self)
        self._end_question()

    def timed_out(self) -> None:
        """It is time to ask, or the answer has not come in time."""
        try:
            if self._question is None:
                self._ask()
            else:
                self._answered(False, "no answer in time")
        except Exception:
            log.failure("A health check could not be made")
            self._wait()

    def _ask(self) -> None:
        self._begun = self._sweep.now
        self.deadline = self._begun + self._policy.timeout
        self._question = _Question(self._make_origin(), self._understand)
        self._question.ask(self._head)

    def _understand(self, status: int | None, why: str) -> None:
        if status is None:
            self._answered(False, why)
        else:
            self._answered(status in self._policy.statuses, f"its check's status is {status}")

    def _answered(self, good: bool, why: str) -> None:
        self._wait()
        if good == self._up:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row >= (self._policy.healthy if good else self._policy.unhealthy):
            self._in_a_row = 0
            self._up = good
            self._on_change(good, why)

    def _wait(self) -> None:
        """Until it is time for the next question."""
        self._end_question()
        interval = self._policy.interval * (1 + _JITTER * (2 * self._number() - 1))
        self.deadline = max(self._sweep.now, self._begun + interval)

    def _end_question(self) -> None:
        question, self._question = self._question, None
        if question is not None:
            question.end()


class _Question:
    """One request, and its answer's status: a :class:`gatekeeper.net.upstream.Receiver`.

    ``tell`` is called once with the status, or with ``None`` and why there is none.
    """

    def __init__(self, origin: Origin, tell: Callable[[int | None, str], None]) -> None:
        self._origin = origin
        self._tell: Callable[[int | None, str], None] | None = tell
        self._upstream: Upstream | None = None
        self._head = b""

    def ask(self, head: bytes) -> None:
        """Connect and send a request's head."""
        self._head = head
        self._origin.lease(self)  # it is new, and tells when there is a connection

    def end(self) -> None:
        """Nothing more is to be known."""
        self._tell = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        else:
            self._origin.forget(self)
        self._origin.close()

    def leased(self, upstream: Upstream) -> None:
        """See :class:`~gatekeeper.net.upstream.Receiver`."""
        self._upstream = upstream
        upstream.send(self, self._head, head_only=False, upgrading=False, done=True)

    def informational(self, head: ResponseHead) -> None:
        """Not the answer."""

    def response(self, head: ResponseHead, length: int | None, payload: bytes, done: bool) -> None:
        """The answer; nobody reads its body."""
        if done:
            self._upstream = None
        self._over(head.status, "")

    def response_data(self, payload: bytes, done: bool, trailers: Fields) -> None:
        """What came with the head."""

    def switched(self, head: ResponseHead, upstream: UpstreamConnection, data: bytes) -> None:
        """Nobody asked for that."""
        raise AssertionError("it was not asked to")

    def upstream_lost(self, *, untouched: bool) -> None:
        """See :class:`~gatekeeper.net.upstream.Receiver`."""
        self._upstream = None
        self._over(None, "the upstream hung up")

    def upstream_failed(self, refusal: UpstreamError) -> None:
        """See :class:`~gatekeeper.net.upstream.Receiver`."""
        self._upstream = None
        self._over(None, refusal.detail)

    def _over(self, status: int | None, why: str) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(status, why)
