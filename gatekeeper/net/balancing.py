"""Several upstreams for one service: who gets a request, and what becomes of those who fail.

The one with the fewest outstanding requests gets the next, and where there are several, each in its
turn. A request moves on to the next upstream only where nothing of it was sent; what was sent is
the exchange's to send again or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

from twisted.logger import Logger

from gatekeeper.errors import UpstreamError
from gatekeeper.net.balancing_attempt import Attempt, Balanced, UpstreamState
from gatekeeper.net.balancing_checks import HealthCheck
from gatekeeper.net.balancing_health import EjectionPolicy
from gatekeeper.net.pool import Origin, hand_over
from gatekeeper.net.sweep import Sweep
from gatekeeper.net.upstream import Receiver, Upstream
from gatekeeper.stats import PoolStats, PoolUse

log = Logger()


class Balancer:
    """A :class:`~gatekeeper.net.upstream.Lessor` before several origins.

    ``name`` is the service's. ``hosts`` are the origins' Host fields; requests come with the first
    of them. ``stats`` are the origins' own, all in one.
    """

    def __init__(
        self,
        name: str,
        origins: Sequence[tuple[Origin, bytes]],
        policy: EjectionPolicy,
        sweep: Sweep,
        stats: PoolStats,
    ) -> None:
        self.name = name
        self.stats = stats
        self.upstreams = [Balanced(origin, host, policy) for origin, host in origins]
        self._sweep = sweep
        self._turn = 0  # whose it is where all have as much to do
        self._waiting: dict[Receiver, Attempt] = {}
        self._checks: list[HealthCheck] = []

    def __repr__(self) -> str:
        states = ", ".join(f"{each.url} {each.state.value}" for each in self.states)
        return f"<Balancer {self.name}: {states}>"

    @property
    def use(self) -> PoolUse:
        """The use of all origins together."""
        each = (upstream.origin.use for upstream in self.upstreams)
        return PoolUse(*map(sum, zip(*each, strict=True)))

    @property
    def states(self) -> list[UpstreamState]:
        """How the upstreams are now."""
        return [upstream.state for upstream in self.upstreams]

    def check(self, checks: Iterable[HealthCheck]) -> None:
        """Have the upstreams checked, each by its own; they begin at once and end with this."""
        for upstream, check in zip(self.upstreams, checks, strict=True):
            check.start(partial(self._checked, upstream))
            self._checks.append(check)

    def close(self) -> None:
        """Keep no connection, and check nothing any more."""
        for check in self._checks:
            check.close()
        for upstream in self.upstreams:
            upstream.origin.close()

    # --- leasing --------------------------------------------------------------------------

    def lease(self, receiver: Receiver) -> Upstream | None:
        """A way, or ``None``: then ``receiver.leased`` or ``upstream_failed`` is called.

        :raises UpstreamError: 503, there is no upstream left, or too many requests wait already.
        """
        return self._lease(receiver, (), last=False)

    def forget(self, receiver: Receiver) -> None:
        """Somebody who waited has gone."""
        attempt = self._waiting.pop(receiver, None)
        if attempt is not None:
            attempt.withdraw()

    def _lease(
        self, receiver: Receiver, tried: tuple[Balanced, ...], *, last: bool
    ) -> Upstream | None:
        """Try those that have not been tried for this request, but nothing after a last resort."""
        now = self._sweep.now
        busy: UpstreamError | None = None
        while True:
            upstream = None if last else self._choose(now, tried)
            if upstream is None and not last and busy is None:
                last = True
                upstream = self._last_resort(tried)
            if upstream is None:
                raise busy or self._nobody(now)
            attempt = Attempt(self, receiver, upstream, tried, last, upstream.health.take(now))
            tried = attempt.tried
            try:
                way = upstream.origin.lease(attempt)
            except UpstreamError as error:
                busy = error
                continue
            if way is None:
                self._waiting[receiver] = attempt
                return None
            attempt.way = way
            return attempt

    def _choose(self, now: float, tried: tuple[Balanced, ...]) -> Balanced | None:
        """The upstream with the fewest outstanding requests of those that are well."""
        upstreams = self.upstreams
        count = len(upstreams)
        chosen: Balanced | None = None
        least = at = 0
        for index in range(self._turn, self._turn + count):
            upstream = upstreams[index % count]
            if upstream in tried or not upstream.health.is_available(now):
                continue
            outstanding = upstream.outstanding
            if chosen is None or outstanding < least:
                chosen, least, at = upstream, outstanding, index
        if chosen is not None:
            self._turn = (at + 1) % count
        return chosen

    def _last_resort(self, tried: tuple[Balanced, ...]) -> Balanced | None:
        """Where none is well: the one that is due first.

        An ejection takes load off an upstream for the others to have it. Where there is no other,
        it would make an outage of what may be the fault of a few requests. It is one only: a
        request should not wait for as many time-outs as there are upstreams.
        """
        left = [upstream for upstream in self.upstreams if upstream not in tried]
        return min(left, key=_due, default=None)

    def _nobody(self, now: float) -> UpstreamError:
        soonest = min(upstream.health.until or now for upstream in self.upstreams)
        seconds = max(1, math.ceil(soonest - now))
        return UpstreamError(
            "no_upstream",
            "no upstream can be reached",
            status=503,
            fields=((b"retry-after", b"%d" % seconds),),
        )

    # --- what attempts tell ---------------------------------------------------------------

    def settled(self, receiver: Receiver) -> None:
        """Somebody does not wait any more."""
        self._waiting.pop(receiver, None)

    def move_on(self, receiver: Receiver, tried: tuple[Balanced, ...], *, last: bool) -> None:
        """Nothing was sent: find another upstream, or tell that there is none."""
        try:
            way = self._lease(receiver, tried, last=last)
        except UpstreamError as error:
            receiver.upstream_failed(error)
            return
        if way is not None:
            hand_over(way, receiver)

    def succeeded(self, upstream: Balanced) -> None:
        """An upstream has begun to answer."""
        if upstream.health.succeeded():
            self._say(upstream, "answers again")

    def failed(self, upstream: Balanced, reason: str, *, probe: bool) -> None:
        """An upstream could not be reached, or broke off before it answered."""
        seconds = upstream.health.failed(self._sweep.now, probe=probe)
        if seconds:
            self._say(upstream, f"gets no requests for {seconds:g} s: {reason}")
            self._leave(upstream)

    def _checked(self, upstream: Balanced, up: bool, why: str) -> None:
        upstream.health.checked(up=up)
        self._say(upstream, f"is {'up' if up else 'down'}: {why}")
        if not up:
            self._leave(upstream)

    def _leave(self, upstream: Balanced) -> None:
        """Whoever waits there waits elsewhere, if somebody is well; connections are not kept."""
        now = self._sweep.now
        waiting = [item for item in self._waiting.items() if item[1].upstream is upstream]
        for receiver, attempt in waiting:
            if not any(each.health.is_available(now) for each in self.upstreams):
                break
            if self._waiting.get(receiver) is attempt:  # and nothing was brought about by another
                self.forget(receiver)
                attempt.move_on()
        upstream.origin.renew()

    def _say(self, upstream: Balanced, what: str) -> None:
        log.warn(
            "Service {service}: upstream {url} {what}",
            service=self.name,
            url=upstream.origin.name,
            what=what,
        )


def _due(upstream: Balanced) -> tuple[bool, float]:
    """When to try an upstream that is not well; those that are down by their checks last."""
    return upstream.health.down, upstream.health.until or 0.0
