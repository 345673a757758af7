"""What the store needs now and then: old hours become days, what is too old goes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gatekeeper.errors import GatekeeperError
from gatekeeper.store.interface import IStore, Retention, Upkept

log = Logger()

#: Seconds from the start to the first time, and from one time to the next. Each varies a little,
#: so that many nodes do not come at once.
FIRST: Final = 60.0
INTERVAL: Final = 3600.0
_VARIES: Final = 0.1


class StoreUpkeep:
    """Has ``store`` do its upkeep every hour, as ``keep`` says what is to be kept.

    Nothing that happens ends this: what fails is logged, and tried again an hour later. Several
    nodes may do this with one store. ``now`` returns seconds since the epoch, ``jitter`` numbers
    from 0 up to 1.
    """

    def __init__(
        self,
        store: IStore,
        keep: Retention,
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._keep = keep
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._first: IDelayedCall | None = None
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._maintain()))
        self._loop.clock = clock

    def start(self) -> None:
        """Begin, after a minute: whoever starts has other things to do."""
        interval = self._varied(INTERVAL)
        self._first = self._clock.callLater(self._varied(FIRST), self._loop.start, interval)

    def stop(self) -> None:
        """End. What is under way ends when the store is closed."""
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()

    def _varied(self, seconds: float) -> float:
        return seconds * (1 + _VARIES * self._jitter())

    async def _maintain(self) -> None:
        """Do it once. Never fails."""
        try:
            done: Upkept = await self._store.maintain(self._now(), self._keep)
        except GatekeeperError as error:
            if self._loop.running:  # Else the store has been closed meanwhile.
                log.warn("The store's upkeep is put off for an hour: {error}", error=error)
        except Exception:
            log.failure("The store's upkeep has failed; the next time is in an hour")
        else:
            if any(done):
                log.info(
                    "Upkeep of the store: {rolled_up} hourly counters became daily ones; deleted: "
                    "{rows} old counters, {record_days} days of single records, {batches} keys, "
                    "{quotas} quotas, {charges} burned charges, {settlements} settlements, "
                    "{grants} grants in the ledger's log, {audit} entries in the audit log",
                    **done._asdict(),
                )
