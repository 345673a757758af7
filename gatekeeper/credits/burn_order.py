"""What a settlement's transaction would be now: who has how much, whether it works, its gas."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from gatekeeper.credits import abi
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.fees import gas_limit
from gatekeeper.credits.grouping import Entry, burnable, fit
from gatekeeper.credits.rpc import ContractError


class Order(NamedTuple):
    """The call of a transaction, with what is burned of each entry, and the gas that it may use."""

    entries: tuple[Entry, ...]
    call: bytes
    gas: int


class Orders:
    """Makes orders for the account ``sender``; for the rest see :func:`~..fees.gas_limit`."""

    def __init__(self, chain: Chain, sender: str, gas_multiplier: Fraction, max_gas: int) -> None:
        self._chain = chain
        self._sender = sender
        self._gas_multiplier = gas_multiplier
        self._max_gas = max_gas

    async def make(self, contract: str, entries: Sequence[Entry]) -> Order | None:
        """Burn what the holders have; ``None``: they have nothing.

        :raises ContractError: the contract refuses, or is none.
        :raises TooMuchGasError: it needs more gas than is allowed.
        """
        fitted = await self._fitted(contract, entries)
        if not burnable(fitted):
            return None
        call = self.call(fitted)
        await self._chain.dry_run(self._sender, contract, call)
        estimate = await self._chain.estimate_gas(self._sender, contract, call)
        return Order(tuple(fitted), call, gas_limit(estimate, self._gas_multiplier, self._max_gas))

    async def works(self, contract: str, entries: Sequence[Entry]) -> bool:
        """Whether the contract would do it."""
        try:
            fitted = await self._fitted(contract, entries)
            if burnable(fitted):
                await self._chain.dry_run(self._sender, contract, self.call(fitted))
        except ContractError:
            return False
        return True

    @staticmethod
    def call(entries: Sequence[Entry]) -> bytes:
        """The call that burns what there is to burn; a single burn has a call of its own."""
        burns = burnable(entries)
        return abi.burn(*burns[0]) if len(burns) == 1 else abi.burn_batch(burns)

    async def _fitted(self, contract: str, entries: Sequence[Entry]) -> list[Entry]:
        holders = [(entry.holder, entry.token_id) for entry in entries]
        return fit(entries, await self._chain.balances(contract, holders))
