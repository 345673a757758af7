"""What a supervisor asks of a worker while that serves requests, and how it is answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gatekeeper.auth.interfaces import IReadiness
from gatekeeper.auth.token_cache import TokenCacheError
from gatekeeper.changing import Change
from gatekeeper.core import Core
from gatekeeper.errors import ConfigurationError, Problem, StoreError
from gatekeeper.insight import Insight
from gatekeeper.metrics.merging import to_plain as metrics_to_plain
from gatekeeper.net.inherited import Inherited
from gatekeeper.process.link import Handler
from gatekeeper.process.messages import Orders, PlainProblems, to_plain
from gatekeeper.process.to_supervisor import ToSupervisor
from gatekeeper.usage.records import Account

log = Logger()


class Desk:
    """Answers for ``core``. ``handlers`` are for the :class:`.Link`.

    :param inherited: gets sockets for what is to be opened before that is said.
    :param orders: what the core began with.
    """

    def __init__(self, core: Core, to: ToSupervisor, inherited: Inherited, orders: Orders) -> None:
        self._core = core
        self._to = to
        self._inherited = inherited
        self._insight = insight = Insight(core)
        self._own: tuple[tuple[str, int], ...] = ()
        self._listens(orders.own)
        self._change: tuple[Change, Orders] | None = None
        exchanges = insight.exchanges
        self.handlers: Mapping[str, Handler] = {
            "connection": self._connection,
            "changed": self._changed,
            "settled": core.state.settled,
            "revoked": to.zones.revoked,
            "expire": lambda *account: insight.expire(Account(*account)),
            "files": core.check_files,
            # usage
            "rotate": self._rotate,
            "done": self._done,
            "full": self._full,
            "accounts": self._accounts,
            # another configuration
            "prepare": self._prepare,
            "commit": self._commit,
            "cancel": self._cancel,
            # what there is
            "find": lambda *which: _documents(exchanges.find(*which)),
            "show": lambda wanted: _document(exchanges.show(wanted)),
            "cut": lambda wanted: _document(exchanges.cut(wanted)),
            "traffic": self._traffic,
            "upstreams": self._upstreams,
            "metrics": self.metrics,
            "numbers": insight.document,
            "problems": self._problems,
        }

    async def _connection(self, connection: socket.socket, host: str, port: int) -> None:
        """One that was accepted in place of a worker that is not there."""
        listening = self._core.listening
        await Deferred.fromFuture(asyncio.ensure_future(listening.take(connection, (host, port))))

    # --- what operators have changed ------------------------------------------------------

    async def _changed(self, version: int) -> None:
        """The store has another version; sockets for what is new there have come before."""
        assert self._to.told is not None
        self._to.told.version = version
        try:
            await self._core.state.load()
        except StoreError as error:  # it is tried again every second
            log.error("What operators have made cannot be read: {error}", error=error)
        else:
            self._inherited.close()

    # --- usage ----------------------------------------------------------------------------

    def _rotate(self) -> None:
        """Hand over what was used by now."""
        recording = self._core.recording
        if recording is not None:
            recording.meter.drain()
            recording.journal.rotate()

    def _done(self, sequence: int, spent: Sequence[tuple[Any, int]]) -> None:
        """A segment needs nothing more; this of what was spent there is in the store."""
        recording = self._core.recording
        if recording is not None:
            recording.journal.done(sequence)
            self._core.leasing.flushed({Account(*account): each for account, each in spent})

    def _full(self, full: bool) -> None:
        """Whether there is too much usage in all."""
        if self._core.recording is not None:
            self._core.recording.journal.shut(full)

    def _accounts(self) -> None:
        """The store has all that an earlier run has metered."""
        if self._core.recording is not None:
            self._core.leasing.open(self._core.recording.journal)

    # --- another configuration ------------------------------------------------------------

    async def _prepare(self, packed: bytes) -> PlainProblems:
        """Make ready for other settings; what is wrong with them. Nothing has changed then."""
        orders, core = Orders.unpack(packed), self._core
        try:
            if core.plane.draining:
                raise ConfigurationError([Problem("", "a worker is stopping")])
            checkers = core.checkers.prepare(orders.settings)
            try:
                await checkers.start()
                change = Change(core, orders.settings, checkers)
            except BaseException:
                checkers.cancel()
                raise
        except ConfigurationError as error:
            return to_plain(error)
        except TokenCacheError as error:
            return [("checkers", str(error))]
        self._change = change, orders
        return []

    def _commit(self) -> None:
        """Let it take effect."""
        assert self._change is not None
        (change, orders), self._change = self._change, None
        change.commit()
        self._listens(orders.own)
        self._inherited.close()

    def _cancel(self) -> None:
        """Leave everything as it is."""
        if self._change is not None:
            self._change[0].cancel()
            self._change = None
        self._inherited.close()

    def _listens(self, own: tuple[tuple[str, int], ...]) -> None:
        """The supervisor listens on these addresses."""
        for address in self._own:
            self._core.own.remove(address)
        for address in own:
            self._core.own.add(address)
        self._own = own

    # --- what there is --------------------------------------------------------------------

    def _traffic(self) -> tuple[int | bool, ...]:
        traffic = self._insight.traffic_now()
        recording = self._core.recording
        if recording is None:
            return tuple(traffic)
        journal = recording.journal
        return (
            traffic.connections,
            traffic.exchanges,
            journal.own_records,
            journal.own_bytes,
            journal.full,
            journal.failing,
        )

    def _upstreams(self) -> Mapping[str, Any]:
        return {
            name: [(each.url, each.state.value, *each[2:]) for each in states]
            for name, states in self._insight.upstreams_now().items()
        }

    def metrics(self) -> Any:
        """What is counted, in plain values."""
        return metrics_to_plain(self._insight.collect())

    def _problems(self) -> list[str]:
        """What is wrong here, in words."""
        recording = self._core.recording
        found = [] if recording is None else [recording.problem()]
        for name, zone in self._core.checkers.zones.items():
            readiness = IReadiness(zone, None)
            problem = readiness.ready() if readiness is not None else None
            if isinstance(problem, str):
                found.append(f"zone {name}: {problem}")
        return [problem for problem in found if problem is not None]


async def _documents(found: Any) -> list[Any]:
    return [each.model_dump() for each in await found]


async def _document(found: Any) -> Any:
    exchange = await found
    return None if exchange is None else exchange.model_dump()
