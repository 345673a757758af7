"""The supervisor's side: it starts the workers, looks after them, and has them end.

What one of them leaves when it dies is taken over at once, and another one takes its place: the
first time right away, and later the longer after the less it lives.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.changing import Change
from gatekeeper.config.model import Settings
from gatekeeper.config.values import MOST_WORKERS
from gatekeeper.core import Core
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.insight import Insight
from gatekeeper.management.live import DataPlane
from gatekeeper.net.inherited import Inherited
from gatekeeper.process.caretaker import Caretaker
from gatekeeper.process.everywhere import Everywhere
from gatekeeper.process.hired import Hired, WorkerError, told
from gatekeeper.process.link import Handler, Link, LinkError
from gatekeeper.process.messages import Orders, raise_plain
from gatekeeper.process.siblings import Siblings
from gatekeeper.process.sockets import Listens
from gatekeeper.process.worker_log import log_of
from gatekeeper.process.zones import ZoneDesk
from gatekeeper.state import Difference
from gatekeeper.usage.metering import Metering
from gatekeeper.usage.records import Account
from gatekeeper.usage.segments import Key

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
_PREPARED_WITHIN: Final = 30.0
_HANDED_OVER_WITHIN: Final = 2.0
_LOOK: Final = 0.05


def worker_count(settings: Settings) -> int:
    """How many workers the settings ask for; 1: there are none, the process itself serves."""
    if settings.workers == "auto":
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return settings.workers


class Workers:
    """See the module. There are ``number`` places, each with a worker or waiting for one.

    :param core: the supervisor's own, which accepts no connections.
    :param inherited: sockets that listened before we began.
    :param own: gives the addresses that the supervisor itself listens on.
    """

    def __init__(
        self,
        core: Core,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        number: int,
        inherited: Inherited,
    ) -> None:
        self._core = core
        self._reactor = reactor
        self._loop = loop
        self._number = number
        self._siblings = Siblings(number, inherited)
        self._hired: list[Hired] = []
        self._prepared: list[Hired] = []
        self._delays = [0.0] * number
        self._coming: dict[int, IDelayedCall] = {}
        self._caretakers: dict[int, Caretaker] = {}
        self._stopping = False
        self._full = False
        self._zones = ZoneDesk(core.checkers.zones, self._links)
        self._everywhere: Everywhere | None = None
        self.own: tuple[tuple[str, int], ...] = ()
        self.deaths = [0] * number
        """How many have died, by their places."""
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def __repr__(self) -> str:
        return f"<Workers: {len(list(self.serving))} of {self._number}>"

    def __iter__(self) -> Iterator[Hired]:
        """All that there are, also those that end."""
        return iter(self._hired)

    @property
    def serving(self) -> Iterator[Hired]:
        """Those that serve requests, and are to go on."""
        return (each for each in self._hired if each.is_ready and not each.is_dismissed)

    @property
    def number(self) -> int:
        """How many there should be."""
        return self._number

    def _links(self) -> Iterator[Link]:
        return (each.link for each in self._hired)

    def _serving_links(self) -> list[Link]:
        return [each.link for each in self.serving]

    def _take_care(self) -> None:
        """Sockets have changed."""
        for slot, caretaker in self._caretakers.items():
            caretaker.watch(self._siblings.of_worker(slot))

    # --- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all, and wait until they serve requests.

        :raises WorkerError: one of them does not.
        """
        self._siblings.add(self._core.listening.sockets())
        self._zones.listen()
        self._core.state.on_change(self._changed)
        if self._core.metering is not None:
            self._core.metering.others = self
        for slot in range(self._number):
            self._hire(slot)
        waiting = gatherResults([each.ready for each in self._hired], consumeErrors=True)
        waiting.addTimeout(_START_WITHIN, self._reactor)
        try:
            await waiting
        except Exception as error:
            first = getattr(error, "subFailure", None)
            reason = first.getErrorMessage() if first is not None else f"{error!r}"
            raise WorkerError(reason) from None
        self._looking.start(_PING, now=False)

    def _hire(self, slot: int) -> None:
        """Start a worker."""
        self._coming.pop(slot, None)
        if self._stopping:
            return
        core = self._core
        lock = core.metering.journal.lock if core.metering is not None else -1
        sockets = self._siblings.of_worker(slot)
        try:
            buckets = core.buckets.descriptor
            hired = Hired(slot, self._loop, self._reactor, sockets, lock, buckets, self._handlers)
        except WorkerError as error:
            log.error("{error}", error=error)
            self._replace(slot, 0.0)
            return
        self._hired.append(hired)
        hired.gone.addCallback(lambda status: ensureDeferred(self._bury(hired, status)))
        hired.link.tell("begin", slot + 1, self._orders(core.settings).pack(), self._version)
        if self._full:
            hired.link.tell("full", True)
        hired.ready.addCallbacks(lambda _: self._welcome(hired), lambda failure: failure)

    def _welcome(self, hired: Hired) -> None:
        caretaker = self._caretakers.pop(hired.slot, None)
        if caretaker is not None:
            caretaker.watch([])
        log.info("{worker} serves requests", worker=hired)
        if self._core.metering is not None:
            caught_up = self._core.metering.flusher.caught_up
            caught_up.addCallback(lambda _: hired.link.tell("accounts"))

    async def _bury(self, hired: Hired, status: int) -> None:
        """A worker has ended: take over what it has left, and what comes for it meanwhile."""
        self._hired.remove(hired)
        if not self._stopping and hired.slot not in self._caretakers:
            self._caretakers[hired.slot] = Caretaker(self._loop, self._serving_links)
            self._take_care()
        hired.ready.addErrback(lambda _: None)
        if self._everywhere is not None:
            self._everywhere.retire(hired)
        if self._core.metering is not None:
            await self._core.metering.journal.adopt()
        if hired.is_dismissed or self._stopping:
            return
        log.error("{worker} has ended, {how}", worker=hired, how=told(status))
        self.deaths[hired.slot] += 1
        self._replace(hired.slot, self._reactor.seconds() - hired.since)

    def _replace(self, slot: int, lived: float) -> None:
        delay = 0.0 if lived >= _LONG_LIFE else self._delays[slot]
        self._delays[slot] = min(max(2 * delay, _SHORTEST_DELAY), _LONGEST_DELAY)
        if delay:
            log.warn("Worker {slot} is replaced in {delay:g} s", slot=slot + 1, delay=delay)
        self._coming[slot] = self._reactor.callLater(delay, self._hire, slot)

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

    async def stop(self, seconds: float) -> None:
        """Have all of them finish what runs, within so many seconds, and wait for their end."""
        await self._dismiss("stop", seconds)

    async def retire(self, seconds: float) -> None:
        """As :meth:`stop`, but they hang up on nobody: others accept connections now."""
        await self._dismiss("retire", seconds)

    async def _dismiss(self, how: str, seconds: float) -> None:
        self._stopping = True
        for call in self._coming.values():
            call.cancel()
        self._coming.clear()
        if self._looking.running:
            self._looking.stop()
        self._siblings.close()
        self._take_care()
        for hired in self._hired:
            hired.is_dismissed = True
            hired.link.tell(how, seconds)
        give_up_at = self._reactor.seconds() + seconds + _SILENCE
        while self._hired:
            if self._reactor.seconds() > give_up_at:
                for hired in self._hired:
                    hired.kill()
            await deferLater(self._reactor, _LOOK)

    def kill(self) -> None:
        """End all at once: they have not begun well."""
        self._stopping = True
        for hired in self._hired:
            hired.kill()

    # --- sockets and state ----------------------------------------------------------------

    def sockets(self) -> Iterator[Listens]:
        """Those of all workers, by their addresses in the configuration."""
        return self._siblings.all()

    def _send_sockets(self, doors: Sequence[Listens]) -> None:
        """Give every worker its socket at each address that is new."""
        for bind, sockets in self._siblings.add(doors):
            for hired in self._hired:
                hired.link.tell("socket", bind, carried=sockets[hired.slot])
        self._take_care()

    def _keep_sockets(self, doors: Sequence[Listens]) -> None:
        """Nobody listens anywhere else any more."""
        self._siblings.keep(doors)
        self._take_care()

    @property
    def _version(self) -> int:
        state = self._core.state
        return state.view.version if state.loaded else 0

    def _changed(self, difference: Difference) -> None:
        """What operators have made is another: let it take effect in the workers, too."""
        if self._stopping:
            return
        doors = list(self._core.listening.sockets())
        self._send_sockets(doors)
        for hired in self._hired:
            hired.link.tell("changed", self._version)
        self._keep_sockets(doors)

    # --- another configuration ------------------------------------------------------------

    async def prepare(self, settings: Settings, change: Change) -> None:
        """Have every worker make ready for other settings, for which ``change`` is made here.

        :raises ConfigurationError: one of them cannot take them; nothing has changed.
        """
        if len(list(self.serving)) < self._number:
            raise ConfigurationError([Problem("workers", "one is not there now; try again")])
        self._send_sockets([*self._core.listening.sockets(), *change.sockets])
        packed = self._orders(settings, change.introspecting).pack()
        self._prepared = list(self.serving)
        asked = [
            each.link.ask("prepare", packed, timeout=_PREPARED_WITHIN) for each in self._prepared
        ]
        try:
            for found in await gatherResults(asked, consumeErrors=True):
                raise_plain(found)
        except ConfigurationError:
            raise
        except Exception as error:
            first = getattr(error, "subFailure", None)
            reason = first.getErrorMessage() if first is not None else f"{error!r}"
            raise ConfigurationError([Problem("workers", reason)]) from None

    def commit(self) -> None:
        """Let it take effect; to be called right after that was done here."""
        for hired in self._hired:
            if hired in self._prepared:
                hired.link.tell("commit")
            else:  # it took the place of one that died in between, under the old settings
                hired.kill()
        self._zones.listen()
        self._keep_sockets(list(self._core.listening.sockets()))

    def cancel(self) -> None:
        """Leave everything as it is."""
        for hired in self._hired:
            hired.link.tell("cancel")
        self._keep_sockets(list(self._core.listening.sockets()))

    def read_files(self) -> None:
        """Have them read the files that the configuration names."""
        for hired in self.serving:
            hired.link.tell("files")

    def _orders(
        self, settings: Settings, introspecting: Iterable[tuple[str, int]] | None = None
    ) -> Orders:
        """The part of the settings that a worker has to do with, and its share of the bounds."""
        limits, usage, number = settings.limits, settings.usage, self._number
        share = {"connections": max(1, limits.connections // number)}
        size = max(1, usage.journal_size // number)
        doors = tuple(each for each in settings.listeners if each.role != "introspection")
        ours = settings.model_copy(
            update={
                "limits": limits.model_copy(update=share),
                "usage": usage.model_copy(update={"journal_size": size}),
                "listeners": doors,
            }
        )
        if introspecting is None:
            introspecting = [each.address for each in self._core.introspecting.services]
        return Orders(ours, (*self.own, *introspecting))

    # --- usage ----------------------------------------------------------------------------

    def gather(self) -> Deferred[None]:
        """See :class:`gatekeeper.usage.metering.Others`."""
        asked = [each.link.ask("rotate", timeout=_HANDED_OVER_WITHIN) for each in self._hired]
        # What they have said before they answer is here then; who is silent is asked again.
        return DeferredList(asked, consumeErrors=True).addCallback(lambda _: self._measure())

    def done(self, key: Key, spent: Mapping[Account, int]) -> None:
        """See :class:`gatekeeper.usage.metering.Others`."""
        for hired in self._hired:
            if hired.node == key.node:
                plain = [(tuple(account), credits) for account, credits in spent.items()]
                hired.link.tell("done", key.sequence, plain)
        self._measure()

    def _measure(self) -> None:
        """Tell whether there is too much usage in all."""
        metering = self._core.metering
        if metering is not None and metering.journal.full != self._full:
            self._full = metering.journal.full
            for hired in self._hired:
                hired.link.tell("full", self._full)

    # --- what they say --------------------------------------------------------------------

    def _handlers(self, hired: Hired) -> Mapping[str, Handler]:
        async def segment(name: str, since: float, records: int, size: int) -> None:
            metering = self._metering()
            hired.node = name.partition("-")[0]
            await metering.journal.receive(name, since, records, size)
            self._measure()

        async def flush() -> None:
            await self._metering().flush(urgent=True)

        return {
            **self._zones.handlers,
            "segment": segment,
            "flush": flush,
            "log": lambda *entry: log_of(repr(hired), *entry),
        }

    def _metering(self) -> Metering:
        assert self._core.metering is not None
        return self._core.metering

    # --- for operators --------------------------------------------------------------------

    def data_plane(self, insight: Insight) -> DataPlane:
        """See :class:`gatekeeper.wiring.Workers`."""
        self._everywhere = Everywhere(self, insight)
        return self._everywhere

    def problem(self) -> Deferred[str | None]:
        """See :class:`gatekeeper.wiring.Workers`."""
        return Deferred.fromCoroutine(self._problem())

    async def _problem(self) -> str | None:
        missing = self._number - len(list(self.serving))
        if missing:
            return f"{missing} of {self._number} are not there; see the log"
        for hired in self.serving:
            try:
                problems = await hired.link.ask("problems", timeout=1.0)
            except LinkError as error:
                problems = [str(error)]
            if problems:
                return f"{hired!r}: {'; '.join(problems)}"
        return None
