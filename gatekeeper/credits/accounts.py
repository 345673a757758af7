"""The accounts that requests draw on: what this process has leased of them, and what is left.

One object for the whole process. What is spent here counts at once; when the usage that it stands
in is in the store, it has gone off the lease there, and counts no longer here
(:meth:`Accounts.flushed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.flight import SingleFlight
from gatekeeper.credits.reservations import (
    FullError,
    Reading,
    Reservation,
    Reservations,
    Shortage,
)
from gatekeeper.errors import GatekeeperError
from gatekeeper.store.leases import ChainBalance, Leased, Wish
from gatekeeper.usage.records import Account, Spent

log = Logger()

#: Accounts that are asked for at once.
_BATCH: Final = 100

#: Accounts that are looked for at once which nobody draws on any more, and how often in a row.
_IDLE: Final = 1000
_ROUNDS: Final = 20

#: For so many seconds after the store was found to be away, nobody waits for it who has a lease.
_AWAY: Final = 5.0


class UnreadableError(GatekeeperError):
    """An account cannot be read now; the message is for the log."""


class OutageError(UnreadableError):
    """A chain is out of reach: balances there cannot be read, and all else could be."""


class AwayError(UnreadableError):
    """The store is out of reach: nothing can be leased. What was leased may be spent."""


#: A balance, and what is owed of it; or why this account cannot be read.
Answer: TypeAlias = "tuple[int, int] | UnreadableError"


class Reads(Protocol):
    """Where accounts are read from, for reports: what is owed first, and then the balance.

    In that order something that is collected in between counts twice for a while, and never not
    at all.
    """

    async def __call__(self, accounts: Sequence[Account]) -> Sequence[Answer]:
        """Read each, in this order.

        :raises UnreadableError: none can be read.
        """


class Lender(Protocol):
    """Where accounts are leased."""

    async def on_chain(
        self, accounts: Sequence[Account]
    ) -> Sequence[ChainBalance | UnreadableError | None]:
        """The balance of each that is on a chain, ``None`` of others.

        :raises UnreadableError: none can be read.
        """

    async def lease(self, owner: str, wishes: Sequence[Wish]) -> Sequence[Leased]:
        """Give back and get leases, and renew them; see :meth:`.ILeases.lease`.

        :raises AwayError: it is unknown what was done.
        """

    async def release(self, owners: Sequence[str], older: float) -> None:
        """Free all that these have leased, and what is ``older``; see :meth:`.ILeases.release`.

        :raises AwayError: it is unknown whether that was done.
        """


class Accounts:
    """What is left, and set aside, of each account.

    :param lender: where they are leased.
    :param ttl: seconds that an answer is believed.
    :param monotonic: seconds of a clock that nobody sets, and that goes on while we sleep.
    :param call_soon: calls a function in the event loop's next turn.
    :param lasts: seconds that a lease may be spent for while the store is away.

    Nothing can be reserved before :meth:`open`: usage of an earlier run has to be in the store.
    """

    def __init__(
        self,
        lender: Lender,
        ttl: float,
        monotonic: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        size: int = 100_000,
        lasts: float = float("inf"),
    ) -> None:
        self._lender = lender
        self._monotonic = monotonic
        self._call_soon = call_soon
        self._reservations: Reservations[Account] = Reservations(ttl, size, lasts)
        self._wanted: dict[Account, Deferred[None]] = {}
        self._flights: SingleFlight[Account, None] = SingleFlight()
        self._owner = ""
        self._away_until = float("-inf")

    def __repr__(self) -> str:
        return f"<Accounts: {len(self._reservations)}>"

    def open(self, owner: str) -> None:
        """What an earlier run has metered is in the store. We lease as ``owner``."""
        self._owner = owner

    # --- requests -------------------------------------------------------------------------

    def reserve(
        self, account: Account, required: int, amount: int, allowance: int = 0
    ) -> Reservation | Shortage | None:
        """Set ``amount`` aside where ``required`` are left; ``None``: read the account first.

        ``allowance`` is added to what the account itself has.
        """
        if not self._owner:
            return None
        return self._reservations.reserve(account, required, amount, self._monotonic(), allowance)

    def set_aside(self, account: Account, amount: int) -> Reservation:
        """Set ``amount`` aside, whether it is there or not.

        :raises FullError: there is no room for one more account.
        """
        return self._reservations.set_aside(account, amount)

    def settle(self, reservation: Reservation, amount: int) -> None:
        """So much was spent of what was set aside, and stands in a usage record."""
        self._reservations.settle(reservation, amount)

    def release(self, reservation: Reservation) -> None:
        """Nothing was spent."""
        self._reservations.release(reservation)

    def spend(self, account: Account, amount: int) -> None:
        """So much was spent without a reservation, and stands in a usage record.

        :raises FullError: there is no room for one more account.
        """
        self._reservations.meter(account, amount)

    def flushed(self, spent: Mapping[Account, int]) -> None:
        """So much of what was spent is in the store now."""
        if not self._owner:
            return  # it is an earlier run's, which nobody knows of here
        for account, amount in spent.items():
            if amount:
                self._reservations.flushed(account, amount)

    def lost(self, spent: Iterable[Spent]) -> None:
        """The usage records of this could not be written down: it was not spent."""
        for source, name, holder, amount in spent:
            if amount:
                self._reservations.take_back(Account(source, name, holder), amount)

    def expire(self, account: Account) -> None:
        """The account was changed where it is read from: read it again before it is drawn on."""
        self._reservations.expire(account)

    def available(self, account: Account) -> int | None:
        """What can be reserved, as far as is known; for reports.

        It counts what nobody has leased, and not what other processes have.
        """
        return self._reservations.available(account)

    # --- leases ---------------------------------------------------------------------------

    def read(self, account: Account) -> Deferred[None]:
        """Read an account again, and lease what requests wait for.

        Whoever asks meanwhile shares the answer. Fails with :class:`UnreadableError`.
        """
        joined = self._flights.join(account)
        if joined is not None:
            return joined
        return self._flights.lead(account, Deferred.fromCoroutine(self._read_one(account)))

    async def give_back(self) -> None:
        """Give back what accounts have leased and nobody draws on; renew what is in use of it.

        To be called about every ``ttl`` seconds, and not again before it has ended.
        """
        for _ in range(_ROUNDS):
            idle = self._reservations.idle(self._monotonic(), _IDLE, self._flights)
            waiting: list[Deferred[None]] = []
            for account, _reading in idle:  # whoever wants it meanwhile waits until this is over
                waiting.append(Deferred())
                self._flights.lead(account, waiting[-1])
            try:
                for at in range(0, len(idle), _BATCH):
                    await self._return(idle[at : at + _BATCH])
            finally:
                for (_account, reading), each in zip(idle, waiting, strict=True):
                    if reading.open:
                        self._reservations.abandon(reading)
                    each.callback(None)
            if len(idle) < _IDLE:
                return

    async def close(self) -> None:
        """Give back everything: all that was spent is in the store, and no more will be.

        What was asked for before is among that, for the lender does one thing after the other.

        :raises AwayError: it is unknown whether that was done.
        """
        owner, self._owner = self._owner, ""
        if owner:
            await self._lender.release([owner], float("inf"))

    async def _return(self, idle: Sequence[tuple[Account, Reading]]) -> None:
        """:raises AwayError: it is unknown whether that was done."""
        wishes = [Wish(account, reading.want.give) for account, reading in idle]
        leased = await self._lender.lease(self._owner, wishes)
        for (_, reading), each in zip(idle, leased, strict=True):
            self._reservations.returned(reading, each.credits)

    async def _read_one(self, account: Account) -> None:
        if not self._owner:
            raise UnreadableError("usage of an earlier run is not in the store yet")
        if self._monotonic() < self._away_until and self._go_on(account):
            return
        if not self._wanted:
            self._call_soon(self._ask)
        answered = self._wanted[account] = Deferred()
        try:
            await answered
        except AwayError:
            if not self._go_on(account):
                raise

    def _go_on(self, account: Account) -> bool:
        """The store is away: whether the lease that we have may be believed once more."""
        if not self._reservations.go_on(account, self._monotonic()):
            return False
        self._reservations.give_up(account)
        return True

    def _ask(self) -> None:
        """Ask for all that were wanted in this turn of the loop.

        Nobody waits for a chain who does not pay there, nor for a contract that is not theirs.
        """
        wanted, self._wanted = self._wanted, {}
        by_place: dict[str, list[Account]] = {}
        for account in wanted:
            by_place.setdefault(account.source if account.is_on_chain else "", []).append(account)
        for accounts in by_place.values():
            for at in range(0, len(accounts), _BATCH):
                some = {each: wanted[each] for each in accounts[at : at + _BATCH]}
                Deferred.fromCoroutine(self._answer(some)).addErrback(self._fail, some)

    async def _answer(self, wanted: Mapping[Account, Deferred[None]]) -> None:
        """Lease what those wait for who want these accounts, and tell them."""
        balances = await self._lender.on_chain([*wanted])
        if not self._owner:
            raise UnreadableError("this process ends")  # nobody would give it back
        readings: dict[Account, tuple[Reading, Wish]] = {}
        try:
            for account, balance in zip(wanted, balances, strict=True):
                if isinstance(balance, UnreadableError):
                    self._tell(wanted, account, balance)
                    continue
                try:
                    reading = self._reservations.look(account, self._monotonic())
                except FullError as error:
                    self._tell(wanted, account, UnreadableError(str(error)))
                else:
                    readings[account] = reading, Wish(account, *reading.want, balance)
            if not readings:
                return
            leased = await self._lender.lease(self._owner, [wish for _, wish in readings.values()])
            self._away_until = float("-inf")
            for (account, (reading, _)), each in zip(readings.items(), leased, strict=True):
                self._reservations.read(reading, *each, self._monotonic())
                self._tell(wanted, account)
        finally:
            for reading, _ in readings.values():
                if reading.open:
                    self._reservations.abandon(reading)

    def _tell(
        self,
        wanted: Mapping[Account, Deferred[None]],
        account: Account,
        error: UnreadableError | None = None,
    ) -> None:
        if error is None:
            wanted[account].callback(None)
        else:
            self._reservations.give_up(account)
            wanted[account].errback(error)

    def _fail(self, failure: Failure, wanted: Mapping[Account, Deferred[None]]) -> None:
        error = failure.value
        if isinstance(error, AwayError):
            self._away_until = self._monotonic() + _AWAY
        elif not isinstance(error, UnreadableError):
            log.failure("Accounts could not be read", failure)
            error = UnreadableError(failure.getErrorMessage())
        for account, waiting in wanted.items():
            if not waiting.called:
                self._tell(wanted, account, error)
