"""What we ask of a chain: balances, dry runs, fees, nonces, receipts; and what we send to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from gatekeeper.credits import abi
from gatekeeper.credits.ledger import Receipt
from gatekeeper.credits.pricing import Token
from gatekeeper.credits.rpc import (
    MAX_BATCH,
    Call,
    ChainError,
    MalformedError,
    RefusedError,
    Rpc,
    StrangeContractError,
    read_data,
    read_quantity,
)

T = TypeVar("T")

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
#: Transactions that are looked at in one request; one can be 128 KiB large.
_TRANSACTIONS: Final = 20


class Sending(Enum):
    """What became of a transaction that was sent."""

    TAKEN = "taken"  #: it waits for a block, or is in one
    SPENT = "spent"  #: its nonce has been used: by itself, a sibling, or another wallet
    UNDERPRICED = "underpriced"  #: it does not replace the one that waits under its nonce
    NO_FUNDS = "no funds"  #: the account cannot pay for the gas


#: What nodes say, in lower case, and what it means.
_SAID: Final = (
    ("already known", Sending.TAKEN),  # geth
    ("already imported", Sending.TAKEN),  # anvil, OpenEthereum
    ("alreadyknown", Sending.TAKEN),  # Nethermind
    ("known transaction", Sending.TAKEN),  # Besu, older geths
    ("nonce too low", Sending.SPENT),
    ("oldnonce", Sending.SPENT),  # Nethermind
    ("underpriced", Sending.UNDERPRICED),
    ("insufficient funds", Sending.NO_FUNDS),
    ("insufficientfunds", Sending.NO_FUNDS),
)


class GasPrices(NamedTuple):
    """The base fee of the next block, and the priority fee that the node suggests; in wei."""

    base_fee: int
    priority: int


class Sight(NamedTuple):
    """What an account's transactions are about; see :class:`~gatekeeper.credits.ledger.Facts`."""

    head: int
    spent: int
    settled: int
    receipts: dict[str, Receipt]


