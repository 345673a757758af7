"""One coarse clock for all time-outs of the data plane.

A timer for each request costs more than the request. Instead every connection carries a
``deadline``, and one sweep a few times a second calls those whose deadline has passed. A deadline
is therefore kept to within one sweep, never early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from twisted.logger import Logger

log = Logger()

NEVER: Final = float("inf")


class Timed(Protocol):
    """What has a deadline, in seconds of the sweep's clock."""

    deadline: float

    def timed_out(self) -> None:
        """The deadline has passed. Set a new one, or end."""


class Sweep:
    """The clock and everything that waits for it.

    ``now`` is the time of the last sweep: cheap to read, at most one sweep old.
    """

    interval = 0.25

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.now = seconds()
        self.timed: set[Timed] = set()

    def run(self) -> None:
        """Call whoever's deadline has passed."""
        now = self.now = self._seconds()
        for timed in [timed for timed in self.timed if timed.deadline < now]:
            if timed.deadline >= now or timed not in self.timed:
                continue  # what another's time-out brought about
            try:
                timed.timed_out()
            except Exception:
                timed.deadline = NEVER
                log.failure("A time-out could not be handled")
