"""Burn with the burner's own code, and print the gas of each transaction as a JSON list.

What to burn comes on standard input, in JSON: see :class:`Order`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from gatekeeper.config.model import Store
from gatekeeper.process.reactor import install_reactor
from gatekeeper.usage.records import Account, Batch

_GWEI: Final = 10**9
_PASSES: Final = 20  # of the burner, for a settlement; it needs two or three
_LARGEST_ANSWER: Final = 1 << 22


class Order(NamedTuple):
    """Each of ``holders`` owes ``credits``, ``settlements`` times, and is burned each time."""

    rpc_url: str
    chain_id: int
    mnemonic: str
    path: str
    contract: str
    token_id: int
    holders: list[str]
    credits: int
    settlements: int


async def _burn(reactor: Any, order: Order) -> None:
    from gatekeeper.auth.http_client import HttpClient
    from gatekeeper.credits.burn_terms import Schedule, Terms
    from gatekeeper.credits.burner import Burner
    from gatekeeper.credits.chain import Chain
    from gatekeeper.credits.fees import FeeBounds
    from gatekeeper.credits.ledger import Policy, SettlementState
    from gatekeeper.credits.rpc import Rpc
    from gatekeeper.credits.signing import Mnemonic, open_key
    from gatekeeper.store.ledger import SettlementQuery
    from gatekeeper.store.opening import make_store

    chain = Chain(Rpc(order.rpc_url, HttpClient("the chain", max_body=_LARGEST_ANSWER)))
    policy = Policy(FeeBounds(1000 * _GWEI, 100 * _GWEI), confirmations=0)
    with TemporaryDirectory() as directory:
        store = make_store(Store(url=f"sqlite:///{Path(directory) / 'store.sqlite'}"), reactor)
        await store.open()
        burner = Burner(
            store,
            chain,
            open_key(Mnemonic(order.mnemonic, path=order.path)),
            Terms(order.chain_id, policy),
            Schedule(interval=0, batch=len(order.holders)),
            reactor,
            now=lambda: time.time() + 60,
        )
        owed = {
            Account(order.contract.lower(), str(order.token_id), holder): order.credits
            for holder in order.holders
        }
        query = SettlementQuery(states=(SettlementState.CONFIRMED,), limit=order.settlements)
        for number in range(1, order.settlements + 1):
            await store.write_batch(Batch("benchmark", 0, number, {}, (), owed))
            for _ in range(_PASSES):
                await burner.run_once()
                if len(await store.settlements(query)) == number:
                    break
            else:
                raise SystemExit(burner.report.problem or "a settlement does not end")
        settled = sorted(await store.settlements(query))
        await store.close()
    chain.close()
    print(json.dumps([each.gas_used for stored in settled for each in stored.transactions]))


def main() -> None:
    """Run with the daemon's own reactor."""
    install_reactor()
    from twisted.internet import task
    from twisted.internet.defer import Deferred

    order = Order(**json.load(sys.stdin))
    task.react(lambda reactor: Deferred.fromCoroutine(_burn(reactor, order)))


if __name__ == "__main__":
    main()
