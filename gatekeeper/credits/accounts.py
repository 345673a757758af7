"""The accounts that requests draw on: what is left of them, and how that is found out.

One object for the whole process. What is spent here counts at once; when the usage that it stands
in is in the store, the store counts it, and no longer we (:meth:`Accounts.flushed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.flight import SingleFlight
from gatekeeper.credits.reservations import FullError, Reservation, Reservations, Shortage
from gatekeeper.errors import GatekeeperError
from gatekeeper.usage.records import Account, Spent

log = Logger()

#: Accounts that are asked for at once.
_BATCH: Final = 500


class UnreadableError(GatekeeperError):
    """An account cannot be read now; the message is for the log."""


class OutageError(UnreadableError):
    """A chain is out of reach: balances there cannot be read, and all else could be."""


#: A balance, and what is owed of it; or why this account cannot be read.
Answer: TypeAlias = "tuple[int, int] | UnreadableError"


class Reads(Protocol):
    """Where accounts are read from: what is owed first, and then the balance.

    In that order something that is collected in between counts twice for a while, and never not
    at all.
    """

    async def __call__(self, accounts: Sequence[Account]) -> Sequence[Answer]:
        """Read each, in this order.

        :raises UnreadableError: none can be read.
        """


class Accounts:
    """What is left, and set aside, of each account.

    :param read: where they are read from.
    :param ttl: seconds that a reading is believed.
    :param monotonic: seconds of a clock that nobody sets.
    :param call_soon: calls a function in the event loop's next turn.

    Nothing can be reserved before :meth:`open`: usage of an earlier run has to be in the store.
    """

    def __init__(
        self,
        read: Reads,
        ttl: float,
        monotonic: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        size: int = 100_000,
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._call_soon = call_soon
        self._reservations: Reservations[Account] = Reservations(ttl, size)
        self._wanted: dict[Account, Deferred[Answer]] = {}
        self._flights: SingleFlight[Account, None] = SingleFlight()
        self._is_open = False

    def __repr__(self) -> str:
        return f"<Accounts: {len(self._reservations)}>"

    def open(self) -> None:
        """What an earlier run has metered is in the store."""
        self._is_open = True

    def reserve(
        self, account: Account, required: int, amount: int, allowance: int = 0
    ) -> Reservation | Shortage | None:
        """Set ``amount`` aside where ``required`` are left; ``None``: read the account first.

        ``allowance`` is added to what the account itself has.
        """
        if not self._is_open:
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
        if not self._is_open:
            return  # it is an earlier run's, which nobody knows of here
        for account, amount in spent.items():
            if amount:
                self._reservations.flushed(account, amount)

    def lost(self, spent: Iterable[Spent]) -> None:
        """The usage records of this could not be written down: it was not spent."""
        for source, name, holder, amount in spent:
            if amount:
                self._reservations.take_back(Account(source, name, holder), amount)

    def available(self, account: Account) -> int | None:
        """What can be reserved, as far as is known; for reports."""
        return self._reservations.available(account)

    def read(self, account: Account) -> Deferred[None]:
        """Read an account again; whoever asks meanwhile shares the answer.

        Fails with :class:`UnreadableError`.
        """
        if not self._is_open:
            return Deferred.fromCoroutine(_closed())
        joined = self._flights.join(account)
        if joined is not None:
            return joined
        return self._flights.lead(account, Deferred.fromCoroutine(self._read_one(account)))

    async def _read_one(self, account: Account) -> None:
        try:
            reading = self._reservations.look(account, self._monotonic())
        except FullError as error:
            raise UnreadableError(str(error)) from None
        if not self._wanted:
            self._call_soon(self._ask)
        answered = self._wanted[account] = Deferred()
        try:
            answer = await answered
            if isinstance(answer, UnreadableError):
                raise answer
        except BaseException:
            self._reservations.abandon(reading)
            raise
        self._reservations.read(reading, *answer, self._monotonic())

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
                some = accounts[at : at + _BATCH]
                waiting = [wanted[account] for account in some]
                asked = Deferred.fromCoroutine(self._answer(some))
                asked.addCallbacks(_tell, _fail, (waiting,), errbackArgs=(waiting,))

    async def _answer(self, accounts: Sequence[Account]) -> Sequence[Answer]:
        answers = await self._read(accounts)
        if len(answers) != len(accounts):
            raise AssertionError("not one answer for each account")
        return answers


async def _closed() -> None:
    raise UnreadableError("usage of an earlier run is not in the store yet")


def _tell(answers: Sequence[Answer], waiting: Sequence[Deferred[Answer]]) -> None:
    for each, answer in zip(waiting, answers, strict=True):
        each.callback(answer)


def _fail(failure: Failure, waiting: Sequence[Deferred[Answer]]) -> None:
    error = failure.value
    if not isinstance(error, UnreadableError):
        log.failure("Accounts could not be read", failure)
        error = UnreadableError(failure.getErrorMessage())
    for each in waiting:
        each.callback(error)
