"""Hearing of every change in PostgreSQL as it is made: a connection that only listens.

A listener hears what is committed while it listens, and nothing of before; so after each time that
the connection is made the version has to be looked at. A connection that is lost is mostly noticed
at once. One that falls silent (a firewall has forgotten it) looks like one on which nothing
happens, so every few seconds the server is asked for an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from psycopg2.extensions import Notify
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from gatekeeper.errors import StoreError
from gatekeeper.store.postgres_link import Connection, PostgresLink
from gatekeeper.store.postgres_url import PostgresTarget
from gatekeeper.store.state import IStateWatch

log = Logger()

#: What changes are told on: the payload is the new version.
CHANNEL: Final = "gatekeeper_state"

#: Seconds between two attempts to listen.
RETRY: Final = 1.0

#: Seconds between two questions whether the server is there, and that an answer may take; what the
#: link adds to that comes on top.
_BEAT: Final = 5.0
_PATIENCE: Final = 2.0


@implementer(IStateWatch)
class PostgresWatch:
    """See :class:`IStateWatch`. It never ends but by :meth:`stop`.

    ``changed`` is called with each version that a change has made, and with ``None`` after each
    time that the connection was made, and every few seconds: then there may be any.
    """

    def __init__(
        self, target: PostgresTarget, reactor: Any, changed: Callable[[int | None], object]
    ) -> None:
        self.listening = False
        self._reactor = reactor
        self._changed = changed
        self._link = PostgresLink(target, reactor, _PATIENCE, self._listen)
        self._ask_at = 0.0
        self._away = False
        self._attending = LoopingCall(lambda: Deferred.fromCoroutine(self._attend()))
        self._attending.clock = reactor
        self._attending.start(RETRY)

    def stop(self) -> None:
        """See :meth:`IStateWatch.stop`."""
        if self._attending.running:
            self._attending.stop()
        self._link.hang_up()
        self.listening = False

    async def _attend(self) -> None:
        """See that we listen. Never fails."""
        if self.listening and self._reactor.seconds() < self._ask_at:
            return
        try:
            await self._link.run(_ask)
        except StoreError as error:
            self._lost(str(error))
        except Exception:
            log.failure("Listening for changes has failed")
            self._lost("a fault of ours; see the log")
        else:
            if self._attending.running:
                self._there()

    async def _listen(self, connection: Connection) -> None:
        connection.lost = self._lost
        connection.addNotifyObserver(self._heard)
        await connection.query(f"LISTEN {CHANNEL}")

    def _heard(self, notify: Notify) -> None:
        if not self._attending.running:
            return
        try:
            self._changed(int(notify.payload))
        except ValueError:  # Anybody in the database may say anything.
            self._changed(None)

    def _there(self) -> None:
        self.listening = True
        self._ask_at = self._reactor.seconds() + _BEAT
        if self._away:
            self._away = False
            log.info("Changes that others make are heard of at once again")
        self._changed(None)

    def _lost(self, why: str) -> None:
        """Say so once, however often it is tried again meanwhile."""
        self.listening = False
        if self._attending.running and not self._away:
            self._away = True
            log.error(
                "Changes that others make are not heard of, but looked for every second: {why}",
                why=why,
            )


async def _ask(connection: Connection) -> None:
    await connection.query("SELECT 1")
