"""A bounded queue in which nobody can starve anybody else."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Things that wait, by client and within a client by user; each has its turn.

    A client that puts in a thousand gets one out for each one of its neighbour's. At the bound
    the newest thing of whoever has the most goes: the flood pays, not the others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._length = 0
        # Whoever is first in a dictionary is served next, and then goes to its end.
        self._clients: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()

    def __len__(self) -> int:
        return self._length

    def put(self, client: str, user: str, thing: T) -> T | None:
        """Add ``thing``; gives back what had to go for it, perhaps ``thing`` itself."""
        users = self._clients.setdefault(client, OrderedDict())
        users.setdefault(user, deque()).append(thing)
        self._length += 1
        return self._give_up() if self._length > self._limit else None

    def get(self) -> T | None:
        """Take out what is next; None where nothing waits."""
        if not self._clients:
            return None
        client, users = self._clients.popitem(last=False)
        user, things = users.popitem(last=False)
        thing = things.popleft()
        if things:
            users[user] = things
        if users:
            self._clients[client] = users
        self._length -= 1
        return thing

    def _give_up(self) -> T:
        # Of equals the last to be served: max() takes the first it sees.
        client, users = max(
            reversed(self._clients.items()), key=lambda item: sum(map(len, item[1].values()))
        )
        user, things = max(reversed(users.items()), key=lambda item: len(item[1]))
        thing = things.pop()
        if not things:
            del users[user]
        if not users:
            del self._clients[client]
        self._length -= 1
        return thing


def neighbourhood(address: str) -> str:
    """Whom an address counts for: an IPv6 host has a whole /64 to send from (RFC 4291, 2.5.1)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
