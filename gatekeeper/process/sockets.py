"""Handing listening sockets to a child process, and finding those that we were handed.

A child has them by the numbers of their descriptors, and reads in its environment which is which.
A service manager does nearly the same, see sd_listen_fds(3).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Final, NamedTuple

#: Names what a process of ours was handed, in JSON; see :func:`hand`.
VARIABLE: Final = "GATEKEEPER_HANDED"

_FIRST: Final = 3  # of the service manager's sockets
_MANAGERS: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

#: An address as the configuration has it, and the socket that listens there.
Listens = tuple[str, socket.socket]


class Handed(NamedTuple):
    """What a process begins with.

    ``sockets`` listen. ``lock`` is the journal's directory lock, ``buckets`` the memory in which
    rates are counted, ``channel`` leads to the process that ours is to follow, or works for; -1 and
    ``None``: there is none.
    """

    sockets: list[Listens]
    lock: int = -1
    buckets: int = -1
    channel: socket.socket | None = None


class ForChild(NamedTuple):
    """What a child has to be started with: variables for its environment, and descriptors."""

    environ: Mapping[str, str]
    descriptors: list[int]


def hand(
    sockets: Iterable[Listens],
    lock: int = -1,
    buckets: int = -1,
    channel: socket.socket | None = None,
) -> ForChild:
    """Make ready to hand these to a child; they stay open here. See :class:`Handed`."""
    pairs = [(bind, each.fileno()) for bind, each in sockets]
    end = -1 if channel is None else channel.fileno()
    document = json.dumps({"sockets": pairs, "lock": lock, "buckets": buckets, "channel": end})
    numbers = (*(number for _, number in pairs), lock, buckets, end)
    descriptors = [number for number in numbers if number >= 0]
    return ForChild({VARIABLE: document}, descriptors)


def handed(environ: MutableMapping[str, str] = os.environ) -> Handed:
    """Find what this process was handed, by another one of ours or by the service manager.

    The variables that tell of it are taken out of ``environ``, and no child gets the descriptors
    but by :func:`hand`.
    """
    document = environ.pop(VARIABLE, "")
    sockets = _of_manager([environ.pop(name, "") for name in _MANAGERS])
    if not document:
        return Handed(sockets)
    told = json.loads(document)
    ours = [(bind, _socket(number)) for bind, number in told["sockets"]]
    lock, buckets, end = told["lock"], told.get("buckets", -1), told["channel"]
    for number in (lock, buckets):
        if number >= 0:
            os.set_inheritable(number, False)
    return Handed(ours, lock, buckets, _socket(end) if end >= 0 else None)


def _of_manager(values: list[str]) -> list[Listens]:
    pid, count, _ = values
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for number in range(_FIRST, _FIRST + int(count)):
        listening = _socket(number)
        if listening.type == socket.SOCK_STREAM:
            found.append((_bind_of(listening), listening))
        else:
            listening.close()
    return found


def _socket(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


def _bind_of(listening: socket.socket) -> str:
    """Where it listens, as the configuration would have it."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port = name[:2]
    return f"[{host}]:{port}" if listening.family == socket.AF_INET6 else f"{host}:{port}"
