"""How much callers may use in a period of the calendar: units of the service's meter.

Each caller has an account for each period, from which exchanges draw what they use, as credits are
drawn. What an exchange uses counts in the period in which it was let through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

from gatekeeper.config.model_selling import Quota
from gatekeeper.credits.accounts import Accounts, UnreadableError
from gatekeeper.credits.admission import STALE, Caller, Ending, Hold, Limit, Stale
from gatekeeper.credits.periods import period_of
from gatekeeper.credits.ratelimit_fields import CONTENT_BYTES, REQUESTS, Policy
from gatekeeper.credits.reservations import Reservation, Shortage
from gatekeeper.errors import Refusal
from gatekeeper.usage.records import QUOTA, Account, Spent

_RETRY: Final = ((b"retry-after", b"5"),)

#: What the units of meters are called in ``RateLimit-Policy``.
_UNITS: Final = {
    "requests": REQUESTS,
    "bytes": CONTENT_BYTES,
    "bytes_in": CONTENT_BYTES,
    "bytes_out": CONTENT_BYTES,
}


class QuotaLimit(Limit):
    """So many units an hour, day or month, of each user or key.

    Callers without a user are not counted, nor are those of whom there is no usage record. Callers
    without a key count as users; the accounts of a quota by key tell both apart, and are not those
    of a quota by user.

    :param service: of which; the names of accounts begin with it.
    :param accounts: where accounts are kept.
    :param wall_clock: seconds since the epoch.
    :param units: what the service's meter counts, as in the configuration.
    """

    def __init__(
        self,
        service: str,
        quota: Quota,
        accounts: Accounts,
        wall_clock: Callable[[], float],
        units: str = "requests",
    ) -> None:
        self._service = service
        self._quota = quota
        self._accounts = accounts
        self._wall_clock = wall_clock
        self._units = _UNITS.get(units, "units")
        self._turn_to(wall_clock())

    def __repr__(self) -> str:
        quota = self._quota
        return f"<QuotaLimit of {self._service}: {quota.units} per {quota.per} by {quota.by}>"

    def reserve(self, caller: Caller) -> QuotaHold | Stale | None:
        """Set aside what a request is assumed to use.

        :raises Refusal: 429, so much is not left.
        """
        if not caller.counted or not caller.grant.user:
            return None
        now = self._wall_clock()
        if not self._period.start <= now < self._period.end:
            self._turn_to(now)
        account = self._account(caller)
        quota = self._quota
        reserved = self._accounts.reserve(account, quota.assumed, quota.assumed, quota.units)
        if reserved is None:
            return STALE
        seconds = ceil(self._period.end - now)
        if isinstance(reserved, Shortage):
            raise self._refusal(reserved.available, seconds)
        left = self._accounts.available(account) or 0
        lines = (self._policy.line, self._policy.limit_line(left, seconds))
        return QuotaHold(self._accounts, account, reserved, lines)

    async def read(self, caller: Caller) -> None:
        """Read what the caller has used in this period.

        :raises Refusal: 503, it cannot be read now.
        """
        try:
            await self._accounts.read(self._account(caller))
        except UnreadableError:
            raise Refusal(
                "quota_unavailable", "quotas cannot be read now", status=503, fields=_RETRY
            ) from None

    def _account(self, caller: Caller) -> Account:
        user, key = caller.grant.user, caller.grant.key_id
        if self._quota.by == "user":
            return Account(QUOTA, self._of_users, user)
        return Account(QUOTA, self._of_keys, key) if key else Account(QUOTA, self._keyless, user)

    def _turn_to(self, now: float) -> None:
        """Another period has begun, or the clock was set."""
        per, by = self._quota.per, self._quota.by
        period = self._period = period_of(per, now)
        self._of_users, self._of_keys, self._keyless = (
            f"{self._service}/{kind}/{per}/{period.name}" for kind in ("user", "key", "keyless")
        )
        self._policy = Policy(
            f"quota-{per}-{by}", self._quota.units, period.end - period.start, self._units
        )

    def _refusal(self, remaining: int, seconds: int) -> Refusal:
        quota = self._quota
        return Refusal(
            "quota_exceeded",
            f"the quota of this {quota.per} does not allow it",
            status=429,
            fields=self._policy.refusal_fields(remaining, seconds),
            members={"limit": quota.units, "remaining": remaining, "reset": seconds},
        )


class QuotaHold(Hold):
    """What a running exchange is assumed to use."""

    __slots__ = ("_account", "_accounts", "_reservation", "lines")

    def __init__(
        self,
        accounts: Accounts,
        account: Account,
        reservation: Reservation,
        lines: Sequence[bytes],
    ) -> None:
        self._accounts = accounts
        self._account = account
        self._reservation = reservation
        self.lines = lines

    def settle(self, ending: Ending) -> Spent | None:
        """It has used so much, whatever the upstream's status is: the meter knows about that."""
        self._accounts.settle(self._reservation, ending.units)
        return Spent(*self._account, ending.units) if ending.units else None

    def release(self) -> None:
        """It has used nothing."""
        self._accounts.release(self._reservation)
