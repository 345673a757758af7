"""A burner between a real store and the real contracts on a real (private) chain."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gatekeeper.auth.http_client import Answer, HttpClient, HttpError
from gatekeeper.credits.burn_terms import Schedule, Seam, Terms, ignore
from gatekeeper.credits.burner import Burner
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.fees import FeeBounds
from gatekeeper.credits.ledger import ChargeState, Policy, SettlementState
from gatekeeper.credits.rpc import Rpc
from gatekeeper.credits.signing import Mnemonic, Signer, open_key
from gatekeeper.store.interface import IStore
from gatekeeper.store.ledger import ChargeQuery, SettlementQuery, StoredSettlement
from gatekeeper.usage.records import Account, Batch
from tests.anvil import MNEMONIC, Anvil
from tests.contracts import Contract

GWEI: Final = 10**9
TOKEN_ID: Final = 0x0D
HOLDERS: Final = [f"0x{number:040x}" for number in range(0xA000, 0xA008)]
POLICY: Final = Policy(
    FeeBounds(max_fee=100 * GWEI, max_priority=10 * GWEI), confirmations=3, retries=2
)

_sequence = itertools.count()


def signer_at(path: str) -> Signer:
    """One of the development chain's accounts."""
    return open_key(Mnemonic(MNEMONIC, path=path))


class Swallowing(HttpClient):
    """Asks ``node``; of the answers to transactions that are sent, ``swallowed`` are lost.

    A node that mines by itself has the transaction in a block when its answer is here. By itself
    it would answer, and mine in a moment: a pass that looks at once would see it or not.
    """

    swallowed = 0

    def __init__(self, node: Anvil) -> None:
        super().__init__("the chain", max_body=1 << 22)
        self._node = node

    def ask(
        self,
        method: str,
        url: str,
        read: Callable[[Answer], Any],
        *,
        fields: Mapping[bytes, bytes] = {},
        body: bytes | None = None,
        client: str = "",
    ) -> Deferred[Any]:
        asked = super().ask(method, url, read, fields=fields, body=body, client=client)
        if b"eth_sendRawTransaction" not in (body or b""):
            return asked
        asked.addCallback(self._see_it_mined)
        if self.swallowed:
            self.swallowed -= 1

            def lose(_: object) -> None:
                raise HttpError("no answer within 5 s")

            asked.addCallback(lose)
        return asked

    def _see_it_mined(self, raw: bytes) -> bytes:
        taken = json.loads(raw).get("result")
        if taken is not None and self._node.call("anvil_getAutomine"):
            self._node.receipt(taken)
        return raw


class House:
    """A burner that takes a pass when it is told to; see :meth:`go`."""

    def __init__(
        self,
        node: Anvil,
        contract: Contract,
        store: IStore,
        signer: Signer,
        *,
        policy: Policy = POLICY,
        schedule: Schedule = Schedule(interval=0),  # noqa: B008
        reached: Callable[[Seam], object] = ignore,
    ) -> None:
        self.node = node
        self.contract = contract
        self.store = store
        self.client = Swallowing(node)
        self.chain = Chain(Rpc(node.url, self.client))
        self.clock = Clock()
        self.minted: dict[str, int] = {}
        self.metered = 0
        self.burner = Burner(
            store,
            self.chain,
            signer,
            Terms(node.chain_id, policy),
            schedule,
            self.clock,
            now=lambda: 4_000_000_000 + self.clock.seconds(),  # after all that the tests meter
            reached=reached,
        )
        self.report = self.burner.report

    def mint(self, credits: Mapping[str, int]) -> None:
        """Give credits to holders, for good."""
        for holder, amount in credits.items():
            self.contract.mint(holder, TOKEN_ID, amount)
            self.minted[holder] = self.minted.get(holder, 0) + amount

    async def meter(self, credits: Mapping[str, int]) -> None:
        """What requests have cost, as the flush of usage writes it down."""
        spent = {
            Account(self.contract.address, str(TOKEN_ID), holder): amount
            for holder, amount in credits.items()
        }
        await self.store.write_batch(Batch("node", 0, next(_sequence), {}, (), spent))
        self.metered += sum(credits.values())

    async def go(self, passes: int = 1, blocks: int = 0) -> None:
        """So many passes, five seconds apart, with so many blocks before each."""
        for _ in range(passes):
            if blocks:
                self.node.mine(blocks)
            self.clock.advance(5)
            await self.burner.run_once()

    async def finish(self) -> None:
        """Until nothing is under way; then all that was metered is accounted for."""
        for _ in range(20):
            await self.go(blocks=4)
            if all(
                each.settlement.state in (SettlementState.CONFIRMED, SettlementState.ERROR)
                for each in await self.settlements()
            ):
                break
        else:
            raise AssertionError(f"it does not end: {await self.settlements()}")
        await self.check()

    async def check(self) -> None:
        """Credits that are gone from the chain, and those that are owed: all, and none twice."""
        owed = sum(each.credits for each in await self.store.owed())
        assert await self.burned() + owed == self.metered

    async def burned(self) -> int:
        """Credits that are gone from the chain."""
        return sum(self.minted.values()) - sum(await self.balances(list(self.minted)))

    async def balances(self, holders: Sequence[str]) -> list[int]:
        asked = [(holder, TOKEN_ID) for holder in holders]
        return await self.chain.balances(self.contract.address, asked)

    async def total(self, state: ChargeState) -> int:
        found = await self.store.charges(ChargeQuery(states=(state,)))
        return sum(each.credits for each in found)

    async def reasons(self, state: ChargeState) -> set[str]:
        return {each.reason for each in await self.store.charges(ChargeQuery(states=(state,)))}

    async def settlements(self) -> list[StoredSettlement]:
        """All of them, the oldest first."""
        return sorted(await self.store.settlements(SettlementQuery()), key=lambda each: each.id)

    async def only(self) -> StoredSettlement:
        (stored,) = await self.settlements()
        return stored

    def calls(self) -> list[str]:
        """The selectors of all transactions to the contract that are in blocks."""
        head = int(self.node.call("eth_blockNumber"), 16)
        found = []
        for number in range(head + 1):
            block = self.node.call("eth_getBlockByNumber", hex(number), True)
            for each in block["transactions"]:
                if each["from"] == self.burner_address and each["to"] == self.contract.address:
                    found.append(each["input"][2:10])
        return found

    @property
    def burner_address(self) -> str:
        return self.burner._signer.address

    async def close(self) -> None:
        await self.burner.stop()
        await self.burner._let_go()
        self.chain.close()
