"""Usage records added up, in memory, until they are taken into the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gatekeeper.usage.records import OTHER_PATHS, Counted, CounterKey, UsageRecord

HOUR: Final = 3600

#: Seconds by which a record may come late and still count in the hour that has begun since. So the
#: hours do not change back and forth when records of two hours come mixed, around the full hour.
LATE: Final = 60

#: Longer paths count as ``*``: nobody reads such a row, and a thousand of them are megabytes.
MAX_PATH_LENGTH: Final = 1024


class Counters:
    """Sums of usage by service, user, path and hour.

    A record counts in the hour (UTC) in which its exchange *ended*: so an hour that is over, and
    flushed, does not change any more, however long a tunnel lasts.

    What one caller can make us keep is bounded: in an hour each (service, user) gets ``max_paths``
    rows of their own, further paths add to the row of the path ``*``. All callers together get
    ``max_keys`` such rows an hour, so that a hundred thousand users do not multiply the bound;
    past that new paths count as ``*`` too. No request is lost by either, only the detail.

    Pure and synchronous: no clock, no input or output.
    """

    def __init__(self, max_paths: int = 1000, max_keys: int = 1_000_000) -> None:
        self._max_paths = max_paths
        self._max_keys = max_keys
        # Lists, not Counted, since they are changed in place: requests, bytes in and out, units,
        # duration.
        self._sums: dict[CounterKey, list[float]] = {}
        # The paths with a row of their own in this hour, kept over take(): were they forgotten at
        # every flush, a caller would get max_paths new rows with each.
        self._paths: dict[tuple[str, str], set[str]] = {}
        self._tracked = 0
        self._hour = 0

    def __len__(self) -> int:
        """How many keys wait to be taken."""
        return len(self._sums)

    @property
    def full(self) -> bool:
        """Whether ``max_keys`` keys wait: nothing more should be admitted until some are taken."""
        return len(self._sums) >= self._max_keys

    def add(self, record: UsageRecord) -> None:
        """Add one record."""
        self.add_all((record,))

    def add_all(self, records: Iterable[UsageRecord]) -> None:
        """Add records. This runs for every request: about a microsecond each."""
        sums = self._sums
        hour = self._hour
        for (
            _, start, duration, service, user, _, _, path, _, _, bytes_in, bytes_out, units, _, _,
        ) in records:  # fmt: skip
            end = start + duration
            if not hour - LATE <= end < hour + HOUR:
                hour = self._turn_to(end)
            key = (service, user, path, hour)
            total = sums.get(key)
            if total is None:
                total = self._admit(key)
            total[0] += 1
            total[1] += bytes_in
            total[2] += bytes_out
            total[3] += units
            total[4] += duration

    def take(self, limit: int) -> dict[CounterKey, Counted]:
        """Take out ``limit`` counters, or all if there are fewer, and forget them here."""
        sums = self._sums
        # popitem() and not the oldest first: a dict with holes at its front is slow to iterate.
        taken = [sums.popitem() for _ in range(min(limit, len(sums)))]
        return {
            key: Counted(int(requests), int(bytes_in), int(bytes_out), int(units), duration)
            for key, (requests, bytes_in, bytes_out, units, duration) in taken
        }

    def _turn_to(self, end: float) -> int:
        # A clock that is set back makes an hour begin again: that costs some rows at most.
        self._hour = int(end // HOUR) * HOUR
        self._paths.clear()
        self._tracked = 0
        return self._hour

    def _admit(self, key: CounterKey) -> list[float]:
        """Find or make the sums for a key that has none: its own, or those of the other paths."""
        service, user, path, hour = key
        if not self._may_have_row(service, user, path):
            key = (service, user, OTHER_PATHS, hour)
        return self._sums.setdefault(key, [0, 0, 0, 0, 0.0])

    def _may_have_row(self, service: str, user: str, path: str) -> bool:
        paths = self._paths.get((service, user))
        if paths is not None and path in paths:
            return True
        if len(path) > MAX_PATH_LENGTH or self._tracked >= self._max_keys:
            return False
        if paths is None:
            paths = self._paths[service, user] = set()
        elif len(paths) >= self._max_paths:
            return False
        paths.add(path)
        self._tracked += 1
        return True
