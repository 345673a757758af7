"""How fast callers may ask: the generic cell rate algorithm (GCRA), a leaky bucket without a timer.

A caller has a bucket of ``burst`` requests. Each takes one out, and they come back at an even rate.
All that is kept is when the bucket will be full again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from typing import Final

from gatekeeper.config.model_selling import Rate
from gatekeeper.credits.admission import Caller, Ending, Hold, Limit
from gatekeeper.credits.buckets import BucketMemory, Buckets
from gatekeeper.credits.ratelimit_fields import Policy
from gatekeeper.errors import Refusal

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600}

#: What rounding may make of a whole request, and of a second.
_SLACK: Final = 1e-6

#: Callers whose digests are known without making them again.
_REMEMBERED: Final = 4096

#: IPv4 addresses as IPv6 has them (RFC 4291, 2.5.5.2), and a network of one subscriber (RFC 6177).
_MAPPED: Final = bytes(10) + b"\xff\xff"
_NETWORK: Final = 8  # bytes


class RateLimit(Limit):
    """So many requests a second, minute or hour, of each user, key or address.

    Callers that have no name of the kind that counts do so by their address, and IPv6 addresses by
    the /64 network that they are in. Addresses have a table of their own: however many there are,
    they do not get in the way of users and keys.

    :param service: of which, for people.
    :param name: of this limit in ``memory``: what has the same name, and the same rate, counts
        together.
    :param monotonic: seconds of a clock that nobody sets, positive, and the same in all processes
        that share the memory.
    """

    def __init__(
        self,
        service: str,
        name: str,
        rate: Rate,
        monotonic: Callable[[], float],
        memory: BucketMemory,
    ) -> None:
        window = _SECONDS[rate.per]
        self._service = service
        self._monotonic = monotonic
        self._by = rate.by
        self._limit = f"{rate.requests} per {rate.per}"
        self._rate = rate.requests / window
        self._burst = rate.burst or rate.requests
        self._slack = _SLACK * (1 + self._rate)
        self._policy = Policy(
            f"rate-{rate.per}-{rate.by}",
            rate.requests,
            window,
            burst=None if self._burst == rate.requests else self._burst,
        )
        self._memory = memory
        prefix = f"{name}\0{self._by}\0{self._limit}\0{self._burst}\0"
        self._digest = lru_cache(_REMEMBERED)(lambda key: memory.digest(prefix + key))

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
            buckets = self._memory.named
        else:
            buckets = self._memory.addresses
            key = network_of(caller.client)
        now = self._monotonic()
        slot = buckets.find(self._digest(key), now)
        before = buckets.get(slot)
        after = (before if before > now else now) + 1 / self._rate
        left = self._burst - (after - now) * self._rate
        if left < -self._slack:
            raise self._refusal(-left)
        buckets.put(slot, after)
        whole = int(left + self._slack)
        lines = (
            self._policy.line,
            self._policy.limit_line(whole, self._seconds(whole + 1 - left)),
        )
        return RateHold(buckets, slot, before, after, lines)

    async def read(self, caller: Caller) -> None:
        """All is known."""

    def _seconds(self, requests: float) -> int:
        """How long it takes until so many have come back; whole seconds, 1 at least."""
        return max(ceil((requests - self._slack) / self._rate), 1)

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

    __slots__ = ("_after", "_before", "_buckets", "_slot", "lines")

    def __init__(
        self, buckets: Buckets, slot: int, before: float, after: float, lines: Sequence[bytes]
    ) -> None:
        self._buckets = buckets
        self._slot = slot
        self._before = before
        self._after = after
        self.lines = lines

    def settle(self, ending: Ending) -> None:
        """It was made."""

    def drop(self) -> None:
        """It was made."""

    def release(self) -> None:
        """It was not made: the bucket is what it was, unless another one came after this."""
        if self._buckets.get(self._slot) == self._after:
            self._buckets.put(self._slot, self._before)


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
