"""Usage records added up, until they are taken into the store."""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import itemgetter
from typing import Any, Final

from gatekeeper.usage.records import (
    OTHER_MODELS,
    OTHER_PATHS,
    Account,
    Counted,
    CounterKey,
    UsageRecord,
)

HOUR: Final = 3600

#: Seconds by which a record may come late and still count in the hour that has begun since. So the
#: hours do not change back and forth when records of two hours come mixed, around the full hour.
LATE: Final = 60

#: Longer paths count as ``*``: nobody reads such a row, and a thousand of them are megabytes.
MAX_PATH_LENGTH: Final = 1024

#: The same for the names of models, in bytes of UTF-8.
MAX_MODEL_LENGTH: Final = 128

#: Distinct models of one user of one service in an hour; the rest counts as ``*``.
MAX_MODELS: Final = 100

#: Rows, models and users that are remembered, of all users together.
MAX_ROWS: Final = 1_000_000

#: Records that are kept before they are added up; more would not fit into the processor's cache.
_MANY: Final = 64


def _field(*names: str) -> Callable[[UsageRecord], Any]:
    """A function that returns these fields: it looks them up by number, which is faster."""
    return itemgetter(*map(UsageRecord._fields.index, names))


_KIND: Final = _field("service", "user", "path", "model", "status")
_BYTES_IN: Final = _field("bytes_in")
_BYTES_OUT: Final = _field("bytes_out")
_UNITS: Final = _field("units")
_DURATION: Final = _field("duration")
_SPENT: Final = _field("spent")


class _Known:
    """What one user of one service has used in this hour: rows (path, model), and models."""

    __slots__ = ("models", "rows")

    def __init__(self) -> None:
        self.rows: set[tuple[str, str]] = set()
        self.models: set[str] = set()


class Counters:
    """Sums of usage by service, user, path, model and hour.

    A record counts in the hour (UTC) in which its exchange *ended*: so an hour that is over, and
    flushed, does not change any more, however long a tunnel lasts.

    What one caller, or an upstream that makes up names of models, can make us keep is bounded: in
    an hour each (service, user) gets ``max_paths`` rows of their own, one for each path and model;
    what comes then adds to the row of the path ``*`` of that model. Models past :data:`MAX_MODELS`
    are ``*``, too. All callers together get ``max_rows`` of them, so that a hundred thousand users
    do not multiply the bound. No request is lost by any of this, only the detail.

    The bounds hold over batches: which rows there are is remembered until the hour is over.

    Pure and synchronous: no clock, no input or output.
    """

    def __init__(self, max_paths: int = 1000, max_rows: int = MAX_ROWS) -> None:
        self._max_paths = max_paths
        self._max_rows = max_rows
        # Records of this hour that are not in the sums yet, by what they have in common: adding
        # up many of a kind at a time costs a third.
        self._alike: dict[tuple[Any, ...], list[UsageRecord]] = {}
        self._count = 0
        # Lists, not Counted, since they are changed in place: bytes in and out, units, duration (a
        # float), then requests by the first digit of their status, 0 to 5.
        self._sums: dict[CounterKey, list[Any]] = {}
        self._spent: dict[Account, int] = {}
        self._known: dict[tuple[str, str], _Known] = {}
        self._remembered = 0  # rows, models and users
        self._hour = 0

    def __len__(self) -> int:
        """How many keys wait to be taken, or some more."""
        return len(self._sums) + len(self._alike)

    def add(self, record: UsageRecord) -> None:
        """Add one record."""
        self.add_all((record,))

    def add_all(self, records: Collection[UsageRecord]) -> None:
        """Add records. This runs for every request: some tenths of a microsecond each."""
        alike = self._alike
        earliest, over = float(self._hour - LATE), float(self._hour + HOUR)
        for record in records:
            end = record[1] + record[2]  # start and duration
            if not earliest <= end < over:
                self._add_up()
                alike = self._alike
                hour = self._turn_to(end)
                earliest, over = float(hour - LATE), float(hour + HOUR)
            key = _KIND(record)
            same = alike.get(key)
            if same is None:
                alike[key] = [record]
            else:
                same.append(record)
        self._count += len(records)
        if self._count >= _MANY:
            self._add_up()

    def _add_up(self) -> None:
        alike, self._alike = self._alike, {}
        self._count = 0
        for (service, user, path, model, status), records in alike.items():
            key = (service, user, path, model, self._hour)
            total = self._sums.get(key)
            if total is None:
                total = self._admit(key)
            total[0] += sum(map(_BYTES_IN, records))
            total[1] += sum(map(_BYTES_OUT, records))
            total[2] += sum(map(_UNITS, records))
            total[3] += sum(map(_DURATION, records))
            total[4 + status // 100 if 0 <= status < 600 else 4] += len(records)
            for spent in filter(None, map(_SPENT, records)):
                for source, name, holder, amount in spent:
                    account = Account(source, name, holder)
                    self._spent[account] = self._spent.get(account, 0) + amount

    def take(self) -> dict[CounterKey, Counted]:
        """Take out all counters, and forget them here."""
        self._add_up()
        taken, self._sums = self._sums, {}
        return {
            key: Counted(sum(statuses), bytes_in, bytes_out, units, duration, *statuses[1:])
            for key, (bytes_in, bytes_out, units, duration, *statuses) in taken.items()
        }

    def take_spent(self) -> dict[Account, int]:
        """Take out what was drawn from each account, and forget it here."""
        self._add_up()
        taken, self._spent = self._spent, {}
        return taken

    def _turn_to(self, end: float) -> int:
        # A clock that is set back makes an hour begin again: that costs some rows at most.
        self._hour = int(end // HOUR) * HOUR
        self._known.clear()
        self._remembered = 0
        return self._hour

    def _admit(self, key: CounterKey) -> list[Any]:
        """Find or make the sums for a key that has none: its own, or those of all that is left."""
        service, user, path, model, hour = key
        known = self._known.get((service, user)) or self._meet(service, user)
        if (path, model) not in known.rows:
            model = self._model(known, model)
            path = self._path(known, path, model)
            key = (service, user, path, model, hour)
        return self._sums.setdefault(key, [0, 0, 0, 0.0, 0, 0, 0, 0, 0, 0])

    def _meet(self, service: str, user: str) -> _Known:
        known = _Known()
        if self._remembered < self._max_rows:
            self._known[service, user] = known
            self._remembered += 1
        return known

    def _model(self, known: _Known, model: str) -> str:
        """Return ``model``, or what it counts as."""
        if not model or model in known.models:
            return model
        if (
            len(known.models) >= MAX_MODELS
            or self._remembered >= self._max_rows
            or len(model.encode("utf-8", "replace")) > MAX_MODEL_LENGTH
        ):
            return OTHER_MODELS
        known.models.add(model)
        self._remembered += 1
        return model

    def _path(self, known: _Known, path: str, model: str) -> str:
        """Return ``path``, or what it counts as."""
        row = (path, model)
        if row in known.rows:
            return path
        if (
            len(known.rows) >= self._max_paths
            or self._remembered >= self._max_rows
            or len(path) > MAX_PATH_LENGTH
        ):
            return OTHER_PATHS
        known.rows.add(row)
        self._remembered += 1
        return path
