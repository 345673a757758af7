"""Everything that takes part in selling requests: a chain, a store, a gateway, a burner, buyers."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from gatekeeper.usage.records import Account
from tests.anvil import BURNER_PATH, MNEMONIC, OWNER, Anvil
from tests.burning.buyers import Buyers
from tests.burning.market import PHRASE, TOKEN_ID, account, furnish
from tests.contracts import UPGRADEABLE, WITHOUT_BLOCKS, Contract, call_data, deploy
from tests.daemon import Daemon, wait_until
from tests.faults.relay import Relay
from tests.origin import Origin
from tests.servers import PostgresServer

HOLDERS: Final = 4
CREDITS: Final = 1000  # that each has, in each contract
CONFIRMATIONS: Final = 3
MAX_FEE_GWEI: Final = 100
_PATIENCE: Final = 60.0

_GATEWAY: Final = f"""
state_dir = "state"
management = {{ bind = "none" }}
store = {{ url = "URL", statement_timeout = 2.0 }}
usage = {{ flush_interval = 0.1, records = true }}
log = {{ access = "none" }}

[credits]
rpc_url = "http://@node@"
chain_id = CHAIN
marketplace_url = "http://@origin@"
balance_ttl = 2.0

[[listeners]]
name = "gateway"
role = "gateway"
bind = "@gateway@"

[checkers.nevermined]
type = "access-token"
secret = "{PHRASE}"

[[services]]
name = "nevermined"
to = "grant"
allow = ["127.0.0.1:*"]
checkers = ["nevermined"]
credits = {{ source = "chain" }}
"""

#: A transaction that is in no block is sent again, and soon replaced: both are part of the game.
_BURNER: Final = f"""
state_dir = "state"
store = {{ url = "URL", statement_timeout = 2.0 }}
credits = {{ rpc_url = "http://@relay@", chain_id = CHAIN, timeout = 1.0 }}

