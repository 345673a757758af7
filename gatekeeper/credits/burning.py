"""One settlement, step by step: what :mod:`gatekeeper.credits.ledger` decides is done here.

The order that everything rests on: a transaction is signed and *stored*, and only then sent. What
is stored may be sent any number of times, for a chain takes one transaction of a nonce only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from twisted.logger import Logger

from gatekeeper.credits.burn_order import Order, Orders
from gatekeeper.credits.burn_report import Ending, Reports, Trouble
from gatekeeper.credits.burn_terms import Seam, Terms, ignore
from gatekeeper.credits.chain import Chain, Sending
from gatekeeper.credits.fees import Fees, TooMuchGasError
from gatekeeper.credits.grouping import burnable, separate
from gatekeeper.credits.ledger import (
    Facts,
    Look,
    Mark,
    Receipt,
    Send,
    SettlementEvent,
    SettlementState,
    Sign,
    Wait,
    choose_nonce,
    next_step,
    when_refused,
)
from gatekeeper.credits.rpc import ContractError
from gatekeeper.credits.signing import Signer, Transaction
from gatekeeper.store.ledger import ISettling, StoredSettlement, StoredTransaction

log = Logger()


class Burning:
    """Takes steps of settlements, for the owner of ``signer``'s account.

    Its methods raise what the chain and the store fail with. ``now`` gives seconds since the epoch;
    ``reached`` is called at each :class:`Seam`.
    """

    def __init__(
        self,
        chain: Chain,
        signer: Signer,
        settling: ISettling,
        terms: Terms,
        report: Reports,
        now: Callable[[], float],
        reached: Callable[[Seam], object] = ignore,
    ) -> None:
        self._chain = chain
        self._signer = signer
        self._settling = settling
        self._terms = terms
        self._report = report
        self._now = now
        self._reached = reached
        self._orders = Orders(chain, signer.address, terms.gas_multiplier, terms.max_gas)

    async def advance(self, stored: StoredSettlement, ours: set[int], wanted: Fees | None) -> bool:
        """Take the next step; whether something has changed, and there may be one more at once.

        ``ours`` are the nonces of all settlements under way, and get the one that is chosen here.
        ``wanted`` are the fees for a new transaction, ``None`` where gas is too dear.
        """
        settlement, policy = stored.settlement, self._terms.policy
        facts = await self._facts(stored, wanted)
        step = next_step(settlement, facts, policy)
        if isinstance(step, Look):
            spender = await self._chain.find_spender(stored.account, step.nonce, step.block)
            if spender is None:
                text = f"nonce {step.nonce} is used, and the node does not show for what"
                self._report.trouble(Trouble.NONCE, text, _name(stored))
                return False
            step = next_step(settlement, replace(facts, spender=spender), policy)
        match step:
            case Sign(SettlementEvent.SIGN, _, Fees() as fees):
                return await self._sign(stored, facts, fees, ours)
            case Sign(SettlementEvent.REPLACE, int(nonce), Fees() as fees):
                return await self._replace(stored, nonce, fees)
            case Send(name):
                (transaction,) = (each for each in stored.transactions if each.hash == name)
                return await self._send(stored, transaction)
            case Mark():
                return await self._mark(stored, step, facts.receipts.get(step.hash))
            case Wait() if self._is_stuck(stored, facts):
                text = "in no block for long, and more may not be offered for it"
                self._report.trouble(Trouble.TOO_DEAR, text, _name(stored))
        return False

    def _is_stuck(self, stored: StoredSettlement, facts: Facts) -> bool:
        """Whether it should long be in a block, and its fees cannot be raised."""
        waiting = stored.settlement.state in (SettlementState.SIGNED, SettlementState.SENT)
        if not waiting or facts.spent > (stored.settlement.nonce or 0):
            return False
        since = stored.settlement.transactions[-1].since
        return facts.now - since >= self._terms.policy.stuck

    async def _facts(self, stored: StoredSettlement, wanted: Fees | None) -> Facts:
        hashes = [each.hash for each in stored.settlement.transactions]
        sight = await self._chain.look(stored.account, hashes, self._terms.policy.confirmations)
        return Facts(
            head=sight.head,
            spent=sight.spent,
            settled=sight.settled,
            now=self._now(),
            receipts=sight.receipts,
            wanted=wanted,
        )

    # --- signing --------------------------------------------------------------------------

    async def _sign(
        self, stored: StoredSettlement, facts: Facts, fees: Fees, ours: set[int]
    ) -> bool:
        try:
            order = await self._orders.make(stored.contract, stored.entries)
        except ContractError as error:
            return await self._separate(stored, str(error))
        except TooMuchGasError as error:
            return await self._halve(stored, str(error))
        if order is None:
            return await self._mark(stored, Mark(SettlementEvent.NOTHING), None)
        nonce = choose_nonce(facts.spent, facts.settled, ours)
        if nonce is None:
            text = f"another wallet has just used {stored.account}: waiting until that is final"
            self._report.trouble(Trouble.NONCE, text)
            return False
        ours.add(nonce)
        return await self._store(stored, SettlementEvent.SIGN, order, nonce, fees)

    async def _replace(self, stored: StoredSettlement, nonce: int, fees: Fees) -> bool:
        """Sign the same again for more money: same nonce, same call, same gas."""
        last = stored.transactions[-1]
        text = f"{last.hash} is in no block after {self._terms.policy.stuck:g} s: offering more"
        self._report.trouble(Trouble.STUCK, text, _name(stored))
        order = Order(stored.entries, self._orders.call(stored.entries), last.gas)
        return await self._store(stored, SettlementEvent.REPLACE, order, nonce, fees)

    async def _store(
        self, stored: StoredSettlement, event: SettlementEvent, order: Order, nonce: int, fees: Fees
    ) -> bool:
        """Sign, store, and only then send."""
        self._reached(Seam.SIGNING)
        raw, name = self._signer.sign(
            Transaction(self._terms.chain_id, nonce, stored.contract, order.call, order.gas, fees)
        )
        self._reached(Seam.SIGNED)
        now = self._now()
        transaction = StoredTransaction(
            name, raw, nonce, order.gas, fees.max_fee, fees.priority, since=now
        )
        entries = order.entries if event is SettlementEvent.SIGN else None
        await self._settling.sign(stored.id, Mark(event, name), entries, transaction, now)
        self._reached(Seam.STORED)
        log.info(
            "{settlement}: {credits} credits of {holders} holders in {contract}: transaction {name}"
            " with nonce {nonce}, up to {gas} gas at {fee} wei",
            settlement=_name(stored),
            credits=sum(each.burn for each in order.entries),
            holders=len(burnable(order.entries)),
            contract=stored.contract,
            name=name,
            nonce=nonce,
            gas=order.gas,
            fee=fees.max_fee,
        )
        return await self._send(stored, transaction)

    async def _send(self, stored: StoredSettlement, transaction: StoredTransaction) -> bool:
        match await self._chain.send(transaction.raw, transaction.hash):
            case Sending.TAKEN:
                self._reached(Seam.SENT)
                await self._settling.sent(stored.id, transaction.hash, self._now())
                self._reached(Seam.MARKED)
                return True
            case Sending.NO_FUNDS:
                text = f"{stored.account} cannot pay for the gas: send it some"
                self._report.trouble(Trouble.NO_FUNDS, text)
            case Sending.UNDERPRICED:
                text = "the node wants a higher fee; one is offered in a while"
                self._report.trouble(Trouble.UNDERPRICED, text, _name(stored))
            case Sending.SPENT:
                pass  # by what: the next look shows that
        return False

    # --- what the contract refuses --------------------------------------------------------

    async def _separate(self, stored: StoredSettlement, reason: str) -> bool:
        """The contract refuses: find out for whom, and settle these by themselves."""
        refused = stored.entries
        if len(stored.entries) > 1:
            works = partial(self._orders.works, stored.contract)
            good, bad = await separate(stored.entries, works)
            if not bad:
                return False  # it has changed meanwhile
            if good:
                for entry in bad:
                    await self._settling.split(stored.id, [entry], self._now())
                    text = f"the burn of {entry.holder} is refused, and is tried by itself"
                    self._report.trouble(Trouble.SPLIT, text, _name(stored))
                return True
            refused = tuple(bad)
        return await self._refused(stored, reason, len(refused))

    async def _halve(self, stored: StoredSettlement, reason: str) -> bool:
        """It needs too much gas: settle half of it by itself."""
        self._report.trouble(Trouble.TOO_MUCH_GAS, reason, _name(stored))
        middle = len(stored.entries) // 2
        if not middle:
            return await self._refused(stored, reason, 1)
        await self._settling.split(stored.id, stored.entries[middle:], self._now())
        return True

    async def _refused(self, stored: StoredSettlement, reason: str, holders: int) -> bool:
        event = when_refused(stored.settlement.attempts, self._terms.policy)
        text = f"the burn for {holders} holders in {stored.contract}: {reason}"
        self._report.trouble(Trouble.REVERTED, text, _name(stored))
        return await self._mark(stored, Mark(event), None, reason)

    # --- what has happened ----------------------------------------------------------------

    async def _mark(
        self, stored: StoredSettlement, mark: Mark, receipt: Receipt | None, reason: str = ""
    ) -> bool:
        """Write down what has happened; whether to go on at once."""
        event = mark.event
        if event in (SettlementEvent.REVERT, SettlementEvent.GIVE_UP) and receipt is not None:
            reason = f"transaction {mark.hash} was reverted in block {receipt.block}"
        elif event is SettlementEvent.DISPLACE:
            nonce = stored.settlement.nonce
            reason = f"another wallet's transaction {mark.hash} has used nonce {nonce}"
        ends = event is not SettlementEvent.MINE
        if ends:
            self._reached(Seam.ENDING)
        await self._settling.mark(
            stored.id,
            mark,
            self._now(),
            reason=reason,
            receipt=receipt if event is SettlementEvent.MINE else None,
        )
        if ends:
            self._reached(Seam.ENDED)
        self._tell(stored, mark, receipt, reason)
        return event is not SettlementEvent.REVERT  # which is tried again, but not at once

    def _tell(
        self, stored: StoredSettlement, mark: Mark, receipt: Receipt | None, reason: str
    ) -> None:
        """Count it, and say it in the log."""
        name, report = _name(stored), self._report
        final = mark.event is not SettlementEvent.MINE
        if receipt is not None and final:
            report.spent(receipt.gas_used * receipt.gas_price)
        match mark.event:
            case SettlementEvent.MINE if receipt is not None:
                log.info("{name}: in block {block}", name=name, block=receipt.block)
            case SettlementEvent.CONFIRM:
                burned = sum(each.burn for each in stored.entries)
                report.ended(Ending.CONFIRMED, burned)
                log.info(
                    "{name}: {credits} credits are burned, {short} cannot be collected now",
                    name=name,
                    credits=burned,
                    short=sum(each.short for each in stored.entries),
                )
            case SettlementEvent.NOTHING:
                report.ended(Ending.NOTHING)
                log.info("{name}: nobody has anything left", name=name)
            case SettlementEvent.GIVE_UP:
                report.ended(Ending.ERROR)
                log.error("{name}: given up: {reason}", name=name, reason=reason)
            case SettlementEvent.REVERT if receipt is not None:
                report.trouble(Trouble.REVERTED, reason, name)
            case SettlementEvent.DISPLACE:
                report.trouble(Trouble.DISPLACED, reason, name)
            case SettlementEvent.REORGANIZE:
                text = f"the block with {mark.hash} was replaced: it is sent again"
                report.trouble(Trouble.REORGANIZED, text, name)


def _name(stored: StoredSettlement) -> str:
    return f"settlement {stored.id}"
