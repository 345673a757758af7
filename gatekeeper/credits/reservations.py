"""Who has how many credits left: what was read, less what is used and not yet in what was read.

Nothing here asks anybody, and nothing waits. All is done between two turns of the event loop, so
that requests which run at the same time cannot spend the same credit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from gatekeeper.errors import GatekeeperError

K = TypeVar("K", bound=Hashable)


class FullError(GatekeeperError):
    """So many users have requests under way that no further one can be taken on."""


class Shortage(NamedTuple):
    """There are not enough credits. ``available`` is never negative."""

    required: int
    available: int


class _Account:
    """What is known of one payer.

    ``balance`` and ``owed`` are as they were read; until then ``known`` is false. The rest is our
    own: ``metered`` counts up what was ever settled here, ``flushed`` how much of that has gone to
    where ``owed`` is read from, ``counted`` how much of that the last reading had seen for sure.
    ``read_at`` is when the last reading began, ``known_at`` from when on it is believed.
    """

    __slots__ = (
        "balance",
        "counted",
        "flushed",
        "known",
        "known_at",
        "metered",
        "owed",
        "read_at",
        "readings",
        "reserved",
    )

    def __init__(self) -> None:
        self.balance = self.owed = self.metered = self.flushed = self.counted = 0
        self.reserved = self.readings = 0
        self.read_at = self.known_at = 0.0
        self.known = False

    @property
    def available(self) -> int:
        """What can still be reserved; it may be negative."""
        return self.balance - self.owed - (self.metered - self.counted) - self.reserved

    @property
    def is_idle(self) -> bool:
        """Whether a new reading would tell all that is known here."""
        return not self.reserved and not self.readings and self.metered == self.flushed


class Reading:
    """A question about an account that is on its way. End it with :meth:`Reservations.read`."""

    __slots__ = ("account", "at", "flushed", "open")

    def __init__(self, account: _Account, at: float) -> None:
        self.account = account
        self.at = at
        self.flushed = account.flushed
        self.open = True


class Reservation:
    """Credits that are set aside for one request."""

    __slots__ = ("account", "credits", "open")

    def __init__(self, account: _Account, credits: int) -> None:
        self.account = account
        self.credits = credits
        self.open = True

    def __repr__(self) -> str:
        state = "" if self.open else ", ended"
        return f"<Reservation of {self.credits}{state}>"


class Reservations(Generic[K]):
    """The accounts of all payers that are being served.

    What is available is the balance that was read, less what is owed as it was read, less what was
    metered here and may not be in that yet, less what is reserved. To read an account: call
    :meth:`look`, then ask for what is owed, then for the balance, and give both to :meth:`read`.
    In that order a burning in between counts twice for a while, and never not at all.

    :param ttl: seconds that a reading is believed.
    :param size: accounts kept; what was not used for the longest goes first.
    """

    def __init__(self, ttl: float, size: int = 10_000) -> None:
        self._ttl: Final = ttl
        self._size: Final = size
        self._accounts: OrderedDict[K, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def __repr__(self) -> str:
        return f"<Reservations: {len(self._accounts)} accounts>"

    def look(self, key: K, now: float) -> Reading:
        """Begin to read an account, before anything is asked. ``now`` is of a monotonic clock.

        :raises FullError: there is no room.
        """
        account = self._open(key)
        account.readings += 1
        return Reading(account, now)

    def read(self, reading: Reading, balance: int, owed: int = 0, now: float | None = None) -> None:
        """The answers are there: the balance, and what is owed of it in the store.

        They are believed from ``now`` on, or else from when the reading began. Answers that take
        longer than they are believed would otherwise never do.
        """
        account = self._end(reading)
        if account.known and reading.at < account.read_at:
            return  # a later question was answered before
        account.balance = balance
        account.owed = owed
        account.counted = max(account.counted, reading.flushed)
        account.read_at = reading.at
        account.known_at = reading.at if now is None else now
        account.known = True

    def abandon(self, reading: Reading) -> None:
        """There is no answer."""
        self._end(reading)

    def reserve(
        self, key: K, required: int, credits: int, now: float, allowance: int = 0
    ) -> Reservation | Shortage | None:
        """Set ``credits`` aside if ``required`` are available.

        ``allowance`` is what there is beside the balance. ``None``: what is known of the account is
        too old; read it, and ask again.
        """
        account = self._accounts.get(key)
        if account is None or not account.known or now - account.known_at >= self._ttl:
            return None
        self._accounts.move_to_end(key)
        needed = max(required, credits)
        available = account.available + allowance
        if available < needed:
            return Shortage(needed, max(available, 0))
        account.reserved += credits
        return Reservation(account, credits)

    def set_aside(self, key: K, credits: int) -> Reservation:
        """Set ``credits`` aside, whether they are there or not.

        :raises FullError: there is no room.
        """
        account = self._open(key)
        account.reserved += credits
        return Reservation(account, credits)

    def settle(self, reservation: Reservation, cost: int) -> None:
        """The request has ended, and costs so much: usually no more than was reserved."""
        if not reservation.open:
            raise ValueError("this reservation has ended")
        if cost < 0:
            raise ValueError("a cost cannot be negative")
        reservation.open = False
        reservation.account.reserved -= reservation.credits
        reservation.account.metered += cost

    def release(self, reservation: Reservation) -> None:
        """The request has ended, and costs nothing."""
        self.settle(reservation, 0)

    def meter(self, key: K, cost: int) -> None:
        """So much was metered without a reservation: before a restart, say.

        :raises FullError: there is no room.
        """
        self._open(key).metered += cost

    def flushed(self, key: K, cost: int) -> None:
        """So much of what was metered is now in what is owed: its transaction is committed."""
        account = self._accounts.get(key)
        if account is None or account.flushed + cost > account.metered:
            raise ValueError("more was flushed than metered")
        account.flushed += cost

    def take_back(self, key: K, cost: int) -> None:
        """So much of what was metered was not used after all: it cannot be written down."""
        account = self._accounts.get(key)
        if account is None or account.flushed + cost > account.metered:
            raise ValueError("more was taken back than metered")
        account.metered -= cost

    def available(self, key: K) -> int | None:
        """What can be reserved, as far as is known, however old that is; for reports."""
        account = self._accounts.get(key)
        return account.available if account is not None and account.known else None

    def _open(self, key: K) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= self._size:
                self._make_room()
            account = self._accounts[key] = _Account()
        self._accounts.move_to_end(key)
        return account

    def _make_room(self) -> None:
        for key, account in self._accounts.items():
            if account.is_idle:
                del self._accounts[key]
                return
        raise FullError(f"{self._size} users have requests under way or not yet in the store")

    @staticmethod
    def _end(reading: Reading) -> _Account:
        if not reading.open:
            raise ValueError("this reading has ended")
        reading.open = False
        reading.account.readings -= 1
        return reading.account
