"""What a supervisor sends that takes more than plain values: settings.

They are pickled: they come over a pair of sockets that nobody else has, from the process that has
started this one.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from gatekeeper.config.model import Settings
from gatekeeper.errors import ConfigurationError, Problem

#: Problems in plain values.
PlainProblems: TypeAlias = list[tuple[str, str]]


class Orders(NamedTuple):
    """What a worker is to do from now on.

    ``settings`` are its own: bounds are its share of the daemon's. ``own`` are addresses that the
    supervisor listens on, IP address and port.
    """

    settings: Settings
    own: tuple[tuple[str, int], ...]

    def pack(self) -> bytes:
        """For a message."""
        return pickle.dumps(self)

    @classmethod
    def unpack(cls, data: bytes) -> Orders:
        """What :meth:`pack` has made."""
        orders = pickle.loads(data)  # noqa: S301 - see the module
        assert isinstance(orders, cls)
        return orders


def to_plain(error: ConfigurationError) -> PlainProblems:
    """For a message."""
    return [(problem.path, problem.message) for problem in error.problems]


def raise_plain(found: Iterable[Iterable[str]]) -> None:
    """Raise what :func:`to_plain` has made, if there is anything.

    :raises ConfigurationError: there is.
    """
    problems = [Problem(*problem) for problem in found]
    if problems:
        raise ConfigurationError(problems)
