"""Whether a request may be made now: rates, quotas and credits, set aside before it goes on.

A route's :class:`Admission` asks its limits one after the other. Each sets something aside (a
:class:`Hold`), has nothing to say of this caller, or refuses. What was set aside is settled when
the exchange ends, with what that has used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred

from gatekeeper.auth.interfaces import Grant
from gatekeeper.credits.pricing import read_requested
from gatekeeper.errors import Refusal
from gatekeeper.usage.records import Spent

#: What each limit needs to know may be found out so often for one request.
_ATTEMPTS: Final = 5

_PRICE_FIELD: Final = b"nvmcreditsconsumed:"
_RETRY: Final = ((b"retry-after", b"1"),)


class Caller(NamedTuple):
    """Who makes a request of which service; ``client`` is an address.

    ``counted``: there will be a usage record. Where there is none, nothing can be charged.
    """

    service: str
    grant: Grant
    client: str
    counted: bool


class Ending(NamedTuple):
    """How an exchange ended: the upstream's status (0: none; a tunnel's is 200), and what it used.

    ``requested`` is the price that the upstream has stated, ``None``: it has not.
    """

    status: int
    units: int
    requested: int | None


class Hold(ABC):
    """What one limit has set aside for one request. Exactly one of the three is called, once.

    ``lines`` are field lines that tell the client about it.
    """

    __slots__ = ()
    lines: Sequence[bytes] = ()

    @abstractmethod
    def settle(self, ending: Ending) -> Spent | None:
        """The exchange has ended; what is to stand in its usage record."""

    def drop(self) -> None:
        """It was let through, and makes no usage record."""
        self.release()

    @abstractmethod
    def release(self) -> None:
        """It was not let through: nothing was used."""


class Stale(Enum):
    """A limit does not know enough to say."""

    STALE = "stale"


STALE: Final = Stale.STALE


class Limit(ABC):
    """Something that a request may run into."""

    @abstractmethod
    def reserve(self, caller: Caller) -> Hold | Stale | None:
        """Set aside what the request may use; ``None``: it is not concerned.

        Never waits: where something has to be found out first it is :data:`STALE`.

        :raises Refusal: there is not enough (402, 429), or the caller cannot pay at all (403).
        """

    @abstractmethod
    async def read(self, caller: Caller) -> None:
        """Find out what is needed to tell.

        :raises Refusal: 503, it cannot be found out now.
        """


class Admitted:
    """A request that was let through, and what is set aside for it."""

    __slots__ = ("_holds", "lines", "requested")

    def __init__(self, holds: Sequence[Hold]) -> None:
        self._holds = holds
        self.lines = [line for hold in holds for line in hold.lines]
        self.requested: int | None = None

    def read_price(self, lines: Sequence[bytes]) -> None:
        """The upstream's response has these field lines; one of them may state a price."""
        self.requested = read_requested(
            line[len(_PRICE_FIELD) :]
            for line in lines
            if line[: len(_PRICE_FIELD)].lower() == _PRICE_FIELD
        )

    def settle(self, status: int, units: int) -> tuple[Spent, ...]:
        """The exchange has ended; see :class:`Ending`. What its usage record says was spent."""
        ending = Ending(status, units, self.requested)
        spent = (hold.settle(ending) for hold in self._holds)
        return tuple(each for each in spent if each is not None)

    def release(self) -> None:
        """There is no usage record."""
        for hold in self._holds:
            hold.drop()


class Admission:
    """The limits of one route, in the order in which they are asked."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = tuple(limits)

    def admit(self, caller: Caller) -> Admitted | Deferred[Admitted]:
        """Let a request through, at once where all is known that is needed.

        A Deferred that is cancelled has set nothing aside.

        :raises Refusal: (so does the Deferred) there is not enough, or nobody can tell now.
        """
        admitted = self._reserve(caller)
        if isinstance(admitted, Admitted):
            return admitted
        return Deferred.fromCoroutine(self._admit_later(caller, admitted))

    async def _admit_later(self, caller: Caller, stale: Limit) -> Admitted:
        for _ in range(_ATTEMPTS * len(self._limits)):
            await stale.read(caller)
            admitted = self._reserve(caller)
            if isinstance(admitted, Admitted):
                return admitted
            stale = admitted
        raise Refusal(
            "admission_busy", "too many requests are being admitted", status=503, fields=_RETRY
        )

    def _reserve(self, caller: Caller) -> Admitted | Limit:
        """All that is to be set aside; or the limit that does not know, and nothing is."""
        holds: list[Hold] = []
        try:
            for limit in self._limits:
                hold = limit.reserve(caller)
                if hold is STALE:
                    _release(holds)
                    return limit
                if hold is not None:
                    holds.append(hold)
        except BaseException:
            _release(holds)
            raise
        return Admitted(holds)


def _release(holds: Sequence[Hold]) -> None:
    for hold in holds:
        hold.release()
