"""The supervisor's side: it has workers, tells them what to serve, and counts what they have used.

How they come and go is in :mod:`gatekeeper.process.places`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, gatherResults

from gatekeeper.changing import Change
from gatekeeper.config.model import Settings
from gatekeeper.config.values import MOST_WORKERS
from gatekeeper.core import Core
from gatekeeper.errors import ConfigurationError, Problem
from gatekeeper.insight import Insight
from gatekeeper.management.live import DataPlane
from gatekeeper.net.inherited import Inherited
from gatekeeper.process.everywhere import Everywhere
from gatekeeper.process.hired import Hired
from gatekeeper.process.link import Handler, LinkError
from gatekeeper.process.messages import Orders, raise_plain
from gatekeeper.process.places import Places, reason_of
from gatekeeper.process.siblings import Siblings
from gatekeeper.process.sockets import Listens
from gatekeeper.process.worker_log import log_of
from gatekeeper.process.zones import ZoneDesk
from gatekeeper.state import Difference
from gatekeeper.usage.metering import Metering
from gatekeeper.usage.records import Account
from gatekeeper.usage.segments import Key

_PREPARED_WITHIN: Final = 30.0
_HANDED_OVER_WITHIN: Final = 2.0
_TOLD_WITHIN: Final = 1.0


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
        self._siblings = Siblings(number, inherited)
        self._places = Places(self._siblings, loop, reactor, self._hire, self._mourn)
        self._prepared: list[Hired] = []
        self._full = False
        self._zones = ZoneDesk(core.checkers.zones, lambda: (each.link for each in self))
        self._everywhere: Everywhere | None = None
        self.own: tuple[tuple[str, int], ...] = ()

    def __repr__(self) -> str:
        return f"<Workers: {len(list(self.serving))} of {self.number}>"

    def __iter__(self) -> Iterator[Hired]:
        """All that there are, also those that end."""
        return iter(self._places)

    @property
    def serving(self) -> Iterator[Hired]:
        """Those that serve requests, and are to go on."""
        return self._places.serving

    @property
    def number(self) -> int:
        """How many there should be."""
        return self._places.number

    @property
    def deaths(self) -> Sequence[int]:
        """How many have died, by their places."""
        return self._places.deaths

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
        await self._places.fill()

    def _hire(self, place: int) -> Hired:
        """Start a worker.

        :raises WorkerError: it cannot be started.
        """
        core = self._core
        lock = core.metering.journal.lock if core.metering is not None else -1
        hired = Hired(
            place,
            self._loop,
            self._reactor,
            self._siblings.of_worker(place),
            lock,
            core.buckets.descriptor,
            self._handlers,
        )
        hired.link.tell("begin", place + 1, self._orders(core.settings).pack(), self._version)
        if self._full:
            hired.link.tell("full", True)
        hired.ready.addCallback(lambda _: self._count_on(hired))
        return hired

    def _count_on(self, hired: Hired) -> None:
        """It may spend when it is known what was spent before."""
        if self._core.metering is not None:
            caught_up = self._core.metering.flusher.caught_up
            caught_up.addCallback(lambda _: hired.link.tell("accounts"))

    async def _mourn(self, hired: Hired) -> None:
        """A worker has ended: take over what it has left."""
        if self._everywhere is not None:
            self._everywhere.retire(hired)
        if self._core.metering is not None:
            await self._core.metering.journal.adopt()

    async def stop(self, seconds: float) -> None:
        """Have all of them finish what runs, within so many seconds, and wait for their end."""
        await self._places.dismiss("stop", seconds)

    async def retire(self, seconds: float) -> None:
        """As :meth:`stop`, but they hang up on nobody: others accept connections now."""
        await self._places.dismiss("retire", seconds)

    def kill(self) -> None:
        """End all at once: they have not begun well."""
        self._places.kill()

    # --- sockets and state ----------------------------------------------------------------

    def sockets(self) -> Iterator[Listens]:
        """Those of all workers, by their addresses in the configuration."""
        return self._siblings.all()

    def _send_sockets(self, doors: Sequence[Listens]) -> None:
        """Give every worker its socket at each address that is new."""
        for bind, sockets in self._siblings.add(doors):
            for hired in self:
                hired.link.tell("socket", bind, carried=sockets[hired.slot])
        self._places.take_care()

    def _keep_sockets(self, doors: Sequence[Listens]) -> None:
        """Nobody listens anywhere else any more."""
        self._siblings.keep(doors)
        self._places.take_care()

    @property
    def _version(self) -> int:
        state = self._core.state
        return state.view.version if state.loaded else 0

    def _changed(self, difference: Difference) -> None:
        """What operators have made is another: let it take effect in the workers, too."""
        if self._places.closed:
            return
        doors = list(self._core.listening.sockets())
        self._send_sockets(doors)
        for hired in self:
            hired.link.tell("changed", self._version)
        self._keep_sockets(doors)

    # --- another configuration ------------------------------------------------------------

    async def prepare(self, settings: Settings, change: Change) -> None:
        """Have every worker make ready for other settings, for which ``change`` is made here.

        :raises ConfigurationError: one of them cannot take them; nothing has changed.
        """
        if len(list(self.serving)) < self.number:
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
            raise ConfigurationError([Problem("workers", reason_of(error))]) from None

    def commit(self) -> None:
        """Let it take effect; to be called right after that was done here."""
        for hired in self:
            if hired in self._prepared:
                hired.link.tell("commit")
            else:  # it took the place of one that died in between, under the old settings
                hired.kill()
        self._zones.listen()
        self._keep_sockets(list(self._core.listening.sockets()))

    def cancel(self) -> None:
        """Leave everything as it is."""
        for hired in self:
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
        limits, usage, number = settings.limits, settings.usage, self.number
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
        asked = [each.link.ask("rotate", timeout=_HANDED_OVER_WITHIN) for each in self]
        # What they have said before they answer is here then; who is silent is asked again.
        return DeferredList(asked, consumeErrors=True).addCallback(lambda _: self._measure())

    def done(self, key: Key, spent: Mapping[Account, int]) -> None:
        """See :class:`gatekeeper.usage.metering.Others`."""
        for hired in self:
            if hired.node == key.node:
                plain = [(tuple(account), credits) for account, credits in spent.items()]
                hired.link.tell("done", key.sequence, plain)
        self._measure()

    def _measure(self) -> None:
        """Tell whether there is too much usage in all."""
        metering = self._core.metering
        if metering is not None and metering.journal.full != self._full:
            self._full = metering.journal.full
            for hired in self:
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
        missing = self.number - len(list(self.serving))
        if missing:
            return f"{missing} of {self.number} are not there; see the log"
        asked = [(each, each.link.ask("problems", timeout=_TOLD_WITHIN)) for each in self.serving]
        found = []
        for hired, answer in asked:
            try:
                problems = await answer
            except LinkError as error:
                problems = [str(error)]
            if problems:
                found.append(f"{hired!r}: {'; '.join(problems)}")
        return "; ".join(found) or None
