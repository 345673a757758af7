"""Places for workers: each has one, or waits for the next.

When a worker dies another one takes its place: the first time right away, and later the longer
after the less it lives. Meanwhile others serve what comes for it. One that hangs is killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.process.caretaker import Caretaker
from gatekeeper.process.hired import Hired, WorkerError, told
from gatekeeper.process.link import Link, LinkError
from gatekeeper.process.siblings import Siblings

log = Logger()

#: Seconds from a worker's death to the next one in its place: the first, and the longest.
_SHORTEST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 30.0

#: Seconds that one has to live for its death to be a first one again.
_LONG_LIFE: Final = 60.0

#: Seconds within which a worker has to say that it lives, and how often it is asked.
_SILENCE: Final = 30.0
_PING: Final = 10.0

_START_WITHIN: Final = 60.0
_LOOK: Final = 0.05


class Places:
    """So many places as there are sockets at each address of ``siblings``.

    :param hire: starts a worker for a place, by its number.
    :param mourn: is called when a worker has ended, and before another one takes its place.
    """

    def __init__(
        self,
        siblings: Siblings,
        loop: asyncio.AbstractEventLoop,
        reactor: Any,
        hire: Callable[[int], Hired],
        mourn: Callable[[Hired], Awaitable[None]],
    ) -> None:
        self.number = siblings.number
        """How many there should be."""
        self.deaths = [0] * self.number
        """How many have died, by their places."""
        self._siblings = siblings
        self._loop = loop
        self._reactor = reactor
        self._hire = hire
        self._mourn = mourn
        self._hired: list[Hired] = []
        self._delays = [0.0] * self.number
        self._coming: dict[int, IDelayedCall] = {}
        self._caretakers: dict[int, Caretaker] = {}
        self._closed = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def __iter__(self) -> Iterator[Hired]:
        """All that there are, also those that end."""
        return iter(self._hired)

    @property
    def serving(self) -> Iterator[Hired]:
        """Those that serve requests, and are to go on."""
        return (each for each in self._hired if each.is_ready and not each.is_dismissed)

    @property
    def closed(self) -> bool:
        """Whether nobody is hired any more."""
        return self._closed

    # --- beginning ------------------------------------------------------------------------

    async def fill(self) -> None:
        """Hire for all places, and wait until all serve requests.

        :raises WorkerError: one of them does not.
        """
        for place in range(self.number):
            self._fill(place)
        waiting = gatherResults([each.ready for each in self._hired], consumeErrors=True)
        waiting.addTimeout(_START_WITHIN, self._reactor)
        try:
            await waiting
        except Exception as error:
            raise WorkerError(reason_of(error)) from None
        self._looking.start(_PING, now=False)

    def _fill(self, place: int) -> None:
        self._coming.pop(place, None)
        if self._closed:
            return
        try:
            hired = self._hire(place)
        except WorkerError as error:
            log.error("{error}", error=error)
            self._replace(place, 0.0)
            return
        self._hired.append(hired)
        hired.gone.addCallback(lambda status: ensureDeferred(self._bury(hired, status)))
        hired.ready.addCallbacks(lambda _: self._welcome(hired), lambda failure: failure)

    def _welcome(self, hired: Hired) -> None:
        log.info("{worker} serves requests", worker=hired)
        caretaker = self._caretakers.pop(hired.slot, None)
        if caretaker is not None:
            caretaker.watch([])

    # --- deaths ---------------------------------------------------------------------------

    async def _bury(self, hired: Hired, status: int) -> None:
        self._hired.remove(hired)
        hired.ready.addErrback(lambda _: None)
        if not self._closed and hired.slot not in self._caretakers:
            self._caretakers[hired.slot] = Caretaker(self._loop, self._links)
            self.take_care()
        await self._mourn(hired)
        if hired.is_dismissed or self._closed:
            return
        log.error("{worker} has ended, {how}", worker=hired, how=told(status))
        self.deaths[hired.slot] += 1
        self._replace(hired.slot, self._reactor.seconds() - hired.since)

    def _replace(self, place: int, lived: float) -> None:
        delay = 0.0 if lived >= _LONG_LIFE else self._delays[place]
        self._delays[place] = min(max(2 * delay, _SHORTEST_DELAY), _LONGEST_DELAY)
        if delay:
            log.warn("Worker {place} is replaced in {delay:g} s", place=place + 1, delay=delay)
        self._coming[place] = self._reactor.callLater(delay, self._fill, place)

    def _links(self) -> list[Link]:
        return [each.link for each in self.serving]

    def take_care(self) -> None:
        """Serve what comes for those that are not there; to be called when sockets have changed."""
        for place, caretaker in self._caretakers.items():
            caretaker.watch(self._siblings.of_worker(place))

    # --- hanging --------------------------------------------------------------------------

    def _look(self) -> None:
        """See that all of them live."""
        for hired in self._hired:
            answer = hired.link.ask("ping", timeout=_SILENCE)
            answer.addErrback(self._silent, hired)

    def _silent(self, failure: Failure, hired: Hired) -> None:
        failure.trap(LinkError)
        if not hired.link.is_over:
            log.error("{worker} hangs: it is killed", worker=hired)
            hired.kill()

    # --- the end --------------------------------------------------------------------------

    async def dismiss(self, how: str, seconds: float) -> None:
        """Tell all ``how`` to end, within so many seconds, and wait for it; hire nobody more."""
        self._closed = True
        for call in self._coming.values():
            call.cancel()
        self._coming.clear()
        if self._looking.running:
            self._looking.stop()
        self._siblings.close()
        self.take_care()
        for hired in self._hired:
            hired.is_dismissed = True
            hired.link.tell(how, seconds)
        give_up_at = self._reactor.seconds() + seconds + _SILENCE
        while self._hired:
            if self._reactor.seconds() > give_up_at:
                self.kill()
            await deferLater(self._reactor, _LOOK)

    def kill(self) -> None:
        """End all at once."""
        self._closed = True
        for hired in self._hired:
            hired.kill()


def reason_of(error: Exception) -> str:
    """What the first of several questions has failed with."""
    first = getattr(error, "subFailure", None)
    return first.getErrorMessage() if first is not None else f"{error!r}"
