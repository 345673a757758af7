"""What the data plane sees of a service's meter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple


class Measured(NamedTuple):
    """What an exchange used: ``0 <= units < 2**63``; ``model`` is empty where none was read."""

    units: int
    model: str


class Reading(ABC):
    """One response of an upstream, read as it passes."""

    __slots__ = ()

    @abstractmethod
    def feed(self, payload: bytes) -> None:
        """The next piece of the response's body. Never raises, never holds back."""

    @abstractmethod
    def result(self, bytes_in: int, bytes_out: int, duration: float) -> Measured:
        """What the exchange used, however it ended: bytes of both bodies, and seconds.

        It is called once, and nothing is fed after it.
        """


class UnitMeter(ABC):
    """What one service charges by."""

    __slots__ = ()

    @abstractmethod
    def begin(self, status: int, lines: Sequence[bytes]) -> Reading:
        """The upstream's final response begins; ``lines`` are its fields, ``name: value``."""

    @abstractmethod
    def unread(
        self, bytes_in: int, bytes_out: int, duration: float, *, tunnel: bool = False
    ) -> Measured:
        """What an exchange used that has no :class:`Reading`: a tunnel, or an answer of our own."""
