"""What requests pay with, in memory: a store, a node, a marketplace, the loop's next turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from gatekeeper.auth.http_client import Answer, HttpError
from gatekeeper.auth.interfaces import Grant, Subscription
from gatekeeper.credits import abi
from gatekeeper.credits.admission import Caller
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.rpc import Rpc
from gatekeeper.errors import StoreError
from gatekeeper.store.leases import Leased, Seen, Wish, share
from gatekeeper.store.ledger import Kept
from gatekeeper.usage.records import PREPAID, Account
from tests.auth.http_peers import Asked, FakeHttp
from tests.auth.support import outcome
from tests.credits.ddos import CONTRACT, TOKEN_ID, USER

T = TypeVar("T")

TOKEN = int(TOKEN_ID, 16)
DID = "did:nv:" + "5e" * 32
SUBSCRIPTION = Subscription(DID, "5b" * 32, "")
ALICE = Account(PREPAID, "default", "alice")
ON_CHAIN = Account(CONTRACT.lower(), str(TOKEN), USER.lower())


def caller(
    user: str = "alice", subscription: Subscription | None = None, *, counted: bool = True
) -> Caller:
    return Caller("acme", Grant(user=user, subscription=subscription), "192.0.2.1", counted)


class Turns:
    """The loop: what is called soon is called by :meth:`run`."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def run(self) -> int:
        """One turn; how many calls there were."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        return len(calls)


class MemoryLedger:
    """The store's accounts, and what is leased of them; ``asked`` for, call by call."""

    def __init__(self) -> None:
        self.kept: dict[Account, Kept] = {}
        self.leased: dict[tuple[Account, str], int] = {}
        self.burned: dict[Account, int] = {}  # how often
        self.asked: list[Sequence[Account]] = []
        self.away = False

    def read_accounts(self, accounts: Sequence[Account]) -> Deferred[list[Kept]]:
        self.asked.append(accounts)
        if self.away:
            return fail(StoreError("the disk is full"))
        return succeed([self.kept.get(each, Kept()) for each in accounts])

    def see(self, accounts: Sequence[Account]) -> Deferred[list[Seen]]:
        if self.away:
            return fail(StoreError("the disk is full"))
        return succeed([self._seen(each) for each in accounts])

    def lease(self, owner: str, wishes: Sequence[Wish]) -> Deferred[list[Leased]]:
        self.asked.append([wish.account for wish in wishes])
        if self.away:
            return fail(StoreError("the disk is full"))
        return succeed([self._lease(owner, wish) for wish in wishes])

    def release(self, owners: Sequence[str], older: float) -> Deferred[int]:
        if self.away:
            return fail(StoreError("the disk is full"))
        gone = [key for key in self.leased if key[1] in owners]
        for key in gone:
            del self.leased[key]
        return succeed(len(gone))

    def write(self, owner: str, spent: Mapping[Account, int]) -> None:
        """A batch."""
        for account, amount in spent.items():
            granted, before = self.kept.get(account, Kept())
            self.kept[account] = Kept(granted, before + amount)
            had = self.leased.get((account, owner), 0)
            self.leased[account, owner] = max(0, had - amount)

    def _seen(self, account: Account) -> Seen:
        return Seen(burning=frozenset({(self.burned.get(account, 0), 0)}))

    def _lease(self, owner: str, wish: Wish) -> Leased:
        account = wish.account
        granted, spent = self.kept.get(account, Kept())
        in_all = granted + wish.allowance
        had = self.leased.get((account, owner), 0)
        if account.is_on_chain:
            if wish.balance is None or not wish.balance.seen.still_holds(self._seen(account)):
                self.leased[account, owner] = had - min(wish.give, had)
                return Leased(self.leased[account, owner])
            in_all = wish.balance.credits
        others = sum(n for (a, o), n in self.leased.items() if a == account and o != owner)
        change, free = share(wish, had, in_all, spent + others)
        self.leased[account, owner] = had + change
        return Leased(had + change, max(change, 0), free)


class Node:
    """A chain's node: balances by contract, and by (holder, token id)."""

    def __init__(self, chain_id: int = 7) -> None:
        self.chain_id = chain_id
        self.balances: dict[str, dict[tuple[str, int], int]] = {}
        self.broken: dict[str, dict[str, Any] | str] = {}  # errors, or results, by contract
        self.bad_holders: dict[str, dict[str, Any]] = {}  # errors
        self.status = 200
        self.http = FakeHttp(self._answer)
        self.chain = Chain(Rpc("http://node", self.http))

    @property
    def calls(self) -> list[str]:
        """What it was asked, request by request."""
        found = []
        for asked in self.http.asked:
            questions = json.loads(asked.body or b"")
            some = questions if isinstance(questions, list) else [questions]
            found.append("+".join(self._shown(each) for each in some))
        return found

    def hold(self, contract: str, holder: str, amount: int, token: int = TOKEN) -> None:
        self.balances.setdefault(contract, {})[holder, token] = amount

    @staticmethod
    def _shown(question: Mapping[str, Any]) -> str:
        if question["method"] != "eth_call":
            return str(question["method"])
        data = bytes.fromhex(question["params"][0]["data"][2:])
        return {abi.BALANCE_OF: "one", abi.BALANCE_OF_BATCH: "batch"}[data[:4]]

    def _answer(self, asked: Asked) -> Answer:
        questions = json.loads(asked.body or b"")
        answers = (
            [self._reply(each) for each in questions]
            if isinstance(questions, list)
            else self._reply(questions)
        )
        return Answer(self.status, json.dumps(answers).encode())

    def _reply(self, question: Mapping[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": question["id"]}
        if question["method"] == "eth_chainId":
            return reply | {"result": hex(self.chain_id)}
        call = question["params"][0]
        broken = self.broken.get(call["to"])
        if broken is not None:
            return reply | ({"result": broken} if isinstance(broken, str) else {"error": broken})
        words = bytes.fromhex(call["data"][10:])
        numbers = [int.from_bytes(words[at : at + 32], "big") for at in range(0, len(words), 32)]
        if single := call["data"][2:10] == abi.BALANCE_OF.hex():
            asked = [(f"0x{numbers[0]:040x}", numbers[1])]
        else:
            count = numbers[2]
            holders, tokens = numbers[3 : 3 + count], numbers[4 + count :]
            asked = [(f"0x{h:040x}", t) for h, t in zip(holders, tokens, strict=True)]
        for holder, _ in asked:
            if holder in self.bad_holders:
                return reply | {"error": self.bad_holders[holder]}
        found = [self.balances.get(call["to"], {}).get(each, 0) for each in asked]
        data = found if single else [32, len(found), *found]
        return reply | {"result": "0x" + "".join(f"{each:064x}" for each in data)}


class Market:
    """A marketplace: documents by DID, or statuses."""

    def __init__(self, documents: Mapping[str, object]) -> None:
        self.documents = dict(documents)
        self.away = False
        self.http = FakeHttp(self._answer)

    @property
    def asked(self) -> list[str]:
        return [each.url.rpartition("/")[2] for each in self.http.asked]

    def _answer(self, asked: Asked) -> Answer:
        if self.away:
            raise HttpError("refused")
        found = self.documents.get(asked.url.rpartition("/")[2], 404)
        if isinstance(found, int):
            return Answer(found, b"")
        return Answer(200, found if isinstance(found, bytes) else json.dumps(found).encode())


def now(answer: Deferred[T]) -> T:
    """The result, which is there already; or what it failed with is raised."""
    (result,) = outcome(answer)
    if hasattr(result, "raiseException"):
        result.raiseException()
    found: T = result
    return found
