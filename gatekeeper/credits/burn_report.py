"""What the burner has done, and what keeps it from doing more: for metrics and the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from twisted.logger import Logger

from gatekeeper.store.ledger import Owed

log = Logger()


class Trouble(Enum):
    """What goes wrong; the values are labels in metrics."""

    STORE = "store"  #: it does not do what is asked
    UNREACHABLE = "unreachable"  #: the node gives no answer
    MALFORMED = "malformed"  #: the node's answer is none to what was asked
    REFUSED = "refused"  #: the node says no, for a reason that we do not know
    WRONG_CHAIN = "wrong_chain"  #: the node is one of another chain
    TOO_DEAR = "too_dear"  #: gas costs more than is allowed
    NO_FUNDS = "no_funds"  #: the account cannot pay for the gas
    UNDERPRICED = "underpriced"  #: the node wants a higher fee
    STUCK = "stuck"  #: a transaction was in no block for long, and has got a dearer sibling
    NONCE = "nonce"  #: another wallet uses the account
    DISPLACED = "displaced"  #: another wallet's transaction has taken the place of ours
    REORGANIZED = "reorganized"  #: a block with a transaction of ours was replaced
    REVERTED = "reverted"  #: the contract refuses
    SPLIT = "split"  #: somebody's credits cannot be burned along with others'
    TOO_MUCH_GAS = "too_much_gas"  #: a burn would need more gas than is allowed
    FAULT = "fault"  #: a bug


class Ending(Enum):
    """How settlements end; the values are labels in metrics."""

    CONFIRMED = "confirmed"  #: burned
    NOTHING = "nothing"  #: nobody had anything left
    ERROR = "error"  #: given up


#: These last until they are over, and are said once; all others happen, and are said each time.
LASTING: Final = frozenset(
    {
        Trouble.STORE,
        Trouble.UNREACHABLE,
        Trouble.MALFORMED,
        Trouble.REFUSED,
        Trouble.WRONG_CHAIN,
        Trouble.TOO_DEAR,
        Trouble.NO_FUNDS,
        Trouble.UNDERPRICED,
        Trouble.NONCE,
        Trouble.FAULT,
    }
)


class Reports(Protocol):
    """Where what happens is told; see :class:`Report`."""

    def trouble(self, kind: Trouble, text: str, subject: str = "") -> None:
        """Something went wrong."""

    def spent(self, wei: int) -> None:
        """A transaction that will not be undone has cost so much."""

    def ended(self, how: Ending, burned: int = 0) -> None:
        """A settlement has ended; so many credits were burned."""


class Report:
    """Counters, and lines in the log: of what lasts one line only, until it changes or is over.

    Read the attributes; write through the methods.
    """

    def __init__(self) -> None:
        self.owner = False
        """Whether this process is the one that burns."""
        self.failures: Counter[Trouble] = Counter()
        """How often something went wrong, by its kind."""
        self.endings: Counter[Ending] = Counter()
        """Settlements that have ended, by how they did."""
        self.burned = 0
        """Credits that were burned."""
        self.gas_spent = 0
        """What transactions have cost that will not be undone, in wei."""
        self.under_way = 0
        """Settlements that have not ended."""
        self.owed: Sequence[Owed] = ()
        """What is owed, by state; read now and then, by the owner."""
        self.funds: int | None = None
        """What the account has to pay for gas with, in wei; ``None``: it is not known."""
        self.finished_at: float | None = None
        """When a pass came to its end last, in seconds of the loop's clock."""
        self._lasting: dict[tuple[Trouble, str], str] = {}
        self._now: set[tuple[Trouble, str]] = set()

    @property
    def troubles(self) -> frozenset[Trouble]:
        """What was wrong in the last whole pass, or is so far in this one."""
        return frozenset(kind for kind, _ in self._lasting)

    @property
    def problem(self) -> str | None:
        """What is wrong now, in words; ``None``: nothing."""
        return "; ".join(sorted(set(self._lasting.values()))) or None

    def begin(self) -> None:
        """A pass begins."""
        self._now.clear()

    def end(self, now: float) -> None:
        """A pass came to its end; what did not go wrong in it is over."""
        self.finished_at = now
        for key in self._lasting.keys() - self._now:
            log.info("Burning: over: {text}", text=self._lasting.pop(key))

    def break_off(self) -> None:
        """A pass did not come to its end, for a reason that takes the place of the last one."""
        for key in [key for key in self._lasting.keys() - self._now if not key[1]]:
            del self._lasting[key]

    def trouble(self, kind: Trouble, text: str, subject: str = "") -> None:
        """Something went wrong, with ``subject`` if it has one (a settlement, say)."""
        self.failures[kind] += 1
        text = f"{subject}: {text}" if subject else text
        if kind in LASTING:
            self._now.add((kind, subject))
            if self._lasting.get((kind, subject)) == text:
                return
            self._lasting[kind, subject] = text
        log.warn("Burning: {text}", text=text)

    def fault(self, subject: str = "") -> None:
        """A bug has shown itself: the exception that is being handled."""
        known = (Trouble.FAULT, subject) in self._lasting
        self.trouble(Trouble.FAULT, "a fault; see the traceback in the log", subject)
        if not known:
            log.failure("Burning: {subject}", subject=subject or "a fault")

    def spent(self, wei: int) -> None:
        """A transaction that will not be undone has cost so much."""
        self.gas_spent += wei

    def ended(self, how: Ending, burned: int = 0) -> None:
        """A settlement has ended; so many credits were burned."""
        self.endings[how] += 1
        self.burned += burned