[burner]
mnemonic = "{MNEMONIC}"
derivation_path = "{BURNER_PATH}"
interval = 0.1
poll = 0.1
confirmations = {CONFIRMATIONS}
retries = 2
resend = 0.5
stuck = 1.0
max_fee_gwei = {MAX_FEE_GWEI}
"""


@dataclass
class Result:
    """What one round came to, in credits of the round's holders.

    ``metered`` is what their usage records say, ``burned`` what is gone from the chain. ``missing``
    adds up of whom less was burned than was metered and is not ``uncollected``, or in ``error``;
    ``twice``, of whom more.
    """

    fault: str
    requests: int
    metered: int
    burned: int
    uncollected: int
    error: int
    missing: int
    twice: int
    seconds: float


class Burner(Daemon):
    """A burner that kills itself where it is told to; see :meth:`kill_at`."""

    service = "gatekeeper-burner"
    program = "from tests.burning.killable import main; main()"

    def kill_at(self, seam: str) -> None:
        """Have it end when it reaches this seam the next time."""
        (self.directory / "kill-at").write_text(seam)


class House:
    """A context manager. Everything runs while it is entered.

    ``server`` is a PostgreSQL for the store; without one it is SQLite. ``contracts`` are those that
    holders have credits in, by name; ``holders`` are those of this round.
    """

    def __init__(self, directory: Path, server: PostgresServer | None) -> None:
        self.directory = directory
        self.server = server
        self._file = directory / "store.sqlite"
        self.url = server.create_database() if server is not None else f"sqlite:///{self._file}"
        self.node = Anvil()
        self.relay = Relay(self.node.port, (b"eth_sendRawTransaction",), hangs=True)
        self.origin = Origin()
        self.gateway = Daemon(
            directory / "gateway",
            self._fill(_GATEWAY),
            ports={"node": self.node.port, "origin": self.origin.port},
        )
        self.burner = self.make_burner("burner")
        self.buyers = Buyers(self.gateway.port("gateway"), self.origin)
        self.contracts: dict[str, Contract] = {}
        self.holders: list[str] = []
        self._has: Counter[Account] = Counter()  # what would be there if nothing was burned
        self._numbers = itertools.count(0xA000)

    def _fill(self, configuration: str) -> str:
        return configuration.replace("URL", self.url).replace("CHAIN", str(self.node.chain_id))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.node.destroy)
            self.node.start()
            for name in (UPGRADEABLE, WITHOUT_BLOCKS):
                self.contracts[name] = deploy(self.node, name)
                self.contracts[name].prepare(TOKEN_ID)
            stack.enter_context(self.relay)
            stack.enter_context(self.origin)
            furnish(self.origin, self.contracts)
            stack.callback(self.gateway.kill)
            stack.callback(self.burner.kill)
            self.gateway.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.show()
        self._stack.close()

    def show(self) -> None:
        """Print what the processes have said last, for whoever looks for an error."""
        for each in (self.gateway, self.burner):
            print(each.log[-20_000:], each.stderr)

    def finish(self) -> None:
        """Stop everything, and see that nothing went wrong in its life that nobody foresaw."""
        self.stop_burner()
        self.gateway.stop()

    # --- who takes part -------------------------------------------------------------------

    def make_burner(self, name: str) -> Burner:
        """One more burner, which does not run yet."""
        return Burner(self.directory / name, self._fill(_BURNER), ports={"relay": self.relay.port})

    def start_burner(self) -> None:
        """Start it where it does not run."""
        if not self.burner.is_running:
            self.burner.pid_file.unlink(missing_ok=True)  # of one that was killed
            self.burner.start()

    def stop_burner(self) -> None:
        """Stop it where it runs; nothing went wrong in its life that nobody foresaw."""
        if self.burner.is_running:
            self.burner.stop()

    def kill_gateway(self) -> None:
        """SIGKILL, and start it again."""
        self.gateway.check_log()
        self.gateway.kill()
        self.gateway.pid_file.unlink(missing_ok=True)
        self.gateway.start()

    def welcome(self) -> None:
        """New holders, for a new round, whatever became of the last one."""
        self.node.call("evm_setAutomine", True)
        if self.server is not None:
            self.server.start_again()
        self.holders = [f"0x{next(self._numbers):040x}" for _ in range(HOLDERS)]
        for contract in self.contracts.values():
            for holder in self.holders:
                contract.mint(holder, TOKEN_ID, CREDITS)
                self._has[account(contract, holder)] += CREDITS

    def take_away(self, contract: Contract, holder: str, credits: int, **fees: str) -> str:
        """Somebody else burns credits of a holder, who has them no more; the transaction's hash."""
        data = call_data(
            "burn(address,uint256,uint256)",
            ("address", "uint256", "uint256"),
            holder, TOKEN_ID, credits,
        )  # fmt: skip
        self._has[account(contract, holder)] -= credits
        sent: str = self.node.call(
            "eth_sendTransaction",
            {"from": OWNER, "to": contract.address, "data": data, "gas": hex(1_000_000), **fees},
        )
        return sent

    # --- what happens ---------------------------------------------------------------------

    def meter(self) -> None:
        """Each holder sends one request of each kind, and has its answer."""
        self.buyers.buy(self.holders)

    @contextmanager
    def selling(self) -> Iterator[None]:
        """While it is entered, the holders send requests; after it they have all their answers."""
        stopping = threading.Event()

        def sell() -> None:
            while not stopping.is_set():
                self.meter()

        with ThreadPoolExecutor(1) as threads:
            selling = threads.submit(sell)
            try:
                yield
            finally:
                stopping.set()
            selling.result()

    def meter_before_burning(self) -> None:
        """The same, and the store knows of it before a burner starts."""
        self.stop_burner()
        self.meter()
        self.wait(self._is_stored, "all usage is in the store")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is true."""
        wait_until(condition, what, _PATIENCE)

    def wait_for_answers(self, more: int) -> None:
        """Wait until so many more requests are answered than now."""
        goal = len(self.buyers.answered) + more
        self.wait(lambda: len(self.buyers.answered) >= goal, "answers")

    def mine_until(self, condition: Callable[[], object], what: str) -> None:
        """Add blocks until something is true."""

        def look() -> object:
            self.node.mine()
            return condition()

        self.wait(look, what)

    def wait_for(self, state: str, count: int = 1) -> None:
        """Wait until so many settlements are in a state."""
        self.wait(lambda: self.count(state) >= count, f"{count} settlements are {state}")

    def wait_until_said(self, words: str) -> None:
        """Wait until the burner says something."""
        self.wait(lambda: words in self.burner.log, f"{words!r} in the burner's log")

    def settle(self) -> None:
        """Let blocks come until nothing is pending and nothing under way."""
        self.start_burner()
        self.mine_until(self.has_settled, "everything is settled")

    def has_settled(self) -> bool:
        """Whether nothing is pending, or under way, or on its way into the store."""
        return self._is_stored() and not self._query(
            "SELECT 1 FROM charge WHERE state IN ('pending', 'claimed') UNION ALL "
            "SELECT 1 FROM settlement WHERE state NOT IN ('confirmed', 'error')"
        )

    def _is_stored(self) -> bool:
        ((count,),) = self._query("SELECT count(*) FROM usage_record")
        return bool(count >= len(self.buyers.answered)) and (
            self.buyers.answered.keys() <= {name for name, *_ in self._records()}
        )

    # --- what came of it ------------------------------------------------------------------

    def count(self, state: str) -> int:
        """How many settlements are in a state."""
        return sum(row == (state,) for row in self._query("SELECT state FROM settlement"))

    def compare(self, fault: str, seconds: float) -> Result:
        """Compare what the round's holders owe with what is gone from the chain, one by one."""
        accounts = [
            account(contract, holder)
            for contract in self.contracts.values()
            for holder in self.holders
        ]
        metered = self._metered()
        burned = {each: self._has[each] - self._balance(each) for each in accounts}
        left = {state: self._charged(state) for state in ("uncollected", "error")}
        differences = [
            metered[each] - burned[each] - sum(found[each] for found in left.values())
            for each in accounts
        ]
        return Result(
            fault,
            requests=sum(holder in self.holders for holder, _ in self.buyers.answered.values()),
            metered=sum(metered[each] for each in accounts),
            burned=sum(burned.values()),
            uncollected=sum(left["uncollected"][each] for each in accounts),
            error=sum(left["error"][each] for each in accounts),
            missing=sum(each for each in differences if each > 0),
            twice=-sum(each for each in differences if each < 0),
            seconds=seconds,
        )

    def all_is_there(self) -> bool:
        """Whether the round's holders have all that they had: nothing is burned."""
        return all(
            self._balance(each) == self._has[each]
            for each in self._has
            if each.holder in self.holders
        )

    def check_records(self) -> None:
        """Each answer has one usage record, which says what is right to charge for it."""
        costs: dict[str, int] = {}
        for name, spent in self._records():
            assert name not in costs, "a record is there twice"
            costs[name] = sum(amount for *_, amount in json.loads(spent))
        right = {name: kind.cost for name, (_, kind) in self.buyers.answered.items()}
        assert {name: costs[name] for name in right} == right

    def _records(self) -> list[tuple[Any, ...]]:
        return self._query("SELECT id, spent FROM usage_record")

    def _metered(self) -> Counter[Account]:
        found: Counter[Account] = Counter()
        for _, spent in self._records():
            for source, name, holder, amount in json.loads(spent):
                found[Account(source, name, holder)] += amount
        return found

    def _charged(self, state: str) -> Counter[Account]:
        found: Counter[Account] = Counter()
        for *names, credits, its in self._query(
            "SELECT source, name, holder, credits, state FROM charge"
        ):
            if its == state:
                found[Account(*names)] += credits
        return found

    def _balance(self, of: Account) -> int:
        data = call_data(
            "balanceOf(address,uint256)", ("address", "uint256"), of.holder, int(of.name)
        )
        call = {"to": of.source, "data": data}
        return int(self.node.call("eth_call", call, "latest"), 16)

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        if self.server is not None:
            return self.server.execute(sql, urlsplit(self.url).path[1:])
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as file:
            return file.execute(sql).fetchall()
