"""How fast callers may ask: the generic cell rate algorithm (GCRA), a leaky bucket without a timer.

A caller has a bucket of ``burst`` requests. Each takes one out, and they come back at an even rate.
All that is kept is when the bucket will be full again. Times are counted in requests: the seconds
of the clock times the rate, in which one more request is exactly 1 more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

from gatekeeper.config.model import Rate
from gatekeeper.credits.admission import Caller, Ending, Hold, Limit
from gatekeeper.credits.buckets import Buckets
from gatekeeper.credits.ratelimit_fields import Policy
from gatekeeper.errors import Refusal

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600}

#: What rounding may make of a whole request.
_SLACK: Final = 1e-6

#: IPv4 addresses as IPv6 has them (RFC 4291, 2.5.5.2), and a network of one subscriber (RFC 6177).
_MAPPED: Final = bytes(10) + b"\xff\xff"
_NETWORK: Final = 8  # bytes


class RateLimit(Limit):
    """So many requests a second, minute or hour, of each user, key or address.

    Callers that have no name of the kind that counts do so by their address, and IPv6 addresses by
    the /64 network that they are in. Addresses have a table of their own: however many there are,
    they do not get in the way of users and keys.

    :param service: of which, for people.
    :param monotonic: seconds of a clock that nobody sets, not negative.
    :param size: callers of a kind that can be below their full burst at once, before some share;
        see :class:`Buckets`.
    """

    def __init__(
        self, service: str, rate: Rate, monotonic: Callable[[], float], size: int = 100_000
    ) -> None:
        window = _SECONDS[rate.per]
        self._service = service
        self._monotonic = monotonic
        self._by = rate.by
        self._limit = f"{rate.requests} per {rate.per}"
        self._rate = rate.requests / window
        self._burst = rate.burst or rate.requests
        self._policy = Policy(
            f"rate-{rate.per}-{rate.by}",
            rate.requests,
            window,
            burst=None if self._burst == rate.requests else self._burst,
        )
        self._named = Buckets(size)
        self._addresses = Buckets(size)

    def __repr__(self) -> str:
        return f"<RateLimit of {self._service}: {self._limit} by {self._by}>"

    def reserve(self, caller: Caller) -> RateHold:
        """Take a request out of the caller's bucket.

        :raises Refusal: 429, there is none in it.
        """
        by = self._by
        grant = caller.grant
        key = grant.user if by == "user" else grant.key_id if by == "key" else ""
        if key:
            buckets = self._named
        else:
            buckets = self._addresses
            key = network_of(caller.client)
        now = self._monotonic() * self._rate
        before = buckets.get(key)
        after = (before if before > now else now) + 1
        left = self._burst - (after - now)
        if left < -_SLACK:
            raise self._refusal(-left)
        buckets.put(key, after, now)
        whole = int(left + _SLACK)
        lines = (
            self._policy.line,
            self._policy.limit_line(whole, self._seconds(whole + 1 - left)),
        )
        return RateHold(buckets, key, before, after, now, lines)

    async def read(self, caller: Caller) -> None:
        """All is known."""

    def _seconds(self, requests: float) -> int:
        """How long it takes until so many have come back; whole seconds, 1 at least."""
        return max(ceil((requests - _SLACK) / self._rate), 1)

    def _refusal(self, missing: float) -> Refusal:
        seconds = self._seconds(missing)
        return Refusal(
            "rate_limited",
            f"too many requests: {self._limit} are allowed",
            status=429,
            fields=self._policy.refusal_fields(0, seconds),
        )


class RateHold(Hold):
    """A request that was taken out of a bucket, and stays out whatever becomes of it."""

    __slots__ = ("_after", "_before", "_buckets", "_key", "_now", "lines")

    def __init__(
        self,
        buckets: Buckets,
        key: str,
        before: float,
        after: float,
        now: float,
        lines: Sequence[bytes],
    ) -> None:
        self._buckets = buckets
        self._key = key
        self._before = before
        self._after = after
        self._now = now
        self.lines = lines

    def settle(self, ending: Ending) -> None:
        """It was made."""

    def drop(self) -> None:
        """It was made."""

    def release(self) -> None:
        """It was not made: the bucket is what it was, unless another one came after this."""
        if self._buckets.get(self._key) == self._after:
            self._buckets.put(self._key, self._before, self._now)


def network_of(client: str) -> str:
    """What an address counts as: an IPv6 one as its /64, since a client may take any of that."""
    if ":" not in client:
        return client
    try:
        packed = socket.inet_pton(socket.AF_INET6, client.partition("%")[0])
    except (OSError, ValueError):
        return client
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return packed[:_NETWORK].hex()
