"""The burner: over and over, what is owed is claimed, and what was claimed is settled.

One process burns from an account: the one that has the store's lock. Nothing here ends the loop but
:meth:`Burner.stop`: whatever the chain and the store fail with is told, and tried again later.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gatekeeper.credits.burn_report import Report, Trouble
from gatekeeper.credits.burn_terms import Schedule, Seam, Terms, ignore
from gatekeeper.credits.burning import Burning
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.fees import Fees, choose
from gatekeeper.credits.grouping import Charge, due, group
from gatekeeper.credits.ledger import SettlementState
from gatekeeper.credits.pricing import Token
from gatekeeper.credits.rpc import ChainError, MalformedError, UnreachableError
from gatekeeper.credits.signing import Signer
from gatekeeper.errors import GatekeeperError, StoreError
from gatekeeper.store.ledger import ILedger, ISettling, SettlementQuery, StoredSettlement

log = Logger()

#: After a failure the next pass waits, twice as long each time, up to so many seconds.
LONGEST_DELAY: Final = 60.0

#: Settlements under way at a time: nodes keep 16 waiting transactions of an account at least.
MOST_UNDER_WAY: Final = 16

#: Seconds between two looks at whose balance is back, and at the sums for metrics.
LOOK: Final = 60.0
MEASURE: Final = 30.0

#: Charges that are read at a time. An account adds up in one, so that this many payers are seen.
_PENDING: Final = 5_000
_UNCOLLECTED: Final = 500

#: Steps that a settlement may take in one pass: more than any needs.
_ROUNDS: Final = 20

#: States in which there may be something to sign.
_UNSIGNED: Final = (SettlementState.CLAIMED, SettlementState.SIGNED, SettlementState.SENT)
_OPEN: Final = (*_UNSIGNED, SettlementState.MINED)


class WrongChainError(GatekeeperError):
    """The node is one of another chain than the configuration says."""


class Burner:
    """Burns what ``ledger`` says is owed on ``chain``, from ``signer``'s account.

    ``clock`` says when a pass is due, ``now`` what time it is (seconds since the epoch).
    ``reached`` is called at each :class:`~gatekeeper.credits.burn_terms.Seam`.
    """

    def __init__(
        self,
        ledger: ILedger,
        chain: Chain,
        signer: Signer,
        terms: Terms,
        schedule: Schedule,
        clock: IReactorTime,
        report: Report | None = None,
        now: Callable[[], float] = time.time,
        reached: Callable[[Seam], object] = ignore,
    ) -> None:
        self.report = report or Report()
        self._ledger = ledger
        self._chain = chain
        self._signer = signer
        self._terms = terms
        self._schedule = schedule
        self._clock = clock
        self._now = now
        self._reached = reached
        self._settling: ISettling | None = None
        self._said_not_owner = False
        self._look_at = self._measure_at = 0.0
        self._delay = 0.0
        self._stopping = False
        self._timer: IDelayedCall | None = None
        self._wake: Deferred[None] | None = None
        self._ended: Deferred[None] = succeed(None)

    def start(self) -> None:
        """Begin, at once."""
        self._ended = Deferred.fromCoroutine(self._run())

    def stop(self) -> Deferred[None]:
        """End when the pass that is under way has; then let somebody else be the owner."""
        self._stopping = True
        self._rouse()
        return self._ended

    # --- the loop -------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            await self.run_once()
            if not self._stopping:
                await self._sleep(max(self._delay, self._schedule.poll))
        await self._let_go()

    async def run_once(self) -> None:
        """One pass. Never fails; what goes wrong is in the report."""
        report = self.report
        report.begin()
        try:
            await self._pass()
        except StoreError as error:
            report.trouble(Trouble.STORE, str(error))
            await self._let_go()  # the connection is lost, perhaps, and the lock with it
        except WrongChainError as error:
            report.trouble(Trouble.WRONG_CHAIN, str(error))
        except ChainError as error:
            report.trouble(_kind(error), _words(error))
        except Exception:
            report.fault()
        else:
            self._delay = 0.0
            report.end(self._clock.seconds())
            return
        self._delay = min(max(2 * self._delay, self._schedule.poll), LONGEST_DELAY)
        report.break_off()

    async def _sleep(self, seconds: float) -> None:
        self._wake = Deferred()
        self._timer = self._clock.callLater(seconds, self._rouse)
        await self._wake

    def _rouse(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    # --- owning the account ---------------------------------------------------------------

    async def _own(self) -> ISettling | None:
        """Become the owner, or stay it; ``None``: another process is."""
        if self._settling is not None:
            return self._settling
        account = self._signer.address
        settling = self._settling = await self._ledger.own_burning(account)
        self.report.owner = settling is not None
        if settling is None:
            if not self._said_not_owner:
                log.info("Another process burns from {account}; waiting", account=account)
            self._said_not_owner = True
            return None
        self._said_not_owner = False
        log.info("Burning from {account}", account=account)
        await self._look_for_others(account)
        return settling

    async def _look_for_others(self, account: str) -> None:
        """Whoever changes the key must let the old one finish, or let it come back."""
        found = await self._ledger.settlements(SettlementQuery(states=_OPEN))
        for other in sorted({each.account for each in found if each.account != account}):
            log.warn(
                "Settlements of {other} are under way, which only a burner with that account can "
                "finish",
                other=other,
            )

    async def _let_go(self) -> None:
        settling, self._settling = self._settling, None
        self.report.owner = False
        if settling is not None:
            try:
                await settling.close()
            except StoreError as error:
                self.report.trouble(Trouble.STORE, str(error))

    # --- one pass -------------------------------------------------------------------------

    async def _pass(self) -> None:
        settling = await self._own()
        if settling is None:
            return
        await self._check_chain()
        await self._measure()
        await self._retry_uncollected(settling)
        await self._claim(settling)
        await self._settle(settling)

    async def _check_chain(self) -> None:
        """Each time: another chain's nonces would make us believe that ours are used."""
        found = await self._chain.chain_id()
        if found != self._terms.chain_id:
            raise WrongChainError(
                f"credits.chain_id is {self._terms.chain_id}, and the node at credits.rpc_url is "
                f"one of chain {found}: nothing is burned"
            )

    async def _measure(self) -> None:
        if self._clock.seconds() < self._measure_at:
            return
        self.report.owed = await self._ledger.owed()
        self.report.funds = await self._chain.funds(self._signer.address)
        self._measure_at = self._clock.seconds() + MEASURE

    async def _retry_uncollected(self, settling: ISettling) -> None:
        """Whose balance is back owes again. What is being burned is still in the balance."""
        if self._clock.seconds() < self._look_at:
            return
        self._look_at = self._clock.seconds() + LOOK
        charges: dict[str, list[Charge]] = defaultdict(list)
        for charge in await settling.uncollected(_UNCOLLECTED):
            charges[charge.token.contract].append(charge)
        busy = _payers(await settling.under_way()) if charges else frozenset()
        for contract, some in charges.items():
            back, gone = set[int](), {each.id for each in some}
            free = [each for each in some if (each.token, each.holder) not in busy]
            try:
                found = await self._chain.balances(contract, [(e.holder, e.token.id) for e in free])
            except UnreachableError:
                raise
            except ChainError as error:  # of this contract; others may do better
                self.report.trouble(_kind(error), _words(error), contract)
            else:
                back = {each.id for each, has in zip(free, found, strict=True) if has}
                gone -= back
            if back:
                log.info("{count} payers have credits again", count=len(back))
                await settling.retry(sorted(back), self._now())
            if gone:
                await settling.touch(sorted(gone), self._now())

    async def _claim(self, settling: ISettling) -> None:
        under_way = await settling.under_way()
        room = MOST_UNDER_WAY - len(under_way)
        if room <= 0:
            return
        schedule = self._schedule
        charges = await settling.pending(_PENDING)
        ripe = due(charges, self._now(), schedule.interval, schedule.amount, _payers(under_way))
        groups = group(ripe, schedule.batch)[:room]
        # While gas is too dear it is better that usage adds up than that it is claimed.
        if groups and await self._fees() is not None:
            for each in groups:
                await settling.claim(each, self._now())

    async def _settle(self, settling: ISettling) -> None:
        """Take every step that can be taken now."""
        burning = Burning(
            self._chain,
            self._signer,
            settling,
            self._terms,
            self.report,
            self._now,
            self._reached,
        )
        resting: set[int] = set()
        for _ in range(_ROUNDS):
            under_way = await settling.under_way()
            self.report.under_way = len(under_way)
            moving = [each for each in under_way if each.id not in resting]
            if not moving:
                return
            signing = any(each.settlement.state in _UNSIGNED for each in moving)
            wanted = await self._fees() if signing else None
            ours = {nonce for s in under_way if (nonce := s.settlement.nonce) is not None}
            for each in moving:
                if self._stopping or not await self._advance(burning, each, ours, wanted):
                    resting.add(each.id)

    async def _advance(
        self, burning: Burning, stored: StoredSettlement, ours: set[int], wanted: Fees | None
    ) -> bool:
        """One step of one settlement. What is only its own trouble does not stop the others."""
        try:
            return await burning.advance(stored, ours, wanted)
        except (StoreError, UnreachableError):
            raise
        except ChainError as error:
            self.report.trouble(_kind(error), _words(error), f"settlement {stored.id}")
        except Exception:
            self.report.fault(f"settlement {stored.id}")
        return False

    async def _fees(self) -> Fees | None:
        """What a new transaction would offer; ``None``: more than is allowed."""
        prices = await self._chain.gas_prices()
        fees = choose(prices.base_fee, prices.priority, self._terms.policy.bounds)
        if fees is None:
            self.report.trouble(
                Trouble.TOO_DEAR, "gas costs more than burner.max_fee_gwei: waiting"
            )
        return fees


def _payers(settlements: list[StoredSettlement]) -> frozenset[tuple[Token, str]]:
    """Whose credits are being burned."""
    return frozenset(
        (Token(each.contract, entry.token_id), entry.holder)
        for each in settlements
        for entry in each.entries
    )


def _kind(error: ChainError) -> Trouble:
    if isinstance(error, UnreachableError):
        return Trouble.UNREACHABLE
    return Trouble.MALFORMED if isinstance(error, MalformedError) else Trouble.REFUSED


def _words(error: ChainError) -> str:
    away = isinstance(error, UnreachableError | MalformedError)
    return f"the node at credits.rpc_url: {error}" if away else str(error)
