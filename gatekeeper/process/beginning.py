"""How a core begins, in the daemon as in a worker: its rounds, and what operators have made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.task import LoopingCall

from gatekeeper.core import Core

_STATE_WITHIN: Final = 2.0  # seconds that listeners wait for it
_FILES_CHECKED: Final = 1.0  # seconds between two looks at key files and certificates


class Rounds:
    """What is done again and again while a process serves."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._loops: list[LoopingCall] = []

    def start(self, core: Core) -> None:
        """Begin with what a core needs."""
        self.add(core.sweep, core.plane.sweep.interval)
        self.add(core.check_files, _FILES_CHECKED)

    def add(self, function: Callable[[], object], interval: float) -> None:
        """Call it as well, with so many seconds before each call."""
        looping = LoopingCall(function)
        looping.clock = self._reactor
        looping.start(interval, now=False)
        self._loops.append(looping)

    def stop(self) -> None:
        """Call nothing any more."""
        for looping in self._loops:
            if looping.running:
                looping.stop()


async def read_state(core: Core, reactor: Any) -> None:
    """Read what operators have made; if that takes long, go on without it meanwhile."""
    await core.state.start().addTimeout(_STATE_WITHIN, reactor, lambda *_: None)
