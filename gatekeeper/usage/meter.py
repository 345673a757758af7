"""What the data plane calls when an exchange is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gatekeeper.usage.counters import Counters
from gatekeeper.usage.records import UsageRecord


class Held(Protocol):
    """A response whose last bytes wait until its usage record is safe."""

    def release(self) -> None:
        """Send them."""

    def withhold(self) -> None:
        """The record cannot be written down: the response must not arrive whole."""


class Meter:
    """Collects usage records and hands them on once per turn of the event loop.

    ``call_soon`` schedules a call for the end of this turn or the beginning of the next one
    (``loop.call_soon``).

    :meth:`drain` is the one place that all records pass through, in batches: a journal on disk
    belongs in front of the counters there, with one append per turn, before the transports send
    what this turn has written.
    """

    def __init__(
        self, counters: Counters, call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._counters = counters
        self._call_soon = call_soon
        self._records: list[UsageRecord] = []
        self._held: list[Held] = []

    @property
    def full(self) -> bool:
        """Whether the counters are at their bound: requests should get a 503."""
        return self._counters.full

    def record(self, record: UsageRecord) -> None:
        """Take in the record of a finished exchange. Never fails, never waits."""
        if not self._records:
            self._call_soon(self.drain)
        self._records.append(record)

    def hold(self, held: Held) -> None:
        """Release this when the record of this turn is safe; called right after :meth:`record`."""
        self._held.append(held)

    def drain(self) -> None:
        """Add what was collected to the counters. Called by the loop, and once before a stop."""
        records, self._records = self._records, []
        self._counters.add_all(records)
        held, self._held = self._held, []
        for each in held:
            each.release()
