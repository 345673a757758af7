"""Who burns, where the store is PostgreSQL: the connection that has an advisory lock."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred

from gatekeeper.credits.ledger import IllegalTransitionError
from gatekeeper.errors import StoreError
from gatekeeper.store import postgres_schema
from gatekeeper.store.charges_sql import Steps
from gatekeeper.store.dialects import POSTGRES
from gatekeeper.store.ledger_calls import SettlingCalls
from gatekeeper.store.postgres_link import Connection, PostgresLink, uncancelled
from gatekeeper.store.postgres_url import PostgresTarget

T = TypeVar("T")

# The server notices within a minute that we are gone, and lets go of the lock; nor does it wait for
# one who stands still in the middle of a transaction, and holds up everybody's flush.
_SETTINGS: Final = (
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
    "SET idle_in_transaction_session_timeout = '30s'",
)


class PostgresSettling(SettlingCalls):
    """All is done on the connection that has the lock; there never is a second connection.

    ``account`` is in lower case. ``gone`` is called when the link is not used any more.
    """

    def __init__(
        self,
        target: PostgresTarget,
        reactor: Any,
        statement_timeout: float,
        account: str,
        gone: Callable[[PostgresLink], object],
    ) -> None:
        super().__init__(POSTGRES, account)
        self.link = PostgresLink(target, reactor, statement_timeout, self._prepare)
        self._gone = gone
        self._connected = False
        self._lost = False

    async def take(self) -> bool:
        """Become the owner; false: another one is.

        :raises StoreError: the store cannot be reached.
        """
        taken = False
        try:
            taken = await self.link.run(self._lock)
        finally:
            if not taken:
                self._hang_up()
        return taken

    def close(self) -> Deferred[None]:
        """See :meth:`ISettling.close`."""

        async def close() -> None:
            await self.link.close()
            self._gone(self.link)

        return uncancelled(close())

    def _do(self, steps: Steps[T]) -> Deferred[T]:
        async def do() -> T:
            if self._lost:
                raise self._not_ours()
            try:
                done = await self.link.run(
                    lambda connection: connection.transact(steps, IllegalTransitionError)
                )
            except BaseException:
                self._lost = True  # The link has hung up, and so the lock is or will be free.
                self._hang_up()
                raise
            if isinstance(done, IllegalTransitionError):
                raise done
            return done

        return uncancelled(do())

    async def _prepare(self, connection: Connection) -> None:
        if self._connected:
            raise self._not_ours()
        self._connected = True
        await postgres_schema.make_or_check(connection)
        for setting in _SETTINGS:
            await connection.query(setting)

    async def _lock(self, connection: Connection) -> bool:
        digest = blake2b(f"burner {self.account}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big", signed=True)
        ((taken,),) = await connection.query("SELECT pg_try_advisory_lock(%s)", (key,))
        return bool(taken)

    def _not_ours(self) -> StoreError:
        return StoreError(
            f"store.url: the connection through which {self.account} burned was lost; another "
            "process may burn from it now"
        )

    def _hang_up(self) -> None:
        self.link.hang_up()
        self._gone(self.link)
