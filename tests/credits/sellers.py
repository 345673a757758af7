"""What requests pay with, in memory: a store, a node, a marketplace, the loop's next turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from gatekeeper.auth.http_client import Answer, HttpError
from gatekeeper.auth.interfaces import Grant, Subscription
from gatekeeper.credits import abi
from gatekeeper.credits.admission import Caller
from gatekeeper.credits.chain import Chain
from gatekeeper.credits.rpc import Rpc
from gatekeeper.errors import StoreError
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
    """The store's accounts."""

    def __init__(self) -> None:
        self.kept: dict[Account, Kept] = {}
        self.asked: list[Sequence[Account]] = []
        self.away = False

    def read_accounts(self, accounts: Sequence[Account]) -> Deferred[list[Kept]]:
        self.asked.append(accounts)
        if self.away:
            return fail(StoreError("the disk is full"))
        return succeed([self.kept.get(each, Kept()) for each in accounts])


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


def reading(answers: Mapping[Account, Any], asked: list[Sequence[Account]]) -> Any:
    """Reads accounts out of a dictionary."""

    async def read(accounts: Sequence[Account]) -> list[Any]:
        asked.append(accounts)
        return [answers[each] for each in accounts]

    return read


def spent_by(accounts: Iterable[tuple[Account, int]]) -> dict[Account, int]:
    found: dict[Account, int] = {}
    for account, amount in accounts:
        found[account] = found.get(account, 0) + amount
    return found