class Chain:
    """A chain, as one node shows it. Every method raises a kind of ``ChainError``."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def close(self) -> None:
        """Keep no connection."""
        self._rpc.close()

    async def chain_id(self) -> int:
        """The chain's own number (EIP-155)."""
        return read_quantity(await self._rpc.call("eth_chainId"))

    async def head(self) -> int:
        """The number of the newest block."""
        return read_quantity(await self._rpc.call("eth_blockNumber"))

    async def balance(self, token: Token, holder: str) -> int:
        """How many credits a holder has."""
        call = _eth_call(token.contract, abi.balance_of(holder, token.id))
        (result,) = await self._rpc.ask([call])
        return _decoded(abi.decode_number, read_data(result))

    async def balances(self, contract: str, holders: Sequence[tuple[str, int]]) -> list[int]:
        """How many credits each (holder, token id) has, in one contract."""
        calls, counts = [], []
        for at in range(0, len(holders), MAX_BATCH):
            some = holders[at : at + MAX_BATCH]
            data = abi.balance_of_batch([h for h, _ in some], [t for _, t in some])
            calls.append(_eth_call(contract, data))
            counts.append(len(some))
        found: list[int] = []
        for result, count in zip(await self._rpc.ask(calls), counts, strict=True):
            found += _decoded(partial(abi.decode_numbers, count=count), read_data(result))
        return found

    async def each_balance(
        self, contract: str, holders: Sequence[tuple[str, int]]
    ) -> list[int | ChainError]:
        """As :meth:`balances`, but what is wrong with one of them leaves the others alone."""
        calls = [_eth_call(contract, abi.balance_of(*each)) for each in holders]
        found: list[int | ChainError] = []
        for result in await self._rpc.settle(calls):
            try:
                if isinstance(result, ChainError):
                    raise result
                found.append(_decoded(abi.decode_number, read_data(result)))
            except ChainError as error:
                found.append(error)
        return found

    async def dry_run(self, sender: str, contract: str, data: bytes) -> None:
        """Whether a transaction would succeed now.

        :raises RevertedError: it would not.
        """
        await self._rpc.ask([_eth_call(contract, data, sender)])

    async def estimate_gas(self, sender: str, contract: str, data: bytes) -> int:
        """The gas that a transaction would use now.

        :raises RevertedError: it would not succeed.
        """
        call = {"from": sender, "to": contract, "data": "0x" + data.hex()}
        return read_quantity(await self._rpc.call("eth_estimateGas", call))

    async def gas_prices(self) -> GasPrices:
        """What gas costs."""
        history, suggested = await self._rpc.ask(
            [Call("eth_feeHistory", ("0x1", "latest", [])), Call("eth_maxPriorityFeePerGas")]
        )
        base_fees = history.get("baseFeePerGas") if isinstance(history, dict) else None
        if not isinstance(base_fees, list) or not base_fees:
            raise MalformedError("the history of fees has no base fee")
        return GasPrices(read_quantity(base_fees[-1]), read_quantity(suggested))

    async def funds(self, account: str) -> int:
        """What an account has to pay for gas with, in wei."""
        return read_quantity(await self._rpc.call("eth_getBalance", account, "latest"))

    async def nonce_at(self, account: str, block: int | str) -> int:
        """How many transactions an account has made up to a block (``latest``, ``pending``)."""
        (count,) = await self._rpc.ask([_count(account, block)])
        return read_quantity(count)

    async def look(self, account: str, hashes: Sequence[str], confirmations: int) -> Sight:
        """How far the chain and an account are, and which of these transactions are in a block.

        The newest block and the receipts are asked for at once and in this order: two requests
        may be answered by two machines, which need not be equally far.
        """
        calls = [Call("eth_blockNumber"), _count(account, "latest")]
        calls += [Call("eth_getTransactionReceipt", (each,)) for each in hashes]
        number, spent, *receipts = await self._rpc.ask(calls)
        head = read_quantity(number)
        settled = await self.nonce_at(account, max(head - confirmations, 0))
        found = {
            name: _receipt(result, name)
            for name, result in zip(hashes, receipts, strict=True)
            if result is not None
        }
        return Sight(head, read_quantity(spent), settled, found)

    async def send(self, raw: bytes, name: str) -> Sending:
        """Send a signed transaction whose hash is ``name``. To send it again does no harm.

        :raises RefusedError: the node does not want it, for a reason that we do not know.
        """
        try:
            result = await self._rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
        except RefusedError as error:
            said = error.text.lower()
            for words, meaning in _SAID:
                if words in said:
                    return meaning
            raise
        if not isinstance(result, str) or result.lower() != name:
            raise MalformedError("the node took another transaction than was sent")
        return Sending.TAKEN

    async def find_spender(self, account: str, nonce: int, block: int) -> str | None:
        """The hash of the transaction that used a nonce, up to a block that it was used in.

        ``None`` where the node does not show it: it has forgotten the states, say.
        """
        low, high = 0, block  # by halves: in which block the count goes past the nonce
        while low < high:
            middle = (low + high) // 2
            try:
                count = await self.nonce_at(account, middle)
            except RefusedError:  # it knows no states that old
                count = 0
            if count > nonce:
                high = middle
            else:
                low = middle + 1
        found = await self._rpc.call("eth_getBlockByNumber", hex(low), False)
        hashes = found.get("transactions") if isinstance(found, dict) else None
        if not isinstance(hashes, list):
            raise MalformedError("a block has no transactions")
        for at in range(0, len(hashes), _TRANSACTIONS):
            calls = [
                Call("eth_getTransactionByHash", (_hash(each),))
                for each in hashes[at : at + _TRANSACTIONS]
            ]
            for name, each in zip(hashes[at:], await self._rpc.ask(calls), strict=False):
                if _is_by(each, account, nonce):
                    return _hash(name)
        return None


def _eth_call(contract: str, data: bytes, sender: str | None = None) -> Call:
    call = {"to": contract, "data": "0x" + data.hex()}
    if sender is not None:
        call["from"] = sender
    return Call("eth_call", (call, "latest"))


def _count(account: str, block: int | str) -> Call:
    tag = block if isinstance(block, str) else hex(block)
    return Call("eth_getTransactionCount", (account, tag))


def _decoded(decode: Callable[[bytes], T], raw: bytes) -> T:
    try:
        return decode(raw)
    except ValueError as error:
        text = str(error) if raw else "empty"
        raise StrangeContractError(
            f"there is no such contract at this address, where the answer is {text}"
        ) from None


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise MalformedError("a hash is none")
    return value.lower()


def _receipt(document: Any, name: str) -> Receipt:
    if not isinstance(document, dict) or _hash(document.get("transactionHash")) != name:
        raise MalformedError("a receipt is another transaction's")
    status = read_quantity(document.get("status"))
    if status not in (0, 1):
        raise MalformedError("a receipt has no status")
    return Receipt(
        read_quantity(document.get("blockNumber")),
        status == 1,
        read_quantity(document.get("gasUsed")),
        read_quantity(document.get("effectiveGasPrice")),
    )


def _is_by(transaction: Any, account: str, nonce: int) -> bool:
    if not isinstance(transaction, dict):
        return False
    sender = transaction.get("from")
    return (
        isinstance(sender, str)
        and sender.lower() == account.lower()
        and read_quantity(transaction.get("nonce")) == nonce
    )
