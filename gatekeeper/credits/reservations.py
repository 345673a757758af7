"""Who may spend how much: what this process has leased of accounts, less what is spent of that.

Nothing here asks anybody, and nothing waits. All is done between two turns of the event loop, so
that requests which run at the same time cannot spend the same credit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from gatekeeper.errors import GatekeeperError

K = TypeVar("K", bound=Hashable)

#: For so many seconds nobody asks again whether there is more, where there was not enough.
RECHECK: Final = 1.0

#: Beyond what is asked for now, a lease is to last for so many times that, as long as it is not
#: known how much is used.
_AHEAD: Final = 4

_NEVER: Final = float("-inf")


class FullError(GatekeeperError):
    """So many users have requests under way that no further one can be taken on."""


class Shortage(NamedTuple):
    """There are not enough credits. ``available`` is never negative."""

    required: int
    available: int


class Want(NamedTuple):
    """What is to be done about a lease: to give back ``give``, or else to get more.

    See :class:`gatekeeper.store.leases.Wish`.
    """

    give: int
    least: int
    demand: int
    block: int
    allowance: int


class _Account:
    """What is known of one payer.

    ``balance`` is what our lease had when it was answered last (until then ``known`` is false),
    and ``free`` what nobody had leased. The rest is our own: ``metered`` counts up what was ever
    settled here, ``flushed`` how much of that has gone off the lease in the store, ``counted`` how
    much of that the last answer had seen for sure.

    What is known is believed until ``until``; the lease itself ends at ``ends``. That there is not
    more than ``free`` is believed until ``short_until``. ``changes`` counts how often something has
    made older answers worthless.

    ``demand``, ``extra`` and ``least`` are what requests wait for: all that they set aside, how
    much more than that must be there, and what the most modest one needs. ``used`` was set aside
    since ``window``, ``used_before`` as long before that.
    """

    __slots__ = (
        "allowance", "balance", "changes", "counted", "demand", "ends", "extra", "flushed", "free",
        "known", "least", "metered", "readings", "reserved", "short_until", "until", "used",
        "used_before", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.balance = self.metered = self.flushed = self.counted = self.reserved = 0
        self.free = self.allowance = self.readings = self.changes = 0
        self.demand = self.extra = self.least = self.used = self.used_before = 0
        self.until = self.short_until = self.ends = self.window = _NEVER
        self.known = False

    @property
    def lease(self) -> int:
        """What our lease has in the store at the least: it does not go below 0."""
        return max(0, self.balance - (self.flushed - self.counted))

    @property
    def available(self) -> int:
        """What can still be reserved of our lease; it may be negative."""
        return self.lease - (self.metered - self.flushed) - self.reserved

    @property
    def in_reach(self) -> int:
        """What could be reserved, if we leased all that is free, or gave back what is missing."""
        return self.available + self.free

    @property
    def is_idle(self) -> bool:
        """Whether a new reading would tell all that is known here."""
        return not self.reserved and not self.readings and self.metered == self.flushed

    def wait(self, needed: int, credits: int, allowance: int) -> None:
        """A request cannot go on before there is an answer."""
        self.least = min(self.least, needed) if self.demand or self.extra else needed
        self.demand += credits
        self.extra = max(self.extra, needed - credits)
        self.allowance = allowance

    def answer(self) -> None:
        """Nobody waits any more."""
        self.demand = self.extra = self.least = 0

    def want(self, now: float, window: float) -> Want:
        """What is to be done about the lease now."""
        if now - self.window >= window:
            self.used_before = self.used if now - self.window < 2 * window else 0
            self.used, self.window = 0, now
        demand = self.demand + self.extra
        block = max(self.used, self.used_before, _AHEAD * demand)
        spare = self.available
        if spare >= demand:
            kept = demand + (block if self.free >= 0 else 0)
            return Want(max(0, spare - kept), 0, 0, 0, self.allowance)
        # What is spent already, and not covered, is to be covered as far as that goes.
        least = self.least - spare if spare >= 0 else 0
        return Want(0, least, demand - spare, block, self.allowance)


class Reading:
    """A question about an account that is on its way. End it with :meth:`Reservations.read`.

    ``want`` is what is to be done about the lease.
    """

    __slots__ = ("account", "at", "changes", "expected", "flushed", "open", "want")

    def __init__(self, account: _Account, at: float, want: Want, expected: int) -> None:
        self.account = account
        self.at = at
        self.want = want
        self.expected = expected
        self.changes = account.changes
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

    What is available is what the lease had when it was last answered, less what was metered here
    and may not have gone off it by then, less what is reserved. To read an account: call
    :meth:`look`, do then what it says about the lease, and tell :meth:`read` what that has now.
    There may be no other question about the account meanwhile.

    :param ttl: seconds that an answer is believed.
    :param size: accounts kept; what was not used for the longest goes first.
    :param lasts: seconds that a lease may be spent for after it was asked for.
    """

    def __init__(self, ttl: float, size: int = 10_000, lasts: float = float("inf")) -> None:
        self._ttl: Final = min(ttl, lasts)
        self._size: Final = size
        self._lasts: Final = lasts
        self._accounts: OrderedDict[K, _Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def __repr__(self) -> str:
        return f"<Reservations: {len(self._accounts)} accounts>"

    # --- leases ---------------------------------------------------------------------------

    def look(self, key: K, now: float) -> Reading:
        """Begin to read an account, before anything is asked. ``now`` is of a monotonic clock.

        What is to be given back cannot be reserved from here on.

        :raises FullError: there is no room.
        """
        account = self._open(key)
        return self._look(account, now, account.want(now, self._ttl))

    def _look(self, account: _Account, now: float, want: Want) -> Reading:
        account.balance -= want.give
        account.readings += 1
        return Reading(account, now, want, account.lease)

    def read(
        self,
        reading: Reading,
        credits: int,
        taken: int = 0,
        free: int | None = 0,
        now: float | None = None,
    ) -> None:
        """The lease has so many ``credits``, of which so many were ``taken`` for this.

        ``free`` is what nobody has leased, negative: all have leased so much more than there is;
        ``None``: nobody can tell. The answer is believed from ``now`` on, or else from when the
        reading began.
        """
        account = self._end(reading)
        now = reading.at if now is None else now
        account.balance = credits
        account.counted = reading.flushed
        account.ends = reading.at + self._lasts
        account.free = 0 if free is None else free
        account.known = True
        if reading.changes != account.changes:
            account.until = _NEVER
            return
        account.until = min(now + self._ttl, account.ends)
        # What we had spent is counted twice where it went off the lease meanwhile: ask again
        # before anybody is sent away.
        certain = free is not None and credits - taken == reading.expected
        account.short_until = now + RECHECK if certain else _NEVER

    def abandon(self, reading: Reading) -> None:
        """There is no answer."""
        self._end(reading)

    def give_up(self, key: K) -> None:
        """There will be no question for those who wait for one."""
        if (account := self._accounts.get(key)) is not None:
            account.answer()

    def go_on(self, key: K, now: float) -> bool:
        """There is no answer, and the lease may be spent without one; false: that is so already.

        It is false, too, where the lease has ended, or nothing is known of one.
        """
        account = self._accounts.get(key)
        if account is None or not account.known or now < account.until or now >= account.ends:
            return False
        account.until = min(now + self._ttl, account.ends)
        account.short_until = _NEVER
        return True

    def idle(self, now: float, count: int, asked: Container[K] = ()) -> list[tuple[K, Reading]]:
        """Begin to read accounts that nobody draws on any more, ``count`` at the most.

        What they do not need is given back. Those of which nothing is left to be known are
        forgotten. About ``asked`` there is a question already.
        """
        found: list[tuple[K, Reading]] = []
        forgotten: list[K] = []
        for key, account in self._accounts.items():
            if len(found) == count:
                break
            if now < account.until or account.readings or key in asked:
                continue
            if account.lease:
                given = max(account.available, 0)
                if given or now >= account.ends - self._lasts / 2:
                    want = Want(given, 0, 0, 0, account.allowance)
                    found.append((key, self._look(account, now, want)))
            elif account.is_idle:
                forgotten.append(key)
        for key in forgotten:
            del self._accounts[key]
        return found

    def returned(self, reading: Reading, credits: int) -> None:
        """What was :meth:`idle` is given back; the lease has so many ``credits`` now."""
        account = self._end(reading)
        account.balance = credits
        account.counted = reading.flushed
        account.ends = reading.at + self._lasts
        account.until = _NEVER

    def expire(self, key: K) -> None:
        """The account has changed: what is known of it, or being read now, is believed no more."""
        account = self._accounts.get(key)
        if account is not None:
            account.until = _NEVER
            account.changes += 1

    # --- requests -------------------------------------------------------------------------

    def reserve(
        self, key: K, required: int, credits: int, now: float, allowance: int = 0
    ) -> Reservation | Shortage | None:
        """Set ``credits`` aside if ``required`` are available.

        ``allowance`` is what the account has beside what was granted. ``None``: read the account,
        and ask again.
        """
        account = self._accounts.get(key)
        needed = max(required, credits)
        if account is None:
            try:
                account = self._open(key)
            except FullError:
                return None
        elif now < account.until:
            self._accounts.move_to_end(key)
            available = account.available
            if available >= needed and available + account.free >= needed:
                account.reserved += credits
                account.used += credits
                return Reservation(account, credits)
            if now < account.short_until and account.in_reach < needed:
                return Shortage(needed, max(account.in_reach, 0))
        account.wait(needed, credits, allowance)
        return None

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
        """So much of what was metered has gone off the lease: its transaction is committed."""
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
        return account.in_reach if account is not None and account.known else None

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
        reading.account.answer()
        return reading.account
