"""Slows down who tries one token after the other."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

#: Wrong tokens that cost nothing but their answer.
FREE: Final = 5

#: The longest that a peer has to wait, in seconds; after so long without a try all is forgotten.
LONGEST_WAIT: Final = 60.0
FORGOTTEN_AFTER: Final = 900.0

_MOST: Final = 1024
_SUBSCRIBER: Final = 64  # bits of an IPv6 address that one has no choice in


class _Failures(NamedTuple):
    number: int
    last: float


class Attempts:
    """Wrong tokens by peer, of at most ``most`` peers: those that tried last.

    After :data:`FREE` of them a peer has to wait a second before the next, then two, and so on, up
    to :data:`LONGEST_WAIT`. Nothing is held open meanwhile.
    """

    def __init__(self, monotonic: Callable[[], float], most: int = _MOST) -> None:
        self._monotonic = monotonic
        self._most = most
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, peer: str) -> float:
        """Seconds that a peer (an IP address) has to wait before it may try."""
        key = _key(peer)
        failures = self._failures.get(key)
        if failures is None:
            return 0.0
        passed = self._monotonic() - failures.last
        if passed >= FORGOTTEN_AFTER:
            del self._failures[key]
            return 0.0
        if failures.number < FREE:
            return 0.0
        pause = min(2.0 ** min(failures.number - FREE, 16), LONGEST_WAIT)
        return max(0.0, pause - passed)

    def failed(self, peer: str) -> None:
        """A peer has presented a wrong token."""
        key = _key(peer)
        before = self._failures.pop(key, None)
        self._failures[key] = _Failures(before.number + 1 if before else 1, self._monotonic())
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, peer: str) -> None:
        """A peer has presented the right token."""
        self._failures.pop(_key(peer), None)


def _key(peer: str) -> str:
    """Who that is: an IPv4 address, or the network that an IPv6 address is of."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _SUBSCRIBER), strict=False))
