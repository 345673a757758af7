"""What the journal needs now and then while it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.errors import JournalError
from gatekeeper.usage.journal import Journal

log = Logger()

#: Seconds between two looks whether a journal that failed can be written to.
LOOK: Final = 1.0

#: Seconds between two looks whether another process has ended, and left something.
ADOPT: Final = 5.0


class Upkeep:
    """Tries a failing journal again, and takes over what other processes leave if it ``adopts``.

    With ``fsync = "interval"`` it forces the journal to the disk.

    ``fsync_interval`` is in seconds.
    """

    def __init__(
        self,
        journal: Journal,
        clock: IReactorTime,
        fsync_interval: float,
        *,
        adopts: bool = True,
    ) -> None:
        self._journal = journal
        self._loops = [(_looping(journal.look_after, clock), LOOK)]
        if adopts:
            self._loops.append((_looping(journal.adopt, clock), ADOPT))
        self._ended: list[Deferred[LoopingCall]] = []
        if journal.fsync == "interval":
            self._loops.append((_looping(journal.sync, clock), fsync_interval))

    def start(self) -> None:
        """Begin, the first time after one interval."""
        self._ended = [loop.start(interval, now=False) for loop, interval in self._loops]

    async def stop(self) -> None:
        """End; what is still in the journal is forced to the disk, but for ``fsync = "none"``."""
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        for ended in self._ended:
            await ended
        if self._journal.fsync != "none":
            await self._journal.sync().addErrback(_caught)


def _looping(function: Callable[[], Deferred[None]], clock: IReactorTime) -> LoopingCall:
    loop = LoopingCall(lambda: function().addErrback(_caught))
    loop.clock = clock
    return loop


def _caught(failure: Failure) -> None:
    if not failure.check(JournalError):  # The journal has said so in the log.
        log.failure("The journal's upkeep has failed", failure)
